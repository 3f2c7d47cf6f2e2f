//! What an installation says of the money that its agents spend, and how somebody is killed so that all of
//! it can be accounted for afterwards.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::boxes::query;
use crate::container::Container;
use crate::models::{Counted, Death, ModelServer};
use crate::wait::wait_for;
use crate::world::World;

impl World {
    /// What the host has counted, by the model's name without its upstream.
    #[track_caller]
    pub fn counted(&self) -> BTreeMap<String, Counted> {
        let said = self.twobox(&["--json", "usage", "--by", "model"]);
        let said: Value = serde_json::from_str(&said).unwrap();
        let lines = said["lines"].as_array().unwrap().iter();
        lines.map(|line| (model_of(line["key"].as_str().unwrap()), counts(line))).collect()
    }

    /// How many requests are open, by the host's book.
    pub fn open_requests(&self) -> usize {
        self.book().len()
    }

    /// SIGKILL at this instant, and what was open then: the host stands still while its book is read, so
    /// that nothing is written between that and its death.
    #[track_caller]
    pub fn kill_host_and_look(&self, server: &ModelServer) -> Death {
        self.freeze_host();
        let pid = self.host_pid();
        wait_for("all threads of the host to stand still", || stands_still(pid).then_some(()));
        let open = self.book();
        self.kill_host();
        Death { asked: server.asked(), open, host: true }
    }

    /// The models of the requests that are open.
    fn book(&self) -> Vec<String> {
        let select = "SELECT model FROM usage_open ORDER BY id";
        query(&self.data().join("host.db"), select, |row| row.get(0))
    }
}

impl Container {
    /// SIGKILL, if it still lives, of a runner whose agent asks `model`. `None` if it did not.
    pub fn strike_and_look(&self, server: &ModelServer, model: &str) -> Option<Death> {
        self.strike().then(|| {
            self.wait_gone();
            Death { asked: server.asked(), open: vec![model.to_owned()], host: false }
        })
    }
}

fn model_of(key: &str) -> String {
    key.split_once('/').expect("UPSTREAM/MODEL").1.to_owned()
}

fn counts(line: &Value) -> Counted {
    let number = |of: &str| line[of].as_u64().unwrap_or_else(|| panic!("{of}: {line}"));
    Counted {
        requests: number("requests"),
        tokens: ["input", "cache_read", "cache_write", "output"].map(number),
        failed: number("failed"),
        unknown: number("unknown"),
        unknown_tokens: number("unknown_tokens"),
    }
}

/// Whether every thread of a process has taken notice of SIGSTOP.
fn stands_still(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['T', 't']))
    })
}
