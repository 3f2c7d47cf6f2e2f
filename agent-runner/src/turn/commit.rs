//! The end of a turn: one fenced commit of everything, or of the reason why there is nothing.

use std::collections::HashSet;

use twobox_shared::content::Failure;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::inbox::InboundMessage;
use twobox_shared::outbox::{Claim, NewRow, TurnEnd};

use super::{End, Left, Turn, claim_of};
use crate::exit::Exit;
use crate::provider::Done;
use crate::say::say;

impl Turn<'_, '_> {
    /// Commits how the turn ended.
    pub(super) fn finish(mut self, end: End) -> Result<Left, Exit> {
        let stuck = matches!(end, End::Stuck(_));
        let outcome = match end {
            End::Outcome(outcome) => outcome.and_then(|done| self.result(done)),
            End::Stuck(failure) => Err(failure),
        };
        if self.limits.tool_ended() {
            self.show_tool(None);
        }
        fault::point(CrashPoint::RunnerTurnDone);
        let turns = i64::from(self.limits.turns());
        let broken = matches!(&outcome, Err(failure) if failure.reason == Failure::AGENT_BROKEN);
        match &outcome {
            Ok((rows, continuation)) => {
                let continuation = continuation.as_deref();
                let claims: Vec<Claim> = self.messages.iter().map(claim_of).collect();
                let end = TurnEnd { claims: &claims, outcome: Ok(rows), turns, continuation };
                self.runner.end_turn(&end)?;
                fault::point(CrashPoint::RunnerAnswered);
            }
            Err(failure) => {
                let reason = &failure.reason;
                say!("a turn failed ({reason}): {}", failure.detail);
                self.drafts.discard();
                // What the host has taken back takes nothing else with it, such as what the agent was
                // to be told besides.
                let (of_it, beside): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut self.messages).into_iter().partition(|message| {
                        *reason != Failure::ABORTED || self.wanted.contains(&message.id)
                    });
                let claims: Vec<Claim> = of_it.iter().map(claim_of).collect();
                let outcome = Err(failure);
                let end = TurnEnd { claims: &claims, outcome, turns, continuation: None };
                self.runner.end_turn(&end)?;
                fault::point(CrashPoint::RunnerFailed);
                self.runner.release(&beside, "the turn was taken back")?;
            }
        }
        let unused = self.still_wanted()?;
        Ok(Left { unused, stuck, broken })
    }

    /// The follow-ups that were not used, without those that the host has taken back meanwhile: nobody
    /// works on these any more. What cannot be looked at now is seen by the turn that it gets.
    fn still_wanted(&mut self) -> Result<Vec<InboundMessage>, Exit> {
        let offered = std::mem::take(&mut self.offered);
        let taken_back = match offered.is_empty() {
            true => HashSet::new(),
            false => self.runner.taken_back(offered.iter().map(|message| &message.id)),
        };
        let (gone, unused): (Vec<_>, Vec<_>) =
            offered.into_iter().partition(|message| taken_back.contains(&message.id));
        if !gone.is_empty() {
            let claims: Vec<Claim> = gone.iter().map(claim_of).collect();
            let failure = Failure::permanent(Failure::ABORTED, "the host has taken it back");
            let outcome = Err(&failure);
            self.runner.end_turn(&TurnEnd {
                claims: &claims,
                outcome,
                turns: 0,
                continuation: None,
            })?;
        }
        Ok(unused)
    }

    /// What a turn that the provider calls done commits.
    fn result(&mut self, done: Done) -> Result<(Vec<NewRow>, Option<String>), Failure> {
        if self.drafts.is_empty() && !self.worked && !done.silent {
            let detail = "the provider answered nothing";
            return Err(Failure::retryable(Failure::PROVIDER_ERROR, detail));
        }
        let too_large = |reason| {
            Failure::permanent(
                Failure::PROVIDER_ERROR,
                format!("the answer cannot be sent: {reason}"),
            )
        };
        Ok((self.drafts.rows().map_err(too_large)?, done.continuation))
    }
}
