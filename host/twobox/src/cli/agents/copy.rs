//! `twobox agents copy`: another agent that is and runs like one that is there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::SystemIds;

use super::make_files;
use crate::cli::Context;
use crate::cli::output::Failure;
use twobox_model::channel::TERMINAL;
use twobox_runtime::profile::File;
use twobox_runtime::program;
use twobox_store::agents;
use twobox_store::messaging::SessionMode;

pub(super) fn copy(context: &Context, from: &str, to: &str) -> Result<ExitCode, Failure> {
    agents::check_name(to).map_err(|error| Failure::usage(error.to_string()))?;
    let (data, store) = context.open_store()?;
    let old = store.agents().find(from).wait()?;
    let config = File::load(&data.agent_config(&old.folder))
        .map_err(|error| Failure::new(error.to_string()))?;
    // What an agent that was removed has left is somebody's work.
    for left in [data.program_folder(to), data.agent_config(to)] {
        if left.symlink_metadata().is_ok() {
            let reason =
                format!("{} is there already: use another name, or move it", left.display());
            return Err(Failure::new(reason));
        }
    }
    let wired = store.wirings().addresses_of(old.id).wait()?;
    let own = wired.iter().find(|address| address.channel_type == TERMINAL);
    let mode = own.map_or(SessionMode::Shared, |address| address.mode);
    let new = store.agents().add(to, mode, &SystemIds, SystemClock.now()).wait()?;
    let parts = parts(&data.program_folder(&old.folder))?;
    if !parts.is_empty() {
        program::put(&data.programs(), &new.folder, &parts, None)?;
    }
    make_files(&data, &new, &config)?;
    let (program, file) = (data.program_folder(&new.folder), data.agent_config(&new.folder));
    let answer = json!({ "agent": new, "from": old, "program": program, "config_file": file });
    context.output.show(&answer, |_| {
        let (program, file) = (program.display(), file.display());
        format!("copied {} to {to}, program {program}, configuration {file}", old.name)
    });
    Ok(ExitCode::SUCCESS)
}

/// What lies in a program folder, which may not be there.
fn parts(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unread = |error: std::io::Error| {
        Failure::new(format!("could not read {}: {error}", folder.display()))
    };
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|it| it.path()).map_err(unread)).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(unread(error)),
    }
}
