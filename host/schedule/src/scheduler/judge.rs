//! What the end of a run means: why it failed, and what follows for its schedule. Pure.

use twobox_shared::content::Failure;
use twobox_shared::ids::SessionId;

use crate::service;
use twobox_slots::cadence::Kind;
use twobox_slots::reason::Reason;
use twobox_slots::streak::{self, Pause};
use twobox_store::schedules::{News, Run, Schedule, SelfPause, Status, Trigger, Verdict};

/// Why a run failed, by its runner's word. A runner knows when the lease ends, and is often the first to
/// act on it: that is the end of the lease, if it `is_over`.
pub(super) fn reason_of(failure: &Failure, is_over: bool) -> Reason {
    match Reason::parse(&failure.reason) {
        Some(Reason::Timeout) if is_over => Reason::LeaseExpired,
        Some(
            known @ (Reason::TurnLimitExceeded
            | Reason::Timeout
            | Reason::BudgetExceeded
            | Reason::AuthFailed
            | Reason::RateLimited),
        ) => known,
        _ => Reason::ProviderError, // its word for anything else is not taken
    }
}

/// What the end of `run` means for its schedule. `teller` is the session that tells a person of a
/// pause, if the chat has none.
pub fn judge(schedule: &Schedule, run: &Run, teller: SessionId) -> Verdict {
    let fired_at = run.slot.or(run.hold.as_ref().map(|hold| hold.started_at));
    let grace = schedule.turns_edited_at.zip(fired_at).is_some_and(|(edited_at, fired_at)| {
        service::Times::of(&schedule.definition)
            .is_ok_and(|plan| streak::in_grace(&plan.timetable, edited_at, fired_at))
    });
    let end = match (run.status, run.reason) {
        _ if run.trigger == Trigger::Manual => streak::End::ByHand,
        (Status::Failed, Some(reason)) => streak::End::Failed(reason),
        (Status::Completed, _) => streak::End::Completed,
        _ => streak::End::Cancelled,
    };
    let (streaks, pause) = schedule.streaks.after(end, grace);
    let pause = pause.map(|pause| match pause {
        Pause::Breaches => format!("{} runs in a row used up their model turns", streaks.breaches),
        Pause::Failures => {
            format!("{} runs in a row failed, the last one because: {}", streaks.failures, why(run))
        }
    });
    let pause = pause.map(|reason| self_pause(schedule, reason, teller));
    // Of a pause a person hears anyway.
    let news = (pause.is_none() && is_over_without_success(schedule, run)).then(|| {
        let name = &schedule.definition.name;
        let text = format!(
            "The schedule {name:?} was to run once, and its run failed: {}. `twobox schedules run \
             {name}` runs it again.",
            why(run)
        );
        News { text, session: teller }
    });
    Verdict { streaks, pause, news }
}

/// Whether `run` was the only one that the cadence of `schedule` makes, and failed: no later one will make
/// good for it, and nobody watches it. Of one that was started by hand whoever did so sees the end.
fn is_over_without_success(schedule: &Schedule, run: &Run) -> bool {
    schedule.definition.cadence_kind == Kind::Once.word()
        && run.status == Status::Failed
        && run.trigger != Trigger::Manual
}

/// Why a run failed: what was said about it, or else what is known.
fn why(run: &Run) -> &str {
    let said = run.error.as_deref().filter(|said| !said.trim().is_empty());
    said.or(run.reason.map(service::in_words)).unwrap_or("no reason known")
}

/// A pause of `schedule` for `reason`, with the words for the person who has to know.
pub(super) fn self_pause(schedule: &Schedule, reason: String, session: SessionId) -> SelfPause {
    let name = &schedule.definition.name;
    let text = format!(
        "I have paused the schedule {name:?}: {reason}. `twobox schedules show {name}` shows \
         more, and `twobox schedules resume {name}` lets it go on."
    );
    SelfPause { reason, text, session }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::plan::tests::hourly;
    use twobox_shared::ids::{RunId, SystemIds};
    use twobox_shared::inbox::Origin;
    use twobox_shared::time::UnixMillis;
    use twobox_slots::missed;
    use twobox_slots::streak::Streaks;

    fn failed(trigger: Trigger, error: &str) -> Run {
        let schedule = hourly(missed::Policy::Latest, None);
        Run {
            id: RunId::generate(&SystemIds),
            schedule: schedule.id,
            slot: None,
            due: UnixMillis(0),
            trigger,
            status: Status::Failed,
            reason: Some(Reason::RateLimited),
            error: Some(error.to_owned()),
            hold: None,
            prompt: schedule.definition.prompt,
            to: Origin::default(),
            max_turns: None,
            max_run_ms: None,
            turns: None,
            output: None,
            cancel_requested_at: None,
            slot_count: 1,
            last_slot: None,
            created_at: UnixMillis(0),
            ended_at: Some(UnixMillis(1)),
        }
    }

    #[test]
    fn a_pause_names_its_reason_also_when_the_failure_has_no_detail() {
        let mut schedule = hourly(missed::Policy::Latest, None);
        schedule.streaks.failures = streak::FAILURES - 1;
        for (error, expected) in [
            ("out of credit", "because: out of credit"),
            ("", "because: the provider wanted fewer calls"),
            (" \n", "because: the provider wanted fewer calls"),
        ] {
            let run = failed(Trigger::Scheduled, error);
            let pause = judge(&schedule, &run, SessionId::generate(&SystemIds)).pause.unwrap();
            assert!(pause.reason.ends_with(expected), "{error:?}: {}", pause.reason);
            assert!(pause.text.contains(expected), "{error:?}: {}", pause.text);
        }
    }

    #[test]
    fn a_one_shot_that_fails_for_good_is_told_of() {
        let mut schedule = hourly(missed::Policy::Latest, None);
        let news = |schedule: &Schedule, run: &Run| {
            judge(schedule, run, SessionId::generate(&SystemIds)).news.map(|news| news.text)
        };
        let run = failed(Trigger::Scheduled, "out of credit");
        assert_eq!(news(&schedule, &run), None, "another one comes");
        schedule.definition.cadence_kind = "once".to_owned();
        let text = news(&schedule, &run).unwrap();
        assert!(text.contains("\"tidy\"") && text.contains("failed: out of credit"), "{text}");
        assert_eq!(news(&schedule, &failed(Trigger::Manual, "no")), None, "somebody watches");
        let completed = Run { status: Status::Completed, ..run.clone() };
        assert_eq!(news(&schedule, &completed), None);
        schedule.streaks.failures = streak::FAILURES - 1;
        assert_eq!(news(&schedule, &run), None, "the pause says it");
    }

    #[test]
    fn a_run_that_was_started_by_hand_counts_towards_no_pause() {
        let mut schedule = hourly(missed::Policy::Latest, None);
        let streaks = Streaks { breaches: 1, failures: streak::FAILURES - 1 };
        schedule.streaks = streaks;
        let completed = Run { status: Status::Completed, ..failed(Trigger::Manual, "") };
        for run in [failed(Trigger::Manual, "no"), completed] {
            let verdict = judge(&schedule, &run, SessionId::generate(&SystemIds));
            assert_eq!(verdict, Verdict { streaks, pause: None, news: None });
        }
    }

    #[test]
    fn a_runner_is_believed_about_what_only_it_can_know() {
        let cases = [
            ("turn_limit_exceeded", true, Reason::TurnLimitExceeded),
            ("timeout", false, Reason::Timeout),
            ("timeout", true, Reason::LeaseExpired),
            ("auth_failed", true, Reason::AuthFailed),
            ("lease_expired", false, Reason::ProviderError),
            ("prepare_failed", true, Reason::ProviderError),
            ("whatever", true, Reason::ProviderError),
        ];
        for (word, is_over, expected) in cases {
            let failure = Failure::permanent(word, "");
            assert_eq!(reason_of(&failure, is_over), expected, "{word}, {is_over}");
        }
    }
}
