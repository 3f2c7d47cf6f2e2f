//! The kinds of channels that can be set. A new kind is a folder beside this file and a line in [`KINDS`].
//!
//! Not here: the terminal, which is always there, and the channel of scheduled runs.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use twobox_config::{ChannelSettings, Channels};
use twobox_shared::clock::Clock;

use crate::hears::{COMMON, Hears};
use crate::instance::Instance;
use crate::parts::{Journal, MemoryJournal};
use crate::{
    Channel, bridge, command, discord, email, irc, matrix, parcel, slack, telegram, webhook,
};
use twobox_model::channel::{COMMAND, SCHEDULE_CHANNEL, TERMINAL};
use twobox_model::people::{Manner, Senders};

/// Every kind of channel that can be set.
pub const KINDS: &[Kind] = &[
    bridge::KIND,
    command::KIND,
    discord::KIND,
    email::KIND,
    irc::KIND,
    matrix::KIND,
    slack::KIND,
    telegram::KIND,
    webhook::KIND,
];

/// A kind of channel.
pub struct Kind {
    /// Its word in `kind = "…"`.
    pub name: &'static str,
    /// Makes an instance, for a host that runs.
    pub build: fn(&Setup<'_>) -> Result<Arc<dyn Channel>, String>,
    /// What an instance would use. Changes nothing.
    pub usable: fn(&Setup<'_>) -> Result<Usable, String>,
    /// The names of the secrets that an instance asks for.
    pub secrets: fn(&Setup<'_>) -> Result<Vec<String>, String>,
    /// Has its platform looked at, which may take a while. Changes nothing. `None` where there is nobody to
    /// ask.
    pub probe: Option<Probe>,
    /// Whom it hears, if nothing is set.
    pub hears: Hears,
}

/// Begins to look at an instance's platform. An error names a setting that is wrong.
pub type Probe = fn(&Setup<'_>) -> Result<Probing, String>;

/// What comes of looking at an instance's platform; or why it is of no use now.
pub type Probing = BoxFuture<'static, Result<Found, String>>;

/// What was found of an instance's platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whom the instance is there, in a few words.
    pub what: String,
    /// What an operator may not want.
    pub warnings: Vec<String>,
}

/// Finds the secret of a name as it is now; `None` if nobody has given it. It blocks. An error is for people.
pub type SecretOf = Arc<dyn Fn(&str) -> Result<Option<String>, String> + Send + Sync>;

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
    /// The secrets of this host.
    pub secrets: SecretOf,
    /// What was handed to platforms that do not honour keys.
    pub journal: Arc<dyn Journal>,
    /// The most bytes of a file that comes in.
    pub file_max: u64,
}

impl Setup<'_> {
    /// Its settings, as those of its kind: without those that every channel has.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong and says what is allowed.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        let mut settings = self.settings.settings.clone();
        settings.retain(|name, _| !COMMON.contains(&name));
        serde_path_to_error::deserialize(toml::Value::Table(settings)).map_err(|error| {
            let reason = error.inner().message();
            match error.path().iter().next() {
                Some(_) => format!("{}: {reason}", (self.name_of)(&error.path().to_string())),
                None => reason.to_owned(),
            }
        })
    }

    /// How it listens, as a channel of a kind that `hears` so.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong and says what is allowed.
    pub fn manner(&self, hears: &Hears) -> Result<Manner, String> {
        hears.manner(&self.settings.settings, self.name_of)
    }
}

/// Reads one setting as `wanted` has it, for `deserialize_with`.
///
/// # Errors
/// What stands there, and what is `allowed`.
pub fn setting<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    allowed: &str,
    wanted: impl FnOnce(&toml::Value) -> Option<T>,
) -> Result<T, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    wanted(&value).ok_or_else(|| D::Error::custom(format!("{value} is not allowed: use {allowed}")))
}

/// Reads the name of a secret, for `deserialize_with`.
///
/// # Errors
/// What it has to be. What stands there may be the secret itself: nobody repeats it.
pub fn secret_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name = value
        .as_str()
        .filter(|it| (1..=64).contains(&it.len()) && it.chars().all(plain) && !it.starts_with('.'));
    let why = "what stands there is no name of a secret: use letters, digits, -, _ and ., and give the \
               secret itself with `twobox secrets set NAME`";
    name.map(|name| Some(name.to_owned())).ok_or_else(|| D::Error::custom(why))
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
    secrets: &SecretOf,
    journal: &Arc<dyn Journal>,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Instance>, SettingsError> {
    parcel::remove(scratch);
    let given = Given { folder, scratch, secrets, journal };
    each(channels, &given, |kind, setup| {
        let channel = (kind.build)(setup)?;
        if !kind.hears.open && setup.manner(&kind.hears)?.senders == Senders::Open {
            tracing::warn!(
                channel = setup.id,
                "whoever finds this channel is heard and may use its agents"
            );
        }
        if let Err(reason) = (kind.usable)(setup)? {
            tracing::warn!(
                channel = setup.id,
                reason,
                "a channel cannot be used; its messages wait until that is mended"
            );
        }
        Ok(Instance::new(setup.id, kind.name, channel, Arc::clone(clock)))
    })
}

/// The id of each channel in `channels`, with what it would use or why it cannot: see [`Kind::usable`].
///
/// # Errors
/// As [`build`].
pub fn usable(
    channels: &Channels,
    folder: &Path,
    secrets: &SecretOf,
) -> Result<Vec<(String, Usable)>, SettingsError> {
    each(channels, &Given::to_look(folder, secrets, &nothing_sent()), |kind, setup| {
        Ok((setup.id.to_owned(), (kind.usable)(setup)?))
    })
}

/// The id of each channel in `channels`, with the names of the secrets that it asks for: none of what is set
/// wrongly.
///
/// # Errors
/// A channel that has no kind.
pub fn secrets(
    channels: &Channels,
    folder: &Path,
) -> Result<Vec<(String, Vec<String>)>, SettingsError> {
    let nobody: SecretOf = Arc::new(|_| Ok(None));
    each(channels, &Given::to_look(folder, &nobody, &nothing_sent()), |kind, setup| {
        Ok((setup.id.to_owned(), (kind.secrets)(setup).unwrap_or_default()))
    })
}

/// The id of each channel in `channels` whose platform can be looked at, with the look: see [`Kind::probe`].
///
/// # Errors
/// As [`build`].
pub fn probes(
    channels: &Channels,
    folder: &Path,
    secrets: &SecretOf,
) -> Result<Vec<(String, Probing)>, SettingsError> {
    let all = each(channels, &Given::to_look(folder, secrets, &nothing_sent()), |kind, setup| {
        let probing = kind.probe.map(|probe| probe(setup)).transpose()?;
        Ok((setup.id.to_owned(), probing))
    })?;
    Ok(all.into_iter().filter_map(|(id, probing)| Some((id, probing?))).collect())
}

/// What every instance is given.
struct Given<'a> {
    folder: &'a Path,
    scratch: &'a Path,
    secrets: &'a SecretOf,
    journal: &'a Arc<dyn Journal>,
}

impl<'a> Given<'a> {
    /// For whoever looks and sends nothing.
    fn to_look(folder: &'a Path, secrets: &'a SecretOf, journal: &'a Arc<dyn Journal>) -> Self {
        Self { folder, scratch: folder, secrets, journal }
    }
}

/// The journal of whoever sends nothing.
fn nothing_sent() -> Arc<dyn Journal> {
    Arc::new(MemoryJournal::default())
}

/// How each channel in `channels` listens, by its id.
///
/// # Errors
/// As [`build`].
pub fn manners(channels: &Channels) -> Result<HashMap<String, Arc<Manner>>, SettingsError> {
    let all = channels.all();
    let manner = |(id, settings): (&String, &ChannelSettings)| {
        let name_of = |setting: &str| channels.name_of(id, setting);
        let read = kind(id, &settings.kind)
            .and_then(|kind| kind.hears.manner(&settings.settings, &name_of));
        let manner = read.map_err(|reason| SettingsError { id: id.clone(), reason })?;
        Ok((id.clone(), Arc::new(manner)))
    };
    all.iter().map(manner).collect()
}

fn each<T>(
    channels: &Channels,
    given: &Given<'_>,
    work: impl Fn(&Kind, &Setup<'_>) -> Result<T, String>,
) -> Result<Vec<T>, SettingsError> {
    let all = channels.all();
    let one = |(id, settings): (&String, &ChannelSettings)| {
        let name_of = |setting: &str| channels.name_of(id, setting);
        let &Given { folder, scratch, secrets, journal } = given;
        let setup = Setup {
            id,
            settings,
            name_of: &name_of,
            folder,
            scratch,
            secrets: Arc::clone(secrets),
            journal: Arc::clone(journal),
            file_max: channels.max_file_mb << 20,
        };
        let done = kind(id, &settings.kind).and_then(|kind| {
            setup.manner(&kind.hears)?; // what is wrong there is found before anything is begun
            work(kind, &setup)
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_names_its_setting_and_what_is_allowed() {
        let span = "use a time above zero and up to a year, such as \"30s\"";
        let path = "use the whole path of your program, in quotes";
        let cases = [
            ("", "channels.log.program is missing: set it to the whole path of your program"),
            ("program = 5", &format!("channels.log.program: 5 is not allowed: {path}")),
            (
                "program = '/a'\nkeys = 'yes'",
                "channels.log.keys: \"yes\" is not allowed: use true or false",
            ),
            (
                "program = '/a'\ntimeout = 'soon'",
                &format!("channels.log.timeout: \"soon\" is not allowed: {span}"),
            ),
            ("timeout = 5", &format!("channels.log.timeout: 5 is not allowed: {span}")),
            ("timeout = '0s'", &format!("channels.log.timeout: \"0s\" is not allowed: {span}")),
            (
                "program = '/a'\ncolour = 1",
                "channels.log.colour: unknown field `colour`, expected one of `program`, `keys`, \
                 `timeout`",
            ),
        ];
        for (text, expected) in cases {
            let settings =
                ChannelSettings { kind: COMMAND.to_owned(), settings: text.parse().unwrap() };
            let mut channels = twobox_config::Config::default().channels;
            channels.sections.insert("log".to_owned(), settings);
            let secrets: SecretOf = Arc::new(|_| Ok(None));
            let error = usable(&channels, Path::new("/"), &secrets).unwrap_err();
            assert_eq!((error.id.as_str(), error.reason.as_str()), ("log", expected), "{text}");
        }
    }
}
