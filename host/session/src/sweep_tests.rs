use twobox_shared::seq::Seq;

use twobox_shared::inbox::Origin;

use super::*;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn due() -> PendingMessage {
    PendingMessage {
        id: MessageId::parse("m").unwrap(),
        seq: Seq(2),
        tries: 0,
        forgiven: 0,
        trigger: true,
        process_after: Some(NOW),
        origin: Origin::default(),
        of_run: false,
        of_task: false,
    }
}

#[test]
fn somebody_waits_for_what_a_person_said_and_for_nothing_else() {
    let later = Some(NOW + Duration::from_millis(1));
    let complete = Action::Complete { message: due().id };
    let cases = [
        ("it is due", due(), vec![], true),
        ("it always was", PendingMessage { process_after: None, ..due() }, vec![], true),
        ("it is answered", due(), vec![complete], false),
        ("it is not due yet", PendingMessage { process_after: later, ..due() }, vec![], false),
        ("it is context", PendingMessage { trigger: false, ..due() }, vec![], false),
        ("it is a run's", PendingMessage { of_run: true, ..due() }, vec![], false),
        ("it is a task's", PendingMessage { of_task: true, ..due() }, vec![], false),
    ];
    for (case, message, actions, expected) in cases {
        let look = Look { pending: vec![message], ..Look::default() };
        assert_eq!(somebody_waits(&look, &actions, NOW), expected, "{case}");
    }
}
