//! What is printed in the end, for people and for programs.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{Outcome, Plan};

/// The results of one run.
pub(crate) struct Scoreboard {
    seed: u64,
    kills: usize,
    /// Results of what ran elsewhere: `{"part", "count", "unit", "violations"}`.
    parts: Vec<Value>,
    rows: Vec<(Plan, Outcome)>,
    skipped: Vec<(Plan, String)>,
}

impl Scoreboard {
    pub(crate) fn new(seed: u64, kills: usize) -> Self {
        Self { seed, kills, parts: Vec::new(), rows: Vec::new(), skipped: Vec::new() }
    }

    /// Takes in the results of other parts: one JSON object on each line.
    pub(crate) fn read_parts(&mut self, path: &Path) -> std::io::Result<()> {
        for line in std::fs::read_to_string(path)?.lines() {
            self.parts.push(serde_json::from_str(line)?);
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, plan: &Plan, outcome: Outcome) {
        self.rows.push((plan.clone(), outcome));
    }

    pub(crate) fn skip(&mut self, plan: &Plan, missing: &str) {
        self.skipped.push((plan.clone(), missing.to_owned()));
    }

    /// Whether everything that ran kept every promise.
    pub(crate) fn is_clean(&self) -> bool {
        self.parts.iter().all(|part| part["violations"] == 0)
            && self.rows.iter().all(|(_, outcome)| outcome.problems.is_empty())
    }

    pub(crate) fn print(&self) {
        println!("seed {}", self.seed);
        for part in &self.parts {
            let text = |key: &str| part[key].as_str().unwrap_or_default().to_owned();
            println!(
                "{:<26} {:>6} {:<10} {:>4} violations",
                text("part"),
                part["count"],
                text("unit"),
                part["violations"]
            );
        }
        println!(
            "{:<8} {:<18} {:>6} {:>8} {:>8} {:>5} {:>7} {:>7} {:>7} {:>6} {:>9} {:>9}",
            "runtime",
            "fault",
            "times",
            "accepted",
            "answered",
            "lost",
            "doubled",
            "resends",
            "failed*",
            "wrong",
            "rec. p50",
            "rec. max"
        );
        for (plan, outcome) in &self.rows {
            let verdict = &outcome.verdict;
            let other = outcome.problems.len().saturating_sub(verdict.lost() + verdict.doubled());
            println!(
                "{:<8} {:<18} {:>6} {:>8} {:>8} {:>5} {:>7} {:>7} {:>7} {:>6} {:>9} {:>9}",
                plan.runtime.word(),
                plan.fault,
                outcome.injections,
                verdict.accepted,
                verdict.answered,
                verdict.lost(),
                verdict.doubled(),
                verdict.resends,
                verdict.failed + verdict.undelivered,
                other,
                shown(median(&outcome.recovered)),
                shown(outcome.recovered.last().copied())
            );
        }
        for (plan, missing) in &self.skipped {
            println!("{:<8} {:<18} SKIPPED: {missing}", plan.runtime.word(), plan.fault);
        }
        println!(
            "* visibly: after its attempts, or as the message asked; wrong: order, claims, refusals, \
             fsck, not at rest"
        );
    }

    pub(crate) fn to_json(&self) -> String {
        let row = |(plan, outcome): &(Plan, Outcome)| {
            let verdict = &outcome.verdict;
            json!({
                "runtime": plan.runtime.word(),
                "fault": plan.fault,
                "injections": outcome.injections,
                "accepted": verdict.accepted,
                "answered": verdict.answered,
                "refused": verdict.refused,
                "turns": verdict.turns,
                "lost": verdict.lost(),
                "doubled": verdict.doubled(),
                "resends": verdict.resends,
                "failed_visibly": verdict.failed,
                "undelivered_visibly": verdict.undelivered,
                "queued": verdict.queued,
                "recovered_ms": {
                    "count": outcome.recovered.len(),
                    "p50": median(&outcome.recovered).map(ms),
                    "max": outcome.recovered.last().copied().map(ms),
                },
                "notes": outcome.notes,
                "problems": outcome.problems,
                "took_s": outcome.took.as_secs_f64(),
            })
        };
        let skipped = |(plan, missing): &(Plan, String)| json!({ "runtime": plan.runtime.word(), "fault": plan.fault, "missing": missing });
        let report = json!({
            "seed": self.seed,
            "kills": self.kills,
            "parts": self.parts,
            "faults": self.rows.iter().map(row).collect::<Vec<_>>(),
            "skipped": self.skipped.iter().map(skipped).collect::<Vec<_>>(),
            "clean": self.is_clean(),
        });
        serde_json::to_string_pretty(&report).expect("keys are strings") + "\n"
    }
}

/// Of sorted values.
fn median(sorted: &[Duration]) -> Option<Duration> {
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

fn shown(span: Option<Duration>) -> String {
    span.map_or("-".to_owned(), |span| format!("{:.2} s", span.as_secs_f64()))
}
