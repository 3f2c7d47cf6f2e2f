//! Where things are in a session folder, seen from the host and from inside the container.

use std::path::{Path, PathBuf};

/// The two halves of a session folder. The host builds it from its data directory, the runner from
/// its mount points; inside each half both see the same names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPaths {
    in_dir: PathBuf,
    out_dir: PathBuf,
}

/// The inbox's file name.
pub const INBOUND_DB: &str = "inbound.db";
/// The outbox's file name.
pub const OUTBOUND_DB: &str = "outbound.db";

impl SessionPaths {
    /// The folder as the host sees it.
    pub fn of_folder(folder: &Path) -> Self {
        Self { in_dir: folder.join("in"), out_dir: folder.join("out") }
    }

    /// The folder as the runner sees it: two separate mounts.
    pub fn of_mounts(in_dir: PathBuf, out_dir: PathBuf) -> Self {
        Self { in_dir, out_dir }
    }

    /// The session's own workspace, which its container may fill as it likes. It is no half of the
    /// protocol: no box lies in it, and the host never reads it.
    pub fn work_of(folder: &Path) -> PathBuf {
        folder.join("work")
    }

    /// The half that the host owns.
    pub fn in_dir(&self) -> &Path {
        &self.in_dir
    }

    /// The half that the container owns.
    pub fn out_dir(&self) -> &Path {
        &self.out_dir
    }

    /// The inbox.
    pub fn inbound_db(&self) -> PathBuf {
        self.in_dir.join(INBOUND_DB)
    }

    /// The agent group's configuration, as it was when the container started. It lies in the half
    /// that the host owns, so that no container chooses its own program and limits.
    pub fn agent_config(&self) -> PathBuf {
        self.in_dir.join("agent.json")
    }

    /// The socket at which the host serves the way to models, in the half that the host owns.
    pub fn gateway_socket(&self) -> PathBuf {
        self.in_dir.join("gateway.sock")
    }

    /// The outbox.
    pub fn outbound_db(&self) -> PathBuf {
        self.out_dir.join(OUTBOUND_DB)
    }

    /// The file whose modification time says that the runner's process lives.
    pub fn heartbeat(&self) -> PathBuf {
        self.out_dir.join("heartbeat")
    }

    /// The file that says what a turn is at, while somebody looks on.
    pub fn progress(&self) -> PathBuf {
        self.out_dir.join(PROGRESS)
    }

    /// The file that is there while somebody looks on, in the half that the host owns.
    pub fn watched(&self) -> PathBuf {
        self.in_dir.join("watched")
    }

    /// The file that the one live runner holds locked.
    pub fn runner_lock(&self) -> PathBuf {
        self.out_dir.join("runner.lock")
    }

    /// Attachments that came with message `message`.
    pub fn inbox_files(&self) -> PathBuf {
        self.in_dir.join("inbox")
    }

    /// Attachments that a container wants to send, a folder for each row.
    pub fn outbox_files(&self) -> PathBuf {
        self.out_dir.join(OUTBOX_FILES)
    }
}

/// The name of [`SessionPaths::progress`] in [`SessionPaths::out_dir`].
pub const PROGRESS: &str = "progress";

/// The folder of [`SessionPaths::outbox_files`] in [`SessionPaths::out_dir`].
pub const OUTBOX_FILES: &str = "outbox";

/// The mount points inside a container.
pub mod container {
    /// The inbox half, mounted read-only.
    pub const IN: &str = "/workspace/in";
    /// The outbox half.
    pub const OUT: &str = "/workspace/out";
    /// The session's own workspace, and the home of whatever works in it.
    pub const SESSION: &str = "/workspace/session";
    /// What the agent is: its program and what belongs to it, mounted read-only.
    pub const PROGRAM: &str = "/workspace/program";
    /// The agent group's folder, which its sessions share as far as its configuration allows.
    pub const AGENT: &str = "/workspace/agent";
    /// The vendor's program that answers, for agents that have one, mounted read-only.
    pub const CLI: &str = "/workspace/cli";
}
