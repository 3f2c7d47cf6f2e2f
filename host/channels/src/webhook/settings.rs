//! What can be set of a channel of kind `webhook`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use url::{Host, Url};

use crate::kinds::{Setup, secret_name, setting};

/// How long an answer may take, if nothing is set.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far the time of what comes in may be from ours, if nothing is set, and at most.
const WINDOW: Duration = Duration::from_secs(5 * 60);
const WINDOW_MAX: Duration = Duration::from_secs(60 * 60);

/// What is set. It has no `Debug`, for an address may hold what nobody else is to know.
pub(super) struct Settings {
    /// Where messages are posted to.
    pub(super) url: Url,
    /// The name of the secret.
    pub(super) secret: String,
    /// Whether what is there drops a message whose key it has taken before.
    pub(super) keys: bool,
    pub(super) timeout: Duration,
    pub(super) window: Duration,
}

/// What a section says. What is left out is `None`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "url")]
    url: Option<Url>,
    #[serde(default, deserialize_with = "secret_name")]
    signing_secret: Option<String>,
    #[serde(default, deserialize_with = "yes_or_no")]
    keys: Option<bool>,
    #[serde(default, deserialize_with = "span")]
    timeout: Option<Duration>,
    #[serde(default, deserialize_with = "window")]
    window: Option<Duration>,
}

impl Settings {
    /// Those of the instance.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong and says what is allowed.
    pub(super) fn of(setup: &Setup<'_>) -> Result<Self, String> {
        let Written { url, signing_secret, keys, timeout, window } = setup.read()?;
        let missing =
            |name: &str, what: &str| format!("{} is missing: {what}", (setup.name_of)(name));
        Ok(Self {
            url: url.ok_or_else(|| {
                missing("url", "set it to where messages are posted to, such as \"https://example.org/in\"")
            })?,
            secret: signing_secret.ok_or_else(|| {
                missing(
                    "signing_secret",
                    "set it to the name of a secret of this host with which messages are signed, such as \
                     \"hook\", and give that with `twobox secrets set hook`",
                )
            })?,
            keys: keys.unwrap_or(false),
            timeout: timeout.unwrap_or(PATIENCE),
            window: window.unwrap_or(WINDOW),
        })
    }

    /// Where messages are posted to, without what may be nobody's business.
    pub(super) fn place(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Whether others on the way read what is said.
    pub(super) fn is_open(&self) -> bool {
        let near = match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        self.url.scheme() == "http" && !near
    }
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    // It may hold a token: nobody repeats it.
    let value = toml::Value::deserialize(deserializer)?;
    let url = value.as_str().and_then(|text| Url::parse(text).ok()).filter(|url| {
        ["http", "https"].contains(&url.scheme())
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
    });
    let why = "what stands there is no address: use one such as \"https://example.org/in\", without a user \
               and a fragment";
    url.map(Some).ok_or_else(|| serde::de::Error::custom(why))
}

fn yes_or_no<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    setting(deserializer, "true or false", |value| Some(Some(value.as_bool()?)))
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let allowed = "a time above zero and up to a year, such as \"30s\"";
    setting(deserializer, allowed, |value| Some(Some(twobox_config::span(value.as_str()?)?)))
}

fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let allowed = "a time from a second to an hour, such as \"5m\"";
    setting(deserializer, allowed, |value| {
        let span = twobox_config::span(value.as_str()?)?;
        (Duration::from_secs(1)..=WINDOW_MAX).contains(&span).then_some(Some(span))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use twobox_config::ChannelSettings;

    use super::*;
    use crate::parts::MemoryJournal;

    fn read(text: &str) -> Result<Settings, String> {
        let settings =
            &ChannelSettings { kind: "webhook".to_owned(), settings: text.parse().unwrap() };
        let (folder, scratch) = (Path::new("/"), Path::new("/"));
        let name_of = &|name: &str| format!("channels.w.{name}");
        let (secrets, journal) = (Arc::new(|_: &str| Ok(None)), Arc::new(MemoryJournal::default()));
        Settings::of(&Setup {
            id: "w",
            settings,
            name_of,
            folder,
            scratch,
            secrets,
            journal,
            file_max: 0,
        })
    }

    const GOOD: &str = "url = 'https://h.example/in?token=hunter2'\nsigning_secret = 'hook'\n";

    #[test]
    fn each_mistake_names_its_setting_and_repeats_nothing_that_may_be_a_secret() {
        let cases = [
            (GOOD.replace("https://", ""), "channels.w.url: what stands there is no address"),
            (GOOD.replace("https", "ftp"), "channels.w.url: what"),
            (GOOD.replace("h.example", "me:hunter2@h.example"), "channels.w.url: what"),
            (GOOD.replace("url", "#"), "channels.w.url is missing"),
            (GOOD.replace("'hook'", "'hunter 2'"), "channels.w.signing_secret: what"),
            (GOOD.replace("signing_secret", "#"), "channels.w.signing_secret is missing"),
            (format!("{GOOD}keys = 1"), "channels.w.keys: 1 is not allowed: use true or false"),
            (format!("{GOOD}window = '2h'"), "channels.w.window: \"2h\" is not allowed"),
            (format!("{GOOD}window = '10ms'"), "channels.w.window: \"10ms\" is not allowed"),
            (format!("{GOOD}timeout = '0s'"), "channels.w.timeout: \"0s\" is not allowed"),
            (format!("{GOOD}token = 'x'"), "channels.w.token: unknown field `token`"),
        ];
        for (text, expected) in cases {
            let Err(error) = read(&text) else { panic!("{text}") };
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("hunter"), "{error}");
        }
    }

    #[test]
    fn what_is_set_is_read_and_told_without_what_is_nobodys_business() {
        let settings = read(GOOD).unwrap();
        assert_eq!((settings.secret.as_str(), settings.keys), ("hook", false));
        assert_eq!(settings.place(), "https://h.example");
        for (address, is_open) in
            [("http://h.example", true), ("http://127.0.0.1:80", false), ("http://[::1]", false)]
        {
            let settings = read(&GOOD.replace("https://h.example", address)).unwrap();
            assert_eq!(settings.is_open(), is_open, "{address}");
        }
    }
}
