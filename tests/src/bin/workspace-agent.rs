//! An agent for the `command` provider that does with files what it is told, and answers with what came
//! of it: `write ROOM NAME TEXT`, `read ROOM NAME`, `remove ROOM NAME`, `replace ROOM NAME TEXT` (by a
//! rename). A room is the value of `TWOBOX_PROGRAM`, `TWOBOX_WORK` or `TWOBOX_AGENT`, by the name
//! `program`, `work` or `shared`.

use std::fs;
use std::io::{self, BufRead};
use std::path::PathBuf;

use serde_json::{Value, json};

fn main() -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let turn: Value = serde_json::from_str(&line?)?;
        if turn["type"] != "turn" {
            continue;
        }
        let messages = turn["messages"].as_array().into_iter().flatten();
        for message in messages.filter(|message| message["trigger"] == true) {
            let text = message["text"].as_str().unwrap_or_default();
            let said = carry_out(text).unwrap_or_else(|error| format!("{:?}", error.kind()));
            println!("{}", json!({ "type": "reply", "text": said }));
        }
        println!("{}", json!({ "type": "turn_done" }));
    }
    Ok(())
}

fn carry_out(order: &str) -> io::Result<String> {
    let mut words = order.splitn(4, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (verb, room, name, text) = (word(), word(), word(), word());
    let variable = match room {
        "program" => "TWOBOX_PROGRAM",
        "work" => "TWOBOX_WORK",
        "shared" => "TWOBOX_AGENT",
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let Some(folder) = std::env::var_os(variable) else { return Ok("no such room".to_owned()) };
    let path = PathBuf::from(folder).join(name);
    match verb {
        "write" => fs::write(path, text).map(|()| "written".to_owned()),
        "read" => fs::read_to_string(path),
        "remove" => fs::remove_file(path).map(|()| "removed".to_owned()),
        "replace" => {
            let fresh = path.with_extension("fresh");
            fs::write(&fresh, text)?;
            fs::rename(fresh, path).map(|()| "replaced".to_owned())
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}
