//! Where a runner is started that only looks around.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use twobox_shared::agent_config::SharedFolder;
use twobox_shared::durability::Durability;
use twobox_shared::ids::{RunnerId, SessionId, SystemIds};

use crate::mounts::mounts;
use crate::{AgentFolders, Incarnation, Profile, StartSpec};

/// The folders of a session that nobody has: removed when this is dropped.
#[derive(Debug)]
pub struct Room {
    root: PathBuf,
    spec: StartSpec,
}

impl Room {
    /// A fresh one in `place`, a folder of the data directory, for an agent with `profile`. Blocks.
    ///
    /// # Errors
    /// From the file system.
    pub fn make(place: &Path, profile: Profile) -> io::Result<Self> {
        let incarnation = Incarnation {
            session: SessionId::generate(&SystemIds),
            runner: RunnerId::generate(&SystemIds),
        };
        let root = place.canonicalize()?.join(format!("probe-{}", incarnation.runner));
        let spec = StartSpec {
            incarnation,
            folder: root.join("session"),
            agent: AgentFolders {
                program: root.join("program"),
                shared: root.join("agent"),
                access: SharedFolder::Rw,
            },
            profile,
            idle: Duration::from_secs(1),
            grace: Duration::from_secs(1),
            heartbeat: twobox_config::HEARTBEAT,
            poll: None,
            durability: Durability::default(),
        };
        let room = Self { root, spec };
        for mount in mounts(&room.spec) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(mount.source)?;
        }
        Ok(room)
    }

    /// The start to try out.
    pub fn spec(&self) -> &StartSpec {
        &self.spec
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.root)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %self.root.display(), "a probe's folder is left over");
        }
    }
}
