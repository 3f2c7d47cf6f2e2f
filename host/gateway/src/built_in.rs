//! The upstreams that need no section: two vendors', and the programs that serve models on a person's own
//! machine, at the ports at which they listen if nobody tells them another.

use std::time::Duration;

use hyper::Uri;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::settings::{Kind, Upstream, is_loopback};

/// An upstream that is there without a word in `twobox.toml`.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Where it is, if its kind does not say it.
    pub(crate) base_url: Option<&'static str>,
    /// Whether it is a program on this machine, which may run or not and wants no secret.
    pub(crate) here: bool,
}

pub(crate) const BUILT_IN: [BuiltIn; 6] = [
    BuiltIn { name: "anthropic", kind: Kind::Anthropic, base_url: None, here: false },
    BuiltIn { name: "openai", kind: Kind::OpenAi, base_url: None, here: false },
    here("ollama", "http://127.0.0.1:11434/v1"),
    here("llama-cpp", "http://127.0.0.1:8080/v1"),
    here("lm-studio", "http://127.0.0.1:1234/v1"),
    here("vllm", "http://127.0.0.1:8000/v1"),
];

/// How long it may take to reach a port of this machine.
const NEAR: Duration = Duration::from_millis(300);

const fn here(name: &'static str, base_url: &'static str) -> BuiltIn {
    BuiltIn { name, kind: Kind::Compatible, base_url: Some(base_url), here: true }
}

pub(crate) fn built_in(name: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|known| known.name == name)
}

impl Upstream {
    /// Whether it is on this machine, by its address.
    pub fn is_here(&self) -> bool {
        let uri = self.base_url.parse::<Uri>();
        uri.is_ok_and(|uri| uri.host().is_some_and(is_loopback))
    }

    /// Whether somebody listens where it is. Nothing is asked. Meant for those of this machine, for which
    /// a third of a second is long.
    pub async fn listens(&self) -> bool {
        let Ok(uri) = self.base_url.parse::<Uri>() else { return false };
        let (Some(host), port) = (uri.host(), uri.port_u16().unwrap_or(80)) else { return false };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        matches!(timeout(NEAR, TcpStream::connect((host, port))).await, Ok(Ok(_)))
    }
}
