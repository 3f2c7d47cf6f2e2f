//! Which hosts of the network an agent may reach: a list of rules that a person writes. Pure: names are
//! resolved elsewhere, and each address that comes of it is judged here.

pub mod address;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The port of a rule that names none: HTTPS.
pub const PORT: u16 = 443;

/// How many rules one list may have.
pub const RULES_MAX: usize = 100;

/// The longest name of a host, in bytes, and of one label of it (RFC 1035 §2.3.4).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// What an agent may reach. Empty is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Egress(Vec<Rule>);

/// One host, or all below a domain, and one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    host: Hosts,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    /// Whatever has a name.
    All,
    /// What has at least one label more than this domain.
    Below(String),
    One(Host),
}

/// A host as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// By its name, in small letters and without a dot at its end.
    Name(String),
    /// By its address.
    Address(IpAddr),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

impl Egress {
    /// The list of `rules`.
    ///
    /// # Errors
    /// If they are too many.
    pub fn of(rules: Vec<Rule>) -> Result<Self, String> {
        let egress = Self(rules);
        egress.check().map(|()| egress)
    }

    /// Whether the list is as long as one may be.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn check(&self) -> Result<(), String> {
        match self.0.len() <= RULES_MAX {
            true => Ok(()),
            false => Err(format!(
                "egress: {} rules are more than {RULES_MAX}: name a domain as \"*.example.org\"",
                self.0.len()
            )),
        }
    }

    /// Whether nothing may be reached.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.0
    }

    /// Whether a rule names `target`. Nothing is resolved for one that none names.
    pub fn names(&self, target: &Target) -> bool {
        self.0.iter().any(|rule| rule.port == target.port && rule.host.names(&target.host))
    }

    /// Whether a connection may go to `address`, port `port`, which a name stands for that is on the list, or
    /// which was asked for as it is. `own` are the addresses of this machine.
    ///
    /// # Errors
    /// What it is that no name leads to. A rule that has the address itself leads there.
    pub fn leads_to(&self, address: IpAddr, port: u16, own: &[IpAddr]) -> Result<(), &'static str> {
        let literal = Hosts::One(Host::Address(address));
        if self.0.iter().any(|rule| rule.port == port && rule.host == literal) {
            return Ok(());
        }
        let same = |own: &IpAddr| address::plain(*own) == address::plain(address);
        match address::reserved(address) {
            Some(kind) => Err(kind),
            None if own.iter().any(same) => Err("an address of the host itself"),
            None => Ok(()),
        }
    }
}

impl Hosts {
    fn names(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::All, Host::Name(_)) => true,
            (Self::Below(domain), Host::Name(name)) => name
                .strip_suffix(domain.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty()),
            (Self::One(own), host) => own == host,
            (Self::All | Self::Below(_), Host::Address(_)) => false,
        }
    }
}

impl Target {
    /// Reads `HOST:PORT`, as `CONNECT` has it. An address of the sixth version is in brackets.
    ///
    /// # Errors
    /// A sentence for whoever asked.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = split(text);
        let port = port.ok_or_else(|| format!("{text:?} names no port, such as {text}:443"))?;
        Ok(Self { host: Host::parse(host)?, port: read_port(port)? })
    }
}

impl Host {
    /// Reads a name or an address.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(bare) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            return match bare.parse::<Ipv6Addr>() {
                Ok(address) => Ok(Self::Address(address.into())),
                Err(_) => Err(format!("{text:?} is no address")),
            };
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        check_name(&name).map_err(|wrong| format!("{text:?} {wrong}"))?;
        Ok(Self::Name(name))
    }
}

/// Whether `name` is that of a host, and no way to write an address that some resolvers know.
fn check_name(name: &str) -> Result<(), &'static str> {
    if !name.is_ascii() {
        return Err("has letters that names of hosts do not have: write it as it is in DNS, xn--…");
    }
    let fine = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > NAME_MAX || !name.split('.').all(fine) {
        return Err("is no name of a host, such as \"api.github.com\"");
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number =
        last.bytes().all(|byte| byte.is_ascii_digit()) || last.strip_prefix("0x").is_some_and(hex);
    match number {
        true => Err("ends in a number and is no address: write all four parts of one"),
        false => Ok(()),
    }
}

/// Host and port of `text`, where it has one.
fn split(text: &str) -> (&str, Option<&str>) {
    // An address of the sixth version without brackets has no port.
    if text.parse::<Ipv6Addr>().is_ok() {
        return (text, None);
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    }
}

fn read_port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if port > 0 && digits => Ok(port),
        Ok(_) | Err(_) => Err(format!("{text:?} is no port from 1 to 65535")),
    }
}

impl TryFrom<String> for Rule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |why: String| {
            format!(
                "{why} (a rule is HOST or HOST:PORT, such as \"api.github.com\", \"*.wikipedia.org\")"
            )
        };
        if text.contains("://") || text.contains(['/', '@', '?', '#']) {
            return Err(wrong(format!("{text:?} has more than a host and a port")));
        }
        let (host, port) = split(&text);
        let port = port.map_or(Ok(PORT), read_port).map_err(wrong)?;
        let host = match host.strip_prefix("*.") {
            _ if host == "*" => Hosts::All,
            Some(domain) => match Host::parse(domain).map_err(wrong)? {
                Host::Name(domain) => Hosts::Below(domain),
                Host::Address(_) => {
                    return Err(wrong(format!("{host:?}: nothing is below an address")));
                }
            },
            None if host.contains('*') => {
                return Err(wrong(format!(
                    "{host:?}: a \"*\" stands for whole labels, and comes first"
                )));
            }
            None => Hosts::One(Host::parse(host).map_err(wrong)?),
        };
        match &host {
            Hosts::One(Host::Address(address))
                if address.is_unspecified() || address.is_multicast() =>
            {
                Err(wrong(format!("{address} is the address of no single host")))
            }
            Hosts::One(_) | Hosts::Below(_) | Hosts::All => Ok(Self { host, port }),
        }
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Hosts::All => f.write_str("*")?,
            Hosts::Below(domain) => write!(f, "*.{domain}")?,
            Hosts::One(host) => write!(f, "{host}")?,
        }
        match self.port {
            PORT => Ok(()),
            port => write!(f, ":{port}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
