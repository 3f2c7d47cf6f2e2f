//! A container that is killed inside a commit leaves a hot journal. The host never touches the
//! original; it reads a repaired copy once nobody lives, and a forged journal harms nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{honest_outbox, picture, within};
use twobox_shared::open::{self, BoxError, Remedy};
use twobox_shared::outbox::{Source, read_untrusted};
use twobox_shared::seq::Seq;

const PATIENCE: Duration = Duration::from_secs(5);
const QUOTA: u64 = 64 << 20;

/// Writes half of a large transaction into the file, and waits to be killed.
fn die_in_a_commit(path: &Path) {
    let conn = open::outbox_writer(path).unwrap();
    conn.execute_batch(
        "PRAGMA cache_size = 1;
         BEGIN IMMEDIATE;
         UPDATE messages_out SET content = 'uncommitted';
         WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         INSERT INTO messages_out (id, seq, timestamp, kind, content)
           SELECT 'u' || i, 2 * i + 1, '2027-01-15T08:00:00.000Z', 'chat', printf('%.3000c', 'u')
           FROM n;",
    )
    .unwrap();
    common::ready_and_wait();
}

#[test]
fn second_process() {
    common::play(&[
        ("die in a commit", die_in_a_commit),
        ("repair", |path| {
            let conn = open::outbox_writer(path).unwrap();
            let rows: i64 =
                conn.query_row("SELECT count(*) FROM messages_out", [], |row| row.get(0)).unwrap();
            common::say(rows);
        }),
    ]);
}

fn journal(path: &Path) -> PathBuf {
    path.with_file_name("outbound.db-journal")
}

/// An outbox with the one row `r1` and a hot journal of a larger transaction.
fn interrupted() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbound.db");
    honest_outbox(&path);
    common::hold("die in a commit", &path).kill();
    assert!(journal(&path).metadata().unwrap().len() > 4096, "the journal is hot");
    (dir, path)
}

fn ids(path: &Path, source: Source<'_>) -> Result<Option<Vec<String>>, BoxError> {
    read_untrusted(path, source, PATIENCE, |outbox| {
        let rows = outbox.rows(Seq(0), Seq(2), 1000)?.rows;
        Ok(rows.into_iter().map(|row| row.id.to_string()).collect())
    })
}

fn copy(path: &Path, quota: u64) -> Result<Option<Vec<String>>, BoxError> {
    let scratch = tempfile::tempdir().unwrap();
    ids(path, Source::Copy { scratch: scratch.path(), quota })
}

#[test]
fn a_live_read_leaves_a_hot_journal_to_its_owner() {
    let (dir, path) = interrupted();
    let before = picture(dir.path());
    let error = within(PATIENCE, "live", || ids(&path, Source::Live)).unwrap_err();
    assert!(matches!(error, BoxError::HotJournal), "{error}");
    assert_eq!(error.remedy(), Remedy::Repair);
    assert_eq!(picture(dir.path()), before);
}

#[test]
fn a_copy_shows_the_state_before_the_interrupted_transaction_and_the_original_stays() {
    let (dir, path) = interrupted();
    let before = picture(dir.path());
    assert_eq!(copy(&path, QUOTA).unwrap().unwrap(), ["r1"]);
    assert_eq!(picture(dir.path()), before);
}

#[test]
fn a_copy_into_a_folder_that_is_reached_through_a_link_works() {
    let (_dir, path) = interrupted();
    let real = tempfile::tempdir().unwrap();
    let aside = tempfile::tempdir().unwrap();
    let link = aside.path().join("link");
    symlink(real.path(), &link).unwrap();
    let found = ids(&path, Source::Copy { scratch: &link, quota: QUOTA });
    assert_eq!(found.unwrap().unwrap(), ["r1"]);
}

#[test]
fn the_owner_repairs_it_by_opening_it() {
    let (_dir, path) = interrupted();
    let mut owner = common::start("repair", &path);
    assert_eq!(owner.line(), "1");
    owner.finish();
    assert!(!journal(&path).exists());
    assert_eq!(ids(&path, Source::Live).unwrap().unwrap(), ["r1"]);
}

#[test]
fn a_copy_needs_no_journal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbound.db");
    assert_eq!(copy(&path, QUOTA).unwrap(), None, "not there yet");
    honest_outbox(&path);
    assert_eq!(copy(&path, QUOTA).unwrap().unwrap(), ["r1"], "died between two commits");
    std::fs::write(journal(&path), "").unwrap();
    assert_eq!(copy(&path, QUOTA).unwrap().unwrap(), ["r1"], "an empty journal");
    std::fs::write(journal(&path), [0; 600]).unwrap();
    assert_eq!(copy(&path, QUOTA).unwrap().unwrap(), ["r1"], "a journal that was zeroed");
}

/// What SQLite writes behind a journal whose transaction spans several files
/// (<https://sqlite.org/fileformat.html>): the name, its length, the sum of its bytes, a magic word.
fn super_journal_trailer(victim: &Path) -> Vec<u8> {
    let name = victim.to_str().unwrap().as_bytes();
    let sum: u32 = name.iter().map(|byte| u32::from(*byte)).sum();
    let mut trailer = 0x4000_0000_u32.to_be_bytes().to_vec();
    trailer.extend(name);
    trailer.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
    trailer.extend(sum.to_be_bytes());
    trailer.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
    trailer
}

#[test]
fn s1_a_forged_super_journal_is_refused_and_unlinks_nothing() {
    let (dir, path) = interrupted();
    let aside = tempfile::tempdir().unwrap();
    let victim = aside.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    OpenOptions::new()
        .append(true)
        .open(journal(&path))
        .unwrap()
        .write_all(&super_journal_trailer(&victim))
        .unwrap();
    let before = picture(dir.path());
    let error = copy(&path, QUOTA).unwrap_err();
    assert_eq!(error.remedy(), Remedy::Quarantine, "{error}");
    assert!(error.to_string().contains("super-journal"), "{error}");
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    assert_eq!(picture(dir.path()), before);
}

#[test]
fn what_cannot_be_copied_safely_is_quarantined_in_time() {
    type Arrange = fn(&Path, &Path);
    let cases: &[(&str, Arrange)] = &[
        ("symlink as journal", |db, aside| {
            std::fs::rename(journal(db), aside).unwrap();
            symlink(aside, journal(db)).unwrap();
        }),
        ("dangling symlink as journal", |db, _| {
            std::fs::remove_file(journal(db)).unwrap();
            symlink("nowhere", journal(db)).unwrap();
        }),
        ("hard link as journal", |db, aside| std::fs::hard_link(journal(db), aside).unwrap()),
        ("FIFO as journal", |db, _| {
            std::fs::remove_file(journal(db)).unwrap();
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
            nix::unistd::mkfifo(&journal(db), mode).unwrap();
        }),
        ("directory as journal", |db, _| {
            std::fs::remove_file(journal(db)).unwrap();
            std::fs::create_dir(journal(db)).unwrap();
        }),
        ("symlink as database", |db, aside| {
            std::fs::rename(db, aside).unwrap();
            symlink(aside, db).unwrap();
        }),
        ("sparse database of a terabyte", |db, _| {
            OpenOptions::new().write(true).open(db).unwrap().set_len(1 << 40).unwrap();
        }),
        ("sparse journal of a terabyte", |db, _| {
            OpenOptions::new().write(true).open(journal(db)).unwrap().set_len(1 << 40).unwrap();
        }),
    ];
    for (case, arrange) in cases {
        let (dir, path) = interrupted();
        let aside = tempfile::tempdir().unwrap();
        arrange(&path, &aside.path().join("aside"));
        let names = |dir: &Path| {
            let mut names: Vec<_> =
                dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let before = names(dir.path());
        let error = within(PATIENCE, case, || copy(&path, QUOTA)).expect_err(case);
        assert_eq!(error.remedy(), Remedy::Quarantine, "{case}: {error}");
        assert_eq!(names(dir.path()), before, "{case}");
    }
}

#[test]
fn the_quota_holds_for_both_files_together() {
    let (_dir, path) = interrupted();
    let both = path.metadata().unwrap().len() + journal(&path).metadata().unwrap().len();
    assert_eq!(copy(&path, both).unwrap().unwrap(), ["r1"]);
    let error = copy(&path, both - 1).unwrap_err();
    assert!(error.to_string().contains("quota"), "{error}");
    assert_eq!(error.remedy(), Remedy::Quarantine);
}

#[test]
fn a_journal_of_noise_ends_in_time_and_leaves_the_original() {
    let (dir, path) = interrupted();
    std::fs::write(journal(&path), [0xa5; 4096]).unwrap();
    let before = picture(dir.path());
    // What a hostile owner's own file then contains is its own affair; the host only has to end.
    let result = within(PATIENCE, "noise", || copy(&path, QUOTA));
    if let Err(error) = result {
        assert_eq!(error.remedy(), Remedy::Quarantine, "{error}");
    }
    assert_eq!(picture(dir.path()), before);
}
