//! What can be set of a channel of kind `telegram`.

use serde::{Deserialize, Deserializer};
use url::{Host, Url};

use crate::kinds::Setup;

/// Where the Bot API is, if nothing else is set.
const API: &str = "https://api.telegram.org";

/// What is set.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Where the Bot API is, without a slash at the end.
    pub(super) api: Url,
    /// The name of the secret that is the bot's token.
    pub(super) token_secret: String,
}

/// What a section says. What is left out is `None`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "api")]
    api: Option<Url>,
    #[serde(default, deserialize_with = "secret")]
    token_secret: Option<String>,
}

impl Settings {
    /// Those of the instance.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong and says what is allowed.
    pub(super) fn of(setup: &Setup<'_>) -> Result<Self, String> {
        let written: Written = setup.read()?;
        let token_secret = written.token_secret.ok_or_else(|| {
            format!(
                "{} is missing: set it to the name of a secret of this host that is the bot's token, such \
                 as \"telegram\", and give that with `twobox secrets set telegram`",
                (setup.name_of)("token_secret")
            )
        })?;
        let api = written.api.unwrap_or_else(|| Url::parse(API).expect("it is an address"));
        Ok(Self { api, token_secret })
    }

    /// Whether others on the way read what is said, and the token with it.
    pub(super) fn is_open(&self) -> bool {
        let near = match self.api.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        self.api.scheme() == "http" && !near
    }

    /// What is set, in a few words.
    pub(super) fn described(&self) -> String {
        match self.api.as_str().trim_end_matches('/') {
            API => "a bot".to_owned(),
            elsewhere => format!("a bot at {elsewhere}"),
        }
    }

    /// What to do where the secret is not there.
    pub(super) fn missing(&self) -> String {
        let name = &self.token_secret;
        format!(
            "there is no secret {name:?}, which is the bot's token: `twobox secrets set {name}`; \
             @BotFather in Telegram shows it"
        )
    }
}

fn api<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    // An address with a token in it is one that somebody has copied as a whole: nobody repeats it.
    let value = toml::Value::deserialize(deserializer)?;
    let read = || {
        let mut url = Url::parse(value.as_str()?).ok()?;
        let plain = ["http", "https"].contains(&url.scheme())
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && !url.path().contains("/bot");
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        plain.then_some(url)
    };
    let why = "what stands there is not allowed: use the address of a Bot API without a bot's token, such as \
               \"http://localhost:8081\", or leave it out";
    read().map(Some).ok_or_else(|| serde::de::Error::custom(why))
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    // What stands there may be the secret itself: nobody repeats it.
    let value = toml::Value::deserialize(deserializer)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name = value
        .as_str()
        .filter(|it| (1..=64).contains(&it.len()) && it.chars().all(plain) && !it.starts_with('.'));
    let why = "what stands there is no name of a secret: use letters, digits, -, _ and ., and give the \
               secret itself with `twobox secrets set NAME`";
    name.map(|name| Some(name.to_owned())).ok_or_else(|| serde::de::Error::custom(why))
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
            &ChannelSettings { kind: "telegram".to_owned(), settings: text.parse().unwrap() };
        let (folder, scratch) = (Path::new("/"), Path::new("/"));
        let name_of = &|name: &str| format!("channels.t.{name}");
        let secrets = Arc::new(|_: &str| Ok(None));
        let journal = Arc::new(MemoryJournal::default());
        Settings::of(&Setup {
            id: "t",
            settings,
            name_of,
            folder,
            scratch,
            secrets,
            journal,
            file_max: 20 << 20,
        })
    }

    #[test]
    fn each_mistake_names_its_setting_and_repeats_no_secret() {
        let good = "token_secret = 'telegram'\n";
        let cases = [
            (String::new(), "channels.t.token_secret is missing"),
            ("token_secret = '123:ABC-secret'".to_owned(), "channels.t.token_secret: what stands"),
            ("token_secret = 5".to_owned(), "channels.t.token_secret: what stands"),
            (format!("{good}api = 'x.example'"), "channels.t.api: what stands there"),
            (format!("{good}api = 'https://x.example/bot1:secret'"), "channels.t.api: what stands"),
            (format!("{good}api = 'https://a:secret@x.example'"), "channels.t.api: what stands"),
            (format!("{good}token = 'secret'"), "channels.t.token: unknown field `token`"),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("ABC-") && !error.contains(":secret"), "{error}");
        }
    }

    #[test]
    fn what_is_set_is_read() {
        let settings = read("token_secret = 'telegram'").unwrap();
        assert_eq!(settings.api.as_str(), "https://api.telegram.org/");
        assert_eq!((settings.described().as_str(), settings.is_open()), ("a bot", false));
        for (api, is_open) in [
            ("http://bots.example:8081/", true),
            ("http://localhost:8081", false),
            ("http://127.0.0.1:8081", false),
            ("http://[::1]", false),
        ] {
            let settings = read(&format!("token_secret = 'telegram'\napi = '{api}'")).unwrap();
            assert_eq!(settings.is_open(), is_open, "{api}");
            assert!(settings.described().starts_with("a bot at http"));
        }
    }
}
