//! Whether a world kept what is promised: what its witnesses wrote down, what it shows in the end, and
//! what `sessions fsck` finds.

use std::fs;

use serde_json::Value;

use crate::ledger::{EndState, Ledger, Record, Said, Verdict, judge, read};
use crate::world::World;

/// The file that each witness writes: one in each recording agent's shared folder, and one beside the data
/// directory for everybody who is no part of the installation.
pub(crate) const LEDGER: &str = "ledger.jsonl";

impl World {
    /// The ledger that a tester writes to. Only a world with an agent that is judged has one.
    #[track_caller]
    pub fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().expect("a world with an agent that is judged")
    }

    /// What all witnesses have written down.
    #[track_caller]
    pub fn records(&self) -> Vec<Record> {
        let groups = fs::read_dir(self.data().join("groups")).unwrap();
        let agents = groups.map(|group| group.unwrap().path().join(LEDGER));
        agents.chain([self.aside().join(LEDGER)]).flat_map(|path| read(&path).unwrap()).collect()
    }

    /// What is shown of messages that have no answer: by the boxes, and to an operator.
    #[track_caller]
    pub fn end_state(&self) -> EndState {
        let mut state = EndState::default();
        for session in self.sessions() {
            let messages = session.messages().into_iter();
            state.pending.extend(messages.filter(|it| it.status == "pending").map(|it| it.id));
            for row in session.undelivered() {
                let content: Value = serde_json::from_str(&row.content).unwrap_or_default();
                let said = Said::all(content["text"].as_str().unwrap_or_default());
                let unnamed = row.in_reply_to.filter(|_| said.is_empty());
                state.pending.extend(said.into_iter().map(|said| said.message).chain(unnamed));
            }
        }
        let dead: Value = serde_json::from_str(&self.twobox(&["--json", "dead", "list"])).unwrap();
        for dead in dead["dead"].as_array().unwrap() {
            let text = |key: &str| dead[key].as_str().unwrap();
            match text("kind") {
                "message" => drop(state.failed.insert(text("id").to_owned())),
                _ => state
                    .undelivered
                    .extend(Said::all(text("text")).into_iter().map(|said| said.message)),
            }
        }
        state
    }

    /// What was promised, held against the ledgers.
    #[track_caller]
    pub fn verdict(&self) -> Verdict {
        judge(&self.records(), &self.end_state())
    }

    /// What `sessions fsck` finds.
    pub fn fsck(&self) -> Vec<Value> {
        let output = self.run(&["--json", "sessions", "fsck"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["checked"].is_u64(), "{report}");
        report["findings"].as_array().unwrap().clone()
    }

    /// Shows that every promise was kept and every session is sound, and returns the verdict.
    #[track_caller]
    pub fn assert_promises(&self) -> Verdict {
        let verdict = self.verdict();
        assert_eq!(verdict.violations, [], "{verdict:?}");
        assert!(verdict.accepted > 0 && verdict.turns > 0, "nothing was witnessed: {verdict:?}");
        let findings = self.fsck();
        assert!(findings.is_empty(), "fsck found {findings:#?}");
        verdict
    }
}
