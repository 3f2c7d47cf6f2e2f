//! One side reads while the other commits without end: no look fails, none misses a row, and none
//! takes the journal of a commit that is under way for one that was left behind.
//! `TWOBOX_TEST_POLL_SECS` says for how long; 3 if it says nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{NOW, id, message, row, runner};
use twobox_shared::inbox::{Inbox, InboxReader};
use twobox_shared::outbox::{OutboxWriter, Source, read_untrusted};
use twobox_shared::seq::Seq;

fn span() -> Duration {
    let asked = std::env::var("TWOBOX_TEST_POLL_SECS").ok();
    Duration::from_secs(asked.map_or(3, |text| text.parse().expect("a number of seconds")))
}

/// Commits until the other process lets go, and says how often.
fn commit_without_end(mut commit: impl FnMut(usize)) {
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        told.store(true, Ordering::Relaxed);
    });
    common::say("ready");
    let mut commits = 0;
    while !over.load(Ordering::Relaxed) {
        commit(commits);
        commits += 1;
    }
    common::say(commits);
}

#[test]
fn second_process() {
    common::play(&[
        ("answer", |path| {
            let runner = runner();
            let claims = [common::claim("m1", 0)];
            OutboxWriter::open(path, runner).unwrap().claim(&claims, NOW).unwrap();
            commit_without_end(|n| {
                // Opened for each operation, as a runner does.
                let mut outbox = OutboxWriter::open(path, runner).unwrap();
                outbox.send(&claims, &row(&format!("r{n}"), "m1"), Seq(2), NOW).unwrap();
            });
        }),
        ("accept", |path| {
            commit_without_end(|n| {
                let mut inbox = Inbox::open(path).unwrap();
                let tx = inbox.write().unwrap();
                tx.accept(&message(&format!("m{n}"), "{}"), Seq(0), NOW).unwrap();
                tx.commit().unwrap();
            });
        }),
    ]);
}

/// Looks until the time is over, lets the writer go, and looks for a last time. `look` returns how
/// much it has seen in all.
fn poll(role: &str, path: &Path, mut look: impl FnMut() -> usize) {
    let writer = common::hold(role, path);
    let (end, mut looks, mut seen) = (Instant::now() + span(), 0_u64, 0);
    while Instant::now() < end {
        let now = look();
        assert!(now >= seen, "{role}: {now} after {seen}");
        (seen, looks) = (now, looks + 1);
    }
    let mut writer = writer.release();
    let commits: usize = writer.line().parse().unwrap();
    writer.finish();
    assert_eq!(look(), commits, "{role}: after the last commit");
    eprintln!("{role}: {looks} looks at {commits} commits");
    assert!(looks > 10 && commits > 10, "{role}: {looks} looks at {commits} commits");
}

#[test]
fn the_host_reads_every_row_of_a_runner_that_commits_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbound.db");
    let (mut after, mut found) = (Seq(0), 0);
    poll("answer", &path, || {
        loop {
            let page = read_untrusted(&path, Source::Live, Duration::from_secs(10), |outbox| {
                outbox.acks([&id("m1")])?;
                outbox.rows(after, Seq(2).max(after), 1000).map(|page| page.rows)
            });
            let rows = page.expect("a look at a live outbox").unwrap_or_default();
            for row in &rows {
                assert_eq!(row.id.as_str(), format!("r{found}"), "none is missed");
                (after, found) = (row.seq, found + 1);
            }
            if rows.len() < 1000 {
                return found;
            }
        }
    });
}

#[test]
fn the_runner_reads_every_message_of_a_host_that_commits_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inbound.db");
    drop(Inbox::open(&path).unwrap());
    poll("accept", &path, || {
        let ids = InboxReader::open(&path).and_then(|inbox| inbox.ids());
        let ids = ids.expect("a look at a live inbox");
        assert!((0..ids.len()).all(|n| ids.contains(&format!("m{n}"))), "none is missed");
        ids.len()
    });
}
