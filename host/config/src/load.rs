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
                            let channel = channel(key, settings.clone()).map_err(|reason| {
                                let (place, id) = (path.display().to_string(), key.clone());
                                ConfigError::Channel { place, id, reason }
                            })?;
                            config.channels.sections.insert(key.clone(), channel);
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

/// What a section of its own sets of the channel `id`.
fn channel(id: &str, mut settings: toml::Table) -> Result<ChannelSettings, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if id.is_empty() || id.len() > CHANNEL_ID_MAX || !id.chars().all(plain) {
        return Err(format!(
            "has a bad name: use a-z, 0-9 and -, and at most {CHANNEL_ID_MAX} of them"
        ));
    }
    match settings.remove("kind") {
        Some(toml::Value::String(kind)) => Ok(ChannelSettings { kind, settings }),
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
mod tests {
    use super::super::RuntimeKind;
    use super::*;
    use std::time::Duration;

    fn load(file: &str, env: &[(&str, &str)]) -> Result<(Config, Vec<String>), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("twobox.toml");
        std::fs::write(&path, file).unwrap();
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::load(&path, &env).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_goes_over_the_file_and_the_file_over_the_defaults() {
        let file = "runtime = 'docker'\n[limits]\nmax_tool = '3h'\nmax_tries = 7\n";
        let env = [("TWOBOX_LIMITS_MAX_TOOL", "90m"), ("TWOBOX_CONTAINERS_CPUS", "2")];
        let (config, warnings) = load(file, &env).unwrap();
        assert_eq!(config.runtime, RuntimeKind::Docker);
        assert_eq!(config.limits.max_tool, Duration::from_secs(90 * 60));
        assert_eq!((config.limits.max_tries, config.containers.cpus), (7, 2.0));
        assert_eq!(config.shutdown, Config::default().shutdown);
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn a_channel_has_a_section_of_its_own_and_the_short_form_is_one() {
        let file = "[channels]\ncommand = '/a'\ncommand_timeout = '5s'\n\
                    [channels.sms]\nkind = 'command'\nprogram = '/b'\n";
        let all = load(file, &[]).unwrap().0.channels.all();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["command", "sms"]);
        assert!(all.values().all(|channel| channel.kind == "command"), "{all:?}");
        let setting = |id: &str, name| all[id].settings.get(name).and_then(toml::Value::as_str);
        assert_eq!(
            (setting("command", "program"), setting("sms", "program")),
            (Some("/a"), Some("/b"))
        );
        assert_eq!((setting("command", "timeout"), setting("sms", "timeout")), (Some("5s"), None));
        assert_eq!(setting("sms", "kind"), None, "no setting of its kind");
        assert_eq!(load("", &[]).unwrap().0.channels.all(), BTreeMap::new());
        for (file, part) in [
            ("[channels.sms]\nprogram = '/b'", "[channels.sms] has no kind"),
            ("[channels.sms]\nkind = 7", "kind = 7"),
            ("[channels.SMS]\nkind = 'command'", "bad name"),
            ("[channels.command_keys]\nkind = 'command'", "bad name"),
            ("[limits.sms]\nkind = 'command'", "unknown key limits.sms"),
        ] {
            let error = load(file, &[]).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let both =
            load("[channels.command]\nkind = 'command'", &[("TWOBOX_CHANNELS_COMMAND", "/a")]);
        assert!(both.unwrap_err().contains("use one of them"));
    }

    #[test]
    fn a_missing_file_is_the_default() {
        let missing = Path::new("/nonexistent/twobox.toml");
        assert_eq!(Config::load(missing, &BTreeMap::new()).unwrap().0, Config::default());
    }

    #[test]
    fn a_mistake_in_the_file_is_one_error_that_names_everything() {
        let cases: &[(&str, &[&str])] = &[
            ("runtim = 'docker'", &["unknown key runtim", "runtime, watch"]),
            ("[limits]\nmax_tri = 1", &["unknown key limits.max_tri", "limits.max_tries"]),
            ("[limit]\nmax_tries = 1", &["unknown key limit;"]),
            (
                "runtime = 'podman'",
                &["runtime = \"podman\"", "\"docker\" or \"sandbox\" or \"process\""],
            ),
            ("runtime = 1", &["runtime = 1", "\"docker\" or \"sandbox\" or \"process\""]),
            ("[limits]\nmax_tries = 0", &["limits.max_tries = 0", "from 1 to 100"]),
            ("[limits]\nmax_tries = '5'", &["limits.max_tries = \"5\"", "from 1 to 100"]),
            ("[containers]\nmax_running = 10001", &["max_running = 10001", "to 10000"]),
            ("[containers]\nmemory_mb = 15", &["memory_mb = 15", "from 16"]),
            ("[containers]\npids = -1", &["pids = -1", "from 16"]),
            ("[containers]\ncpus = 0.0", &["cpus = 0.0", "from 0.01"]),
            ("[containers]\ncpus = nan", &["cpus = nan"]),
            ("[containers]\nidle = '0s'", &["containers.idle = \"0s\"", "such as \"10m\""]),
            ("[containers]\nidle = 600", &["containers.idle = 600", "such as \"10m\""]),
            ("[channels]\ncommand_keys = 'yes'", &["command_keys = \"yes\"", "true or false"]),
            ("[channels]\ncommand = 7", &["channels.command = 7", "text in quotes"]),
            ("[delivery]\nmax_hold = '900y'", &["max_hold", "up to a year"]),
            (
                "[api]\nlisten = 'localhost:80'",
                &["api.listen = \"localhost:80\"", "127.0.0.1:28642"],
            ),
            ("[api]\nlisten = 8642", &["api.listen = 8642", "127.0.0.1:28642"]),
            ("containers = 3", &["unknown key containers"]),
            (
                "[limits]\nclaim_tolerance = '9s'",
                &["limits.claim_tolerance = \"9s\"", "use 10s or more", "(limits.heartbeat)"],
            ),
            ("[limits]\nheartbeat = '1h'", &["limits.claim_tolerance = \"1m\"", "use 1h or more"]),
            (
                "[limits]\nheartbeat = '2s'\nclaim_tolerance = '2s'\nheartbeat_ceiling = '1s'",
                &["limits.heartbeat_ceiling = \"1s\"", "use 2s or more"],
            ),
            ("[limits\n", &["not valid TOML: line 1"]),
        ];
        for (file, expected) in cases {
            let error = load(file, &[]).unwrap_err();
            assert!(error.contains("twobox.toml"), "{file}: {error}");
            assert!(!error.contains('\n'), "{file}: {error}");
            for part in *expected {
                assert!(error.contains(part), "{file}: {error:?} lacks {part:?}");
            }
        }
    }

    #[test]
    fn a_bad_number_in_the_environment_falls_back_with_a_warning() {
        for bad in ["many", "", "0", "101", "5.5"] {
            let env = [("TWOBOX_LIMITS_MAX_TRIES", bad)];
            let (config, warnings) = load("[limits]\nmax_tries = 9", &env).unwrap();
            assert_eq!(config.limits.max_tries, 9, "{bad:?}");
            assert_eq!(warnings.len(), 1, "{bad:?}");
            assert!(warnings[0].contains("TWOBOX_LIMITS_MAX_TRIES"), "{warnings:?}");
        }
        let (config, warnings) = load("", &[("TWOBOX_LIMITS_MAX_TOOL", "soon")]).unwrap();
        assert_eq!(config, Config::default());
        assert!(warnings[0].contains("limits.max_tool stays \"2h\""), "{warnings:?}");
    }

    #[test]
    fn a_limit_below_the_heartbeat_is_refused_where_it_was_set() {
        let error = load("", &[("TWOBOX_LIMITS_CLAIM_TOLERANCE", "2s")]).unwrap_err();
        assert!(error.starts_with("environment variable TWOBOX_LIMITS_CLAIM_TOLERANCE"), "{error}");
        let beat = ("TWOBOX_LIMITS_HEARTBEAT", "2s");
        assert!(load("[limits]\nclaim_tolerance = '2s'", &[beat]).is_ok());
    }

    #[test]
    fn a_bad_word_in_the_environment_never_means_another_runtime() {
        let error = load("", &[("TWOBOX_RUNTIME", "dokcer")]).unwrap_err();
        assert!(error.contains("TWOBOX_RUNTIME") && error.contains("dokcer"), "{error}");
        let error = load("", &[("TWOBOX_CHANNELS_COMMAND_KEYS", "yes")]).unwrap_err();
        assert!(error.contains("TWOBOX_CHANNELS_COMMAND_KEYS") && error.contains("yes"), "{error}");
        let (config, _) = load("", &[("TWOBOX_CHANNELS_COMMAND_KEYS", "true")]).unwrap();
        assert!(config.channels.command_keys);
    }

    #[test]
    fn an_empty_address_is_none_and_a_bad_one_is_never_another() {
        let listen = |file: &str, env: &[(&str, &str)]| load(file, env).map(|(c, _)| c.api.listen);
        assert_eq!(listen("[api]\nlisten = ''", &[]).unwrap(), None);
        let six = Some("[::1]:80".parse().unwrap());
        assert_eq!(listen("[api]\nlisten = '[::1]:80'", &[]).unwrap(), six);
        assert_eq!(listen("", &[("TWOBOX_API_LISTEN", "")]).unwrap(), None);
        let error = listen("", &[("TWOBOX_API_LISTEN", "127.0.0.1")]).unwrap_err();
        assert!(error.contains("TWOBOX_API_LISTEN") && error.contains("with a port"), "{error}");
    }

    #[test]
    fn a_misspelt_override_is_mentioned_and_foreign_variables_are_not() {
        let env = [("TWOBOX_LIMITS_MAX_TOL", "1h"), ("TWOBOX_DATA", "x"), ("TWOBOX_LOG", "debug")];
        let (_, warnings) = load("", &env).unwrap();
        assert_eq!(warnings, ["environment variable TWOBOX_LIMITS_MAX_TOL sets no known key"]);
    }
}
