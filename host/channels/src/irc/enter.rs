//! Being let in: what is said to a server, in which order, until it takes somebody for one of its own. A value: a line
//! of the server in, what is said to it out. Pure.
//!
//! Source: <https://ircv3.net/specs/extensions/capability-negotiation>, <https://ircv3.net/specs/extensions/sasl-3.1>.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use twobox_shared::content::shorten;
use twobox_shared::visible;

use super::server::Server;
use super::settings::Settings;
use super::wire::{self, Message};

/// What it asks for, where the server offers it.
const CAPS: [&str; 7] = [
    "account-tag",
    "batch",
    "echo-message",
    "labeled-response",
    "message-tags",
    "multi-prefix",
    "server-time",
];

/// How many other nicks are tried.
const NICKS_MAX: usize = 8;

/// How long a nick may be that any server takes.
const NICK_LEAST: usize = 9;

/// How many bytes of Base64 a line of SASL has.
const SASL_LINE: usize = 400;

/// The longest words of a server that are repeated, in characters.
const WORDS_MAX: usize = 200;

/// Why it was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// A person has to mend something.
    Refused(String),
    /// Later it may be.
    Trouble(String),
}

/// Secrets, by what they are for. Nobody is shown them but the server.
#[derive(Clone, Default)]
pub(super) struct Passwords {
    pub(super) account: Option<String>,
    pub(super) server: Option<String>,
}

/// Somebody who is being let in.
pub(super) struct Entering<'a> {
    settings: &'a Settings,
    passwords: &'a Passwords,
    /// What it is called, or tries to be.
    nick: String,
    /// How many other nicks were tried.
    tried: usize,
    /// How long the others may be.
    nick_max: usize,
    server: Server,
    offered: BTreeSet<String>,
    /// How the server lets people log in, if it says so.
    mechanisms: Option<String>,
    /// Whether the server has said that it is one of its own.
    welcomed: bool,
    /// The account that the server has taken it for.
    account: Option<String>,
    /// Why a nick was not to be had.
    nick_trouble: Option<String>,
}

/// One who is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entered {
    pub(super) nick: String,
    pub(super) server: Server,
    /// The account that the server has taken it for.
    pub(super) account: Option<String>,
    /// Why it is not called as it should be.
    pub(super) nick_trouble: Option<String>,
}

impl<'a> Entering<'a> {
    /// Begins, with what is said first.
    pub(super) fn begin(settings: &'a Settings, passwords: &'a Passwords) -> (Self, Vec<String>) {
        let nick = settings.nick.clone();
        let mut says = vec!["CAP LS 302".to_owned()];
        if let Some(password) = &passwords.server {
            says.extend(wire::line(&["PASS", password]));
        }
        says.push(format!("NICK {nick}"));
        says.push(format!("USER {} 0 * :{}", settings.user, settings.name));
        let entering = Self {
            settings,
            passwords,
            nick,
            tried: 0,
            nick_max: settings.nick.len().max(NICK_LEAST),
            server: Server::default(),
            offered: BTreeSet::new(),
            mechanisms: None,
            welcomed: false,
            account: None,
            nick_trouble: None,
        };
        (entering, says)
    }

    /// Takes in a line of the server. Returns what is said to that.
    ///
    /// # Errors
    /// [`Stop`], if it is not let in.
    pub(super) fn take(&mut self, message: &Message) -> Result<Vec<String>, Stop> {
        match (message.command.as_str(), message.numeric()) {
            ("PING", _) => Ok(pong(message)),
            ("CAP", _) => self.cap(message),
            ("AUTHENTICATE", _) => Ok(self.authenticate(message)),
            // Some servers say no number for it.
            ("ERROR", _) if message.last().to_lowercase().contains("password") => {
                Err(self.server_password(&words(message.last())))
            }
            ("ERROR", _) => Err(closed(message.last())),
            (_, Some(1)) => {
                message.param(0).clone_into(&mut self.nick);
                self.welcomed = true;
                if self.settings.login.is_some() && self.account.is_none() {
                    return Err(Stop::Trouble(self.no_sasl()));
                }
                Ok(Vec::new())
            }
            (_, Some(5)) => {
                self.server.take_in(message);
                Ok(Vec::new())
            }
            (_, Some(number)) => self.number(number, message),
            (_, None) => Ok(Vec::new()),
        }
    }

    /// It, once it is in and was told what the server is like.
    pub(super) fn entered(&self, message: &Message) -> Option<Entered> {
        // The end of what the server says to whoever comes, or that it has nothing to say.
        let is_last = matches!(message.numeric(), Some(376 | 422));
        (self.welcomed && is_last).then(|| Entered {
            nick: self.nick.clone(),
            server: self.server.clone(),
            account: self.account.clone(),
            nick_trouble: self.nick_trouble.clone(),
        })
    }

    fn cap(&mut self, message: &Message) -> Result<Vec<String>, Stop> {
        let caps = message.last().split(' ').filter(|it| !it.is_empty());
        match message.param(1).to_ascii_uppercase().as_str() {
            "LS" => {
                for cap in caps {
                    let (name, value) = cap.split_once('=').unwrap_or((cap, ""));
                    if name == "sasl" && !value.is_empty() {
                        self.mechanisms = Some(value.to_owned());
                    }
                    self.offered.insert(name.to_owned());
                }
                if message.param(2) == "*" && message.params.len() > 3 {
                    return Ok(Vec::new()); // more of them follow
                }
                if self.settings.login.is_some() && !self.has_sasl() {
                    return Err(Stop::Trouble(self.no_sasl()));
                }
                let sasl = self.settings.login.as_ref().map(|_| "sasl");
                let wanted = CAPS.into_iter().chain(sasl).filter(|it| self.offered.contains(*it));
                let wanted: Vec<&str> = wanted.collect();
                Ok(match wanted.is_empty() {
                    true => vec!["CAP END".to_owned()],
                    false => vec![format!("CAP REQ :{}", wanted.join(" "))],
                })
            }
            "ACK" => {
                self.server.caps.extend(caps.map(str::to_owned));
                Ok(match self.server.has("sasl") {
                    true => vec!["AUTHENTICATE PLAIN".to_owned()],
                    false => vec!["CAP END".to_owned()],
                })
            }
            // It takes all of them or none.
            "NAK" if self.settings.login.is_some() => Err(Stop::Trouble(self.no_sasl())),
            "NAK" => Ok(vec!["CAP END".to_owned()]),
            _ => Ok(Vec::new()),
        }
    }

    fn has_sasl(&self) -> bool {
        let plain = |all: &String| all.split(',').any(|it| it.eq_ignore_ascii_case("PLAIN"));
        self.offered.contains("sasl") && self.mechanisms.as_ref().is_none_or(plain)
    }

    fn no_sasl(&self) -> String {
        let place = self.settings.place();
        match &self.mechanisms {
            Some(all) => format!("{place} lets nobody log in by a password, but by {}", words(all)),
            None => format!("{place} lets nobody log in at the moment (it offers no SASL)"),
        }
    }

    fn authenticate(&self, message: &Message) -> Vec<String> {
        let (Some(login), Some(password)) = (&self.settings.login, &self.passwords.account) else {
            return vec!["AUTHENTICATE *".to_owned()];
        };
        if message.param(0) != "+" {
            return Vec::new();
        }
        let account = &login.account;
        let text = BASE64.encode(format!("{account}\0{account}\0{password}"));
        let mut lines: Vec<String> = text
            .as_bytes()
            .chunks(SASL_LINE)
            .map(|it| format!("AUTHENTICATE {}", String::from_utf8_lossy(it)))
            .collect();
        if text.len().is_multiple_of(SASL_LINE) {
            lines.push("AUTHENTICATE +".to_owned()); // nothing follows a line that is full
        }
        lines
    }

    fn number(&mut self, number: u16, message: &Message) -> Result<Vec<String>, Stop> {
        let said = words(message.last());
        let place = self.settings.place();
        match number {
            900 => {
                self.account = Some(message.param(2).to_owned());
                Ok(Vec::new())
            }
            903 => {
                let account = self.settings.login.as_ref().map(|it| it.account.clone());
                self.account = self.account.take().or(account);
                Ok(vec!["CAP END".to_owned()])
            }
            902 | 904..=906 => Err(Stop::Refused(format!(
                "{place} does not let {} log in ({said}); is the password right? `twobox secrets set {}`; it is \
                 tried again by itself",
                self.settings.login.as_ref().map_or("it", |it| it.account.as_str()),
                self.settings.login.as_ref().map_or("NAME", |it| it.secret.as_str()),
            ))),
            908 => {
                self.mechanisms = Some(message.param(1).to_owned());
                Ok(Vec::new()) // 904 follows
            }
            464 => Err(self.server_password(&said)),
            463 | 465 => Err(Stop::Refused(format!("{place} does not let it in: {said}"))),
            432 | 433 | 436 | 437 if !self.welcomed => self.other_nick(number, &said),
            _ => Ok(Vec::new()),
        }
    }

    /// The server wants a password of whoever connects, and another one than it was told.
    fn server_password(&self, said: &str) -> Stop {
        let place = self.settings.place();
        Stop::Refused(match &self.settings.server_secret {
            Some(name) => format!(
                "{place} does not take the password of the server ({said}): `twobox secrets set {name}`"
            ),
            None => format!(
                "{place} wants a password of whoever connects ({said}): set server_password_secret"
            ),
        })
    }

    /// The nick is not to be had: another one.
    fn other_nick(&mut self, number: u16, said: &str) -> Result<Vec<String>, Stop> {
        let place = self.settings.place();
        if self.tried >= NICKS_MAX {
            return Err(Stop::Trouble(format!(
                "{place} lets it have no nick like {}: {said}",
                self.nick
            )));
        }
        self.tried += 1;
        self.nick_trouble.get_or_insert_with(|| said.to_owned());
        self.nick = match number {
            // It is said only later how long one may be.
            432 if self.nick.len() > NICK_LEAST => {
                self.nick_max = NICK_LEAST;
                self.nick.chars().take(NICK_LEAST).collect()
            }
            432 => {
                return Err(Stop::Refused(format!(
                    "{place} takes no nick like {}: {said}",
                    self.nick
                )));
            }
            _ => next_nick(&self.nick, self.nick_max),
        };
        Ok(vec![format!("NICK {}", self.nick)])
    }
}

/// Another nick that is like this one, and no longer than `most`.
fn next_nick(nick: &str, most: usize) -> String {
    if nick.len() < most {
        return format!("{nick}_");
    }
    // What is as long as it may be changes at its end: `_` one after the other, from the back on.
    let kept = nick.trim_end_matches('_');
    let underscores = nick.len() - kept.len() + 1;
    let kept: String = kept.chars().take(kept.chars().count().saturating_sub(1)).collect();
    format!("{kept}{}", "_".repeat(underscores))
}

/// The answer to a PING.
pub(super) fn pong(message: &Message) -> Vec<String> {
    wire::line(&["PONG", message.last()]).into_iter().collect()
}

/// The server has closed the connection, with these words.
pub(super) fn closed(said: &str) -> Stop {
    Stop::Trouble(format!("the server has closed the connection: {}", words(said)))
}

/// What somebody else said, in one bounded line that steers nothing.
pub(super) fn words(text: &str) -> String {
    shorten(&visible::line(text), WORDS_MAX)
}

#[cfg(test)]
#[path = "enter_tests.rs"]
mod tests;
