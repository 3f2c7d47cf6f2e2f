//! What SQLite reads for the statements that run often, or on many rows.

use rusqlite::Connection;

use super::{claims, definitions, metrics, outlived, runs, starts};

/// SQLite's plan for a statement, a line for each step.
fn plan(db: &Connection, sql: &str) -> Vec<String> {
    let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    // Nothing is bound: only the plan is wanted.
    let mut steps = explain.raw_query();
    let mut plan = Vec::new();
    while let Some(step) = steps.next().unwrap() {
        plan.push(step.get("detail").unwrap());
    }
    plan
}

#[test]
fn what_runs_often_looks_at_an_index_and_sorts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = crate::open::create(&dir.path().join("host.db")).unwrap();
    let cases = [
        ("tick", format!("SELECT * FROM schedules {}", definitions::DUE), "schedules_due"),
        ("timer", definitions::NEXT_DUE.to_owned(), "schedules_due"),
        ("start", starts::start_whose_turn_it_is(), "runs_waiting"),
        ("open runs", runs::select(runs::OPEN), "runs_open"),
        ("open runs of a claim", claims::OPEN_IDS.to_owned(), "runs_open"),
        ("slots that have a row", claims::TAKEN.to_owned(), "sqlite_autoindex_runs_2"),
        ("runs that wait", runs::CANCEL_QUEUED.to_owned(), "runs_waiting"),
        ("page of a schedule", runs::select(runs::PAGE_OF_SCHEDULE), "runs_listed"),
        ("page of all", runs::select(runs::PAGE_OF_ALL), "sqlite_autoindex_runs_1"),
        ("past", runs::PAST.to_owned(), "runs_listed"),
        ("prune", runs::PRUNE.to_owned(), "runs_ended"),
        ("whether a schedule names a session", outlived::OUTLIVED.into(), "schedules_session"),
        ("the same before it is closed", outlived::CLOSE.to_owned(), "schedules_session"),
        ("metrics", metrics::PAGE.to_owned(), "run_metrics_at"),
        ("prune metrics", metrics::PRUNE.to_owned(), "run_metrics_at"),
    ];
    for (case, sql, index) in cases {
        let plan = plan(&db, &sql);
        let uses = format!("INDEX {index}");
        assert!(plan.iter().any(|step| step.contains(&uses)), "{case}: {plan:#?}");
        // What a recursion has found so far is no table: a row for each schedule that waits.
        let is_table = |step: &str| !["SCAN w", "SCAN waiting"].contains(&step);
        let whole = |step: &&String| {
            step.starts_with("SCAN") && !step.contains("USING") && is_table(step.as_str())
        };
        assert_eq!(plan.iter().find(whole), None, "{case}: {plan:#?}");
    }
    // In the order of an index, a page costs the same however many there are.
    for sql in [runs::select(runs::PAGE_OF_SCHEDULE), runs::PRUNE.into(), claims::TAKEN.into()] {
        let plan = plan(&db, &sql);
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:#?}");
    }
}

#[test]
fn a_tick_over_idle_schedules_reads_none_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let db = crate::open::create(&dir.path().join("host.db")).unwrap();
    db.execute_batch(
        "INSERT INTO agent_groups (id, name, folder, created_at_ms) VALUES ('a', 'a', 'a', 1);
         INSERT INTO schedules (id, agent_group_id, name, prompt, cadence_kind, cadence_value,
           time_zone, anchor_ms, missed, missed_window_ms, overlap, jitter_ms, next_slot_ms,
           next_due_ms, created_at_ms, updated_at_ms)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
         SELECT i, 'a', 'n' || i, 'p', 'every', '1h', 'UTC', 0, 'latest', 0, 'skip', 0, 1000 + i,
           1000 + i, 1, 1
         FROM n;",
    )
    .unwrap();
    let steps = |now: i64| {
        let mut tick =
            db.prepare(&format!("SELECT * FROM schedules {}", definitions::DUE)).unwrap();
        let mut rows = tick.query(rusqlite::named_params! { ":now": now, ":limit": 100 }).unwrap();
        while rows.next().unwrap().is_some() {}
        drop(rows);
        tick.get_status(rusqlite::StatementStatus::VmStep)
    };
    let (idle, busy) = (steps(1000), steps(1100));
    assert!(idle < 50, "{idle} steps although nothing is due");
    assert!(busy > 1000, "{busy} steps for a hundred schedules that are due");
}
