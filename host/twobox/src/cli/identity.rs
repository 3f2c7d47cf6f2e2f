//! `twobox init --moved` and `--copy`: what a person says of a directory that is found elsewhere.

use std::process::ExitCode;

use serde_json::json;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::SystemIds;

use super::Context;
use super::output::{Failure, printable};
use twobox_app::identity::{self, Copied, Moved};
use twobox_store::Store;
use twobox_system::data::DataDir;

pub(super) fn moved(context: &Context) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let lock = data.lock_patiently()?;
    let store = Store::open(&data.host_db())?;
    let moved = identity::moved(&data, &lock, &store, SystemClock.now())?;
    let answer = json!({ "data": data.root(), "moved": moved });
    context.output.show(&answer, |_| printable(&told_move(&data, &moved)));
    Ok(ExitCode::SUCCESS)
}

fn told_move(data: &DataDir, moved: &Moved) -> String {
    let here = data.root().display();
    let Some(from) = &moved.from else {
        return format!("the installation is at {here}, as before: nothing had to be changed");
    };
    let mut lines = vec![match from == data.root() {
        true => format!("the installation at {here} goes on with the files that are there now"),
        false => format!("the installation that was at {} is now at {here}", from.display()),
    }];
    if moved.runners > 0 {
        lines.push(format!(
            "{} containers were at work in the old files: those that live are stopped, and their \
             messages are tried again here",
            moved.runners
        ));
    }
    lines.push(format!("next: twobox --data {here} up"));
    lines.join("\n")
}

pub(super) fn copy(context: &Context, force: bool) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let lock = data.lock_patiently()?;
    let (config, _) = context.load_config(&data.config())?;
    let quota = config.limits.outbox_quota_mb << 20;
    let store = Store::open(&data.host_db())?;
    let copied = identity::copy(&data, &lock, &store, &SystemIds, quota, force, SystemClock.now())?;
    let answer = json!({ "data": data.root(), "copied": copied });
    context.output.show(&answer, |_| context.output.advise(&printable(&told_copy(&data, &copied))));
    Ok(ExitCode::SUCCESS)
}

fn told_copy(data: &DataDir, copied: &Copied) -> String {
    let here = data.root().display();
    let held = copied.held;
    let mut lines = vec![format!(
        "{here} is an installation of its own now, {} (the original is {})",
        copied.install_id, copied.original
    )];
    let counts = [
        (held.messages, "messages that were not answered are held"),
        (held.outbounds, "messages of agents that were not delivered are held"),
        (copied.notices, "notices that were not delivered are held"),
        (held.tasks, "tasks of agents are paused"),
        (copied.schedules, "schedules are paused"),
        (copied.runs, "scheduled runs that were open are cancelled"),
    ];
    let some = counts.iter().filter(|(count, _)| *count > 0);
    lines.extend(some.map(|(count, what)| format!("{count} {what}")));
    if held.messages + held.outbounds + copied.notices > 0 {
        lines.push(
            "`twobox dead list` shows what is held; `twobox dead redrive` sends it or answers it \
             here, which the original may do as well"
                .to_owned(),
        );
    }
    for (session, reason) in &copied.broken {
        lines.push(format!("session {session} is out of use: {reason}"));
    }
    if !copied.broken.is_empty() {
        lines.push(
            "the copy of these was torn: `twobox sessions fsck` says more, `sessions retry` puts \
             one back that can be read"
                .to_owned(),
        );
    }
    lines.push(
        "the API has a new token; twobox.toml is the original's: see to api.listen and \
                channels.command before the next step"
            .to_owned(),
    );
    lines.push(format!("next: twobox --data {here} up"));
    lines.join("\n")
}
