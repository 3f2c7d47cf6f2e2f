//! The model of an agent-runner: it uses the real claim rule and the real choice of a turn's
//! messages, and may be killed or stall anywhere.

use twobox_shared::claim::{Chooser, claimable};
use twobox_shared::content::Failure;
use twobox_shared::ids::RunnerId;
use twobox_shared::inbox::InboundMessage;
use twobox_shared::outbox::{AckStatus, Claim};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use crate::model::{Boxes, Status};

/// What a runner is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doing {
    Starting,
    Waiting,
    /// It decided to leave, and does not look any more.
    Leaving,
    Working(Vec<Claim>),
    Dead,
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
        rng: &mut fastrand::Rng,
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
            Doing::Waiting => self.look(boxes, now, faults, rng),
            Doing::Working(claims) => self.work(claims, boxes, faults, rng),
        }
    }

    pub(crate) fn die(&mut self, why: &str) -> Step {
        self.doing = Doing::Dead;
        Step::Died(why.into())
    }

    fn look(
        &mut self,
        boxes: &mut Boxes,
        now: UnixMillis,
        faults: bool,
        rng: &mut fastrand::Rng,
    ) -> Step {
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
        let claims: Vec<Claim> =
            chosen.iter().filter_map(|message| boxes.claim(message, self.id)).collect();
        if claims.is_empty() {
            if faults && rng.u8(..) < 40 {
                self.doing = Doing::Leaving;
                return Step::Did("decides to leave".into());
            }
            return Step::Nothing;
        }
        let names: Vec<_> = claims.iter().map(|claim| claim.message.as_str()).collect();
        let text = format!("claims {}", names.join(" "));
        self.doing = Doing::Working(claims);
        Step::Did(text)
    }

    fn work(
        &mut self,
        claims: Vec<Claim>,
        boxes: &mut Boxes,
        faults: bool,
        rng: &mut fastrand::Rng,
    ) -> Step {
        if !boxes.holds(&claims, self.id) {
            return self.die("is fenced");
        }
        let name = format!("{}-{}-{}", claims[0].message, claims[0].attempt, boxes.rows.len());
        match rng.u8(..) {
            0..=60 => {
                boxes.send(name.clone(), &claims, self.floor, self.id);
                Step::Did(format!("sends {name}"))
            }
            61..=90 if faults => {
                let failure = match rng.u8(..3) {
                    0 => Failure::retryable(Failure::RELEASED, ""),
                    1 => Failure::retryable(Failure::PROVIDER_ERROR, ""),
                    _ => Failure::permanent("auth_failed", ""),
                };
                let text = format!("fails {}: {}", claims[0].message, failure.reason);
                for claim in &claims {
                    let ack = boxes.acks.get_mut(&claim.message).expect("held");
                    ack.status = AckStatus::Failed;
                    ack.failure = Some(failure.clone());
                }
                self.doing = Doing::Waiting;
                match failure.reason == Failure::RELEASED {
                    true => self.die(&text),
                    false => Step::Did(text),
                }
            }
            _ => {
                boxes.send(name, &claims, self.floor, self.id);
                for claim in &claims {
                    boxes.acks.get_mut(&claim.message).expect("held").status = AckStatus::Completed;
                    let message = boxes.message(&claim.message);
                    message.answers += 1;
                    assert_eq!(message.answers, 1, "{} was answered twice", claim.message);
                }
                self.doing = Doing::Waiting;
                Step::Did(format!("answers {}", claims[0].message))
            }
        }
    }
}
