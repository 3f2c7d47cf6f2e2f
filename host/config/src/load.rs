//! Reading a configuration: defaults, then the file, then the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use twobox_shared::bounds::{self, TooMuch};

use super::keys::{KEYS, Key};
use super::{ChannelSettings, Config};

/// The longest id of a channel, in bytes.
const CHANNEL_ID_MAX: usize = 64;

/// Why a configuration cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there and cannot be read.
    #[error("could not read {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not valid TOML: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
    /// No such key.
    #[error("{path}: unknown key {key}; {hint}")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Which there are.
        hint: String,
    },
    /// More than a variable may hold.
    #[error("environment variable {variable} is too long: {reason}")]
    LongVariable {
        /// Its name.
        variable: String,
        /// How long.
        reason: TooMuch,
    },
    /// A channel's section that is none.
    #[error("{place}: [channels.{id}] {reason}")]
    Channel {
        /// The file, or the environment variable.
        place: String,
        /// The channel.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What should be a section and is none.
    #[error("{path}: {section} = {value} is no section: write [{section}] and its settings below")]
    NoSection {
        /// The file.
        path: PathBuf,
        /// The section.
        section: String,
        /// What stands there.
        value: String,
    },
    /// A value that is not allowed.
    #[error("{place}: {key} = {value} is not allowed: use {allowed}")]
    Value {
        /// The file, or the environment variable.
        place: String,
        /// The key.
        key: &'static str,
        /// What stands there.
        value: String,
        /// What may stand there.
        allowed: String,
    },
}

impl Config {
    /// Reads the file at `path` (a missing one sets nothing) and then the overrides in `env`.
    /// Returns the warnings for the operator beside the configuration.
    ///
    /// # Errors
    /// [`ConfigError`] for anything in the file that is not understood, and for an override of a
    /// word. An override of a number or a time that is not understood is only a warning.
    pub fn load(
        path: &Path,
        env: &BTreeMap<String, String>,
    ) -> Result<(Self, Vec<String>), ConfigError> {
        let mut config = Self::default();
        match bounds::CONFIG_FILE.read_to_string(path) {
            Ok(text) => apply_file(&mut config, path, &text)?,
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        }
        let warnings = apply_environment(&mut config, env)?;
        check_heartbeat(&config, path, env)?;
        if !config.channels.command.is_empty() && config.channels.sections.contains_key("command") {
            let place = path.display().to_string();
            let reason = "is there, and channels.command is set too: use one of them".to_owned();
            return Err(ConfigError::Channel { place, id: "command".to_owned(), reason });
        }
        Ok((config, warnings))
    }
}

/// A limit that is shorter than the time between two signs of life ends every runner whose turn takes
/// longer, whatever it does.
fn check_heartbeat(
    config: &Config,
    path: &Path,
    env: &BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    let limits = &config.limits;
    let spans = [
        ("limits.claim_tolerance", limits.claim_tolerance),
        ("limits.heartbeat_ceiling", limits.heartbeat_ceiling),
    ];
    for (name, span) in spans {
        if span >= limits.heartbeat {
            continue;
        }
        let key = KEYS.iter().find(|key| key.name == name).expect("both are in the table");
        let variable = key.variable();
        let place = match env.contains_key(&variable) {
            true => format!("environment variable {variable}"),
            false => path.display().to_string(),
        };
        let allowed = format!(
            "{} or more, for runners give a sign of life only that often (limits.heartbeat)",
            humantime::format_duration(limits.heartbeat)
        );
        return Err(ConfigError::Value { place, key: key.name, value: key.show(config), allowed });
    }
    Ok(())
}

fn apply_file(config: &mut Config, path: &Path, text: &str) -> Result<(), ConfigError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        let reason = format!("line {line}: {}", error.message().replace('\n', ", "));
        ConfigError::Syntax { path: path.to_owned(), reason }
    })?;
    for (name, value) in &table {
        match value {
            toml::Value::Table(section) if is_section(name) => {
                for (key, value) in section {
                    match value {
                        toml::Value::Table(settings) if name == "channels" => {
                            let section = channel(key, settings.clone());
                            let (channel, enabled) = section.map_err(|reason| {
                                let (place, id) = (path.display().to_string(), key.clone());
                                ConfigError::Channel { place, id, reason }
                            })?;
                            let channels = &mut config.channels;
                            match enabled {
                                true => channels.sections.insert(key.clone(), channel),
                                false => channels.disabled.insert(key.clone(), channel),
                            };
                        }
                        value if name == "gateway" && key == "upstreams" => {
                            config.gateway.upstreams = upstreams(path, value)?;
                        }
                        value => apply(config, path, &format!("{name}.{key}"), value)?,
                    }
                }
            }
            value => apply(config, path, name, value)?,
        }
    }
    Ok(())
}

/// The sections `[gateway.upstreams.NAME]`, which the gateway reads.
fn upstreams(
    path: &Path,
    value: &toml::Value,
) -> Result<BTreeMap<String, toml::Table>, ConfigError> {
    let table = |section: String, value: &toml::Value| match value {
        toml::Value::Table(table) => Ok(table.clone()),
        other => {
            let (path, value) = (path.to_owned(), other.to_string());
            Err(ConfigError::NoSection { path, section, value })
        }
    };
    let section = "gateway.upstreams";
    let each = table(section.to_owned(), value)?;
    let each = each.into_iter();
    each.map(|(name, value)| Ok((name.clone(), table(format!("{section}.{name}"), &value)?)))
        .collect()
}

/// Whether a channel may have this id.
pub fn is_channel_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !id.is_empty() && id.len() <= CHANNEL_ID_MAX && id.chars().all(plain)
}

/// What a section of its own sets of the channel `id`, and whether it is enabled.
fn channel(id: &str, mut settings: toml::Table) -> Result<(ChannelSettings, bool), String> {
    if !is_channel_id(id) {
        return Err(format!(
            "has a bad name: use a-z, 0-9 and -, and at most {CHANNEL_ID_MAX} of them"
        ));
    }
    let enabled = match settings.remove("enabled") {
        None => true,
        Some(toml::Value::Boolean(enabled)) => enabled,
        Some(other) => return Err(format!("has enabled = {other}: use true or false")),
    };
    match settings.remove("kind") {
        Some(toml::Value::String(kind)) => Ok((ChannelSettings { kind, settings }, enabled)),
        Some(other) => Err(format!("has kind = {other}: use text in quotes")),
        None => Err("has no kind, such as kind = \"command\"".to_owned()),
    }
}

fn apply(
    config: &mut Config,
    path: &Path,
    name: &str,
    value: &toml::Value,
) -> Result<(), ConfigError> {
    let Some(key) = KEYS.iter().find(|key| key.name == name) else {
        let path = path.to_owned();
        return Err(ConfigError::Unknown { path, key: name.to_owned(), hint: hint(name) });
    };
    match key.set(config, value) {
        true => Ok(()),
        false => Err(refused(path.display().to_string(), key, value.to_string())),
    }
}

fn refused(place: String, key: &Key, value: String) -> ConfigError {
    ConfigError::Value { place, key: key.name, value, allowed: key.allowed() }
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(section, _)| section == name))
}

/// The keys that could have been meant: those beside the unknown one.
fn hint(name: &str) -> String {
    let section = name.split_once('.').map(|(section, _)| section);
    let beside: Vec<&str> = KEYS
        .iter()
        .map(|key| key.name)
        .filter(|known| known.split_once('.').map(|(section, _)| section) == section)
        .collect();
    format!("known are {}", beside.join(", "))
}

fn apply_environment(
    config: &mut Config,
    env: &BTreeMap<String, String>,
) -> Result<Vec<String>, ConfigError> {
    let mut warnings = Vec::new();
    for key in KEYS {
        let variable = key.variable();
        let Some(text) = env.get(&variable) else { continue };
        if let Err(reason) = bounds::ENVIRONMENT.check("it", text.len()) {
            return Err(ConfigError::LongVariable { variable, reason });
        }
        if key.set_text(config, text) {
            continue;
        }
        if !key.falls_back() {
            return Err(refused(format!("environment variable {variable}"), key, text.clone()));
        }
        warnings.push(format!(
            "environment variable {variable}={text} is ignored, {} stays {}: use {}",
            key.name,
            key.show(config),
            key.allowed()
        ));
    }
    for variable in env.keys().filter(|variable| resembles_override(variable)) {
        warnings.push(format!("environment variable {variable} sets no known key"));
    }
    Ok(warnings)
}

/// A variable that begins like an override and is none is probably misspelt.
fn resembles_override(variable: &str) -> bool {
    let Some(rest) = variable.strip_prefix("TWOBOX_") else { return false };
    rest.split_once('_').is_some_and(|(section, _)| is_section(&section.to_lowercase()))
        && KEYS.iter().all(|key| key.variable() != variable)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
