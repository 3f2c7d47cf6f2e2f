//! The way from a container to hosts of the network: `CONNECT host:port` at a session's socket, for what the
//! agent's list names and for nothing inside ([`twobox_model::egress`]). The host resolves the name, and
//! connects to just the addresses that it has judged; what passes then, it does not read.

pub(crate) mod fetch;
pub(crate) mod reach;
mod tunnel;

use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use twobox_model::egress::Target;
use twobox_shared::agent_config::Api;

use crate::answer::{Answer, plain, refused_tunnel};
use crate::caller::Caller;
use crate::headers;
use crate::refusal::{Refusal, Why};
use reach::Reach;
use tunnel::Traffic;

/// How many tunnels a session may have at once. It is less than its connections, so that its model can
/// always be asked.
pub(crate) const TUNNELS_MAX: usize = 24;

/// A connection to a host, for a client that has been told so.
#[derive(Debug)]
pub(crate) struct Tunnel {
    target: Target,
    stream: TcpStream,
    _turn: OwnedSemaphorePermit,
}

/// Connects `caller` to what `request` asks for.
///
/// # Errors
/// [`Refusal`].
pub(crate) async fn open<B>(
    reach: &Reach,
    caller: &Caller,
    request: &Request<B>,
) -> Result<Tunnel, Refusal> {
    debug_assert_eq!(request.method(), Method::CONNECT);
    if !headers::has_proxy_key(request.headers(), &caller.key) {
        let detail = "the request does not have this session's key".to_owned();
        return Err(Refusal::new(Why::NotYours, detail));
    }
    let asked = match request.uri().scheme() {
        None => request.uri().authority().map(|it| it.as_str()).unwrap_or_default(),
        Some(_) => "",
    };
    let target = Target::parse(asked).map_err(|wrong| Refusal::new(Why::BadRequest, wrong))?;
    let turn = caller.tunnel().ok_or_else(|| {
        let detail = format!("{TUNNELS_MAX} connections are open: close one first");
        Refusal::new(Why::TooMany, detail)
    })?;
    let stream = reach.connect(caller, &target).await?;
    Ok(Tunnel { target, stream, _turn: turn })
}

/// That there is a tunnel, and from now on nothing but what the two sides say.
pub(crate) fn opened() -> Answer {
    plain(StatusCode::OK, String::new(), HeaderMap::new())
}

/// That there is none, and why, also where a client shows no more than the first line.
pub(crate) fn not_opened(refusal: &Refusal) -> Answer {
    refused_tunnel(refusal, Api::Messages)
}

impl Tunnel {
    /// Carries what `client` and the host say to each other, until both have ended or one breaks.
    pub(crate) async fn carry(self, client: hyper::upgrade::Upgraded, caller: &Caller) {
        let Self { target, stream, _turn } = self;
        let session = caller.session;
        let ended = |Traffic { up, down, took, end }: Traffic| {
            tracing::debug!(%session, %target, up, down, ?took, ?end, "a connection of an agent ended");
        };
        tunnel::carry(TokioIo::new(client), stream, tunnel::LIMITS, ended).await;
    }
}
