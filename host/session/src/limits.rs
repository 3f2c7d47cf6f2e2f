//! The limits of a running container, as data, and the pure judgement whether one is broken.
//!
//! Nothing that a container writes can disable a limit. Ages are measured on a clock that stands
//! still in suspend, from what the host saw and not from what the container says; a declared tool
//! timeout counts up to a maximum; and no sign of life extends a turn beyond its ceiling.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use twobox_shared::clock::Monotonic;
use twobox_shared::ids::{MessageId, RunnerId};

use twobox_config::Limits;

/// What the host has seen of one incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vitals {
    /// Which.
    pub runner: RunnerId,
    started: Monotonic,
    /// The heartbeat's modification time when it was last looked at. At the start this is what a
    /// predecessor left, so that it does not count as a sign of this one.
    heartbeat: Option<SystemTime>,
    last_sign: Monotonic,
    busy_until: Monotonic,
    claims: BTreeMap<(MessageId, i64), ClaimSeen>,
    declared_tool: Option<Duration>,
    /// When a tool was last seen to have ended. The tolerance of a claim begins anew then, or a
    /// container would be stopped for the silence that its tool was allowed.
    tool_ended: Monotonic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ClaimSeen {
    first: Monotonic,
    sign_since: bool,
}

/// Why a container has to be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breach {
    /// No sign of life for too long.
    Silent(Duration),
    /// No sign of life since it claimed a message.
    Stuck(MessageId, Duration),
    /// A turn lasts too long, whatever signs of life it gives.
    EndlessTurn(MessageId, Duration),
    /// It has nothing to do and does not leave.
    Idle(Duration),
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(span) => write!(f, "no sign of life for {}", seconds(*span)),
            Self::Stuck(message, span) => {
                write!(f, "no sign of life since it claimed {message} {} ago", seconds(*span))
            }
            Self::EndlessTurn(message, span) => {
                write!(f, "the turn of {message} has lasted {}", seconds(*span))
            }
            Self::Idle(span) => write!(f, "idle for {} without leaving", seconds(*span)),
        }
    }
}

fn seconds(span: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(span.as_secs()))
}

impl Vitals {
    /// A container that was just started or adopted; `heartbeat` is the file's time at that moment.
    pub fn new(runner: RunnerId, now: Monotonic, heartbeat: Option<SystemTime>) -> Self {
        Self {
            runner,
            started: now,
            heartbeat,
            last_sign: now,
            busy_until: now,
            claims: BTreeMap::new(),
            declared_tool: None,
            tool_ended: now,
        }
    }

    /// Takes in a look at the container: its heartbeat, the claims that it holds, its tool. Any
    /// change of the heartbeat's time is a sign of life, in whichever direction: the time itself is
    /// the container's word.
    pub fn observe(
        &mut self,
        now: Monotonic,
        heartbeat: Option<SystemTime>,
        claims: impl IntoIterator<Item = (MessageId, i64)>,
        declared_tool: Option<Duration>,
    ) {
        let beat = heartbeat.is_some() && heartbeat != self.heartbeat;
        self.heartbeat = heartbeat;
        if beat {
            self.last_sign = now;
        }
        let old = std::mem::take(&mut self.claims);
        for claim in claims {
            let mut seen =
                old.get(&claim).copied().unwrap_or(ClaimSeen { first: now, sign_since: false });
            seen.sign_since |= beat && seen.first < now;
            self.claims.insert(claim, seen);
        }
        if !self.claims.is_empty() || !old.is_empty() {
            self.busy_until = now;
        }
        if self.declared_tool.is_some() && declared_tool != self.declared_tool {
            self.tool_ended = now;
            self.last_sign = now;
        }
        self.declared_tool = declared_tool;
    }

    /// Whether it works on anything.
    pub fn is_busy(&self) -> bool {
        !self.claims.is_empty()
    }

    /// Since when it works on what it has worked on for the longest time.
    pub fn busy_since(&self) -> Option<Monotonic> {
        self.claims.values().map(|claim| claim.first).min()
    }

    /// Whether a limit is broken at `now`, and if not, when to look again.
    ///
    /// `idle` is how long the runner was told to wait for work before it leaves.
    ///
    /// # Errors
    /// The limit that is broken.
    pub fn judge(
        &self,
        limits: &Limits,
        idle: Duration,
        now: Monotonic,
    ) -> Result<Duration, Breach> {
        let grace = limits.start_grace.saturating_sub(now.since(self.started));
        if !grace.is_zero() {
            return Ok(grace);
        }
        let tool = self.declared_tool.unwrap_or_default().min(limits.max_tool);
        let mut next = Duration::MAX;
        let mut check = |since: Monotonic, allowed: Duration| {
            let age = now.since(since);
            next = next.min((allowed + Duration::from_millis(1)).saturating_sub(age));
            (age > allowed).then_some(age)
        };
        if let Some(age) = check(self.last_sign, limits.heartbeat_ceiling.max(tool)) {
            return Err(Breach::Silent(age));
        }
        for ((message, _), claim) in &self.claims {
            if let Some(age) = check(claim.first, limits.turn_ceiling) {
                return Err(Breach::EndlessTurn(message.clone(), age));
            }
            if !claim.sign_since
                && let Some(age) =
                    check(claim.first.max(self.tool_ended), limits.claim_tolerance.max(tool))
            {
                return Err(Breach::Stuck(message.clone(), age));
            }
        }
        if self.claims.is_empty()
            && let Some(age) = check(self.busy_until, idle + limits.claim_tolerance)
        {
            return Err(Breach::Idle(age));
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_config::Config;
    use twobox_shared::ids::SystemIds;

    const IDLE: Duration = Duration::from_secs(600);
    const SEC: u64 = 1000;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * SEC)
    }

    fn beat(n: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(n))
    }

    fn claim() -> Vec<(MessageId, i64)> {
        vec![(MessageId::parse("m").unwrap(), 0)]
    }

    fn vitals(heartbeat: Option<SystemTime>) -> Vitals {
        Vitals::new(RunnerId::generate(&SystemIds), at(0), heartbeat)
    }

    fn judge(vitals: &Vitals, now: u64) -> Result<Duration, Breach> {
        vitals.judge(&Config::default().limits, IDLE, at(now))
    }

    #[test]
    fn nothing_is_judged_within_the_grace_after_its_own_start() {
        let mut vitals = vitals(beat(1));
        vitals.observe(at(0), beat(1), claim(), None);
        assert_eq!(judge(&vitals, 29), Ok(Duration::from_secs(1)));
    }

    #[test]
    fn a_predecessors_heartbeat_is_no_sign_of_this_container() {
        let mut vitals = vitals(beat(1));
        vitals.observe(at(5), beat(1), claim(), None);
        vitals.observe(at(60), beat(1), claim(), None);
        assert!(matches!(judge(&vitals, 66), Err(Breach::Stuck(_, _))));
    }

    #[test]
    fn a_sign_of_life_after_the_claim_leaves_only_the_ceilings() {
        let mut vitals = vitals(None);
        vitals.observe(at(5), beat(1), claim(), None);
        vitals.observe(at(15), beat(2), claim(), None);
        assert!(judge(&vitals, 66).is_ok());
        assert!(matches!(judge(&vitals, 15 + 1801), Err(Breach::Silent(_))));
    }

    #[test]
    fn p18_a_declared_tool_widens_the_tolerance_up_to_a_maximum() {
        let day = Duration::from_secs(86_400);
        let mut vitals = vitals(None);
        vitals.observe(at(0), None, claim(), Some(Duration::from_secs(90)));
        assert!(judge(&vitals, 80).is_ok());
        assert!(matches!(judge(&vitals, 91), Err(Breach::Stuck(_, _))));
        vitals.observe(at(0), None, claim(), Some(3650 * day));
        assert!(judge(&vitals, 7199).is_ok());
        assert!(judge(&vitals, 7201).is_err());
    }

    #[test]
    fn the_end_of_a_tool_begins_the_tolerance_anew() {
        let mut vitals = vitals(None);
        vitals.observe(at(0), None, claim(), Some(Duration::from_secs(90)));
        vitals.observe(at(80), None, claim(), None);
        assert!(judge(&vitals, 80).is_ok(), "it was allowed to be silent until now");
        assert!(judge(&vitals, 139).is_ok());
        assert!(matches!(judge(&vitals, 141), Err(Breach::Stuck(_, _))));
    }

    #[test]
    fn p18_no_sign_of_life_extends_a_turn_beyond_its_ceiling() {
        let mut vitals = vitals(None);
        for minute in 0..=361 {
            vitals.observe(at(minute * 60), beat(minute), claim(), None);
        }
        assert!(matches!(judge(&vitals, 361 * 60), Err(Breach::EndlessTurn(_, _))));
    }

    #[test]
    fn p18_a_heartbeat_from_the_future_is_one_sign_and_no_more() {
        let mut vitals = vitals(None);
        let year_2040 = beat(2_208_988_800);
        vitals.observe(at(1), year_2040, claim(), None);
        vitals.observe(at(1000), year_2040, claim(), None);
        assert!(judge(&vitals, 1802).is_err());
    }

    #[test]
    fn every_container_has_a_finite_idle_time() {
        let mut vitals = vitals(None);
        for minute in 0..=12 {
            vitals.observe(at(minute * 60), beat(minute), Vec::new(), None);
        }
        assert!(judge(&vitals, 660).is_ok());
        assert!(matches!(judge(&vitals, 661), Err(Breach::Idle(_))));
    }

    #[test]
    fn the_next_look_is_when_the_first_limit_could_break() {
        let mut vitals = vitals(None);
        vitals.observe(at(30), None, claim(), None);
        let next = judge(&vitals, 40).unwrap();
        assert_eq!(next, Duration::from_millis(50_001));
    }
}
