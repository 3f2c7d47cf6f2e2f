//! What can be set of a channel of kind `email`.

use lettre::Address;
use serde::{Deserialize, Deserializer};
use url::{Host, Url};

use super::letter::is_id;
use crate::kinds::{Setup, setting};

/// The most bytes of a name, such as that of a folder.
const NAME_MAX: usize = 128;

/// What is set.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Whom mail is written to and comes from.
    pub(super) address: Address,
    /// The name beside it.
    pub(super) name: Option<String>,
    /// Where mail is read.
    pub(super) imap: Server,
    /// Where mail is handed over.
    pub(super) smtp: Server,
    /// The account.
    pub(super) user: String,
    /// The name of the secret that is its password.
    pub(super) password_secret: String,
    /// Which folder is read.
    pub(super) folder: String,
    /// The folder in which the server itself puts what was handed over.
    pub(super) sent_folder: Option<String>,
    /// How it is known who has written a mail.
    pub(super) trust: Trust,
}

/// How it is known who has written a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// The server that has received it says so, under this name.
    Server(String),
    /// It is who it says.
    From,
}

/// A mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// Its name, or its address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Whether it speaks TLS from the first byte on; otherwise it has to begin with it when it is asked.
    pub(super) implicit: bool,
    /// Whether it is on this machine, where nobody is on the way: it may do without.
    pub(super) near: bool,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What a section says. What is left out is `None`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "address")]
    address: Option<Address>,
    #[serde(default, deserialize_with = "name")]
    name: Option<String>,
    #[serde(default, deserialize_with = "imap")]
    imap: Option<Server>,
    #[serde(default, deserialize_with = "smtp")]
    smtp: Option<Server>,
    #[serde(default, deserialize_with = "name")]
    user: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    password_secret: Option<String>,
    #[serde(default, deserialize_with = "folder")]
    folder: Option<String>,
    #[serde(default, deserialize_with = "folder")]
    sent_folder: Option<String>,
    #[serde(default, deserialize_with = "authserv_id")]
    authserv_id: Option<String>,
    #[serde(default, deserialize_with = "yes")]
    trust_from: Option<bool>,
}

impl Settings {
    /// Those of the instance.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong and says what is allowed.
    pub(super) fn of(setup: &Setup<'_>) -> Result<Self, String> {
        let written: Written = setup.read()?;
        let missing = |name: &str, what: &str| {
            format!("{} is missing: set it to {what}", (setup.name_of)(name))
        };
        let trust = match (written.authserv_id, written.trust_from.unwrap_or_default()) {
            (Some(id), false) => Trust::Server(id),
            (None, true) => Trust::From,
            (None, false) => {
                return Err(missing(
                    "authserv_id",
                    "the name by which your mail server signs its `Authentication-Results`, such as \
                     \"mx.example.org\": without it nobody can know who has written a mail. On a server that \
                     lets nobody write under another's name, set `trust_from = true` instead",
                ));
            }
            (Some(_), true) => {
                let [one, other] = ["authserv_id", "trust_from"].map(|it| (setup.name_of)(it));
                return Err(format!("{one} and {other} are both set: leave one of them out"));
            }
        };
        let address = written.address.ok_or_else(|| {
            missing("address", "the mailbox's address, such as \"assistant@example.org\"")
        })?;
        Ok(Self {
            name: written.name,
            imap: written.imap.ok_or_else(|| {
                missing("imap", "the server for reading, such as \"imaps://imap.example.org\"")
            })?,
            smtp: written.smtp.ok_or_else(|| {
                missing("smtp", "the server for sending, such as \"smtps://smtp.example.org\"")
            })?,
            user: written.user.unwrap_or_else(|| address.to_string()),
            password_secret: written.password_secret.ok_or_else(|| {
                missing(
                    "password_secret",
                    "the name of a secret of this host that is the mailbox's password, such as \"mail\", and \
                     give that with `twobox secrets set mail`",
                )
            })?,
            folder: written.folder.unwrap_or_else(|| "INBOX".to_owned()),
            sent_folder: written.sent_folder,
            trust,
            address,
        })
    }

    /// The address in the one way in which it is compared.
    pub(super) fn own(&self) -> String {
        self.address.to_string().to_lowercase()
    }
}

/// The server at `text`, which begins with `scheme` and an `s` where it speaks TLS at once.
fn server(text: &str, scheme: &str, implicit_port: u16, port: u16) -> Option<Server> {
    let url = Url::parse(text).ok()?;
    let implicit = url.scheme().strip_prefix(scheme).and_then(|rest| match rest {
        "s" => Some(true),
        "" => Some(false),
        _ => None,
    })?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && ["", "/"].contains(&url.path())
        && url.query().is_none()
        && url.fragment().is_none();
    // Of a scheme that it does not know the parser leaves a host as it is written.
    let host = match url.host()? {
        Host::Domain(name) => Host::parse(name).ok()?,
        Host::Ipv4(address) => Host::Ipv4(address),
        Host::Ipv6(address) => Host::Ipv6(address),
    };
    let (host, near) = match host {
        Host::Domain(name) => (name.clone(), name == "localhost"),
        Host::Ipv4(address) => (address.to_string(), address.is_loopback()),
        Host::Ipv6(address) => (address.to_string(), address.is_loopback()),
    };
    let port = url.port().unwrap_or(if implicit { implicit_port } else { port });
    (plain && port != 0).then_some(Server { host, port, implicit, near })
}

fn imap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Server>, D::Error> {
    let allowed = "the server for reading, such as \"imaps://imap.example.org\", or \"imap://…\" where it \
                   begins TLS when it is asked";
    setting(deserializer, allowed, |value| Some(Some(server(value.as_str()?, "imap", 993, 143)?)))
}

fn smtp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Server>, D::Error> {
    let allowed = "the server for sending, such as \"smtps://smtp.example.org\", or \"smtp://…\" where it \
                   begins TLS when it is asked";
    setting(deserializer, allowed, |value| Some(Some(server(value.as_str()?, "smtp", 465, 587)?)))
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Address>, D::Error> {
    let allowed = "the mailbox's address and nothing else, such as \"assistant@example.org\"";
    setting(deserializer, allowed, |value| {
        let text = value.as_str().filter(|text| text.is_ascii())?;
        Some(Some(text.parse().ok()?))
    })
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    setting(deserializer, "one line of at most 128 bytes", |value| line(value).map(Some))
}

fn folder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let allowed = "a folder of the mailbox as the server calls it, in ASCII, such as \"INBOX\"";
    setting(deserializer, allowed, |value| line(value).filter(|it| it.is_ascii()).map(Some))
}

fn authserv_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let allowed = "the first word of the header `Authentication-Results` in mail that you have got, such as \
                   \"mx.example.org\"";
    setting(deserializer, allowed, |value| {
        let text = line(value)?.to_lowercase();
        is_id(&text).then_some(Some(text))
    })
}

fn yes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    setting(deserializer, "true or false", |value| value.as_bool().map(Some))
}

/// A line that is not empty, and not long.
fn line(value: &toml::Value) -> Option<String> {
    let text = value.as_str()?.trim();
    let fits = (1..=NAME_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
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
            &ChannelSettings { kind: "email".to_owned(), settings: text.parse().unwrap() };
        let (folder, scratch) = (Path::new("/"), Path::new("/"));
        let name_of = &|name: &str| format!("channels.m.{name}");
        let secrets = Arc::new(|_: &str| Ok(None));
        let journal = Arc::new(MemoryJournal::default());
        Settings::of(&Setup {
            id: "m",
            settings,
            name_of,
            folder,
            scratch,
            secrets,
            journal,
            file_max: 1 << 20,
        })
    }

    const GOOD: &str = "address = 'bot@example.org'\nimap = 'imaps://imap.example.org'\n\
                        smtp = 'smtp://smtp.example.org'\npassword_secret = 'mail'\n\
                        authserv_id = 'MX.example.org'\n";

    #[test]
    fn each_mistake_names_its_setting_and_what_is_allowed() {
        let cases = [
            (
                GOOD.replace("bot@", "Bot <bot@"),
                "channels.m.address: \"Bot <bot@example.org\" is not",
            ),
            (GOOD.replace("bot@example.org", "a\\nb@c"), "channels.m.address: "),
            (
                GOOD.replace("imaps", "https"),
                "channels.m.imap: \"https://imap.example.org\" is not",
            ),
            (GOOD.replace("imap.example.org", "a:b@c"), "channels.m.imap: "),
            (GOOD.replace("smtp.example.org", "x/y"), "channels.m.smtp: \"smtp://x/y\" is not"),
            (GOOD.replace("smtp.example.org", "x:99999"), "channels.m.smtp: "),
            (GOOD.replace("smtp =", "#"), "channels.m.smtp is missing: set it to the server"),
            (GOOD.replace("password_secret", "#"), "channels.m.password_secret is missing"),
            (GOOD.replace("password_secret", "password"), "channels.m.password: unknown field"),
            (GOOD.replace("authserv_id", "#"), "channels.m.authserv_id is missing: set it to"),
            (
                format!("{GOOD}trust_from = true"),
                "channels.m.authserv_id and channels.m.trust_from",
            ),
            (format!("{GOOD}folder = ''"), "channels.m.folder: \"\" is not allowed: use a folder"),
            (GOOD.replace("MX.example.org", "a b"), "channels.m.authserv_id: \"a b\" is not"),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let error = read(&GOOD.replace("'mail'", "'hunter 2!'")).unwrap_err();
        assert!(!error.contains("hunter"), "a secret is repeated by nobody: {error}");
    }

    #[test]
    fn what_is_set_is_read() {
        let settings = read(GOOD).unwrap();
        assert_eq!(
            (settings.own().as_str(), settings.user.as_str()),
            ("bot@example.org", "bot@example.org")
        );
        assert_eq!((settings.imap.port, settings.imap.implicit), (993, true));
        assert_eq!((settings.smtp.port, settings.smtp.implicit), (587, false));
        assert_eq!(settings.trust, Trust::Server("mx.example.org".to_owned()));
        assert_eq!(settings.folder, "INBOX");
        for (address, near) in [
            ("imap://mail.example", false),
            ("imap://localhost:1143", true),
            ("imap://127.0.0.1", true),
            ("imap://127.1", true),
            ("imap://[::1]:143", true),
            ("imap://127.0.0.1.example", false),
        ] {
            let settings = read(&GOOD.replace("imaps://imap.example.org", address)).unwrap();
            assert_eq!(settings.imap.near, near, "{address}");
        }
    }
}
