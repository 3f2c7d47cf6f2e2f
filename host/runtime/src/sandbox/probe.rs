//! A sandbox in which a runner only looks around, started as for a session.

use std::path::Path;

use twobox_shared::ids::{InstallId, SystemIds};
use twobox_shared::probe::{Limit, Report};

use super::Shared;
use super::line::{self, Bind};
use super::trial::Trial;
use crate::child::{MAX_FILE, MAX_OPEN};
use crate::docker::folder::{self, User};
use crate::probe::{self, Expected, Probed, Room, Tmpfs};
use crate::{Profile, RuntimeError};

impl Shared {
    /// See [`crate::Runtime::probe`]. Blocks.
    pub(super) fn probe(&self, place: &Path) -> Result<Probed, RuntimeError> {
        let refused = |reason: String| RuntimeError::Start { reason };
        let failed = |error: std::io::Error| refused(format!("could not try a start: {error}"));
        self.accepts(&Profile::usual(&self.settings)).map_err(refused)?;
        let room = Room::make(place, Profile::usual(&self.settings)).map_err(failed)?;
        let spec = room.spec();
        let way = self.way()?;
        let user = self.user.clone().map_err(refused)?;
        folder::prepare(spec, self.own, user).map_err(failed)?;
        let binds = self.binds(spec);
        // Under an id of which there are no sandboxes, so that no host takes it for one of its own.
        let install = InstallId::generate(&SystemIds);
        let mut program = super::start::program(install, spec);
        program.push("--probe".into());
        let trial = Trial {
            environment: line::environment(install, spec, None),
            binds: binds.clone(),
            program,
        };
        let (said, code) = self.run(way, trial)?;
        let Some(report) = Report::find(&said) else {
            let words = match code {
                Some(0) => probe::no_report(&said, code.map(i64::from)),
                _ => self.explain(&said),
            };
            return Err(refused(words));
        };
        let line =
            format!("a sandbox starts as {user} and can write its folders; {}", self.limits());
        Ok(Probed::new(line, &expected(user, &binds), report))
    }
}

/// What a runner with these folders is to see.
fn expected(user: User, binds: &[Bind]) -> Expected {
    let folders = |read_only: bool| {
        let inside = binds.iter().filter(move |bind| bind.target.starts_with("/workspace"));
        let wanted = inside.filter(move |bind| bind.read_only == read_only);
        wanted.map(|bind| bind.target.to_string_lossy().into_owned())
    };
    let memory = line::IN_MEMORY.map(|place| Tmpfs {
        place: place.to_owned(),
        bytes: line::TEMP_SIZE,
        flags: ["nosuid", "nodev"].map(str::to_owned).into(),
    });
    let most = |most: u64| Limit { soft: Some(most), hard: Some(most) };
    Expected {
        user: Some((user.uid, user.gid)),
        writable: folders(false).collect(),
        read_only: folders(true).collect(),
        closed: ["/", "/etc", "/usr", "/dev", "/workspace"].map(str::to_owned).into(),
        tmpfs: memory.into(),
        limits: [("core", most(0)), ("nofile", most(MAX_OPEN)), ("fsize", most(MAX_FILE))]
            .map(|(name, limit)| (name.to_owned(), limit))
            .into(),
        // A trial has no cgroup of its own: what bounds a sandbox is in the line for people.
        memory: None,
        pids: None,
        cpus: None,
        no_network: true,
        no_capabilities: true,
        no_new_privs: true,
        seccomp: true,
        own_processes: true,
        no_terminal: true,
    }
}
