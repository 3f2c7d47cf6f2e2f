//! Waiting for a runner's end, and making it everybody's end.
//!
//! One task per incarnation. "Exited" is said only after a look at `/proc` in which no process of
//! the incarnation lived: whoever was left when the runner ended is killed first.

use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::scan::{self, Identity, Ours, Snapshot};
use crate::child::{Ended, asynchronous, reap};
use crate::{Incarnation, RuntimeEvent};
use twobox_system::repeat::Repeats;

/// How often a process is looked at where the kernel cannot tell us of its end.
const POLL: Duration = Duration::from_millis(200);
/// The first and the longest pause between two looks at processes that were killed.
const KILL_PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(500));

/// How many looks at a runner that is to be ended spare it while it is not alone. It cannot start
/// anybody itself, so one or two do, unless what it has started multiplies.
const OTHERS_FIRST: usize = 8;

/// Everything that one watch needs.
pub(super) struct Watch {
    pub(super) ours: Arc<Ours>,
    pub(super) incarnation: Incarnation,
    /// The runner; `None` if only descendants of it were found.
    pub(super) runner: Option<Identity>,
    /// The handle for reaping, if this process started the runner.
    pub(super) child: Option<Child>,
    pub(super) ended: watch::Sender<Option<Ended>>,
    pub(super) events: mpsc::UnboundedSender<RuntimeEvent>,
}

impl Watch {
    /// Returns when nobody of the incarnation is left and everybody was told.
    pub(super) async fn run(mut self) {
        if let Some(runner) = self.runner {
            end_of(runner).await;
        }
        self.clear_out().await;
        let code = self.child.take().and_then(reap);
        self.ended.send_replace(Some(Ended { code }));
        // Nobody listens any more when the host is on its way out.
        self.events.send(RuntimeEvent::Exited(self.incarnation)).ok();
    }

    /// Kills until a look finds nobody. It never gives up: as long as somebody lives, the place is
    /// taken, and that is what `ended` says meanwhile.
    async fn clear_out(&self) {
        let (mut pause, longest) = KILL_PAUSE;
        let repeats = Repeats::default();
        loop {
            match kill(&self.ours, self.incarnation, self.runner).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(reason) => {
                    if let Some(before) = repeats.tell(&reason, Instant::now()) {
                        tracing::warn!(runner = %self.incarnation.runner, reason, before,
                            "cannot look at processes");
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

/// Ends an incarnation whose runner did not leave by itself: first everybody but the runner, to whom
/// all come back that lose their parents, and the runner at the end.
pub(super) async fn end(
    ours: &Arc<Ours>,
    incarnation: Incarnation,
    runner: Option<Identity>,
) -> Result<(), String> {
    let (mut pause, longest) = KILL_PAUSE;
    for _ in 0..OTHERS_FIRST {
        let Some(runner) = runner else { break };
        let left = look(ours, move |seen| seen.kill_others(incarnation, runner)).await?;
        if left == 0 {
            break;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
    kill(ours, incarnation, runner).await.map(drop)
}

/// Kills every live process of the incarnation that one look finds, and says how many there were.
pub(super) async fn kill(
    ours: &Arc<Ours>,
    incarnation: Incarnation,
    runner: Option<Identity>,
) -> Result<usize, String> {
    look(ours, move |seen| seen.kill(incarnation, runner)).await
}

/// What `work` makes of everybody who lives now.
async fn look(
    ours: &Arc<Ours>,
    work: impl FnOnce(&Snapshot) -> usize + Send + 'static,
) -> Result<usize, String> {
    let ours = Arc::clone(ours);
    let work = move || Snapshot::take(&ours).map(|seen| work(&seen));
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| format!("could not read /proc: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns when the process has ended, reaped or not.
async fn end_of(process: Identity) {
    if let Ok(handle) = scan::open(process).map_err(std::io::Error::from).and_then(asynchronous)
        && handle.readable().await.is_ok()
    {
        return;
    }
    while scan::lives(process) {
        tokio::time::sleep(POLL).await;
    }
}
