//! A program in the seat of a `bridge` channel, that says exactly what it is told to.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wait::PATIENCE;
use crate::world::World;

/// A connection to `host.sock`. Dropped, it is gone, as a program is that was killed.
#[derive(Debug)]
pub struct Bridge {
    output: UnixStream,
    input: BufReader<UnixStream>,
    line: String,
}

impl World {
    /// A program that connects, and has said nothing yet.
    #[track_caller]
    pub fn connect_bridge(&self) -> Bridge {
        let output = UnixStream::connect(self.data().join("host.sock")).unwrap();
        let input = BufReader::new(output.try_clone().unwrap());
        Bridge { output, input, line: String::new() }
    }

    /// A program that sits in the seat of `channel`, with `more` said of it.
    #[track_caller]
    pub fn bridge(&self, channel: &str, more: &Value) -> Bridge {
        let mut bridge = self.connect_bridge();
        let mut hello = json!({ "op": "bridge", "channel": channel });
        for (name, value) in more.as_object().unwrap() {
            hello[name] = value.clone();
        }
        bridge.say(&hello);
        bridge.wait("bridging");
        bridge
    }
}

impl Bridge {
    /// Says a line.
    #[track_caller]
    pub fn say(&mut self, line: &Value) {
        self.output.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next event, or `None` if nothing comes for so long or the host is gone.
    pub fn hear(&mut self, patience: Duration) -> Option<Value> {
        self.input.get_ref().set_read_timeout(Some(patience)).unwrap();
        match self.input.read_line(&mut self.line) {
            Ok(0) | Err(_) => None, // what was read of a line so far is kept
            Ok(_) => Some(serde_json::from_str(&std::mem::take(&mut self.line)).unwrap()),
        }
    }

    /// The next event of this name; those before it are passed over.
    #[track_caller]
    pub fn wait(&mut self, name: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.hear(left.max(Duration::from_millis(1))) {
                Some(event) if event["event"] == name => return event,
                Some(event) => others.push(event),
                None => break,
            }
        }
        panic!("no {name} came, but {others:?}");
    }

    /// Whether the host has closed the connection.
    #[track_caller]
    pub fn wait_closed(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.input.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
            self.line.clear();
            if matches!(self.input.read_line(&mut self.line), Ok(0)) {
                return;
            }
        }
        panic!("it is still connected");
    }

    /// Hands in a message, and waits until it is safe.
    #[track_caller]
    pub fn hand_in(&mut self, channel: &str, chat: &str, id: &str, text: &str) {
        self.say(&json!({
            "op": "message", "channel": channel, "chat": chat, "id": id, "text": text,
        }));
        assert_eq!(self.wait("accepted")["id"], id);
    }

    /// Says what became of a message.
    #[track_caller]
    pub fn answer(&mut self, letter: &Value, outcome: &str, more: &Value) {
        let mut told = json!({ "op": "outcome", "key": letter["key"], "outcome": outcome });
        for (name, value) in more.as_object().unwrap() {
            told[name] = value.clone();
        }
        self.say(&told);
    }

    /// Takes the next message, which has to be this.
    #[track_caller]
    pub fn take(&mut self, text: &str) -> Value {
        let letter = self.wait("deliver");
        assert_eq!(letter["text"], text, "{letter}");
        self.answer(&letter, "delivered", &json!({}));
        letter
    }
}
