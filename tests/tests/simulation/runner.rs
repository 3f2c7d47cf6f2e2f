//! The model of an agent-runner: it uses the real claim rule and the real choice of a turn's
//! messages, and may be killed or stall anywhere.

use twobox_shared::claim::{Chooser, claimable};
use twobox_shared::content::Failure;
use twobox_shared::ids::RunnerId;
use twobox_shared::inbox::InboundMessage;
use twobox_shared::outbox::{AckStatus, Claim};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use crate::dice::Dice;
use crate::disk::Commit;
use crate::model::{Boxes, Status};
use crate::tasks;

/// What a runner is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doing {
    Starting,
    Waiting,
    /// It decided to leave, and does not look any more.
    Leaving,
    /// It has chosen, and commits its claims until that succeeds.
    Claiming(Vec<InboundMessage>),
    Working(Vec<Claim>),
    /// It commits a row in the middle of a turn until that succeeds.
    Sending(Vec<Claim>, String),
    Dead,
}

impl Doing {
    /// The claims of the turn that is under way.
    pub(crate) fn claims(&self) -> &[Claim] {
        match self {
            Self::Working(claims) | Self::Sending(claims, _) => claims,
            Self::Starting | Self::Waiting | Self::Leaving | Self::Claiming(_) | Self::Dead => &[],
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Runner {
    pub(crate) id: RunnerId,
    pub(crate) doing: Doing,
    /// Stopped by a signal or hung: it does nothing until it is killed.
    pub(crate) stalled: bool,
    /// The highest number that it has read from the inbox.
    pub(crate) floor: Seq,
}

/// What happened, for the trace.
pub(crate) enum Step {
    Nothing,
    Did(String),
    Died(String),
}

impl Runner {
    pub(crate) fn new(id: RunnerId) -> Self {
        Self { id, doing: Doing::Starting, stalled: false, floor: Seq(0) }
    }

    pub(crate) fn lives(&self) -> bool {
        self.doing != Doing::Dead
    }

    /// One step of its own.
    pub(crate) fn step(
        &mut self,
        boxes: &mut Boxes,
        lock: &mut Option<RunnerId>,
        now: UnixMillis,
        faults: bool,
        dice: &mut Dice,
    ) -> Step {
        if self.stalled {
            return Step::Nothing;
        }
        match self.doing.clone() {
            Doing::Dead => Step::Nothing,
            Doing::Starting if lock.is_some() => self.die("finds the lock held"),
            Doing::Starting => {
                *lock = Some(self.id);
                self.doing = Doing::Waiting;
                Step::Did("locks".into())
            }
            Doing::Leaving => self.die("leaves, idle"),
            Doing::Waiting => self.look(boxes, now, faults, dice),
            Doing::Claiming(chosen) => self.claim(&chosen, boxes, Commit::roll(faults, dice)),
            Doing::Working(claims) => self.work(claims, boxes, now, faults, dice),
            Doing::Sending(claims, name) => {
                self.send(claims, name, boxes, Commit::roll(faults, dice))
            }
        }
    }

    pub(crate) fn die(&mut self, why: &str) -> Step {
        self.doing = Doing::Dead;
        Step::Died(why.into())
    }

    fn look(&mut self, boxes: &mut Boxes, now: UnixMillis, faults: bool, dice: &mut Dice) -> Step {
        let mut chooser = Chooser::default();
        for message in &boxes.messages {
            self.floor = self.floor.max(message.row.seq).max(boxes.cursor.seen);
            let row = &message.row;
            let ready = message.status == Status::Pending
                && row.process_after.is_none_or(|due| due <= now)
                && claimable(row.tries, boxes.acks.get(&row.id));
            let offered = InboundMessage {
                id: row.id.clone(),
                seq: row.seq,
                kind: "chat".into(),
                timestamp: now,
                tries: row.tries,
                trigger: row.trigger,
                on_wake: false,
                origin: row.origin.clone(),
                content: String::new(),
                run_id: None,
            };
            if ready && chooser.offer(offered).is_break() {
                break;
            }
        }
        let chosen = chooser.finish();
        if !chosen.is_empty() {
            self.doing = Doing::Claiming(chosen);
        } else if faults && dice.fault(40) {
            self.doing = Doing::Leaving;
            return Step::Did("decides to leave".into());
        }
        Step::Nothing
    }

    fn claim(&mut self, chosen: &[InboundMessage], boxes: &mut Boxes, commit: Commit) -> Step {
        if !commit.holds() {
            return Step::Nothing;
        }
        let made: Vec<_> = chosen
            .iter()
            .filter_map(|message| Some((message.trigger, boxes.claim(message, self.id)?)))
            .collect();
        if commit == Commit::Doubtful {
            return Step::Did("claims, and does not know it".into());
        }
        let asked = made.iter().any(|(trigger, _)| *trigger);
        let claims: Vec<Claim> = made.into_iter().map(|(_, claim)| claim).collect();
        if !asked {
            // Somebody else got what the context was for.
            end(boxes, &claims, &Failure::retryable(Failure::RELEASED, ""));
            self.doing = Doing::Waiting;
            return Step::Did("gives context back".into());
        }
        let names: Vec<_> = claims.iter().map(|claim| claim.message.as_str()).collect();
        let text = format!("claims {}", names.join(" "));
        self.doing = Doing::Working(claims);
        Step::Did(text)
    }

    fn send(
        &mut self,
        claims: Vec<Claim>,
        name: String,
        boxes: &mut Boxes,
        commit: Commit,
    ) -> Step {
        if !boxes.holds(&claims, self.id) {
            return self.die("is fenced");
        }
        if commit.holds() {
            boxes.send(name.clone(), &claims, self.floor, self.id);
        }
        self.doing = match commit {
            Commit::Done => Doing::Working(claims),
            Commit::Failed | Commit::Doubtful => Doing::Sending(claims, name.clone()),
        };
        Step::Did(format!("sends {name}: {commit:?}"))
    }

    fn work(
        &mut self,
        claims: Vec<Claim>,
        boxes: &mut Boxes,
        now: UnixMillis,
        faults: bool,
        dice: &mut Dice,
    ) -> Step {
        if !boxes.holds(&claims, self.id) {
            return self.die("is fenced");
        }
        let name = format!("{}-{}-{}", claims[0].message, claims[0].attempt, boxes.rows.len());
        let what = dice.weighted(&[61, 10, 10, 10, 165]);
        let commit = Commit::roll(faults, dice);
        match what {
            0 => self.send(claims, name, boxes, commit),
            // It comes back to it; whether the claims still stand is then looked at again.
            _ if !commit.holds() => Step::Nothing,
            1..=3 if faults => {
                let failure = match what {
                    1 => Failure::retryable(Failure::RELEASED, ""),
                    2 => Failure::retryable(Failure::PROVIDER_ERROR, ""),
                    _ => Failure::permanent("auth_failed", ""),
                };
                let text = format!("fails {}: {} {commit:?}", claims[0].message, failure.reason);
                end(boxes, &claims, &failure);
                match commit {
                    Commit::Done if failure.reason == Failure::RELEASED => self.die(&text),
                    Commit::Done => {
                        self.doing = Doing::Waiting;
                        Step::Did(text)
                    }
                    Commit::Failed | Commit::Doubtful => Step::Did(text),
                }
            }
            _ => {
                let asks = match dice {
                    Dice::Seed(rng) if faults => rng.u8(..4),
                    Dice::Seed(_) | Dice::Script(_) => 0,
                };
                for n in 0..asks {
                    let name = format!("{}-{}-asks-{n}", claims[0].message, claims[0].attempt);
                    let request = tasks::request(boxes, now, dice.seeded());
                    boxes.send(name.clone(), &claims, self.floor, self.id);
                    boxes.ask(&name, &request);
                }
                boxes.send(name, &claims, self.floor, self.id);
                for claim in &claims {
                    let ack = boxes.acks.get_mut(&claim.message).expect("held");
                    ack.status = AckStatus::Completed;
                    ack.changed_at = Some(now);
                    let message = boxes.message(&claim.message);
                    message.answers += 1;
                    assert_eq!(message.answers, 1, "{} was answered twice", claim.message);
                    boxes.note_done(&claim.message);
                }
                if commit == Commit::Done {
                    self.doing = Doing::Waiting;
                }
                Step::Did(format!("answers {}: {commit:?}", claims[0].message))
            }
        }
    }
}

fn end(boxes: &mut Boxes, claims: &[Claim], failure: &Failure) {
    for claim in claims {
        let ack = boxes.acks.get_mut(&claim.message).expect("held");
        ack.status = AckStatus::Failed;
        ack.failure = Some(failure.clone());
    }
}
