//! What can be set of a channel of kind `discord`.

use serde::{Deserialize, Deserializer};
use url::Url;

use crate::kinds::{Setup, setting};

/// Where Discord's API is, if nothing else is set.
const API: &str = "https://discord.com/api";

/// What is set.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// The name of the secret that is the bot's token.
    pub(super) token_secret: String,
    /// Where the API is, without its version.
    pub(super) api: Url,
}

/// What a section says. What is left out is `None`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "secret")]
    token_secret: Option<String>,
    #[serde(default, deserialize_with = "api")]
    api: Option<Url>,
}

impl Settings {
    /// Those of the instance.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong and says what is allowed.
    pub(super) fn of(setup: &Setup<'_>) -> Result<Self, String> {
        let written: Written = setup.read()?;
        let missing = || {
            format!(
                "{} is missing: set it to the name of a secret of this host that is the bot's token, such as \
                 \"discord\", and give that with `twobox secrets set discord`",
                (setup.name_of)("token_secret")
            )
        };
        let api = || Url::parse(API).expect("it is written down above");
        Ok(Self {
            token_secret: written.token_secret.ok_or_else(missing)?,
            api: written.api.unwrap_or_else(api),
        })
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    // What stands there may be the secret itself: nobody repeats it.
    let value = toml::Value::deserialize(deserializer)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    // A token has more letters than any name.
    let name = value
        .as_str()
        .filter(|it| (1..=48).contains(&it.len()) && it.chars().all(plain) && !it.starts_with('.'));
    let why = "what stands there is no name of a secret: use letters, digits, -, _ and ., at most 48 of them, and \
               give the token itself with `twobox secrets set NAME`";
    name.map(|name| Some(name.to_owned())).ok_or_else(|| serde::de::Error::custom(why))
}

fn api<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let allowed = "the address of an API, such as \"https://discord.com/api\"";
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use twobox_config::ChannelSettings;

    use super::*;
    use crate::parts::MemoryJournal;

    fn read(text: &str) -> Result<Settings, String> {
        let settings =
            &ChannelSettings { kind: "discord".to_owned(), settings: text.parse().unwrap() };
        let (folder, scratch) = (Path::new("/"), Path::new("/"));
        let name_of = &|name: &str| format!("channels.d.{name}");
        let secrets = Arc::new(|_: &str| Ok(None));
        let journal = Arc::new(MemoryJournal::default());
        let file_max = 20 << 20;
        Settings::of(&Setup {
            id: "d",
            settings,
            name_of,
            folder,
            scratch,
            secrets,
            journal,
            file_max,
        })
    }

    #[test]
    fn each_mistake_names_its_setting_and_what_is_allowed() {
        let token = "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs";
        let cases = [
            ("", "channels.d.token_secret is missing: set it to the name of a secret"),
            ("token = 'a'", "channels.d.token: unknown field `token`"),
            (&format!("token_secret = '{token}'"), "channels.d.token_secret: what stands there is"),
            ("token_secret = 5", "channels.d.token_secret: what stands there is no name"),
            (
                "token_secret = 'd'\napi = 'discord.com'",
                "channels.d.api: \"discord.com\" is not allowed",
            ),
            ("token_secret = 'd'\napi = 'ftp://discord.com'", "channels.d.api: "),
        ];
        for (text, expected) in cases {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains(token), "a secret is repeated by nobody");
        }
        let set = read("token_secret = 'd'").unwrap();
        assert_eq!((set.token_secret.as_str(), set.api.as_str()), ("d", "https://discord.com/api"));
        let other = read("token_secret = 'd'\napi = 'http://127.0.0.1:8080/api/'").unwrap();
        assert_eq!(other.api.as_str(), "http://127.0.0.1:8080/api");
    }
}
