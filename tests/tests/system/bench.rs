//! The benchmark in small: that every figure can be measured, and what of it is no matter of time.

use std::process::{Command, Stdio};

use serde_json::Value;
use twobox_tests::binary;

#[test]
fn the_benchmark_measures_every_figure_and_what_it_counts_is_as_promised() {
    let dir = tempfile::tempdir().unwrap();
    let (json, plots) = (dir.path().join("results.json"), dir.path().join("plots"));
    let output = Command::new(binary("bench"))
        .args(["--quick", "--runtime", "process"])
        .arg("--json")
        .arg(&json)
        .arg("--plots")
        .arg(&plots)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let results: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = results["rows"].as_array().unwrap();
    let list = Command::new(binary("bench")).arg("--list").output().unwrap();
    for line in String::from_utf8(list.stdout).unwrap().lines() {
        let figure = line.split(' ').next().unwrap();
        assert!(rows.iter().any(|row| row["figure"] == figure), "{figure} has no row");
    }
    for row in rows {
        // A number that could not be computed is null in JSON.
        assert!(row["value"].is_number(), "{row}");
    }

    let named = |what: &str| {
        let begins = |row: &&Value| row["what"].as_str().unwrap().starts_with(what);
        let found: Vec<&Value> = rows.iter().filter(begins).collect();
        assert!(!found.is_empty(), "nobody counted: {what}");
        found
    };
    let counts = [
        ("databases opened meanwhile", "an idle session is left alone"),
        ("databases opened for one message, others'", "a message concerns one session"),
        ("answers out of order", "a conversation keeps its order"),
    ];
    for (what, fact) in counts {
        let found = named(what);
        assert!(found.iter().all(|row| row["value"] == 0.0), "{fact}: {found:?}");
    }
    let budgets = [
        ("read by both sides", "a long history is not read again and again"),
        ("read by a look", "schedules that are not due are not read"),
        ("slots with exactly one run", "each slot is claimed once"),
    ];
    for (what, fact) in budgets {
        let mut limited = named(what);
        limited.retain(|row| !row["budget"].is_null());
        assert!(!limited.is_empty(), "no budget: {what}");
        assert!(limited.iter().all(|row| row["budget"]["kept"] == true), "{fact}: {limited:?}");
    }
    for plot in ["idle-cost.svg", "latency-split.svg"] {
        let text = std::fs::read_to_string(plots.join(plot)).unwrap();
        assert!(text.starts_with("<svg"), "{plot}: {text:.80}");
    }
}

#[test]
fn the_benchmark_names_what_it_does_not_understand() {
    let cases = [
        (&["--only", "nothing"][..], "no such figure"),
        (&["--runtime", "podman"], "process, sandbox or docker"),
        (&["--rounds", "0"], "above zero"),
        (&["--json"], "needs a value"),
        (&["--fast"], "unknown option"),
    ];
    for (arguments, expected) in cases {
        let output = Command::new(binary("bench")).args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
}
