use super::record::{RETRY_AFTER_MAX, held};
use super::*;
use twobox_model::channel::Outcome;

const NOW: UnixMillis = UnixMillis(1_000_000);
const HOLD: Duration = Duration::from_secs(60);

fn row(seq: i64, thread: &str) -> OutRow {
    OutRow {
        id: MessageId::parse(&format!("r{seq}")).unwrap(),
        seq: Seq(seq),
        in_reply_to: None,
        timestamp: None,
        deliver_after: None,
        kind: "chat".into(),
        destination: Origin {
            channel_type: Some("chan".into()),
            platform_id: Some("p".into()),
            thread_id: Some(thread.into()),
        },
        content: None,
        attempt: Some(0),
        runner: None,
    }
}

fn record(status: DeliveryStatus) -> Option<Delivery> {
    Some(Delivery { status, ..held(NOW, 0, None, None) })
}

/// What `cause` is about, for `thread`, when the outbox had come to `behind`.
fn notice(cause: &str, thread: &str, behind: i64) -> Notice {
    let notice = Notice::held(cause.to_owned(), address(thread), "sorry".to_owned(), NOW);
    Notice { behind: Some(Seq(behind)), ..notice }
}

struct World {
    notices: Vec<Notice>,
    keys: bool,
    channel: bool,
    in_flight: HashSet<Address>,
    unavailable: HashSet<Address>,
    allowed: bool,
    standing: Standing,
    last_call: Duration,
    left_out: Option<Seq>,
    may_tell: usize,
    judged: Vec<Seq>,
}

fn world() -> World {
    World {
        notices: Vec::new(),
        keys: true,
        channel: true,
        in_flight: HashSet::new(),
        unavailable: HashSet::new(),
        allowed: true,
        standing: Standing::Inside,
        last_call: Duration::ZERO,
        left_out: None,
        may_tell: usize::MAX,
        judged: Vec::new(),
    }
}

fn address(thread: &str) -> Address {
    address_of(&row(1, thread), &reply_address())
}

fn reply_address() -> Address {
    Address { channel_type: "chan".into(), platform_id: "home".into(), thread_id: None }
}

impl World {
    fn plan_at(&self, now: UnixMillis, rows: &[(OutRow, Option<Delivery>)]) -> DeliveryPlan {
        self.plan_from(Seq(0), now, rows)
    }

    fn plan_from(
        &self,
        cursor: Seq,
        now: UnixMillis,
        rows: &[(OutRow, Option<Delivery>)],
    ) -> DeliveryPlan {
        plan(&DeliveryView {
            now,
            cursor,
            rows,
            notices: &self.notices,
            reply_address: &reply_address(),
            may_send: &|_| self.allowed,
            standing: &|row| if row.seq == Seq(3) { self.standing } else { Standing::Inside },
            channel: &|_| {
                let keys = self.keys;
                self.channel.then_some(Capabilities { keys, ..Capabilities::TEXT })
            },
            in_flight: &self.in_flight,
            unavailable: &self.unavailable,
            hold: HoldLimit { max: HOLD, last_call: self.last_call },
            left_out: self.left_out,
            may_tell: self.may_tell,
            judged: &|row| self.judged.contains(&row),
        })
    }

    fn plan(&self, rows: &[(OutRow, Option<Delivery>)]) -> DeliveryPlan {
        self.plan_at(NOW, rows)
    }
}

/// By thread, what is sent: rows by their indexes, the notice at index 0 as 1000, and so on.
fn sent(plan: &DeliveryPlan) -> Vec<(&str, Vec<usize>)> {
    let number = |entry: &Entry| match entry {
        Entry::Row(index) => *index,
        Entry::Notice(index) => 1000 + index,
    };
    plan.batches
        .iter()
        .map(|batch| {
            let entries = batch.entries.iter().map(number).collect();
            (batch.address.thread_id.as_deref().unwrap_or(""), entries)
        })
        .collect()
}

#[test]
fn p12_the_cursor_stops_before_the_first_unsettled_row_and_settled_ones_are_not_sent_again() {
    let mut deferred = row(3, "a");
    deferred.deliver_after = Some(UnixMillis(NOW.0 + 5));
    let delivered = record(DeliveryStatus::Delivered);
    let rows = [(row(1, "a"), delivered.clone()), (deferred, None), (row(5, "a"), delivered)];
    let plan = world().plan(&rows);
    assert_eq!((plan.cursor, sent(&plan)), (Seq(1), vec![]));
    assert_eq!(plan.next, Some(UnixMillis(NOW.0 + 5)));
    let later = world().plan_at(UnixMillis(NOW.0 + 5), &rows);
    assert_eq!(sent(&later), [("a", vec![1])]);
}

#[test]
fn a_row_that_is_sent_once_more_neither_stops_the_cursor_nor_moves_it() {
    let (held, delivered) = (record(DeliveryStatus::Held), record(DeliveryStatus::Delivered));
    let mut later = record(DeliveryStatus::Held);
    later.as_mut().unwrap().next_attempt_at = Some(UnixMillis(NOW.0 + 9));
    let cases = [
        ("alone", vec![(row(3, "a"), held.clone())], Seq(7)),
        ("settled", vec![(row(3, "a"), delivered.clone())], Seq(7)),
        (
            "before settled ones",
            vec![(row(3, "a"), held.clone()), (row(9, "a"), delivered.clone())],
            Seq(9),
        ),
        (
            "waiting for its retry",
            vec![(row(3, "a"), later.clone()), (row(9, "b"), delivered.clone())],
            Seq(9),
        ),
        ("before an open one", vec![(row(3, "a"), delivered.clone()), (row(9, "b"), None)], Seq(7)),
    ];
    for (case, rows, expected) in cases {
        assert_eq!(world().plan_from(Seq(7), NOW, &rows).cursor, expected, "{case}");
    }
    let refused = World { allowed: false, ..world() };
    let plan = refused.plan_from(Seq(7), NOW, &[(row(3, "a"), held)]);
    assert_eq!((plan.records.len(), plan.cursor), (1, Seq(7)), "refused once more");
}

#[test]
fn a_row_that_is_sent_once_more_takes_its_place_in_the_queue_by_its_number() {
    let rows = [
        (row(3, "a"), record(DeliveryStatus::Held)),
        (row(5, "b"), record(DeliveryStatus::Held)),
        (row(9, "a"), None),
    ];
    let plan = world().plan_from(Seq(7), NOW, &rows);
    assert_eq!(sent(&plan), [("a", vec![0, 2]), ("b", vec![1])]);
}

#[test]
fn a_row_that_is_gone_failed_unless_it_may_have_been_sent() {
    let after = |status| gone(record(status).as_ref().unwrap(), UnixMillis(NOW.0 + 1));
    assert_eq!(after(DeliveryStatus::Held).status, DeliveryStatus::Failed);
    let announced = after(DeliveryStatus::Sending);
    assert_eq!(announced.status, DeliveryStatus::Uncertain);
    assert_eq!(announced.error.as_deref(), Some(GONE));
}

#[test]
fn a_reply_never_overtakes_an_earlier_one_to_the_same_place() {
    let mut waiting = record(DeliveryStatus::Held);
    waiting.as_mut().unwrap().next_attempt_at = Some(UnixMillis(NOW.0 + 9));
    let rows = [(row(1, "a"), waiting), (row(3, "a"), None), (row(5, "b"), None)];
    assert_eq!(sent(&world().plan(&rows)), [("b", vec![2])]);
}

#[test]
fn one_call_is_under_way_for_a_place_at_a_time() {
    let mut busy = world();
    busy.in_flight.insert(address("a"));
    let rows = [(row(1, "a"), None), (row(3, "b"), None)];
    assert_eq!(sent(&busy.plan(&rows)), [("b", vec![1])]);
}

#[test]
fn only_channels_that_know_keys_get_several_at_once_and_without_announcement() {
    let rows = [(row(1, "a"), None), (row(3, "a"), None)];
    let plan = world().plan(&rows);
    assert_eq!((sent(&plan), plan.batches[0].announce), (vec![("a", vec![0, 1])], false));
    let blind = World { keys: false, ..world() };
    let plan = blind.plan(&rows);
    assert_eq!((sent(&plan), plan.batches[0].announce), (vec![("a", vec![0])], true));
}

#[test]
fn a_send_of_unknown_end_is_repeated_only_where_that_is_harmless() {
    let rows = [(row(1, "a"), record(DeliveryStatus::Sending))];
    assert_eq!(sent(&world().plan(&rows)), [("a", vec![0])]);
    let plan = World { keys: false, ..world() }.plan(&rows);
    assert_eq!((sent(&plan), plan.cursor), (vec![], Seq(1)));
    assert_eq!(plan.records[0].1.status, DeliveryStatus::Uncertain);
}

#[test]
fn p13_a_missing_channel_holds_without_attempts_until_the_hold_expires() {
    let absent = World { channel: false, ..world() };
    let plan = absent.plan(&[(row(1, "a"), None)]);
    let [(Entry::Row(0), hold)] = &plan.records[..] else { panic!("{plan:?}") };
    assert_eq!((hold.status, hold.attempts), (DeliveryStatus::Held, 0));
    assert_eq!(plan.next, Some(NOW + HOLD));
    let rows = [(row(1, "a"), Some(hold.clone())), (row(3, "a"), None)];
    let late = UnixMillis((NOW + HOLD).0 + 1);
    let called = absent.plan_at(late, &rows);
    assert_eq!((called.cursor, called.last_call), (Seq(0), true));
    assert!(called.records.iter().all(|(entry, _)| *entry == Entry::Row(1)), "{called:?}");
    assert_eq!(called.next, Some(late + HOLD.min(LAST_CALL)), "not at once, again and again");
    let back = world().plan_at(late, &rows);
    assert_eq!((sent(&back), back.last_call), (vec![("a", vec![0, 1])], false), "tried first");
    let half = World { channel: false, last_call: LAST_CALL / 2, ..world() };
    assert_eq!(half.plan_at(late, &rows).next, Some(late + LAST_CALL / 2));
    let over = World { channel: false, last_call: LAST_CALL, ..world() };
    let expired = over.plan_at(late, &rows);
    assert_eq!(expired.records[0].1.status, DeliveryStatus::Failed);
    assert_eq!((expired.cursor, expired.last_call), (Seq(1), false), "the queue is released");
}

#[test]
fn a_place_that_nobody_listens_to_is_not_tried_until_somebody_does() {
    let mut quiet = world();
    quiet.unavailable.insert(address("a"));
    let rows = [(row(1, "a"), record(DeliveryStatus::Held)), (row(3, "b"), None)];
    assert_eq!(sent(&quiet.plan(&rows)), [("b", vec![1])]);
    assert_eq!(sent(&world().plan(&rows)), [("a", vec![0]), ("b", vec![1])]);
}

#[test]
fn rows_for_foreign_places_fail_at_once() {
    let plan = World { allowed: false, ..world() }.plan(&[(row(1, "a"), None)]);
    assert_eq!((plan.records[0].1.status, plan.cursor), (DeliveryStatus::Failed, Seq(1)));
}

#[test]
fn requests_are_one_queue_that_no_outbound_holds_up_and_that_holds_up_none() {
    let request = |seq| (OutRow { kind: KIND_SYSTEM.into(), ..row(seq, "a") }, None);
    let quiet = World { channel: false, allowed: false, ..world() };
    let rows = [request(1), (row(3, "a"), None), request(5), (row(7, "b"), None)];
    let plan = quiet.plan(&rows);
    assert_eq!((plan.requests, plan.cursor), (vec![0, 2], Seq(0)), "until they are settled");
    let asked = [request(1), request(3), request(5), (row(7, "a"), None)];
    let waits = World { standing: Standing::Undecided, ..world() }.plan(&asked);
    assert_eq!((sent(&waits), &waits.requests[..]), (vec![("a", vec![3])], &[0][..]), "in order");
    let refused = World { standing: Standing::Superseded, ..world() }.plan(&asked);
    assert_eq!(refused.requests, [0, 2]);
    let [(Entry::Row(1), record)] = &refused.records[..] else { panic!("{refused:?}") };
    assert!(record.error.as_deref().unwrap().starts_with(SUPERSEDED));
    let mut later = request(3);
    later.0.deliver_after = Some(UnixMillis(NOW.0 + 5));
    let plan = world().plan(&[request(1), later, request(5)]);
    assert_eq!((plan.requests, plan.next), (vec![0, 2], Some(UnixMillis(NOW.0 + 5))));
    let many: Vec<_> = (0..100).map(|n| request(2 * n + 1)).collect();
    assert_eq!(world().plan(&many).requests.len(), BATCH_MAX);
}

#[test]
fn a_superseded_runners_row_fails_and_an_undecided_one_holds_up_its_place_alone() {
    let rows = [(row(1, "a"), None), (row(3, "a"), None), (row(5, "a"), None), (row(7, "b"), None)];
    let plan = World { standing: Standing::Undecided, ..world() }.plan(&rows);
    assert_eq!((sent(&plan), plan.records.len()), (vec![("a", vec![0]), ("b", vec![3])], 0));
    let plan = World { standing: Standing::Superseded, ..world() }.plan(&rows);
    assert_eq!(sent(&plan), [("a", vec![0, 2]), ("b", vec![3])]);
    let [(Entry::Row(1), record)] = &plan.records[..] else { panic!("{plan:?}") };
    assert!(record.error.as_deref().unwrap().starts_with(SUPERSEDED));
}

#[test]
fn a_row_without_a_destination_goes_home() {
    let mut without_address = row(1, "a");
    without_address.destination = Origin::default();
    assert_eq!(address_of(&without_address, &reply_address()), reply_address());
}

#[test]
fn attempts_are_counted_and_pauses_grow_but_absence_costs_nothing() {
    let transient = Outcome::Transient { error: "503".into(), retry_after: None };
    let first = after(&transient, None, NOW).unwrap();
    assert_eq!((first.attempts, first.next_attempt_at), (1, Some(UnixMillis(NOW.0 + 2000))));
    let second = after(&transient, Some(&first), UnixMillis(NOW.0 + 2000)).unwrap();
    assert_eq!(second.next_attempt_at, Some(UnixMillis(NOW.0 + 6000)));
    assert_eq!(second.changed_at, NOW, "the hold began with the first failure");
    assert_eq!(after(&Outcome::Unavailable, Some(&second), NOW), None, "the record stays");
    let told = Outcome::Transient { error: "429".into(), retry_after: Some(HOLD) };
    assert_eq!(after(&told, None, NOW).unwrap().next_attempt_at, Some(NOW + HOLD));
}

#[test]
fn a_retry_that_a_clock_set_back_would_put_off_is_made_now() {
    let a_day = Duration::from_secs(86_400);
    let told = Outcome::Transient { error: "429".into(), retry_after: Some(a_day) };
    let record = after(&told, None, NOW).unwrap();
    assert_eq!(record.next_attempt_at, Some(NOW + RETRY_AFTER_MAX), "no longer than that");
    let rows = [(row(1, "a"), Some(record)), (row(3, "a"), None)];
    let waiting = world().plan(&rows);
    assert_eq!((sent(&waiting), waiting.next), (vec![], Some(NOW + RETRY_AFTER_MAX)));
    let set_back = world().plan_at(UnixMillis(NOW.0 - 1), &rows);
    assert_eq!((sent(&set_back), set_back.next), (vec![("a", vec![0, 1])], None));
}

#[test]
fn an_announced_row_that_never_succeeds_expires_too() {
    let transient = Outcome::Transient { error: "503".into(), retry_after: None };
    let blind = World { keys: false, ..world() };
    let mut record = None;
    let mut now = NOW;
    while now.since(NOW) <= HOLD {
        let plan = blind.plan_at(now, &[(row(1, "a"), record.clone())]);
        assert_eq!(sent(&plan), [("a", vec![0])], "after {:?}", now.since(NOW));
        let failed = after(&transient, Some(&announced(record.as_ref(), now)), now).unwrap();
        now = failed.next_attempt_at.unwrap();
        record = Some(failed);
    }
    let rows = [(row(1, "a"), record)];
    let called = blind.plan_at(now, &rows);
    assert_eq!((sent(&called), called.last_call), (vec![("a", vec![0])], true));
    let busy = World { keys: false, in_flight: HashSet::from([address("a")]), ..world() };
    let busy = busy.plan_at(now, &rows);
    assert_eq!((sent(&busy), busy.last_call), (vec![], true), "it does not begin anew");
    let over = World { keys: false, last_call: LAST_CALL, ..world() };
    assert_eq!(over.plan_at(now, &rows).records[0].1.status, DeliveryStatus::Failed);
}

#[test]
fn what_a_channel_that_broke_was_handed_is_sent_again_only_if_it_honours_keys() {
    let status = |keys| after(&broken(keys, "why".into()), None, NOW).unwrap().status;
    assert_eq!(status(true), DeliveryStatus::Held);
    assert_eq!(status(false), DeliveryStatus::Uncertain);
}

#[test]
fn an_outcome_that_nobody_knows_is_final_and_releases_the_queue() {
    let outcome = Outcome::Uncertain { error: "killed".into() };
    let record = after(&outcome, Some(&announced(None, NOW)), NOW).unwrap();
    assert_eq!((record.status, record.attempts), (DeliveryStatus::Uncertain, 1));
    assert_eq!(record.error.as_deref(), Some("killed"));
    let blind = World { keys: false, ..world() };
    let plan = blind.plan(&[(row(1, "a"), Some(record)), (row(3, "a"), None)]);
    assert_eq!((sent(&plan), plan.cursor), (vec![("a", vec![1])], Seq(1)));
}

#[test]
fn p14_one_notice_for_a_cause_until_a_delivery_succeeds() {
    let id = |error, epoch| undeliverable_id(&address("a"), error, Seq(epoch));
    assert_eq!(id("gone", 1), id("gone", 1));
    assert_ne!(id("gone", 1), id("gone", 3));
    assert_ne!(id("gone", 1), id("blocked", 1));
}

#[test]
fn refusals_beyond_what_may_be_told_are_counted_where_the_cursor_passes_them() {
    let rows = [1, 3, 5, 7].map(|seq| (row(seq, "t"), None));
    let few = World { allowed: false, may_tell: 2, ..world() };
    let plan = few.plan(&rows);
    assert_eq!((plan.records.len(), plan.told, plan.cursor), (2, 2, Seq(7)));
    let counted: Vec<_> = plan.counted.iter().map(|(index, _)| *index).collect();
    assert_eq!(counted, [2, 3]);
    assert!(plan.counted[0].1.as_ref().unwrap().contains("not wired"), "{:?}", plan.counted);

    // What the inbox has a record of keeps one: it would be sent on a person's word otherwise.
    let mut open = rows.clone();
    open[3].1 = record(DeliveryStatus::Held);
    let plan = World { may_tell: 0, ..few }.plan(&open);
    assert!(matches!(plan.records[..], [(Entry::Row(3), _)]), "{plan:?}");
    assert_eq!((plan.counted.len(), plan.cursor), (3, Seq(7)));
}

#[test]
fn a_request_that_was_judged_waits_for_the_cursor_and_is_not_decided_again() {
    let request = |seq| OutRow { kind: KIND_SYSTEM.into(), ..row(seq, "t") };
    let rows = [(row(1, "t"), None), (request(3), None), (request(5), None)];
    let judged = World { judged: vec![Seq(3)], in_flight: [address("t")].into(), ..world() };
    let plan = judged.plan(&rows);
    assert_eq!((&plan.requests[..], plan.cursor), (&[2][..], Seq(0)), "row 1 is on its way");
    assert_eq!(plan.counted, [(1, None)]);
    let sent = [(row(1, "t"), record(DeliveryStatus::Delivered)), rows[1].clone()];
    assert_eq!(judged.plan(&sent).cursor, Seq(3));
}

#[test]
fn the_cursor_never_passes_a_row_that_the_look_left_out() {
    let rows = [1, 3, 9, 11].map(|seq| (row(seq, "t"), None));
    let plan = World { allowed: false, left_out: Some(Seq(5)), ..world() }.plan(&rows);
    assert_eq!((plan.records.len(), plan.cursor), (4, Seq(3)), "5 is a row of its own");
}

#[test]
fn a_notice_stands_behind_what_was_in_the_outbox_when_it_was_written() {
    let told = World { notices: vec![notice("1", "a", 3), notice("2", "b", 3)], ..world() };
    let rows = [(row(1, "a"), None), (row(3, "a"), None), (row(5, "a"), None)];
    assert_eq!(sent(&told.plan(&rows)), [("a", vec![0, 1, 1000, 2]), ("b", vec![1001])]);
    let later = World {
        notices: vec![notice("old", "a", 5), Notice { behind: None, ..notice("new", "a", 0) }],
        ..world()
    };
    let read_first = "of which nobody has said where it stands";
    assert_eq!(sent(&later.plan(&rows)), [("a", vec![1001, 0, 1, 2, 1000])], "{read_first}");
}

#[test]
fn no_notice_overtakes_a_row_to_the_same_place_nor_is_overtaken() {
    let retry = Some(UnixMillis(NOW.0 + 9));
    let mut waiting = record(DeliveryStatus::Held);
    waiting.as_mut().unwrap().next_attempt_at = retry;
    let told = World { notices: vec![notice("1", "a", 3), notice("2", "b", 3)], ..world() };
    let plan = told.plan(&[(row(1, "a"), waiting), (row(3, "b"), None)]);
    assert_eq!((sent(&plan), plan.next), (vec![("b", vec![1, 1001])], retry), "behind a retry");

    let mut first = notice("1", "a", 1);
    first.record.next_attempt_at = retry;
    let told = World { notices: vec![first, notice("2", "a", 1)], ..world() };
    let plan = told.plan(&[(row(1, "a"), None), (row(3, "a"), None), (row(5, "b"), None)]);
    assert_eq!((sent(&plan), plan.next), (vec![("a", vec![0]), ("b", vec![2])], retry), "before");
    let set_back = told.plan_at(UnixMillis(NOW.0 - 24 * 3_600_000), &[]);
    assert_eq!(sent(&set_back), [("a", vec![1000, 1001])], "as a clock that was set back has it");

    let undecided = World { standing: Standing::Undecided, ..told };
    assert_eq!(sent(&undecided.plan(&[(row(3, "a"), None)])), [], "whose row may yet be sent");
    // Row 3 is the undecided one; what stands before it may go.
    let before = World {
        standing: Standing::Undecided,
        notices: vec![notice("1", "a", 1), notice("2", "a", 3)],
        ..world()
    };
    let plan = before.plan(&[(row(1, "a"), None), (row(3, "a"), None), (row(5, "a"), None)]);
    assert_eq!(sent(&plan), [("a", vec![0, 1000])]);
    let many: Vec<_> = (0..100).map(|n| (row(2 * n + 1, "a"), None)).collect();
    let told = World { notices: vec![notice("1", "a", 199)], ..world() };
    let plan = told.plan(&many);
    let [("a", first)] = &sent(&plan)[..] else { panic!("one destination") };
    assert_eq!(first.len(), BATCH_MAX, "behind a whole batch");
    assert!(!first.contains(&1000));
}

#[test]
fn notices_are_handed_over_as_rows_are() {
    let two = || vec![notice("1", "a", 0), notice("2", "a", 0), notice("3", "b", 0)];
    let told = World { notices: two(), allowed: false, ..world() };
    let plan = told.plan(&[]);
    assert_eq!(sent(&plan), [("a", vec![1000, 1001]), ("b", vec![1002])], "wherever it is wired");
    let blind = World { keys: false, notices: two(), ..world() }.plan(&[]);
    assert_eq!(sent(&blind), [("a", vec![1000]), ("b", vec![1002])]);
    assert!(blind.batches.iter().all(|batch| batch.announce));
    let busy = World { notices: two(), in_flight: [address("a")].into(), ..world() };
    assert_eq!(sent(&busy.plan(&[])), [("b", vec![1002])]);
}

#[test]
fn a_notice_that_nobody_takes_is_held_and_expires() {
    let absent = |last_call| World {
        notices: vec![notice("1", "a", 0)],
        unavailable: [address("a")].into(),
        last_call,
        ..world()
    };
    let waiting = absent(Duration::ZERO).plan(&[]);
    assert_eq!((sent(&waiting), &waiting.records[..]), (vec![], &[][..]));
    assert_eq!(waiting.next, Some(NOW + HOLD));
    let late = UnixMillis((NOW + HOLD).0 + 1);
    let called = absent(Duration::ZERO).plan_at(late, &[]);
    assert_eq!((called.records.len(), called.last_call), (0, true));
    assert!(called.next.is_some_and(|end| end > late), "{called:?}");
    let over = absent(HOLD).plan_at(late, &[(row(1, "a"), None)]);
    let [(Entry::Notice(0), end), (Entry::Row(0), _)] = &over.records[..] else {
        panic!("{over:?}")
    };
    assert_eq!((end.status, end.error.as_deref()), (DeliveryStatus::Failed, Some(EXPIRED)));
    assert_eq!(over.cursor, Seq(0), "which is not about it");
    let back = World { notices: vec![notice("1", "a", 0)], ..world() };
    assert_eq!(sent(&back.plan_at(late, &[])), [("a", vec![1000])], "asked first");
}

#[test]
fn a_notice_of_unknown_end_is_repeated_only_where_that_is_harmless() {
    let mut sending = notice("1", "a", 0);
    sending.record.status = DeliveryStatus::Sending;
    let told = || World { notices: vec![sending.clone(), notice("2", "a", 0)], ..world() };
    assert_eq!(sent(&told().plan(&[])), [("a", vec![1000, 1001])]);
    for (keys, channel) in [(false, true), (false, false)] {
        let plan = World { keys, channel, ..told() }.plan(&[]);
        let [(Entry::Notice(0), end)] = &plan.records[..] else { panic!("{plan:?}") };
        assert_eq!(end.status, DeliveryStatus::Uncertain);
        let follows = if channel { vec![("a", vec![1001])] } else { vec![] };
        assert_eq!(sent(&plan), follows, "it releases the queue");
        let busy = World { keys, channel, in_flight: [address("a")].into(), ..told() };
        assert_eq!(busy.plan(&[]).records, [], "its end is not known yet");
    }
}
