//! A child process that only looks around, started as a runner is.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use twobox_shared::ids::{InstallId, SystemIds};
use twobox_shared::probe::{Limit, Report};

use super::scan::Ours;
use super::spawn::{self, Way};
use crate::mounts::mounts;
use crate::probe::{self, Expected, Probed, Room};
use crate::{Profile, RUNNER_LOG, RuntimeError};
use twobox_config::Config;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// See [`crate::Runtime::probe`]. Blocks.
pub(super) fn probe(way: &Way, place: &Path) -> Result<Probed, RuntimeError> {
    let refused = |reason: String| RuntimeError::Start { reason };
    let failed = |error: std::io::Error| refused(format!("could not try a start: {error}"));
    let room = Room::make(place, Profile::usual(&Config::default().containers)).map_err(failed)?;
    let spec = room.spec();
    // Under an id of which there are no runners, so that no host takes it for one of its own.
    let install = InstallId::generate(&SystemIds);
    let way = Way { ours: Arc::new(Ours { install, ..(*way.ours).clone() }), ..way.clone() };
    let program = &way.program;
    let mut child = spawn::spawn(&way, spec, &["--probe"])
        .map_err(|error| refused(format!("{}: {error}", program.display())))?;
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill().map_err(failed)?;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let printed = std::fs::read(spec.folder.join(RUNNER_LOG)).map_err(failed)?;
    let printed = String::from_utf8_lossy(&printed);
    let report = Report::find(&printed).ok_or_else(|| {
        let reason = probe::no_report(&printed, status.code().map(i64::from));
        refused(format!("{}: {reason}", program.display()))
    })?;
    let folders = |read_only: bool| -> BTreeSet<String> {
        let mounts = mounts(spec).into_iter().filter(move |mount| mount.read_only == read_only);
        mounts.map(|mount| mount.source.to_string_lossy().into_owned()).collect()
    };
    let expected = Expected {
        writable: folders(false),
        // Without Landlock nothing keeps it from writing there, which is said elsewhere.
        read_only: if super::landlock_abi().is_some() { folders(true) } else { BTreeSet::new() },
        limits: [("core".to_owned(), Limit { soft: Some(0), hard: Some(0) })].into(),
        ..Expected::default()
    };
    Ok(Probed::new("a runner starts and can write its folders".to_owned(), &expected, report))
}
