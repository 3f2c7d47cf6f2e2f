//! An agent for the `command` provider that does with files what it is told, and answers with what came
//! of it: `write ROOM NAME TEXT`, `read ROOM NAME`, `remove ROOM NAME`, `replace ROOM NAME TEXT` (by a
//! rename); `variable NAME`, of its environment; `memory`, how many bytes it may have. A room is the value of `TWOBOX_PROGRAM`, `TWOBOX_WORK` or `TWOBOX_AGENT`, by the name
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
    match verb {
        "variable" => return Ok(std::env::var(room).unwrap_or_else(|_| "not there".to_owned())),
        "memory" => return Ok(memory()),
        _ => {}
    }
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

/// By its cgroup, where that can be seen and is bounded, and otherwise by the limit of the process.
fn memory() -> String {
    const CGROUPS: [&str; 2] =
        ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let cgroup = CGROUPS.iter().find_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    let process = || {
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let line = limits.lines().find(|line| line.starts_with("Max data size"))?;
        line.split_whitespace().nth(3)?.parse().ok()
    };
    cgroup.or_else(process).map_or_else(|| "any".to_owned(), |bytes: u64| bytes.to_string())
}
