//! Waiting for a sandbox's end, and making it everybody's end.
//!
//! One task per incarnation. bwrap is three processes: the *outer* one, which the host started; the
//! *inner* one, which is number 1 inside; and the *command*, which is the runner. The outer one ends
//! with the command, while others may live on inside; so when it ends, the inner one is killed, and
//! with it whoever is left. The end of the inner one is the kernel's word that nobody is.

use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{mpsc, watch};

use super::cgroup::Leaf;
use super::handle::Handle;
use super::status;
use crate::child::{Ended, reap};
use crate::{Incarnation, RuntimeEvent};

/// How long the outer process may take to notice that the inner one has ended.
const OUTER_PATIENCE: Duration = Duration::from_secs(5);

/// The processes of one sandbox that matter to the host.
#[derive(Debug, Clone)]
pub(super) struct Processes {
    pub(super) inner: Handle,
    /// `None` if it was gone when the sandbox was found.
    pub(super) outer: Option<Handle>,
}

/// Everything that one watch needs.
pub(super) struct Watch {
    pub(super) incarnation: Incarnation,
    pub(super) folder: PathBuf,
    pub(super) processes: Processes,
    /// For reaping, if this process started it.
    pub(super) child: Option<Child>,
    pub(super) leaf: Option<Leaf>,
    pub(super) ended: watch::Sender<Option<Ended>>,
    pub(super) events: mpsc::UnboundedSender<RuntimeEvent>,
}

impl Watch {
    /// Returns when nobody is left inside and everybody was told.
    pub(super) async fn run(mut self) {
        let Processes { inner, outer } = self.processes.clone();
        if let Some(outer) = &outer {
            tokio::select! {
                () = inner.ended() => {}
                () = outer.ended() => {}
            }
        } // without one, the command has ended or was never begun
        if let Err(error) = inner.signal(Signal::KILL) {
            tracing::warn!(runner = %self.incarnation.runner, %error, "a sandbox cannot be killed");
        }
        inner.ended().await;
        if let Some(outer) = &outer
            && tokio::time::timeout(OUTER_PATIENCE, outer.ended()).await.is_err()
        {
            // It stands still. Nothing depends on it but the exit code.
            outer.signal(Signal::KILL).ok();
            outer.ended().await;
        }
        inner.reap();
        let child = self.child.take().and_then(reap);
        if let (None, Some(outer)) = (child, &outer) {
            outer.reap();
        }
        let folder = std::mem::take(&mut self.folder);
        let leaf = self.leaf.take();
        let written = tokio::task::spawn_blocking(move || {
            if let Some(leaf) = leaf {
                leaf.remove();
            }
            status::read(&folder).ok().flatten()
        });
        let written = written.await.ok().flatten();
        let ours = written.filter(|status| status.runner == Some(self.incarnation.runner));
        let code = ours.and_then(|status| status.exit_code).or(child);
        self.ended.send_replace(Some(Ended { code }));
        // Nobody listens any more when the host is on its way out.
        self.events.send(RuntimeEvent::Exited(self.incarnation)).ok();
    }
}
