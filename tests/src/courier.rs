//! A chat platform behind the `command` channel: a program that writes down every call, and does
//! what it is told to do with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::binary;
use crate::wait::wait_for;

/// One call of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of the channel, and the process")]
pub struct Call {
    pub key: String,
    pub chat: String,
    pub thread: Option<String>,
    pub text: String,
    pub in_reply_to: Option<String>,
    pub answers: Vec<String>,
    pub contents: Vec<String>,
    pub pid: u64,
}

impl Call {
    /// Whether the process that was called still lives.
    pub fn lives(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // A zombie waits for whoever has adopted it.
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    }
}

/// The program and what it has written down.
#[derive(Debug)]
pub struct Courier {
    dir: TempDir,
}

impl Courier {
    /// One that delivers everything.
    #[expect(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("twobox-courier-").tempdir().unwrap();
        let courier = Self { dir };
        courier.install();
        courier
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The program, for `channels.command`.
    pub fn program(&self) -> PathBuf {
        self.folder().join("program")
    }

    /// Puts the program there, if it was removed.
    pub fn install(&self) {
        let (courier, folder) = (binary("courier"), self.folder());
        let script = format!("#!/bin/sh\nexec '{}' '{}'\n", courier.display(), folder.display());
        let fresh = self.folder().join("fresh");
        fs::write(&fresh, script).unwrap();
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o700)).unwrap();
        fs::rename(fresh, self.program()).unwrap();
    }

    /// What it does from now on; `tests/src/bin/courier.rs` says what can be said.
    pub fn plan(&self, rules: &Value) {
        let fresh = self.folder().join("fresh");
        fs::write(&fresh, rules.to_string()).unwrap();
        fs::rename(fresh, self.folder().join("plan")).unwrap();
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<Call> {
        let ledger = fs::read_to_string(self.folder().join("ledger")).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        ledger
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|call| Call {
                contents: call["contents"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(text)
                    .collect(),
                key: text(&call["key"]).unwrap(),
                chat: text(&call["chat"]).unwrap(),
                thread: text(&call["thread"]),
                text: text(&call["text"]).unwrap(),
                in_reply_to: text(&call["in_reply_to"]),
                answers: call["answers"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(text)
                    .collect(),
                pid: call["pid"].as_u64().unwrap(),
            })
            .collect()
    }

    /// The texts of all calls so far.
    pub fn texts(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.text).collect()
    }

    /// Waits until it was called `count` times.
    #[track_caller]
    pub fn wait_calls(&self, count: usize) -> Vec<Call> {
        wait_for(&format!("{count} calls"), || {
            Some(self.calls()).filter(|calls| calls.len() >= count)
        })
    }
}
