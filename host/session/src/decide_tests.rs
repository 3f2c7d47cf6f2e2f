use super::*;
use proptest::prelude::*;
use twobox_shared::ids::SystemIds;
use twobox_shared::inbox::Origin;
use twobox_shared::seq::Seq;

const NOW: UnixMillis = UnixMillis(1_000_000);
const MAX_TRIES: i64 = 5;
const DAY_TURNS: UnixMillis = UnixMillis(30_000_000);

fn id(name: &str) -> MessageId {
    MessageId::parse(name).unwrap()
}

fn pending(name: &str, tries: i64) -> PendingMessage {
    PendingMessage {
        id: id(name),
        seq: Seq(2),
        kind: "chat".into(),
        tries,
        forgiven: 0,
        trigger: true,
        process_after: None,
        origin: Origin::default(),
        of_run: false,
        of_task: false,
    }
}

fn runner() -> RunnerId {
    RunnerId::generate(&SystemIds)
}

fn ack(status: AckStatus, attempt: i64, runner: RunnerId) -> Ack {
    Ack { status, attempt: Some(attempt), runner: Some(runner), ..Ack::default() }
}

fn claim(attempt: i64, runner: RunnerId) -> Ack {
    ack(AckStatus::Processing, attempt, runner)
}

fn acks(rows: &[(&str, &Ack)]) -> Acks {
    rows.iter().map(|(name, ack)| (id(name), (*ack).clone())).collect()
}

/// Decides with the same acks before and after, unless `before` says otherwise.
fn run(pending: &[PendingMessage], before: &Acks, after: &Acks, alive: Alive) -> Decision {
    decide(&SweepView {
        now: NOW,
        pending,
        answered: &[],
        before,
        after,
        alive,
        stop_cause: None,
        max_tries: MAX_TRIES,
        day_turns: DAY_TURNS,
        budget_raised: false,
    })
}

fn charge(name: &str, attempt: i64, wait_secs: Option<i64>) -> Action {
    Action::Charge {
        message: id(name),
        attempt,
        forgiven: false,
        process_after: wait_secs.map(|wait| UnixMillis(NOW.0 + wait * 1000)),
    }
}

#[test]
fn over_budget_a_message_waits_until_the_day_turns_and_is_not_blamed() {
    let broke = Failure::permanent(Failure::BUDGET_EXCEEDED, "the budget of today is used up");
    let ended =
        |attempt| Ack { failure: Some(broke.clone()), ..ack(AckStatus::Failed, attempt, runner()) };
    let waits = |attempt| Action::Charge {
        message: id("m"),
        attempt,
        forgiven: true,
        process_after: Some(DAY_TURNS),
    };
    let of_run = PendingMessage { of_run: true, ..pending("m", 0) };
    let often = PendingMessage { forgiven: RELEASES_MAX, ..pending("m", RELEASES_MAX) };
    let tried = PendingMessage { forgiven: 6, ..pending("m", 6) };
    let fails = |attempt| Action::Fail { message: id("m"), attempt, failure: broke.clone() };
    let cases = [
        ("at first", pending("m", 0), waits(0)),
        ("on a later day", tried, waits(6)),
        ("of a run, which comes again", of_run, fails(0)),
        ("by a runner that says so for ever", often, fails(RELEASES_MAX)),
    ];
    for (case, message, expected) in cases {
        let acks = acks(&[("m", &ended(message.tries))]);
        let decision = run(&[message], &acks, &acks, Alive::None);
        let next = matches!(expected, Action::Charge { .. }).then_some(DAY_TURNS);
        assert_eq!(decision.actions, [expected], "{case}");
        assert_eq!(decision.wake, Wake::Not { next }, "{case}");
    }
    let waiting = |until: UnixMillis| PendingMessage {
        forgiven: 1,
        process_after: Some(until),
        ..pending("m", 1)
    };
    let charged = acks(&[("m", &ended(0))]);
    let kept = run(&[waiting(DAY_TURNS)], &charged, &charged, Alive::None);
    assert_eq!((kept.actions, kept.wake), (vec![], Wake::Not { next: Some(DAY_TURNS) }));
    let raised = |until| {
        let pending = [waiting(until)];
        decide(&SweepView {
            now: NOW,
            pending: &pending,
            answered: &[],
            before: &charged,
            after: &charged,
            alive: Alive::None,
            stop_cause: None,
            max_tries: MAX_TRIES,
            day_turns: DAY_TURNS,
            budget_raised: true,
        })
    };
    let at_once = raised(DAY_TURNS);
    let retried = Action::RetryNow { message: id("m"), tries: 1 };
    assert_eq!((at_once.actions, at_once.wake), (vec![retried], Wake::Start));
    let backoff = NOW + Duration::from_secs(3);
    assert_eq!(raised(backoff).wake, Wake::Not { next: Some(backoff) }, "it waits for no budget");
    let set_back = run(&[waiting(UnixMillis(DAY_TURNS.0 + 1))], &charged, &charged, Alive::None);
    assert_eq!(set_back.actions, [Action::RetryNow { message: id("m"), tries: 1 }]);
    assert_eq!(set_back.wake, Wake::Start);
}

#[test]
fn what_was_answered_before_its_pause_reached_anybody_is_completed() {
    let decision = decide(&SweepView {
        now: NOW,
        pending: &[],
        answered: &[MessageId::parse("m").unwrap()],
        before: &Acks::new(),
        after: &Acks::new(),
        alive: Alive::None,
        stop_cause: None,
        max_tries: MAX_TRIES,
        day_turns: DAY_TURNS,
        budget_raised: false,
    });
    let completed = Action::Complete { message: MessageId::parse("m").unwrap() };
    assert_eq!((decision.actions, decision.wake), (vec![completed], Wake::Not { next: None }));
}

#[test]
fn p1_a_completed_ack_of_the_last_read_beats_the_claim_of_the_first() {
    let gone = runner();
    let before = acks(&[("m", &claim(0, gone))]);
    let after = acks(&[("m", &ack(AckStatus::Completed, 0, gone))]);
    let decision = run(&[pending("m", 0)], &before, &after, Alive::None);
    assert_eq!(decision.actions, [Action::Complete { message: id("m") }]);
    assert_eq!(decision.wake, Wake::Not { next: None });
}

#[test]
fn p2_a_claim_that_was_not_there_before_the_question_is_looked_at_again_and_never_charged() {
    let claimed = acks(&[("m", &claim(0, runner()))]);
    let other = acks(&[("m", &claim(0, runner()))]);
    for (case, before) in [("no claim before", Acks::new()), ("another runner's before", other)] {
        let decision = run(&[pending("m", 0)], &before, &claimed, Alive::None);
        assert!(decision.actions.is_empty(), "{case}");
        assert!(decision.look_again, "{case}");
        assert_eq!(decision.wake, Wake::Not { next: None }, "{case}");
    }
}

#[test]
fn p2_a_live_claim_is_left_alone() {
    let alive = runner();
    let claimed = acks(&[("m", &claim(0, alive))]);
    let decision = run(&[pending("m", 0)], &claimed, &claimed, Alive::Runner(alive));
    assert!(decision.actions.is_empty() && !decision.look_again);
}

#[test]
fn p2_a_predecessors_claim_is_charged_while_its_successor_lives() {
    let claimed = acks(&[("m", &claim(0, runner()))]);
    let decision = run(&[pending("m", 0)], &claimed, &claimed, Alive::Runner(runner()));
    assert_eq!(decision.actions, [charge("m", 0, None)]);
    assert_eq!(decision.wake, Wake::Not { next: None }, "the successor takes it");
}

#[test]
fn p3_a_completed_ack_of_any_attempt_completes_and_a_failed_one_counts_for_its_own_only() {
    let gone = runner();
    let cases = [
        ("completed, older", ack(AckStatus::Completed, 0, gone), 3, true),
        ("completed, present", ack(AckStatus::Completed, 3, gone), 3, true),
        ("failed, older", ack(AckStatus::Failed, 2, gone), 3, false),
        ("failed, present", ack(AckStatus::Failed, 3, gone), 3, true),
    ];
    for (case, row, tries, acts) in cases {
        let rows = acks(&[("m", &row)]);
        let decision = run(&[pending("m", tries)], &rows, &rows, Alive::None);
        assert_eq!(!decision.actions.is_empty(), acts, "{case}");
    }
}

#[test]
fn an_orphan_is_charged_with_growing_pauses_and_fails_at_the_last_attempt() {
    for (tries, wait) in [(0, None), (1, Some(5)), (2, Some(10)), (3, Some(20))] {
        let orphan = acks(&[("m", &claim(tries, runner()))]);
        let decision = run(&[pending("m", tries)], &orphan, &orphan, Alive::None);
        assert_eq!(decision.actions, [charge("m", tries, wait)], "attempt {tries}");
    }
    let orphan = acks(&[("m", &claim(4, runner()))]);
    let decision = run(&[pending("m", 4)], &orphan, &orphan, Alive::None);
    assert!(matches!(&decision.actions[..], [Action::Fail { attempt: 4, .. }]));
}

#[test]
fn wake_first_an_orphan_without_a_backoff_starts_a_container_in_the_same_pass() {
    let orphan = acks(&[("m", &claim(0, runner()))]);
    let decision = run(&[pending("m", 0)], &orphan, &orphan, Alive::None);
    assert_eq!((decision.actions.len(), decision.wake), (1, Wake::Start));
}

#[test]
fn p20_a_message_in_backoff_wakes_nobody_before_its_time() {
    let orphan = acks(&[("m", &claim(1, runner()))]);
    let decision = run(&[pending("m", 1)], &orphan, &orphan, Alive::None);
    assert_eq!(decision.wake, Wake::Not { next: Some(UnixMillis(NOW.0 + 5000)) });
}

#[test]
fn a_broken_agent_charges_nobody_but_a_run_that_it_has() {
    let broken = Failure::permanent(Failure::AGENT_BROKEN, "no program");
    let ack = Ack { failure: Some(broken.clone()), ..ack(AckStatus::Failed, 1, runner()) };
    let rows = acks(&[("m", &ack)]);
    let decide = |message: PendingMessage| run(&[message], &rows, &rows, Alive::None).actions;
    let kept = Action::Charge { message: id("m"), attempt: 1, forgiven: true, process_after: None };
    assert_eq!(decide(pending("m", 1)), [kept]);
    let failed = Action::Fail { message: id("m"), attempt: 1, failure: broken };
    let of_run = PendingMessage { of_run: true, ..pending("m", 1) };
    assert_eq!(decide(of_run), std::slice::from_ref(&failed));
    let often = PendingMessage { forgiven: RELEASES_MAX, ..pending("m", 1) };
    assert_eq!(decide(often), [failed], "a container that always says so is not believed for ever");
}

#[test]
fn p7_a_released_turn_is_forgiven_and_tried_again_at_once() {
    let released = Ack {
        failure: Some(Failure::retryable(Failure::RELEASED, "")),
        ..ack(AckStatus::Failed, 4, runner())
    };
    let rows = acks(&[("m", &released)]);
    let forgiven =
        Action::Charge { message: id("m"), attempt: 4, forgiven: true, process_after: None };
    let decision = run(&[pending("m", 4)], &rows, &rows, Alive::None);
    assert_eq!(decision.actions, [forgiven]);
    let often = PendingMessage { forgiven: RELEASES_MAX, ..pending("m", RELEASES_MAX + 4) };
    let released = Ack { attempt: Some(RELEASES_MAX + 4), ..released };
    let rows = acks(&[("m", &released)]);
    let decision = run(&[often], &rows, &rows, Alive::None);
    assert!(
        matches!(decision.actions[..], [Action::Fail { .. }]),
        "a container that always releases is not believed for ever"
    );
}

#[test]
fn p7_an_orphan_of_a_container_that_the_host_stopped_is_forgiven() {
    let orphan = acks(&[("m", &claim(4, runner()))]);
    let decide_with = |stop_cause| {
        decide(&SweepView {
            now: NOW,
            pending: &[pending("m", 4)],
            answered: &[],
            before: &orphan,
            after: &orphan,
            alive: Alive::None,
            stop_cause,
            max_tries: MAX_TRIES,
            day_turns: DAY_TURNS,
            budget_raised: false,
        })
    };
    let host = decide_with(Some(StopCause::Host));
    assert!(matches!(host.actions[..], [Action::Charge { forgiven: true, .. }]));
    let limit = decide_with(Some(StopCause::Limit));
    assert!(matches!(limit.actions[..], [Action::Fail { .. }]), "a broken limit counts");
}

#[test]
fn p8_a_message_revived_by_hand_is_claimable_and_has_all_its_attempts_again() {
    let revived = PendingMessage { forgiven: 5, ..pending("m", 5) };
    let old = acks(&[("m", &claim(4, runner()))]);
    assert_eq!(run(std::slice::from_ref(&revived), &old, &old, Alive::None).wake, Wake::Start);
    let again = acks(&[("m", &claim(5, runner()))]);
    let decision = run(&[revived], &again, &again, Alive::None);
    assert_eq!(decision.actions, [charge("m", 5, None)]);
}

#[test]
fn a_failure_that_another_attempt_cannot_mend_is_final() {
    let failed = Ack {
        failure: Some(Failure::permanent("auth_failed", "no key")),
        ..ack(AckStatus::Failed, 0, runner())
    };
    let rows = acks(&[("m", &failed)]);
    let decision = run(&[pending("m", 0)], &rows, &rows, Alive::None);
    assert!(matches!(&decision.actions[..],
        [Action::Fail { failure, .. }] if failure.reason == "auth_failed"));
}

#[test]
fn nothing_is_charged_or_started_while_the_runtime_does_not_answer() {
    let orphan = acks(&[("m", &claim(0, runner()))]);
    let messages = [pending("m", 0), pending("n", 0)];
    let decision = run(&messages, &orphan, &orphan, Alive::Unknown);
    assert!(decision.actions.is_empty());
    assert_eq!(decision.wake, Wake::Not { next: None });
}

#[test]
fn context_rows_wake_nobody() {
    let context = PendingMessage { trigger: false, ..pending("m", 0) };
    let decision = run(&[context], &Acks::new(), &Acks::new(), Alive::None);
    assert_eq!(decision.wake, Wake::Not { next: None });
}

#[test]
fn an_attempt_that_was_never_given_is_a_violation() {
    let forged = acks(&[("m", &claim(7, runner()))]);
    let decision = run(&[pending("m", 0)], &forged, &forged, Alive::None);
    assert!(decision.violation.is_some() && decision.actions.is_empty());
}

#[test]
fn a_claim_without_an_attempt_is_charged_once_by_its_time() {
    let at = |ms| Ack { changed_at: Some(UnixMillis(ms)), ..Ack::default() };
    let claimed = acks(&[("m", &at(NOW.0 - 60_000))]);
    let first = run(&[pending("m", 0)], &claimed, &claimed, Alive::None);
    assert_eq!(first.actions, [charge("m", 0, Some(5))], "not even the first retry is at once");
    let waiting = PendingMessage { process_after: Some(UnixMillis(NOW.0 + 1)), ..pending("m", 1) };
    assert!(run(&[waiting], &claimed, &claimed, Alive::None).actions.is_empty());
    let due = PendingMessage { process_after: Some(UnixMillis(NOW.0 - 1)), ..pending("m", 1) };
    let decision = run(std::slice::from_ref(&due), &claimed, &claimed, Alive::None);
    assert_eq!((decision.actions.len(), decision.wake), (0, Wake::Start));
    let reclaimed = acks(&[("m", &at(NOW.0))]);
    assert_eq!(run(&[due], &reclaimed, &reclaimed, Alive::None).actions.len(), 1);
}

#[test]
fn a_retry_that_a_clock_set_back_would_put_off_is_due_now() {
    const HOUR: i64 = 3_600_000;
    let waits = |tries, forgiven, ms| PendingMessage {
        forgiven,
        process_after: Some(UnixMillis(NOW.0 + ms)),
        ..pending("m", tries)
    };
    let charged = acks(&[("m", &claim(1, runner()))]);
    let legacy = acks(&[("m", &Ack { changed_at: Some(NOW), ..Ack::default() })]);
    let running = acks(&[("m", &claim(2, runner()))]);
    let none = Acks::new();
    let cases = [
        ("the clock was set back", waits(2, 0, HOUR), &charged, true),
        ("the outbox was lost besides", waits(2, 0, HOUR), &none, true),
        ("its backoff", waits(2, 0, 5_000), &charged, false),
        ("a moment longer", waits(2, 0, 5_001), &charged, true),
        ("a longer backoff", waits(4, 0, 20_000), &charged, false),
        ("forgiven attempts prolong nothing", waits(4, 3, 20_000), &charged, true),
        ("somebody chose the time", waits(0, 0, HOUR), &none, false),
        ("the time is the sign of the charge", waits(1, 0, HOUR), &legacy, false),
        ("it is being worked on", waits(2, 0, HOUR), &running, false),
    ];
    for (case, message, acks, at_once) in cases {
        for alive in [Alive::None, Alive::Unknown, Alive::Runner(runner())] {
            if case == "it is being worked on" && alive != Alive::Unknown {
                continue;
            }
            let message = std::slice::from_ref(&message);
            let decision = run(message, acks, acks, alive);
            let expected = Action::RetryNow { message: id("m"), tries: message[0].tries };
            assert_eq!(decision.actions == [expected], at_once, "{case}: {decision:?}");
            assert_eq!(decision.wake == Wake::Start, at_once && alive == Alive::None, "{case}");
        }
    }
}

/// What the inbox does with the actions, guards included.
fn apply(pending: &mut Vec<PendingMessage>, actions: &[Action]) -> usize {
    let mut changed = 0;
    for action in actions {
        let (message, attempt) = match action {
            Action::Complete { message } => (message, None),
            Action::Charge { message, attempt, .. }
            | Action::Fail { message, attempt, .. }
            | Action::RetryNow { message, tries: attempt } => (message, Some(*attempt)),
        };
        let at_once = matches!(action, Action::RetryNow { .. });
        let Some(at) = pending.iter().position(|row| {
            row.id == *message
                && attempt.is_none_or(|attempt| attempt == row.tries)
                && (!at_once || row.process_after.is_some())
        }) else {
            continue;
        };
        changed += 1;
        match action {
            Action::Charge { attempt, forgiven, process_after, .. } => {
                pending[at].tries = attempt + 1;
                pending[at].forgiven += i64::from(*forgiven);
                pending[at].process_after = *process_after;
            }
            Action::Complete { .. } | Action::Fail { .. } => {
                pending.remove(at);
            }
            Action::RetryNow { .. } => pending[at].process_after = None,
        }
    }
    changed
}

fn any_ack(runners: [RunnerId; 2]) -> impl Strategy<Value = Option<Ack>> {
    let status = prop_oneof![
        Just(AckStatus::Processing),
        Just(AckStatus::Completed),
        Just(AckStatus::Failed)
    ];
    let failure = prop_oneof![
        Just(None),
        Just(Some(Failure::retryable("x", ""))),
        Just(Some(Failure::permanent("x", ""))),
        Just(Some(Failure::retryable(Failure::RELEASED, ""))),
    ];
    let who = prop_oneof![Just(None), Just(Some(runners[0])), Just(Some(runners[1]))];
    let changed = prop::option::of(0..2 * NOW.0).prop_map(|ms| ms.map(UnixMillis));
    prop::option::weighted(
        0.8,
        (status, prop::option::of(0..8_i64), who, failure, changed).prop_map(
            |(status, attempt, runner, failure, changed_at)| Ack {
                status,
                attempt,
                runner,
                failure,
                changed_at,
                turns: None,
            },
        ),
    )
}

fn any_pending(name: &'static str) -> impl Strategy<Value = PendingMessage> {
    (0..8_i64, 0..4_i64, any::<bool>(), prop::option::of(0..2 * NOW.0)).prop_map(
        move |(tries, forgiven, trigger, due)| PendingMessage {
            tries,
            forgiven: forgiven.min(tries),
            trigger,
            process_after: due.map(UnixMillis),
            ..pending(name, 0)
        },
    )
}

proptest! {
    #[test]
    fn applying_a_decision_twice_or_deciding_again_changes_nothing_more(
        (first, second) in (any_pending("a"), any_pending("b")),
        (before_a, after_a, before_b, after_b) in {
            let runners = [RunnerId::from_uuid(uuid(1)), RunnerId::from_uuid(uuid(2))];
            (any_ack(runners), any_ack(runners), any_ack(runners), any_ack(runners))
        },
        alive in prop_oneof![
            Just(Alive::Unknown),
            Just(Alive::None),
            Just(Alive::Runner(RunnerId::from_uuid(uuid(1)))),
        ],
        stop_cause in prop_oneof![
            Just(None), Just(Some(StopCause::Host)), Just(Some(StopCause::Limit))
        ],
    ) {
        let collect = |a: Option<Ack>, b: Option<Ack>| -> Acks {
            a.map(|ack| (id("a"), ack)).into_iter().chain(b.map(|ack| (id("b"), ack))).collect()
        };
        let (before, after) = (collect(before_a, before_b), collect(after_a, after_b));
        let mut world = vec![first, second];
        let decide_on = |world: &[PendingMessage]| decide(&SweepView {
            now: NOW, pending: world, answered: &[], before: &before, after: &after, alive, stop_cause,
            max_tries: MAX_TRIES,
 day_turns: DAY_TURNS,
 budget_raised: false,
        });
        let decision = decide_on(&world);
        apply(&mut world, &decision.actions);
        let settled = world.clone();
        prop_assert_eq!(apply(&mut world, &decision.actions), 0, "the guards hold");
        let again = decide_on(&world);
        prop_assert!(again.actions.is_empty(), "nothing is charged twice: {:?}", again.actions);
        prop_assert_eq!(&world, &settled);
        if alive != Alive::None {
            prop_assert!(!matches!(again.wake, Wake::Start), "no start while one may live");
        }
    }
}

const fn uuid(n: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(n)
}

#[test]
fn failed_starts_put_off_the_next_one_ever_longer_up_to_five_minutes() {
    let pauses = [1, 2, 3, 9, 10, i64::MAX].map(|failed| start_pause(failed).as_secs());
    assert_eq!(pauses, [1, 2, 4, 256, 300, 300]);
}

#[test]
fn a_start_waits_no_longer_than_any_pause_whatever_the_clock_did() {
    let at = |secs| Some(NOW + Duration::from_secs(secs));
    assert_eq!(start_waits(None, NOW), None);
    assert_eq!(start_waits(at(0), NOW), None);
    assert_eq!(start_waits(at(300), NOW), at(300));
    assert_eq!(start_waits(at(301), NOW), None);
}

#[test]
fn of_a_turn_of_several_that_cannot_be_repeated_each_is_tried_again_alone() {
    let (gone, other) = (runner(), runner());
    let failed = |attempt, runner, changed_at| Ack {
        failure: Some(Failure::permanent(Failure::PROVIDER_ERROR, "an unreadable picture")),
        changed_at: Some(UnixMillis(changed_at)),
        ..ack(AckStatus::Failed, attempt, runner)
    };
    let (first, second) = (failed(0, gone, 10), failed(0, gone, 10));
    let both = acks(&[("a", &first), ("b", &second)]);
    let decision = run(&[pending("a", 0), pending("b", 0)], &both, &both, Alive::None);
    assert_eq!(decision.actions, [charge("a", 0, None), charge("b", 0, None)]);
    assert_eq!(decision.wake, Wake::Start);

    let alone = |case: &str, companion: PendingMessage, ack: Ack| {
        let acks = acks(&[("a", &failed(0, gone, 10)), ("b", &ack)]);
        let decision = run(&[pending("a", 0), companion], &acks, &acks, Alive::None);
        let fails = |action: &&Action| matches!(action, Action::Fail { message, .. } if *message == id("a"));
        assert_eq!(decision.actions.iter().filter(fails).count(), 1, "{case}: {decision:?}");
    };
    alone("its company was context", PendingMessage { trigger: false, ..pending("b", 0) }, second);
    alone("the other failed in another turn", pending("b", 0), failed(0, gone, 11));
    alone("under another runner", pending("b", 0), failed(0, other, 10));
    alone("in an attempt that was charged", pending("b", 1), failed(0, gone, 10));
    let answered = Ack { status: AckStatus::Completed, ..failed(0, gone, 10) };
    alone("and the other did not fail", pending("b", 0), answered);
}

#[test]
fn a_turn_that_is_released_because_of_a_limit_is_charged() {
    let gone = runner();
    let released = Ack {
        failure: Some(Failure::retryable(Failure::RELEASED, "the runner was told to leave")),
        ..ack(AckStatus::Failed, 4, gone)
    };
    let acks = acks(&[("m", &released)]);
    let decide_after = |stop_cause| {
        decide(&SweepView {
            now: NOW,
            pending: &[pending("m", 4)],
            answered: &[],
            before: &acks,
            after: &acks,
            alive: Alive::None,
            stop_cause,
            max_tries: MAX_TRIES,
            day_turns: DAY_TURNS,
            budget_raised: false,
        })
        .actions
        .remove(0)
    };
    let Action::Fail { failure, .. } = decide_after(Some(StopCause::Limit)) else {
        panic!("it was the fifth")
    };
    assert_eq!((failure.reason.as_str(), failure.detail.as_str()), (Failure::TIMEOUT, LIMIT));
    for cause in [None, Some(StopCause::Host)] {
        let forgiven = matches!(decide_after(cause), Action::Charge { forgiven: true, .. });
        assert!(forgiven, "{cause:?}");
    }
}
