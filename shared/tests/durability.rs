//! Alone in its process, for which it makes the choice.

use std::path::Path;

use rusqlite::Connection;
use twobox_shared::durability::Durability;
use twobox_shared::open::{self, BoxError};

#[test]
fn a_process_that_need_not_survive_a_power_cut_commits_without_sync_and_with_a_journal() {
    assert_eq!(Durability::chosen(), Durability::PowerLoss, "unless somebody chooses");
    Durability::ProcessCrash.choose();
    for (role, open) in [
        ("inbox", open::inbox_writer as fn(&Path) -> Result<Connection, BoxError>),
        ("outbox", open::outbox_writer),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let conn = open(&dir.path().join("x.db")).unwrap();
        let synchronous: i64 = conn.pragma_query_value(None, "synchronous", |r| r.get(0)).unwrap();
        assert_eq!(synchronous, 0, "{role}");
        let mode: String = conn.pragma_query_value(None, "journal_mode", |r| r.get(0)).unwrap();
        assert_eq!(mode, "delete", "{role}: what died in a commit is rolled back");
    }
}

#[test]
fn each_word_means_one_choice() {
    for word in Durability::WORDS {
        assert_eq!(Durability::parse(word).map(Durability::word), Some(word));
    }
    assert_eq!(Durability::parse("fast"), None);
}
