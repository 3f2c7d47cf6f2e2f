//! All that is known of a message, for whoever has to find out why it was not answered.

use std::fmt::Write;
use std::fs;

use crate::world::World;

/// How many lines of a log are shown.
const LINES: usize = 120;

impl World {
    /// Its row, its session's, what runners and the host have written down of it, and what the logs say of
    /// its session.
    pub fn evidence(&self, message: &str) -> String {
        let mut text = format!("message {message}:\n");
        for session in self.sessions() {
            let messages = session.messages();
            let Some(row) = messages.iter().find(|it| it.id == message) else { continue };
            let waiting = messages.iter().filter(|it| it.status == "pending").count();
            line(&mut text, &format!("{row:?}"));
            line(&mut text, &format!("{session:?}, {waiting} messages wait"));
            let acks = session.acks().into_iter().filter(|ack| ack.message == message);
            acks.for_each(|ack| line(&mut text, &format!("{ack:?}")));
            let rows = session.rows().into_iter().filter(|it| it.content.contains(message));
            rows.for_each(|row| line(&mut text, &format!("{row:?}")));
            session
                .undelivered()
                .iter()
                .for_each(|row| line(&mut text, &format!("not settled: {row:?}")));
            let containers = self.containers().into_iter().filter(|it| it.session == session.id);
            containers.for_each(|it| line(&mut text, &format!("it lives: {it:?}")));
            let log = self.host_log();
            tail(&mut text, "the host", log.lines().filter(|line| line.contains(&session.id)));
            let log = fs::read_to_string(session.folder.join("runner.log")).unwrap_or_default();
            tail(&mut text, "its runners", log.lines());
            return text;
        }
        line(&mut text, "no inbox has it");
        text
    }
}

fn tail<'a>(text: &mut String, whose: &str, lines: impl Iterator<Item = &'a str>) {
    let lines: Vec<&str> = lines.collect();
    line(text, &format!("log of {whose}:"));
    lines[lines.len().saturating_sub(LINES)..].iter().for_each(|it| line(text, it));
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "  {line}").unwrap();
}
