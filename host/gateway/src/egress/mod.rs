//! The way from a container to hosts of the network: `CONNECT host:port` at a session's socket, for what the
//! agent's list names and for nothing inside ([`twobox_model::egress`]). The host resolves the name, and
//! connects to just the addresses that it has judged; what passes then, it does not read.

pub(crate) mod fetch;
mod lookups;
pub(crate) mod reach;
mod tunnel;

use std::sync::Arc;

use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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

/// How many all sessions may have at once. Each holds two descriptors of the host, beside those of its databases.
const ALL_TUNNELS_MAX: usize = 256;

/// A connection to a host, for a client that has been told so.
#[derive(Debug)]
pub(crate) struct Tunnel {
    target: Target,
    stream: TcpStream,
    _turn: Turn,
}

/// A place among the connections of a session and of all, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// The places that all sessions have.
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL_TUNNELS_MAX)))
    }
}

impl Turns {
    /// One more for `caller`. It has at most a quarter of what the others leave, so that a few sessions cannot
    /// take them all.
    ///
    /// # Errors
    /// [`Why::TooMany`].
    pub(crate) fn take(&self, caller: &Caller) -> Result<Turn, Refusal> {
        let refused = |detail: String| Refusal::new(Why::TooMany, detail);
        let own = caller.tunnel().ok_or_else(|| {
            refused(format!("{TUNNELS_MAX} connections are open: close one first"))
        })?;
        let all = || {
            refused(
                "the conversations of this host have about as many connections open as it has room for: \
                 close one, or try again in a moment"
                    .to_owned(),
            )
        };
        let with_this = TUNNELS_MAX - caller.tunnels_left();
        if !fits(with_this, self.0.available_permits()) {
            return Err(all());
        }
        let of_all = Arc::clone(&self.0).try_acquire_owned().map_err(|_| all())?;
        Ok(Turn { _own: own, _of_all: of_all })
    }
}

/// Whether one of many may have so many of something, the last of them new, where so many are free.
fn fits(with_this: usize, free: usize) -> bool {
    with_this * 4 <= free + with_this.saturating_sub(1)
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
    let turn = reach.turns.take(caller)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Allowed;
    use twobox_shared::ids::{AgentGroupId, SessionId, SystemIds};

    fn caller() -> Caller {
        let (session, agent) =
            (SessionId::generate(&SystemIds), AgentGroupId::generate(&SystemIds));
        let allowance = Arc::new(Allowed::default);
        Caller::new(session, agent, "key".to_owned(), Vec::new(), allowance)
    }

    #[test]
    fn connections_are_bounded_over_all_sessions_and_a_few_cannot_take_them_all() {
        let turns = Turns::default();
        let mut held = Vec::new();
        let mut taken = Vec::new();
        for _ in 0..40 {
            let caller = caller();
            let before = held.len();
            let refused = loop {
                match turns.take(&caller) {
                    Ok(turn) => held.push(turn),
                    Err(refusal) => break refusal,
                }
            };
            assert_eq!(refused.why, Why::TooMany);
            taken.push(held.len() - before);
        }
        assert_eq!(taken[..3], [TUNNELS_MAX; 3], "where nobody else has any");
        assert!(taken[..16].iter().all(|count| *count > 0), "{taken:?}");
        assert!(held.len() < ALL_TUNNELS_MAX, "{taken:?}");
        held.clear();
        assert!(turns.take(&caller()).is_ok(), "those that have ended count no more");
    }
}
