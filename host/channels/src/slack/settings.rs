//! What can be set of a channel of kind `slack`.

use serde::{Deserialize, Deserializer};
use url::{Host, Url};

use crate::kinds::{Setup, secret_name, setting};

/// Where Slack's Web API is, if nothing else is set.
const API: &str = "https://slack.com/api";

/// What is set.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Where the Web API is.
    pub(super) api: Url,
    /// The name of the secret that is the bot's token.
    pub(super) bot_token: String,
    /// The name of the secret that is the app's token.
    pub(super) app_token: String,
    /// Where what is said to a channel is answered.
    pub(super) answers: Answers,
}

/// Where what is said in a channel, and in no thread, is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Answers {
    /// In the channel.
    #[default]
    Channel,
    /// In a thread below it.
    Thread,
}

/// What a section says. What is left out is `None`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "api")]
    api: Option<Url>,
    #[serde(default, deserialize_with = "secret_name")]
    bot_token_secret: Option<String>,
    #[serde(default, deserialize_with = "secret_name")]
    app_token_secret: Option<String>,
    #[serde(default, deserialize_with = "answers")]
    answers: Option<Answers>,
}

impl Settings {
    /// Those of the instance.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong and says what is allowed.
    pub(super) fn of(setup: &Setup<'_>) -> Result<Self, String> {
        let written: Written = setup.read()?;
        let secret = |given: Option<String>, name: &str, what: &str| {
            given.ok_or_else(|| {
                format!(
                    "{} is missing: set it to the name of a secret of this host that is {what}, and give that \
                     with `twobox secrets set NAME`",
                    (setup.name_of)(name)
                )
            })
        };
        let bot = "the bot's token, which begins with \"xoxb-\"";
        let app = "the app's token for Socket Mode, which begins with \"xapp-\"";
        Ok(Self {
            api: match written.api {
                Some(api) => api,
                None => Url::parse(API).map_err(|error| error.to_string())?,
            },
            bot_token: secret(written.bot_token_secret, "bot_token_secret", bot)?,
            app_token: secret(written.app_token_secret, "app_token_secret", app)?,
            answers: written.answers.unwrap_or_default(),
        })
    }

    /// Whether others on the way read what is said, and the tokens with it.
    pub(super) fn is_open(&self) -> bool {
        self.api.scheme() == "http" && !is_near(&self.api)
    }
}

/// Whether what is at `url` is on this machine.
pub(super) fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn api<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let allowed = "the address of the Web API, such as \"https://slack.com/api\"";
    setting(deserializer, allowed, |value| {
        let mut url = Url::parse(value.as_str()?).ok()?;
        let plain = ["http", "https"].contains(&url.scheme())
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        plain.then_some(Some(url))
    })
}

fn answers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Answers>, D::Error> {
    setting(deserializer, "\"channel\" or \"thread\"", |value| match value.as_str()? {
        "channel" => Some(Some(Answers::Channel)),
        "thread" => Some(Some(Answers::Thread)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use twobox_config::ChannelSettings;

    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let settings =
            &ChannelSettings { kind: "slack".to_owned(), settings: text.parse().unwrap() };
        let (folder, scratch) = (Path::new("/"), Path::new("/"));
        let name_of = &|name: &str| format!("channels.s.{name}");
        let secrets = Arc::new(|_: &str| Ok(None));
        let journal = Arc::new(crate::parts::MemoryJournal::default());
        Settings::of(&Setup {
            id: "s",
            settings,
            name_of,
            folder,
            scratch,
            secrets,
            journal,
            file_max: 20 << 20,
        })
    }

    const GOOD: &str = "bot_token_secret = 'slack-bot'\napp_token_secret = 'slack-app'\n";

    #[test]
    fn each_mistake_names_its_setting_and_what_is_allowed() {
        let cases = [
            ("", "channels.s.bot_token_secret is missing: set it to the name of a secret"),
            ("bot_token_secret = 'b'", "channels.s.app_token_secret is missing"),
            ("api = 'slack.com'", "channels.s.api: \"slack.com\" is not allowed: use the address"),
            ("api = 'https://a:b@slack.com'", "channels.s.api: "),
            ("answers = 'here'", "channels.s.answers: \"here\" is not allowed: use \"channel\" or"),
            ("token = 'x'", "channels.s.token: unknown field `token`"),
        ];
        for (text, expected) in cases {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let error = read("bot_token_secret = 'xoxb-1 2'").unwrap_err();
        assert!(!error.contains("xoxb-1"), "a secret is repeated by nobody: {error}");
    }

    #[test]
    fn what_is_set_is_read() {
        let settings = read(GOOD).unwrap();
        assert_eq!(settings.api.as_str(), "https://slack.com/api");
        assert_eq!((settings.answers, settings.is_open()), (Answers::Channel, false));
        let other = read(&format!("{GOOD}answers = 'thread'\napi = 'http://127.0.0.1:1/api/'"));
        let other = other.unwrap();
        assert_eq!((other.answers, other.is_open()), (Answers::Thread, false));
        assert_eq!(other.api.as_str(), "http://127.0.0.1:1/api");
        assert!(read(&format!("{GOOD}api = 'http://x.example'")).unwrap().is_open());
    }
}
