//! The boxes of one session, without a task around them.

use twobox_session::boxes::{Boxes, Writers};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::{MessageId, RunnerId, SessionId, SystemIds};
use twobox_shared::inbox::{NewMessage, Origin};
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{Claim, OutboxWriter};
use twobox_shared::seq::Seq;

#[test]
fn s6_a_live_outbox_is_never_copied_and_a_dead_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, scratch) = (dir.path().join("session"), dir.path().join("scratch"));
    let boxes = Boxes::new(SessionId::generate(&SystemIds), &folder, &scratch, 1 << 20);
    let message = NewMessage {
        id: MessageId::parse("m1").unwrap(),
        kind: "chat".to_owned(),
        content: "{}".to_owned(),
        origin: Origin::default(),
        trigger: true,
        process_after: None,
        source_session: None,
        run_id: None,
    };
    boxes.accept(&[message], Seq::default(), SystemClock.now()).unwrap();
    let runner = RunnerId::generate(&SystemIds);
    let path = boxes.paths().outbound_db();
    let claim = Claim { message: MessageId::parse("m1").unwrap(), attempt: 0 };
    OutboxWriter::open(&path, runner).unwrap().claim(&[claim], SystemClock.now()).unwrap();
    let journal = path.with_file_name("outbound.db-journal");
    std::fs::write(&journal, [7; 1024]).unwrap();

    // There is nowhere to copy to, so a copy would be told.
    let live = boxes.look(Writers::Possible).unwrap_err();
    assert!(matches!(live, BoxError::HotJournal), "{live}");
    let dead = boxes.look(Writers::None).unwrap_err();
    assert!(matches!(&dead, BoxError::Io { path, .. } if path.starts_with(&scratch)), "{dead}");

    std::fs::create_dir(&scratch).unwrap();
    let look = boxes.look(Writers::None).unwrap();
    assert_eq!(look.acks.len(), 1);
    assert_eq!(scratch.read_dir().unwrap().count(), 0, "the copy is gone again");
    assert_eq!(std::fs::read(&journal).unwrap(), [7; 1024], "the original is as it was");
    assert!(matches!(boxes.look(Writers::Possible), Err(BoxError::HotJournal)));
}
