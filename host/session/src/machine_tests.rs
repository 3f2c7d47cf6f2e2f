use std::time::Duration;

use twobox_shared::ids::{MessageId, SystemIds};
use twobox_shared::inbox::Origin;
use twobox_shared::outbox::Ack;

use super::*;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn due() -> PendingMessage {
    PendingMessage {
        id: MessageId::parse("m").unwrap(),
        seq: Seq(2),
        kind: "chat".into(),
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
        assert_eq!(somebody_waits(&[message], &actions, NOW), expected, "{case}");
    }
}

const FACTS: Facts = Facts {
    now: NOW,
    stop_cause: None,
    max_tries: 5,
    day_turns: UnixMillis(NOW.0 + 1),
    agent_removed: false,
};

/// A look at one message that is due, claimed by `runner`, if by any.
fn look(runner: Option<RunnerId>) -> BoxSnapshot {
    let ack = |runner| Ack { attempt: Some(0), runner: Some(runner), ..Ack::default() };
    let acks = runner.map(|runner| (due().id, ack(runner))).into_iter().collect();
    BoxSnapshot { pending: vec![due()], acks, ..BoxSnapshot::default() }
}

fn runner() -> RunnerId {
    RunnerId::generate(&SystemIds)
}

/// Plays a sweep for `reason` in which `believed` is believed to live. `looks` are what it reads, in
/// order, and `alive` what it hears. Returns its steps, the sweep, and how it ended.
fn play(
    reason: Reason,
    believed: Option<RunnerId>,
    looks: Vec<Result<BoxSnapshot, Unread>>,
    alive: &[Alive],
) -> (Vec<Effect>, Sweep, End) {
    let (mut looks, mut alive) = (looks.into_iter(), alive.iter());
    let (mut sweep, mut effect) = Sweep::begin(Reasons::default().with(reason), believed);
    let mut effects = Vec::new();
    loop {
        effects.push(effect);
        let event = match effect {
            Effect::Look(_) => match looks.next().expect("another look") {
                Ok(look) => Event::Looked(Box::new(look)),
                Err(unread) => Event::Unread(unread),
            },
            Effect::Ask | Effect::Enforce => Event::Answered(*alive.next().expect("asked again")),
            Effect::Plan => Event::Planned(Box::default(), Seq::default()),
            Effect::Finish => Event::Finished(true),
            Effect::Deliver => Event::Delivered(None),
            Effect::Prepare
            | Effect::HoldUnread(_)
            | Effect::Settle
            | Effect::Observe
            | Effect::Start(_)
            | Effect::Rest(_)
            | Effect::Forget
            | Effect::Mark => Event::Done,
        };
        match sweep.step(event, &FACTS) {
            Step::Do(next) => effect = next,
            Step::End(end) => return (effects, sweep, end),
        }
    }
}

#[test]
fn a_runner_that_is_believed_to_live_costs_one_look_and_no_question() {
    let runner = runner();
    let alive = [Alive::Runner(runner)];
    let (effects, sweep, end) =
        play(Reason::Outbox, Some(runner), vec![Ok(look(Some(runner)))], &alive);
    let expected = [
        Effect::Prepare,
        Effect::Look(Writers::Possible),
        Effect::Enforce,
        Effect::Plan,
        Effect::Settle,
        Effect::Observe,
        Effect::Rest(None),
        Effect::Deliver,
        Effect::Forget,
        Effect::Mark,
    ];
    assert_eq!(effects, expected);
    assert!(end == End::Done && sweep.decision.actions.is_empty());
}

#[test]
fn a_claim_of_somebody_else_is_asked_about_and_charged_after_a_look_that_follows_the_answer() {
    let (ours, gone) = (runner(), runner());
    let looks = vec![Ok(look(Some(gone))), Ok(look(Some(gone)))];
    let (effects, sweep, end) = play(Reason::Outbox, Some(ours), looks, &[Alive::None]);
    let begin = [
        Effect::Prepare,
        Effect::Look(Writers::Possible),
        Effect::Ask,
        Effect::Look(Writers::None),
        Effect::Plan,
        Effect::Settle,
        Effect::Finish,
        Effect::Start(Class::Chat),
    ];
    assert_eq!(effects[..begin.len()], begin);
    assert!(matches!(sweep.decision.actions[..], [Action::Charge { attempt: 0, .. }]));
    assert_eq!(end, End::Done);
}

#[test]
fn what_was_read_before_an_end_was_confirmed_charges_nothing() {
    let gone = runner();
    // It claimed between the two looks: the first shows nothing.
    let looks = vec![Ok(look(None)), Ok(look(Some(gone)))];
    let (effects, sweep, _) = play(Reason::Runtime, Some(gone), looks, &[Alive::None]);
    assert!(sweep.decision.actions.is_empty() && sweep.decision.look_again, "{sweep:?}");
    assert!(!effects.contains(&Effect::Mark), "what is left to do is not known");
}

#[test]
fn an_outbox_that_its_dead_container_left_torn_is_read_through_a_copy() {
    let gone = runner();
    let looks = vec![Err(Unread::Torn), Ok(look(Some(gone))), Ok(look(Some(gone)))];
    let alive = [Alive::None, Alive::None];
    let (effects, sweep, end) = play(Reason::Runtime, Some(gone), looks, &alive);
    let begin = [
        Effect::Prepare,
        Effect::Look(Writers::Possible),
        Effect::Ask,
        Effect::Look(Writers::None),
        Effect::Ask,
        Effect::Look(Writers::None),
        Effect::Plan,
    ];
    assert_eq!(effects[..begin.len()], begin);
    assert!(end == End::Done && sweep.decision.actions.len() == 1);
}

#[test]
fn boxes_that_cannot_be_read_end_the_sweep_after_their_container_was_held_to_its_limits() {
    let runner = runner();
    let cases = [
        ("it lives, as is believed", Reason::Outbox, vec![], Alive::Runner(runner)),
        ("it lives", Reason::Runtime, vec![Alive::Runner(runner)], Alive::Runner(runner)),
        ("nobody knows", Reason::Runtime, vec![Alive::Unknown], Alive::Unknown),
    ];
    for (case, reason, answers, held) in cases {
        let looks = vec![Err(Unread::Torn)];
        let (effects, _, end) = play(reason, Some(runner), looks, &answers);
        assert_eq!(effects.last(), Some(&Effect::HoldUnread(held)), "{case}");
        assert_eq!(end, End::Unread, "{case}");
    }
}

#[test]
fn a_claim_that_no_honest_runner_makes_ends_the_sweep_before_anything_is_written() {
    let runner = runner();
    let mut seen = look(Some(runner));
    seen.acks.get_mut(&due().id).unwrap().attempt = Some(7);
    let alive = [Alive::Runner(runner)];
    let (effects, _, end) = play(Reason::Outbox, Some(runner), vec![Ok(seen)], &alive);
    assert!(matches!(&end, End::Violation(reason) if reason.contains("attempt 7")), "{end:?}");
    assert_eq!(effects.last(), Some(&Effect::Enforce));
}

#[test]
fn while_the_runtime_says_nothing_nothing_starts_and_the_mark_stays() {
    let looks = vec![Ok(look(None)), Ok(look(None))];
    let (effects, _, end) = play(Reason::Runtime, None, looks, &[Alive::Unknown]);
    assert_eq!(end, End::Done);
    let touches =
        |effect: &&Effect| matches!(effect, Effect::Start(_) | Effect::Finish | Effect::Mark);
    assert_eq!(effects.iter().find(touches), None, "{effects:?}");
}

#[test]
fn the_mark_is_moved_only_when_nothing_follows() {
    let rest =
        Left { accepted: false, lives: false, recorded: false, sending: false, start_after: None };
    let later = NOW + Duration::from_secs(9);
    let (mut sweep, _) = Sweep::begin(Reasons::default(), None);
    sweep.now = NOW;
    sweep.undelivered = Some(later);
    assert_eq!(sweep.next_mark(&rest), Some(Some(later)));
    for busy in [
        Left { accepted: true, ..rest },
        Left { lives: true, ..rest },
        Left { recorded: true, ..rest },
        Left { sending: true, ..rest },
    ] {
        assert_eq!(sweep.next_mark(&busy), None, "{busy:?}");
    }
    sweep.decision.wake = Wake::Start;
    assert_eq!(sweep.next_mark(&rest), Some(Some(DUE_NOW)), "it waits for a place");
    let put_off = Left { start_after: Some(NOW + Duration::from_secs(2)), ..rest };
    assert_eq!(sweep.next_mark(&put_off), Some(Some(NOW + Duration::from_secs(2))));
}
