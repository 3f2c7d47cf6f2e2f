//! What can be set of a channel of kind `irc`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::kinds::{Setup, secret_name, setting};

/// The port of IRC over TLS, and without.
const TLS_PORT: u16 = 6697;
const OPEN_PORT: u16 = 6667;

/// How many channels a section may name.
const CHANNELS_MAX: usize = 100;

/// What is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// The name or address of the server.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Tls,
    /// What it is called there, if that can be had.
    pub(super) nick: String,
    /// What it says its user and its name are.
    pub(super) user: String,
    pub(super) name: String,
    /// Whom it logs in as.
    pub(super) login: Option<Login>,
    /// The name of the secret that the server itself wants of whoever connects.
    pub(super) server_secret: Option<String>,
    /// Where it goes by itself.
    pub(super) channels: Vec<String>,
    pub(super) pace: Pace,
    /// How many lines of one message are said.
    pub(super) lines: usize,
}

/// How the server is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tls {
    /// By nothing: whoever is on the way reads along.
    Off,
    /// By a certificate that an authority has signed whom this machine trusts.
    Authorities,
    /// By its certificate itself, of which this is the SHA-256.
    Pinned([u8; 32]),
}

/// An account with the network's services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) account: String,
    /// The name of the secret that is its password.
    pub(super) secret: String,
}

/// How fast it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// How many lines at once, after a while without any.
    pub(super) burst: u32,
    /// And then one in such a time.
    pub(super) pause: Duration,
}

/// What a section says. What is left out is `None`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "server")]
    server: Option<(String, Option<u16>)>,
    #[serde(default, deserialize_with = "yes_or_no")]
    tls: Option<bool>,
    #[serde(default, deserialize_with = "fingerprint")]
    fingerprint: Option<[u8; 32]>,
    #[serde(default, deserialize_with = "nick")]
    nick: Option<String>,
    #[serde(default, deserialize_with = "user")]
    user: Option<String>,
    #[serde(default, deserialize_with = "name")]
    name: Option<String>,
    #[serde(default, deserialize_with = "account")]
    account: Option<String>,
    #[serde(default, deserialize_with = "secret_name")]
    password_secret: Option<String>,
    #[serde(default, deserialize_with = "secret_name")]
    server_password_secret: Option<String>,
    #[serde(default, deserialize_with = "channels")]
    channels: Option<Vec<String>>,
    #[serde(default, deserialize_with = "burst")]
    burst: Option<u32>,
    #[serde(default, deserialize_with = "pause")]
    pause: Option<Duration>,
    #[serde(default, deserialize_with = "lines")]
    lines: Option<usize>,
}

impl Settings {
    /// Those of the instance.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong and says what is allowed.
    pub(super) fn of(setup: &Setup<'_>) -> Result<Self, String> {
        let written: Written = setup.read()?;
        let name_of = |name: &str| (setup.name_of)(name);
        let missing = |name: &str, what: &str| format!("{} is missing: {what}", name_of(name));
        let (host, port) = written.server.ok_or_else(|| {
            missing("server", "set it to the server's name, such as \"irc.example.org\"")
        })?;
        let nick = written.nick.ok_or_else(|| {
            missing("nick", "set it to what the agent is called there, such as \"adabot\"")
        })?;
        let tls = match (written.tls.unwrap_or(true), written.fingerprint) {
            (true, None) => Tls::Authorities,
            (true, Some(fingerprint)) => Tls::Pinned(fingerprint),
            (false, None) => Tls::Off,
            (false, Some(_)) => {
                return Err(format!(
                    "{} is the certificate's, and without {} there is none: leave one of them out",
                    name_of("fingerprint"),
                    name_of("tls")
                ));
            }
        };
        let login = match (written.account, written.password_secret) {
            (account, Some(secret)) => {
                Some(Login { account: account.unwrap_or_else(|| nick.clone()), secret })
            }
            (Some(_), None) => {
                return Err(missing(
                    "password_secret",
                    "set it to the name of a secret of this host that is the account's password, \
                     such as \"irc\", and give that with `twobox secrets set irc`",
                ));
            }
            (None, None) => None,
        };
        let has_secret = login.is_some() || written.server_password_secret.is_some();
        if tls == Tls::Off && has_secret && !is_near(&host) {
            return Err(format!(
                "{} is off, and whoever is on the way would read the password: leave it out",
                name_of("tls")
            ));
        }
        let open = if tls == Tls::Off { OPEN_PORT } else { TLS_PORT };
        Ok(Self {
            host,
            port: port.unwrap_or(open),
            tls,
            user: written.user.unwrap_or_else(|| "twobox".to_owned()),
            name: written.name.unwrap_or_else(|| nick.clone()),
            nick,
            login,
            server_secret: written.server_password_secret,
            channels: written.channels.unwrap_or_default(),
            pace: Pace {
                burst: written.burst.unwrap_or(2),
                pause: written.pause.unwrap_or(Duration::from_secs(1)),
            },
            lines: written.lines.unwrap_or(200),
        })
    }

    /// Whether others on the way read what is said.
    pub(super) fn is_open(&self) -> bool {
        self.tls == Tls::Off && !is_near(&self.host)
    }

    /// Where it is, in a few words.
    pub(super) fn place(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The secrets that it needs, with what each is.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&str, String)> {
        let login = self.login.as_ref();
        let login = login.map(|it| (it.secret.as_str(), format!("the password of {}", it.account)));
        let server = self.server_secret.as_deref();
        login.into_iter().chain(server.map(|it| (it, "the password of the server".to_owned())))
    }
}

/// Whether it is on this machine.
fn is_near(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|it| it.is_loopback())
}

fn server<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<(String, Option<u16>)>, D::Error> {
    let allowed = "the server's name, such as \"irc.example.org\" or \"irc.example.org:6697\"";
    setting(deserializer, allowed, |value| {
        let text = value.as_str()?;
        let (host, port) = match text.strip_prefix('[').and_then(|it| it.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':')?)),
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(str::parse::<u16>).transpose().ok()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        let fits = (1..=255).contains(&host.len()) && host.chars().all(plain) && port != Some(0);
        fits.then(|| Some((host.to_owned(), port)))
    })
}

fn yes_or_no<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    setting(deserializer, "true or false", |value| value.as_bool().map(Some))
}

fn fingerprint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 32]>, D::Error> {
    let allowed = "the SHA-256 of the server's certificate, 64 digits of base sixteen, as `openssl x509 \
                   -noout -fingerprint -sha256` shows it";
    setting(deserializer, allowed, |value| {
        let digits: String = value.as_str()?.chars().filter(|c| *c != ':').collect();
        let is_one = digits.len() == 64 && digits.bytes().all(|it| it.is_ascii_hexdigit());
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
        }
        is_one.then_some(Some(bytes))
    })
}

fn nick<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let allowed = "letters, digits and any of -_[]\\`^{}|, and no digit or - at first";
    setting(deserializer, allowed, |value| {
        let text = value.as_str()?;
        let mark = |c: char| "_[]\\`^{}|".contains(c);
        let later = |c: char| c.is_ascii_alphanumeric() || c == '-' || mark(c);
        let first = text.chars().next()?;
        let fits = text.len() <= 64 && text.chars().all(later);
        (fits && (first.is_ascii_alphabetic() || mark(first))).then(|| Some(text.to_owned()))
    })
}

fn user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    setting(deserializer, "letters, digits, - and _, at most 10 of them", |value| {
        let text = value.as_str()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let fits = (1..=10).contains(&text.len()) && text.chars().all(plain);
        fits.then(|| Some(text.to_owned()))
    })
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    setting(deserializer, "a name in one line, at most 100 bytes long", |value| {
        let text = value.as_str()?;
        let fits = (1..=100).contains(&text.len()) && !text.chars().any(char::is_control);
        fits.then(|| Some(text.to_owned()))
    })
}

fn account<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    setting(deserializer, "the name of the account with the network's services", |value| {
        let text = value.as_str()?;
        let plain = |c: char| !c.is_whitespace() && !c.is_control();
        ((1..=100).contains(&text.len()) && text.chars().all(plain)).then(|| Some(text.to_owned()))
    })
}

fn channels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let allowed = "a list of channels, such as [\"#room\"], at most 100 of them";
    setting(deserializer, allowed, |value| {
        let all: Option<Vec<&str>> = value.as_array()?.iter().map(|it| it.as_str()).collect();
        let all = all.filter(|all| all.len() <= CHANNELS_MAX)?;
        all.iter()
            .all(|it| is_channel(it))
            .then(|| Some(all.into_iter().map(str::to_owned).collect()))
    })
}

/// Whether `text` can be the name of a channel.
fn is_channel(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != ',';
    text.starts_with(['#', '&', '+', '!'])
        && (2..=200).contains(&text.len())
        && text.chars().all(plain)
}

fn burst<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    setting(deserializer, "how many lines at once, from 1 to 20", |value| {
        let number = u32::try_from(value.as_integer()?).ok()?;
        (1..=20).contains(&number).then_some(Some(number))
    })
}

fn pause<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    setting(deserializer, "a time from \"100ms\" to \"60s\"", |value| {
        let pause = humantime::parse_duration(value.as_str()?).ok()?;
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(60));
        (least..=most).contains(&pause).then_some(Some(pause))
    })
}

fn lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    setting(deserializer, "how many lines of a message are said, from 1 to 2000", |value| {
        let number = usize::try_from(value.as_integer()?).ok()?;
        (1..=2000).contains(&number).then_some(Some(number))
    })
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
