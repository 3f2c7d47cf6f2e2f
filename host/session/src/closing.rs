//! Deleting a session that was made for one run, once nobody needs it any more.

use std::sync::Arc;

use twobox_shared::fault::{self, CrashPoint};

use super::task::Task;
use twobox_shared::errors::chain;
use twobox_system::blocking::blocking;
use twobox_system::remove_tree::remove_tree;

impl Task {
    /// Deletes the session with all that is stored of it. `false` if it is not at rest, or needed: also
    /// by a task that is paused, of which `host.db` knows nothing.
    ///
    /// # Errors
    /// Why its folder or its rows are still there. It is closed, and can be deleted later.
    pub(super) async fn handle_forget(&mut self) -> Result<bool, String> {
        if self.container.is_some() || !self.backlog.is_empty() || !self.outgoing.is_quiet() {
            return Ok(false);
        }
        if let Some(reason) = &self.record.quarantine {
            return Err(format!("it is quarantined: {reason}"));
        }
        let boxes = Arc::clone(&self.boxes);
        if blocking(move || boxes.has_tasks()).await.map_err(|error| chain(&error))? {
            return Ok(false);
        }
        let (core, id) = (self.core.clone(), self.id);
        let store = &core.parts.store;
        let closed = store.sessions().close(id).await;
        if !closed.map_err(|error| chain(&error))? {
            return Ok(false);
        }
        self.record.closed = true;
        fault::point(CrashPoint::HostSessionClosed);
        let folder = core.parts.data.session_folder(self.record.agent_group, id);
        if let Some(watch) = &core.parts.watch {
            watch.remove(self.boxes.paths().out_dir(), &self.handle.signal);
        }
        self.watched = false;
        let of = folder.clone();
        blocking(move || remove_tree(&of))
            .await
            .map_err(|error| format!("{} cannot be deleted: {error}", folder.display()))?;
        fault::point(CrashPoint::HostSessionRemoved);
        core.forget(id);
        store.sessions().forget(id).await.map_err(|error| chain(&error))
    }
}
