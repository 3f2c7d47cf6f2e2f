//! Overlap: what a slot does that comes while runs of its schedule have not ended.

use twobox_model::words;

words! {
    /// What a schedule wants to be done then.
    #[derive(Default)]
    Policy {
        /// Leave the slot out.
        #[default]
        Skip = "skip",
        /// Let one slot wait.
        Queue = "queue",
        /// End the other runs.
        Replace = "replace",
        /// Run it beside them.
        Allow = "allow",
    }
}

/// The runs of a schedule that have not ended, whatever started them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unended {
    /// Not begun: for want of capacity, or because they wait for another run of the schedule.
    pub queued: u64,
    /// Begun.
    pub running: u64,
}

/// What the slot does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It becomes a run, which begins as soon as there is capacity.
    Run,
    /// It becomes a run, which begins once no other run of the schedule is running.
    Wait,
    /// The others are ended (queued ones at once), then it becomes a run.
    Replace,
    /// It is recorded as skipped, because of an overlap.
    Skip,
}

/// Decides about one slot. For several at once, ask for each in turn, oldest first, and count in what
/// became of those before.
pub const fn decide(policy: Policy, unended: Unended) -> Decision {
    match (policy, unended) {
        (_, Unended { queued: 0, running: 0 }) | (Policy::Allow, _) => Decision::Run,
        (Policy::Queue, Unended { queued: 0, .. }) => Decision::Wait,
        (Policy::Replace, _) => Decision::Replace,
        (Policy::Skip | Policy::Queue, _) => Decision::Skip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_decides_only_while_runs_have_not_ended() {
        use Decision::{Replace, Run, Skip, Wait};
        use Policy::{Allow, Queue};
        let cases = [
            // (queued, running), then skip, queue, replace, allow
            ((0, 0), [Run, Run, Run, Run]),
            ((0, 1), [Skip, Wait, Replace, Run]),
            ((1, 0), [Skip, Skip, Replace, Run]), // one waits already
            ((1, 1), [Skip, Skip, Replace, Run]),
            ((0, 3), [Skip, Wait, Replace, Run]),
        ];
        for ((queued, running), decisions) in cases {
            let unended = Unended { queued, running };
            let policies = [Policy::Skip, Queue, Policy::Replace, Allow];
            let decided = policies.map(|policy| decide(policy, unended));
            assert_eq!(decided, decisions, "{unended:?}");
        }
    }
}
