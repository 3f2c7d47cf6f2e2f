//! An agent's program that turns on its host, as an agent that was taken over would. It speaks the
//! protocol of the provider `command`, and runs inside the container with what is allowed there.
//! What it does is in `twobox_tests::attack`.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;
use serde_json::{Value, json};
use twobox_tests::Try;
use twobox_tests::attack::{self, Attack, Ground, Then};

/// Left in the agent's shared folder, so that whoever comes after the attack is honest.
const ATTACKED: &str = "attacked";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Where what it leaves can be seen from outside, by all of its conversations.
    std::env::set_current_dir(std::env::var("TWOBOX_AGENT")?)?;
    for line in std::io::stdin().lock().lines() {
        let turn: Value = serde_json::from_str(&line?)?;
        if turn["type"] != "turn" {
            continue;
        }
        let messages = turn["messages"].as_array().ok_or("a turn has messages")?;
        for message in messages.iter().filter(|message| message["trigger"] == true) {
            let text = message["text"].as_str().unwrap_or_default();
            if let Some(tries) = text.strip_prefix("reach ") {
                say(&json!({ "type": "reply", "text": reached(tries)? }));
                continue;
            }
            let mut words = text.split(' ');
            if let Some(attack) = words.next().and_then(attack::named)
                && std::fs::File::create_new(ATTACKED).is_ok()
            {
                let id = message["id"].as_str().unwrap_or_default();
                if let Err(error) = carry_out(attack, id, words.next().unwrap_or_default()) {
                    say(&json!({ "type": "reply", "text": format!("{}: {error}", attack.name) }));
                    continue;
                }
            }
            say(&json!({ "type": "reply", "text": format!("echo: {text}") }));
        }
        say(&json!({ "type": "turn_done" }));
    }
    Ok(())
}

/// What of `tries` succeeds, by the thing that is reached with it.
fn reached(tries: &str) -> Result<String, serde_json::Error> {
    let tries: Vec<(String, Vec<Try>)> = serde_json::from_str(tries)?;
    let mut found = BTreeMap::new();
    for (thing, mut tries) in tries {
        tries.retain(Try::succeeds);
        found.insert(thing, tries);
    }
    serde_json::to_string(&found)
}

fn say(line: &Value) {
    println!("{line}");
}

fn carry_out(
    attack: &Attack,
    message: &str,
    victim: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let work = PathBuf::from(std::env::var("TWOBOX_WORK")?);
    let (out, inbox) = (work.with_file_name("out"), work.with_file_name("in"));
    let ground = Ground { out, inbox, victim: victim.into(), message: message.to_owned() };
    (attack.act)(&ground)?;
    std::fs::write(attack::DONE, "")?;
    match attack.then {
        Then::Answers => return Ok(()),
        Then::Hangs => {}
        Then::KillsTheRunner => kill(getppid(), Signal::SIGKILL)?,
        Then::FreezesTheRunner => kill(getppid(), Signal::SIGSTOP)?,
    }
    loop {
        std::thread::park(); // until it is killed
    }
}
