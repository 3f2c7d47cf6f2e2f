//! Crash points: every place where a process may die between two effects that are durable on
//! their own. A test names one, the process kills itself there, and a second life has to show that
//! nothing was lost and nothing was done twice.
//!
//! The check exists in debug builds only. There, `TWOBOX_CRASH_AT=<name>` or `<name>:<n>` kills the
//! process (SIGKILL, so no destructor runs) when it reaches the point for the n-th time, and
//! `TWOBOX_CRASH_LOG=<file>` gets one line for each point reached.

macro_rules! crash_points {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// A place where a process may die.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CrashPoint {
            $($(#[$doc])* $variant,)+
        }

        impl CrashPoint {
            /// Every registered point.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name under which tests ask for the point: who dies, doing what, when.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

crash_points! {
    /// The session is marked due, the message is not in the inbox yet.
    HostAcceptMarked = "host.accept.marked",
    /// The message is in the inbox, the channel was not told.
    HostAcceptCommitted = "host.accept.committed",
    /// The notice of a failure is stored, the inbox still says pending.
    HostSettleNoticed = "host.settle.noticed",
    /// The inbox says what became of the attempts, no container was started.
    HostSettleCommitted = "host.settle.committed",
    /// The start is recorded, nothing was started.
    HostStartRecorded = "host.start.recorded",
    /// The container runs, the host has not noticed.
    HostStartDone = "host.start.done",
    /// The container was stopped, the host has not noticed.
    HostStopDone = "host.stop.done",
    /// The slots that had come are claimed.
    HostSlotClaimed = "host.slot.claimed",
    /// A run has its place among those that go on.
    HostRunStarted = "host.run.started",
    /// The run's session is there.
    HostRunPrepared = "host.run.prepared",
    /// The run's message is in its session.
    HostRunStored = "host.run.stored",
    /// The run's end is recorded.
    HostRunEnded = "host.run.ended",
    /// A send is announced, the channel was not called.
    HostDeliverAnnounced = "host.deliver.announced",
    /// The channel took the row, the inbox does not say so.
    HostDeliverSent = "host.deliver.sent",
    /// The inbox says that the row was delivered.
    HostDeliverRecorded = "host.deliver.recorded",
    /// People are asked what a request wants, the request is not recorded.
    HostApprovalAsked = "host.approval.asked",
    /// An approval is decided, or its time is over, and nobody else has heard of it.
    HostApprovalDecided = "host.approval.decided",
    /// Telling the agent is claimed, it was not told.
    HostApprovalClaimed = "host.approval.claimed",
    /// The agent is told what became of an approval, that is not recorded.
    HostApprovalTold = "host.approval.told",
    /// The agent's requests are carried out and answered, nobody has looked at what came of it.
    HostRequestCommitted = "host.request.committed",
    /// What a request to a model can use is reserved, and the request is not sent.
    HostGatewayReserved = "host.gateway.reserved",
    /// A model has answered to the end, and what that used is not counted.
    HostGatewayAnswered = "host.gateway.answered",
    /// What was settled long ago is deleted from the inbox.
    HostForgot = "host.forgot",
    /// A session that was made for a run is folded, and marked all the same.
    HostSessionFolded = "host.session.folded",
    /// A session that nobody needs is closed, its folder is there.
    HostSessionClosed = "host.session.closed",
    /// Its folder is deleted, what `host.db` knows of it is there.
    HostSessionRemoved = "host.session.removed",
    /// The session is marked due, what a person wants tried once more is as it was.
    HostRedriveMarked = "host.redrive.marked",
    /// What a person wants tried once more is open again, nobody was told.
    HostRedriveCommitted = "host.redrive.committed",
    /// The runner holds its lock and has opened nothing.
    RunnerLocked = "runner.locked",
    /// The claim is committed, the turn has not begun.
    RunnerClaimed = "runner.claimed",
    /// A row was sent in the middle of a turn.
    RunnerSent = "runner.sent",
    /// A person's yes is noted as used, what it allows is not done.
    RunnerPermissionUsed = "runner.permission.used",
    /// A model has answered, nothing of that is kept.
    RunnerAnswerHeard = "runner.answer.heard",
    /// Tools were used, what came of them is not kept.
    RunnerToolDone = "runner.tool.done",
    /// The turn has ended, nothing of its end is committed.
    RunnerTurnDone = "runner.turn.done",
    /// Replies and acks are committed.
    RunnerAnswered = "runner.answered",
    /// A failed turn is acked.
    RunnerFailed = "runner.failed",
    /// What was settled long ago is deleted from the outbox.
    RunnerForgot = "runner.forgot",
}

/// Dies here if a test asked for it. Release builds compile this to nothing.
#[inline]
pub fn point(point: CrashPoint) {
    #[cfg(debug_assertions)]
    armed::reach(point);
    #[cfg(not(debug_assertions))]
    let _: CrashPoint = point;
}

#[cfg(debug_assertions)]
mod armed {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::CrashPoint;

    struct Order {
        name: String,
        countdown: AtomicU32,
    }

    static ORDER: OnceLock<Option<Order>> = OnceLock::new();
    static LOG: OnceLock<Option<String>> = OnceLock::new();

    fn order() -> Option<Order> {
        let text = std::env::var("TWOBOX_CRASH_AT").ok()?;
        let (name, nth) = match text.split_once(':') {
            Some((name, nth)) => (name, nth.parse().expect("TWOBOX_CRASH_AT=<name>:<number>")),
            None => (text.as_str(), 1),
        };
        assert!(
            CrashPoint::ALL.iter().any(|known| known.name() == name),
            "TWOBOX_CRASH_AT names no crash point: {name}"
        );
        Some(Order { name: name.to_owned(), countdown: AtomicU32::new(nth) })
    }

    pub(super) fn reach(point: CrashPoint) {
        if let Some(path) = LOG.get_or_init(|| std::env::var("TWOBOX_CRASH_LOG").ok()) {
            let mut log = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .expect("TWOBOX_CRASH_LOG can be written");
            writeln!(log, "{}", point.name()).expect("TWOBOX_CRASH_LOG can be written");
        }
        let Some(order) = ORDER.get_or_init(order) else { return };
        if order.name == point.name() && order.countdown.fetch_sub(1, Ordering::SeqCst) == 1 {
            kill(Pid::this(), Signal::SIGKILL).expect("a process may kill itself");
            loop {
                std::thread::park(); // SIGKILL is on its way
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CrashPoint;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = CrashPoint::ALL.iter().map(|point| point.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CrashPoint::ALL.len());
    }
}
