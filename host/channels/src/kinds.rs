//! The kinds of channels that can be set. A new kind is a folder beside this file and a line in [`KINDS`].
//!
//! Not here: the terminal, which is always there, and the channel of scheduled runs.

use std::path::Path;
use std::sync::Arc;

use twobox_config::{ChannelSettings, Channels};
use twobox_shared::clock::Clock;

use crate::instance::Instance;
use crate::{Channel, command};
use twobox_model::channel::{COMMAND, SCHEDULE_CHANNEL, TERMINAL};

/// Every kind of channel that can be set.
pub const KINDS: &[Kind] = &[command::KIND];

/// A kind of channel.
pub struct Kind {
    /// Its word in `kind = "…"`.
    pub name: &'static str,
    /// Makes an instance, for a host that runs.
    pub build: fn(&Setup<'_>) -> Result<Arc<dyn Channel>, String>,
    /// What an instance would use. Changes nothing.
    pub usable: fn(&Setup<'_>) -> Result<Usable, String>,
}

/// What an instance uses, in a few words; or why that cannot be used now, for which messages wait.
pub type Usable = Result<String, String>;

/// What an instance is made from.
pub struct Setup<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its settings.
    pub settings: &'a ChannelSettings,
    /// What people call a setting, by the name that it has in its section.
    pub name_of: &'a dyn Fn(&str) -> String,
    /// The data directory.
    pub folder: &'a Path,
    /// Where it may keep files while it works on them, beside others.
    pub scratch: &'a Path,
}

/// Why the channels cannot be made that are set. Nothing was begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("channel {id:?}: {reason}")]
pub struct SettingsError {
    /// The id of the channel.
    pub id: String,
    /// What is wrong, naming the setting.
    pub reason: String,
}

/// Makes an instance of each channel in `channels`. What can be used only later is logged. `scratch` is
/// the host's that runs: what an earlier one left there is removed.
///
/// # Errors
/// [`SettingsError`] for the first that is set wrongly.
pub fn build(
    channels: &Channels,
    folder: &Path,
    scratch: &Path,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Instance>, SettingsError> {
    command::remove(scratch);
    each(channels, folder, scratch, |kind, setup| {
        let channel = (kind.build)(setup)?;
        if let Err(reason) = (kind.usable)(setup)? {
            let id = setup.id;
            tracing::warn!("{reason}: messages to the {id} channel wait until it is mended");
        }
        Ok(Instance::new(setup.id, kind.name, channel, Arc::clone(clock)))
    })
}

/// The id of each channel in `channels`, with what it would use or why it cannot: see [`Kind::usable`].
///
/// # Errors
/// As [`build`].
pub fn usable(channels: &Channels, folder: &Path) -> Result<Vec<(String, Usable)>, SettingsError> {
    each(channels, folder, folder, |kind, setup| Ok((setup.id.to_owned(), (kind.usable)(setup)?)))
}

fn each<T>(
    channels: &Channels,
    folder: &Path,
    scratch: &Path,
    work: impl Fn(&Kind, &Setup<'_>) -> Result<T, String>,
) -> Result<Vec<T>, SettingsError> {
    let all = channels.all();
    let one = |(id, settings): (&String, &ChannelSettings)| {
        let name_of = |setting: &str| channels.name_of(id, setting);
        let setup = Setup { id, settings, name_of: &name_of, folder, scratch };
        let done = kind(id, &settings.kind).and_then(|kind| work(kind, &setup));
        done.map_err(|reason| SettingsError { id: id.clone(), reason })
    };
    all.iter().map(one).collect()
}

fn kind(id: &str, name: &str) -> Result<&'static Kind, String> {
    if [TERMINAL, SCHEDULE_CHANNEL].contains(&id) {
        return Err("that name is taken by a channel that is always there".to_owned());
    }
    if id == COMMAND && name != COMMAND {
        return Err(format!("that name is for a channel of kind {COMMAND:?}"));
    }
    KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let known: Vec<_> = KINDS.iter().map(|kind| format!("{:?}", kind.name)).collect();
        format!("there is no kind {name:?}: use {}", known.join(" or "))
    })
}
