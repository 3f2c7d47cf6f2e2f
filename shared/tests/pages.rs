//! How large the pages of a box are: chosen when it is made, and nobody's business afterwards.

use rusqlite::Connection;
use twobox_shared::open::{self, SMALL_PAGE};

fn page_size(conn: &Connection) -> u32 {
    conn.query_row("PRAGMA page_size", [], |row| row.get(0)).expect("every file has pages")
}

#[test]
fn a_small_box_takes_few_blocks_and_an_outbox_is_made_as_its_inbox_is() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, outbox) = (dir.path().join("inbound.db"), dir.path().join("outbound.db"));
    assert_eq!(open::page_size_of_inbox(&inbox), None, "there is none");
    drop(open::inbox_writer_with_pages(&inbox, Some(SMALL_PAGE)).unwrap());
    let like = open::page_size_of_inbox(&inbox);
    assert_eq!(like, Some(SMALL_PAGE));
    drop(open::outbox_writer_with_pages(&outbox, like).unwrap());
    let blocks = |path: &std::path::Path| path.metadata().unwrap().len().div_ceil(4096);
    assert_eq!((blocks(&inbox), blocks(&outbox)), (3, 2));
    assert_eq!(page_size(&open::inbox_reader(&inbox).unwrap()), SMALL_PAGE);
    assert_eq!(page_size(&open::outbox_owner(&outbox, None).unwrap()), SMALL_PAGE);
}

#[test]
fn a_box_that_is_there_keeps_the_pages_that_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, outbox) = (dir.path().join("inbound.db"), dir.path().join("outbound.db"));
    let large = page_size(&open::inbox_writer(&inbox).unwrap());
    assert!(large > SMALL_PAGE);
    drop(open::outbox_writer(&outbox).unwrap());
    assert_eq!(page_size(&open::inbox_writer_with_pages(&inbox, Some(SMALL_PAGE)).unwrap()), large);
    assert_eq!(
        page_size(&open::outbox_writer_with_pages(&outbox, Some(SMALL_PAGE)).unwrap()),
        large
    );
    assert_eq!(open::page_size_of_inbox(&inbox), Some(large));
}
