//! A server of MCP that is somewhere else, reached by the host: where it is, and what it is told. Its secrets
//! are named here, and never there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// The longest address, in bytes.
const URL_MAX: usize = 2048;

/// The most headers that a server is told, and the longest of them, in bytes.
const HEADERS_MAX: usize = 20;
const HEADER_MAX: usize = 4096;

/// The longest name of a secret, in bytes.
const NAME_MAX: usize = 64;

/// How a secret is named in a header, `${secret:NAME}`.
const BEGIN: &str = "${secret:";
const END: char = '}';

/// Headers that are the host's or the protocol's own. Those that begin with `mcp-` are, too.
const RESERVED: [&str; 17] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that are nothing but a secret.
const SECRET: [&str; 3] = ["authorization", "x-api-key", "api-key"];

/// A server that the host reaches.
#[derive(Clone, PartialEq, Eq)]
pub struct Remote {
    url: String,
    headers: BTreeMap<String, HeaderText>,
    insecure: bool,
}

impl fmt::Debug for Remote {
    /// Without what the headers say, which may be secrets that a person put there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.headers.keys().collect();
        f.debug_struct("Remote").field("url", &self.url).field("headers", &names).finish()
    }
}

/// What a header is to say, with the names of secrets in it.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderText {
    written: String,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Secret(String),
}

impl Remote {
    /// The server at `url` that is told `headers`. To one that is not this machine itself they go in clear text
    /// only if it is `insecure`.
    ///
    /// # Errors
    /// Which field is wrong, and how. What a header says is never quoted.
    pub fn of(
        url: String,
        headers: BTreeMap<String, String>,
        insecure: bool,
    ) -> Result<Self, (String, String)> {
        check_url(&url, insecure).map_err(|wrong| ("url".to_owned(), wrong))?;
        if headers.len() > HEADERS_MAX {
            return Err(("headers".to_owned(), format!("there are {HEADERS_MAX} at most")));
        }
        let mut read = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (name, written) in headers {
            let wrong = |wrong: String| (format!("headers.{name}"), wrong);
            check_name(&name).map_err(wrong)?;
            if !seen.insert(name.to_ascii_lowercase()) {
                return Err(wrong("it is written twice".to_owned()));
            }
            let text = HeaderText::parse(written).map_err(wrong)?;
            if SECRET.contains(&&*name.to_ascii_lowercase()) && text.secrets().next().is_none() {
                return Err(wrong(
                    "names no secret: give what it is to say to `twobox secrets set NAME`, and write \
                     ${secret:NAME} here, such as \"Bearer ${secret:NAME}\""
                        .to_owned(),
                ));
            }
            read.insert(name, text);
        }
        Ok(Self { url, headers: read, insecure })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it is told besides, by the names of headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &HeaderText)> {
        self.headers.iter().map(|(name, text)| (name.as_str(), text))
    }

    /// Whether its secrets may go there in clear text.
    pub fn is_insecure(&self) -> bool {
        self.insecure
    }

    /// The secrets that it wants, each once.
    pub fn secrets(&self) -> BTreeSet<&str> {
        self.headers.values().flat_map(HeaderText::secrets).collect()
    }

    pub(super) fn written(&self) -> BTreeMap<String, String> {
        let written = |(name, text): (&String, &HeaderText)| (name.clone(), text.written.clone());
        self.headers.iter().map(written).collect()
    }
}

impl HeaderText {
    fn parse(written: String) -> Result<Self, String> {
        if written.is_empty() || written.len() > HEADER_MAX {
            return Err(format!("has to have from 1 to {HEADER_MAX} bytes"));
        }
        if written.chars().any(|c| !matches!(c, ' '..='~')) {
            return Err("has to be one line of plain letters (ASCII)".to_owned());
        }
        if written.trim() != written {
            return Err("begins or ends with a space".to_owned());
        }
        let (mut parts, mut rest) = (Vec::new(), written.as_str());
        while let Some((before, after)) = rest.split_once(BEGIN) {
            let Some((name, behind)) = after.split_once(END) else {
                return Err("a ${secret: in it does not end with }".to_owned());
            };
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if !(1..=NAME_MAX).contains(&name.len())
                || !name.chars().all(fits)
                || name.starts_with('.')
            {
                return Err(
                    "what it has in ${secret:NAME} is no name of a secret: letters, digits, \
                            \"-\", \"_\" and \".\", 64 at most"
                        .to_owned(),
                );
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Secret(name.to_owned()));
            rest = behind;
        }
        if rest.contains("${") {
            return Err("has ${ without a secret: write ${secret:NAME}".to_owned());
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { written, parts })
    }

    /// The names of its secrets, in their order.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Secret(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// What it says with the value that `of` has for each secret; `None` where it has none.
    pub fn filled<'s>(&self, of: impl Fn(&str) -> Option<&'s str>) -> Option<String> {
        let part = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Secret(name) => of(name).map(str::to_owned),
        };
        self.parts.iter().map(part).collect()
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > 100 || !name.chars().all(token) {
        return Err("is no name of a header".to_owned());
    }
    if RESERVED.contains(&&*lower) || lower.starts_with("mcp-") {
        return Err("is a header that the host sees to: leave it out".to_owned());
    }
    Ok(())
}

/// Whether `url` is an address that secrets may be sent to. It is the rule of upstreams' `base_url`, but that a
/// query may be part of it.
fn check_url(url: &str, insecure: bool) -> Result<(), String> {
    if url.len() > URL_MAX {
        return Err(format!("is longer than {URL_MAX} bytes"));
    }
    if url.contains("${") {
        return Err("is what everybody may see: secrets belong into `headers`".to_owned());
    }
    if !url.bytes().all(|byte| matches!(byte, b'!'..=b'~')) || url.contains(['\\', '"', '<', '>']) {
        return Err(
            "has what no address has: write other letters as %XX, and names as xn--…".into()
        );
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err("is no whole address: it begins with https:// and a name".to_owned());
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("names a user: give what it wants as a secret, in `headers`".to_owned());
    }
    if url.contains('#') {
        return Err("has more than a path and a query: leave out what begins with #".to_owned());
    }
    let host = host_of(authority).ok_or_else(|| {
        format!("has no name or address of a machine, or no port, in {authority:?}")
    })?;
    match scheme {
        "https" => Ok(()),
        "http" if insecure || is_loopback(host) => Ok(()),
        "http" => Err("would be asked in clear text, secrets and all: use https://, or write \
                       \"insecure\": true if nobody else is on that network"
            .to_owned()),
        _ => Err("begins neither with https:// nor with http://".to_owned()),
    }
}

/// The machine in `HOST` or `HOST:PORT`.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, behind)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, behind) = authority.split_at(end);
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if host.is_empty() || !host.chars().all(fits) {
                return None;
            }
            (host, behind)
        }
    };
    match port.strip_prefix(':') {
        None => port.is_empty().then_some(host),
        Some(number) => {
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            (digits && number.parse::<u16>().is_ok_and(|it| it > 0)).then_some(host)
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(url: &str, headers: &[(&str, &str)], insecure: bool) -> Result<Remote, String> {
        let headers = headers.iter().map(|(name, text)| ((*name).into(), (*text).into()));
        Remote::of(url.to_owned(), headers.collect(), insecure)
            .map_err(|(field, wrong)| format!("{field}: {wrong}"))
    }

    #[test]
    fn an_address_is_one_that_secrets_may_be_sent_to() {
        let good = [
            ("https://mcp.example/mcp", false),
            ("https://mcp.example:8443/a/b?c=d%20e", false),
            ("https://10.0.0.5/mcp", false),
            ("http://localhost:8000/mcp", false),
            ("http://127.0.0.1/", false),
            ("http://[::1]:9/mcp", false),
            ("http://nas.local:8000/mcp", true),
        ];
        for (url, insecure) in good {
            assert_eq!(remote(url, &[], insecure).map(|it| it.url), Ok(url.to_owned()));
        }
        let bad = [
            ("http://mcp.example/", "in clear text"),
            ("http://10.0.0.5/", "\"insecure\": true"),
            ("mcp.example/mcp", "no whole address"),
            ("ftp://a/", "begins neither"),
            ("https:///mcp", "no name or address"),
            ("https://a:0/", "no port"),
            ("https://a:99999/", "no port"),
            ("https://[::1/", "no name or address"),
            ("https://me@a/", "names a user"),
            ("https://a/#b", "begins with #"),
            ("https://a/ b", "what no address has"),
            ("https://a/\r\nx: y", "what no address has"),
            ("https://b\u{fc}cher.example/", "xn--"),
            ("https://a/?key=${secret:a}", "belong into `headers`"),
        ];
        for (url, expected) in bad {
            let wrong = remote(url, &[], false).unwrap_err();
            assert!(wrong.starts_with("url: ") && wrong.contains(expected), "{url}: {wrong}");
        }
    }

    #[test]
    fn headers_name_secrets_and_no_mistake_in_one_is_quoted() {
        let told =
            [("Authorization", "Bearer ${secret:hub}"), ("X-Both", "${secret:a}:${secret:hub}!")];
        let told = remote("https://a/", &told, false).unwrap();
        assert_eq!(told.secrets(), BTreeSet::from(["a", "hub"]));
        let value = |name: &str| match name {
            "hub" => Some("k1"),
            "a" => Some("k2"),
            _ => None,
        };
        let filled: Vec<_> = told.headers().map(|(_, text)| text.filled(value).unwrap()).collect();
        assert_eq!(filled, ["Bearer k1", "k2:k1!"]);
        assert!(told.headers().any(|(_, text)| text.filled(|_| None).is_none()));
        assert!(!format!("{told:?}").contains("secret:"), "{told:?}");
        let bad = [
            ("authorization", "Bearer s3cret", "names no secret"),
            ("X-Api-Key", "s3cret", "twobox secrets set"),
            ("X-A", "s3cret ${secret:", "does not end"),
            ("X-A", "s3cret ${secret:a b}", "no name of a secret"),
            ("X-A", "s3cret ${secret:.a}", "no name of a secret"),
            ("X-A", "s3cret ${A}", "without a secret"),
            ("X-A", "s3cret\r\nX-B: c", "one line"),
            ("X-A", " s3cret", "with a space"),
            ("X-A", "", "from 1 to"),
            ("X A", "s3cret", "no name of a header"),
            ("Host", "s3cret", "the host sees to"),
            ("Mcp-Session-Id", "s3cret", "the host sees to"),
        ];
        for (name, text, expected) in bad {
            let wrong = remote("https://a/", &[(name, text)], false).unwrap_err();
            assert!(wrong.starts_with("headers.") && wrong.contains(expected), "{name}: {wrong}");
            assert!(!wrong.contains("s3cret"), "{wrong}");
        }
        let twice = [("X-A", "b"), ("x-a", "c")];
        assert!(remote("https://a/", &twice, false).unwrap_err().contains("written twice"));
    }
}
