//! The way to the network for programs of an agent: a port that leads to the host's socket, which is an HTTP
//! proxy there, and the variables by which programs know of one.
//!
//! The host decides what is reached, at each connection. Nothing here is asked.

use std::process::Command;

use twobox_shared::agent_config::AgentConfig;

use crate::args::Options;
use crate::forward::Forwarder;
use crate::say::say;

/// As whom programs give the session's key. The host asks for the key alone.
const USER: &str = "session";

/// By which programs know of a proxy for `https://`; some look for the one, some for the other.
const PROXY: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];

/// What they reach without one: this place itself.
const DIRECT: [&str; 2] = ["NO_PROXY", "no_proxy"];
const HERE: &str = "localhost,127.0.0.1,::1";

/// A way to the network that is open for as long as this lives.
pub(super) struct WayOut {
    variables: Vec<(&'static str, String)>,
    _port: Forwarder,
}

impl WayOut {
    /// The way out of an agent that may reach something of the network; `None` for one that may not, or that
    /// has another way out of its own.
    pub(super) fn open(config: &AgentConfig, options: &Options) -> Option<Self> {
        let way = config.gateway.as_ref().filter(|way| way.egress)?;
        if PROXY.iter().any(|name| std::env::var_os(name).is_some()) {
            return None;
        }
        match Forwarder::open(&options.paths.gateway_socket()) {
            Ok(port) => {
                let variables = variables(&way.key, port.port());
                Some(Self { variables, _port: port })
            }
            Err(error) => {
                say!("there is no way to the network: no port could be opened: {error}");
                None
            }
        }
    }
}

/// Tells what `command` starts of the way out, if there is one.
pub(super) fn tell(way: Option<&WayOut>, command: &mut Command) {
    command.envs(
        way.into_iter().flat_map(|way| way.variables.iter().map(|(name, value)| (name, value))),
    );
}

/// The names of the variables that [`tell`] tells of it.
pub(super) fn names(way: Option<&WayOut>) -> impl Iterator<Item = &'static str> {
    way.into_iter().flat_map(|way| way.variables.iter().map(|(name, _)| *name))
}

fn variables(key: &str, port: u16) -> Vec<(&'static str, String)> {
    let proxy = format!("http://{USER}:{key}@127.0.0.1:{port}");
    let mut variables: Vec<_> = PROXY.into_iter().map(|name| (name, proxy.clone())).collect();
    variables.extend(DIRECT.into_iter().map(|name| (name, HERE.to_owned())));
    // Node heeds the others only when it is told to.
    variables.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
    variables
}
