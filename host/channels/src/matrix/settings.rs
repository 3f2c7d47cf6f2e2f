//! What can be set of a channel of kind `matrix`.

use serde::{Deserialize, Deserializer};
use twobox_model::people::Senders;
use url::{Host, Url};

use super::HEARS;
use crate::kinds::{Setup, secret_name, setting};

/// The most bytes of an id of a user.
const USER_MAX: usize = 255;

/// What is set.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Where the homeserver is, without a slash at the end.
    pub(super) homeserver: Url,
    /// The account, `@name:server`.
    pub(super) user: String,
    /// What it is let in by.
    pub(super) credential: Credential,
    /// The device, if a person has chosen it.
    pub(super) device_id: Option<String>,
    /// Who is heard, as the host decides it: whoever never is may not invite the account.
    pub(super) senders: Senders,
}

/// What an account is let in by, under the name of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// Its password: the host logs in with it, and keeps the token that it gets.
    Password(String),
    /// A token that somebody else has got.
    Token(String),
}

impl Credential {
    /// The name of the secret.
    pub(super) fn secret(&self) -> &str {
        let (Self::Password(name) | Self::Token(name)) = self;
        name
    }

    /// What the secret is.
    pub(super) const fn what(&self) -> &'static str {
        match self {
            Self::Password(_) => "password",
            Self::Token(_) => "token",
        }
    }
}

/// What a section says. What is left out is `None`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "homeserver")]
    homeserver: Option<Url>,
    #[serde(default, deserialize_with = "user")]
    user: Option<String>,
    #[serde(default, deserialize_with = "secret_name")]
    password_secret: Option<String>,
    #[serde(default, deserialize_with = "secret_name")]
    token_secret: Option<String>,
    #[serde(default, deserialize_with = "device")]
    device_id: Option<String>,
}

impl Settings {
    /// Those of the instance.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong and says what is allowed.
    pub(super) fn of(setup: &Setup<'_>) -> Result<Self, String> {
        let written: Written = setup.read()?;
        let missing =
            |name: &str, what: &str| format!("{} is missing: {what}", (setup.name_of)(name));
        let credential = match (written.password_secret, written.token_secret) {
            (Some(name), None) => Credential::Password(name),
            (None, Some(name)) => Credential::Token(name),
            (None, None) => {
                return Err(missing(
                    "password_secret",
                    "set it to the name of a secret of this host that is the account's password, such as \
                     \"matrix\", and give that with `twobox secrets set matrix`",
                ));
            }
            (Some(_), Some(_)) => {
                let [one, other] =
                    ["password_secret", "token_secret"].map(|it| (setup.name_of)(it));
                return Err(format!("{one} and {other} are both set: leave one of them out"));
            }
        };
        Ok(Self {
            homeserver: written.homeserver.ok_or_else(|| {
                missing(
                    "homeserver",
                    "set it to its address, such as \"https://matrix.example.org\"",
                )
            })?,
            user: written.user.ok_or_else(|| {
                missing("user", "set it to the account, such as \"@assistant:example.org\"")
            })?,
            credential,
            device_id: written.device_id,
            senders: setup.manner(&HEARS)?.senders,
        })
    }

    /// Whether others on the way read what is said, and the token with it.
    pub(super) fn is_open(&self) -> bool {
        let near = match self.homeserver.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        self.homeserver.scheme() == "http" && !near
    }
}

/// Whether `text` can be the id of a user.
pub(super) fn is_user(text: &str) -> bool {
    let rest = text.strip_prefix('@').and_then(|rest| rest.split_once(':'));
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    text.len() <= USER_MAX
        && text.chars().all(plain)
        && rest.is_some_and(|(name, server)| !name.is_empty() && !server.is_empty())
}

fn homeserver<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let allowed = "the address of the homeserver, such as \"https://matrix.example.org\"";
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

fn user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let allowed = "the whole id of the account, such as \"@assistant:example.org\"";
    setting(deserializer, allowed, |value| {
        let text = value.as_str()?;
        is_user(text).then(|| Some(text.to_owned()))
    })
}

fn device<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let allowed = "letters, digits and -, at most 64 of them";
    setting(deserializer, allowed, |value| {
        let text = value.as_str()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let fits = (1..=64).contains(&text.len()) && text.chars().all(plain);
        fits.then(|| Some(text.to_owned()))
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
            &ChannelSettings { kind: "matrix".to_owned(), settings: text.parse().unwrap() };
        let (folder, scratch) = (Path::new("/"), Path::new("/"));
        let name_of = &|name: &str| format!("channels.m.{name}");
        let secrets = Arc::new(|_: &str| Ok(None));
        let journal = Arc::new(crate::parts::MemoryJournal::default());
        Settings::of(&Setup {
            id: "m",
            settings,
            name_of,
            folder,
            scratch,
            secrets,
            journal,
            file_max: 20 << 20,
        })
    }

    const GOOD: &str = "homeserver = 'https://m.example/'\nuser = '@bot:example'\n\
                        password_secret = 'matrix'\nsenders = ['@me:example']\n";

    #[test]
    fn each_mistake_names_its_setting_and_what_is_allowed() {
        let cases = [
            (GOOD.replace("https://", ""), "channels.m.homeserver: \"m.example/\" is not allowed"),
            (GOOD.replace("https", "ftp"), "channels.m.homeserver: \"ftp://m.example/\" is not"),
            (GOOD.replace("m.example/", "a:b@m.example/"), "channels.m.homeserver: "),
            (GOOD.replace("@bot:example", "bot"), "channels.m.user: \"bot\" is not allowed"),
            (GOOD.replace("password_secret", "token"), "channels.m.token: unknown field `token`"),
            (
                GOOD.replace("password_secret = 'matrix'", ""),
                "channels.m.password_secret is missing",
            ),
            (
                format!("{GOOD}token_secret = 'x'"),
                "channels.m.password_secret and channels.m.token_",
            ),
            (GOOD.replace("'@me:example'", ""), "channels.m.senders: [] is not allowed"),
            (GOOD.replace("'@me:example'", "'me'"), "channels.m.senders: [\"me\"] is not allowed"),
            (format!("{GOOD}groups = 'some'"), "channels.m.groups: \"some\" is not allowed: use"),
            (format!("{GOOD}device_id = 'a b'"), "channels.m.device_id: \"a b\" is not allowed"),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let error = read(&GOOD.replace("'matrix'", "'hunter 2!'")).unwrap_err();
        assert!(!error.contains("hunter"), "a secret is repeated by nobody: {error}");
    }

    #[test]
    fn what_is_set_is_read() {
        let settings = read(GOOD).unwrap();
        assert_eq!(settings.homeserver.as_str(), "https://m.example/");
        assert_eq!(settings.credential, Credential::Password("matrix".to_owned()));
        assert!(!settings.is_open());
        let may = |settings: &Settings, id: &str| settings.senders.may_ever_hear(id);
        assert!(may(&settings, "@me:example") && !may(&settings, "@you:example"));
        let anybody = read(&GOOD.replace("@me:example", "*")).unwrap();
        assert!(may(&anybody, "@you:example"));
        let known = read(&GOOD.replace("senders", "# ")).unwrap();
        assert_eq!(known.senders, Senders::Known, "a stranger has to be let in");
        for (address, is_open) in [
            ("http://m.example", true),
            ("http://localhost:8008", false),
            ("http://127.0.0.1:8008", false),
            ("http://[::1]", false),
        ] {
            let settings = read(&GOOD.replace("https://m.example/", address)).unwrap();
            assert_eq!(settings.is_open(), is_open, "{address}");
        }
    }
}
