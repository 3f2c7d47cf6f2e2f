//! A server of MCP that the definition of an agent names: asked for its container, which knows the name alone,
//! with what the definition has it told. Where it is and which secrets it is told, no container learns, nor
//! does one choose it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use twobox_shared::agent_config::{MCP_PATH, Remote};
use twobox_shared::content::shorten;
use twobox_shared::errors::{chain, for_a_terminal};
use twobox_system::blocking::blocking;
use twobox_system::repeat::warned;

use super::Proxy;
use crate::answer::{Answer, with_body};
use crate::body;
use crate::caller::Caller;
use crate::headers;
use crate::refusal::{Refusal, Why};
use crate::scrub::{Scrub, needles};
use crate::secrets::Secret;
use crate::server_headers;
use crate::tap::{Count, Patience, Tap};
use crate::upstream::SendError;

/// How long an answer may take once it has begun. One that tells of changes is mostly silent.
const PATIENCE: Patience = Patience {
    silence: Duration::from_secs(10 * 60),
    reader: Duration::from_secs(5 * 60),
    whole: Duration::from_secs(60 * 60),
};

/// The longest answer, in bytes. What is longer breaks off.
const ANSWER_MAX: usize = 64 << 20;

/// The longest answer that says no, in bytes, and how long it may take.
const NO_MAX: usize = 64 << 10;
const NO_PATIENCE: Duration = Duration::from_secs(30);

/// How much of its words the log has, in characters.
const WORDS_MAX: usize = 300;

/// How many of all sessions may listen to what servers say by themselves. They do so for as long as they are awake,
/// and can do without.
pub(super) const LISTENING_MAX: usize = 64;

/// The request by which one is listened to, in the newer form.
const SUBSCRIBES: &str = "subscriptions/listen";

/// What the host's own words are, in the place of a server's.
const PLAIN: &str = "text/plain; charset=utf-8";

/// Which server is asked, and what is looked for in what it says.
struct Asked<'a> {
    name: &'a str,
    remote: &'a Remote,
    needles: Arc<[Vec<u8>]>,
}

impl Proxy {
    /// Asks the server that a request names for `caller`.
    ///
    /// # Errors
    /// [`Refusal`]. That a server says no is none, but where it does not take what the host tells it.
    pub(super) async fn server(
        &self,
        caller: &Caller,
        head: &Parts,
        body: Incoming,
    ) -> Result<Answer, Refusal> {
        if !headers::has_key(&head.headers, &caller.key) {
            let detail = "the request does not have this session's key".to_owned();
            return Err(Refusal::new(Why::NotYours, detail));
        }
        let name = server_of(head)?;
        let servers = caller.allowed().await.servers;
        // The same words whether another agent has one of that name or nobody.
        let remote = servers.get(&name).ok_or_else(|| {
            let detail = format!("this agent has no MCP server {name:?} that the host reaches");
            Refusal::new(Why::NotFound, detail)
        })?;
        let turn = (self.reach.turns.take(caller)?, self.listens(head)?);
        let mut headers = server_headers::up(&head.method, &head.headers)?;
        let secrets = self.secrets_of(&name, remote).await?;
        server_headers::tell(&mut headers, remote, &secrets).map_err(|header| {
            let detail =
                format!("the MCP server {name} cannot be told {header}, which is no header");
            Refusal::new(Why::Unfit, detail)
        })?;
        let held = match head.method == Method::POST {
            true => body::read(body, [&caller.room, &self.room]).await?,
            false => body::Held::nothing(),
        };
        let mut request = Request::builder()
            .method(head.method.clone())
            .uri(remote.url())
            .body(Full::new(held.bytes.clone()))
            .map_err(|error| Refusal::new(Why::Unfit, format!("{name}: its url: {error}")))?;
        *request.headers_mut() = headers;
        let sent = self.connections.send(request).await;
        drop(held);
        let needles = needles(secrets.iter().map(|(_, secret)| secret));
        let asked = Asked { name: &name, remote, needles };
        match sent {
            Ok(answer) => asked.pass(answer, turn).await,
            Err(error) => Err(asked.unsent(&error)),
        }
    }

    /// A place among those who listen, if a request wants to: one that is answered as long as anybody is there.
    ///
    /// # Errors
    /// [`Why::TooMany`].
    fn listens(&self, head: &Parts) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        let subscribes = head.headers.get("mcp-method").is_some_and(|it| it == SUBSCRIBES);
        if head.method != Method::GET && !subscribes {
            return Ok(None);
        }
        let place = Arc::clone(&self.listening).try_acquire_owned();
        place.map(Some).map_err(|_| {
            let detail = "as many listen to MCP servers as may: ask again for what has changed";
            Refusal::new(Why::TooMany, detail.to_owned())
        })
    }

    /// The secrets that `remote` is told, with their names.
    async fn secrets_of(
        &self,
        name: &str,
        remote: &Remote,
    ) -> Result<Vec<(String, Secret)>, Refusal> {
        let wanted: Vec<String> = remote.secrets().into_iter().map(str::to_owned).collect();
        let secrets = Arc::clone(&self.secrets);
        let found = blocking(move || {
            let find = |name: String| {
                let found = secrets.find(&name);
                (name, found)
            };
            wanted.into_iter().map(find).collect::<Vec<_>>()
        });
        let unfit = |detail: String| Refusal::new(Why::Unfit, detail);
        let mut values = Vec::new();
        for (secret, found) in found.await {
            let found = found.map_err(|error| {
                // Its words have paths of this machine.
                let error = chain(&error);
                if let Some(before) = warned("mcp.secret", &error) {
                    tracing::warn!(server = name, error, before, "a secret cannot be read");
                }
                unfit(format!("the host cannot read the secret {secret} for the MCP server {name}"))
            })?;
            let (value, _) = found.ok_or_else(|| {
                unfit(format!(
                    "the host has no secret {secret} for the MCP server {name}: `twobox secrets set \
                     {secret}`"
                ))
            })?;
            values.push((secret, value));
        }
        Ok(values)
    }
}

impl Asked<'_> {
    /// What a container gets of `answer`. That nothing of it can be had does not say that nothing was done.
    async fn pass<B>(
        &self,
        answer: Response<B>,
        turn: impl Send + 'static,
    ) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (head, body) = answer.into_parts();
        let mut headers = server_headers::down(&head.headers, &self.needles);
        let is_coded = server_headers::is_coded(&head.headers);
        let unanswered = |detail: String| Err(Refusal::new(Why::Unanswered, detail));
        let (name, status) = (self.name, head.status);
        match status.as_u16() {
            200..=299 if is_coded => unanswered(format!(
                "the MCP server {name} sends its answer compressed, though it was asked not to"
            )),
            200..=299 => {
                let body = Limited::new(Scrub::new(body, Arc::clone(&self.needles)), ANSWER_MAX);
                let tap = Tap::new(body, Count::nothing(), turn, PATIENCE);
                Ok(with_body(status, headers, tap))
            }
            401 | 403 => Err(self.refused(status, &self.words(body, is_coded).await)),
            400..=599 => {
                if is_coded {
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PLAIN));
                }
                let said = Full::new(self.words(body, is_coded).await);
                Ok(with_body(status, headers, said.map_err(|never| match never {})))
            }
            _ => {
                if let Some(before) = warned("mcp.redirect", &format!("{name} {status}")) {
                    let place = server_headers::place(&head.headers, &self.needles);
                    let place = for_a_terminal(&shorten(&place, WORDS_MAX));
                    tracing::warn!(server = name, %status, place, before,
                        "an MCP server leads elsewhere, which is not followed: write that into its url");
                }
                unanswered(format!(
                    "the MCP server {name} leads elsewhere ({}), which is not followed: its `url` in the \
                     agent's definition has to be where it is. The host's log has where it leads",
                    status.as_u16()
                ))
            }
        }
    }

    /// All that an answer says that says no, without secrets. One that is too long, too slow or breaks off is
    /// taken for nothing: its status says enough. In one that `is_coded` no secret would be found.
    async fn words<B>(&self, body: B, is_coded: bool) -> Bytes
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if is_coded {
            let name = self.name;
            let said = format!(
                "Twobox: what the MCP server {name} says is compressed, though it was asked not to"
            );
            return said.into();
        }
        let body = Limited::new(Scrub::new(body, Arc::clone(&self.needles)), NO_MAX);
        match timeout(NO_PATIENCE, body.collect()).await {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(_)) | Err(_) => Bytes::new(),
        }
    }

    /// That the server does not take who asks it, or not for this, which says nothing of what else it may be asked.
    /// Which of its secrets a person has to look at, the refusal says.
    fn refused(&self, status: StatusCode, said: &[u8]) -> Refusal {
        let (name, code) = (self.name, status.as_u16());
        let secrets: Vec<&str> = self.remote.secrets().into_iter().collect();
        let secrets = secrets.join(", ");
        if let Some(before) = warned("mcp.refused", &format!("{name} {secrets} {status}")) {
            let said = for_a_terminal(&shorten(&String::from_utf8_lossy(said), WORDS_MAX));
            tracing::warn!(server = name, secrets, %status, said, before,
                "an MCP server refuses what it is told");
        }
        let detail = match (secrets.is_empty(), code) {
            (true, _) => format!(
                "the MCP server {name} answers {code}: it wants to know who asks, and its `headers` in the \
                 agent's definition name no secret"
            ),
            (false, 401) => format!(
                "the MCP server {name} answers 401: it does not take the secret {secrets}: \
                 `twobox secrets set`"
            ),
            (false, _) => format!(
                "the MCP server {name} answers {code}: who has the secret {secrets} may not do that there"
            ),
        };
        let why = if status == StatusCode::FORBIDDEN { Why::Forbidden } else { Why::Unfit };
        Refusal::new(why, detail)
    }

    /// That nobody answered, and whether it may have been heard. The rest, which may name addresses of the host's
    /// network, is for the log.
    fn unsent(&self, error: &SendError) -> Refusal {
        let (name, detail) = (self.name, error.to_string());
        // What differs from one time to the next, as a port does, is no other trouble.
        if let Some(before) = warned("mcp.unsent", &format!("{name} {}", error.told())) {
            tracing::warn!(server = name, error = detail, before, "an MCP server cannot be asked");
        }
        let why = match error {
            SendError::NoRoots(_) => Why::Unfit,
            SendError::NotReached(_) => Why::Unreachable,
            SendError::Broken(_) | SendError::Silent => Why::Unanswered,
        };
        Refusal::new(why, format!("the MCP server {name}: {}", error.told()))
    }
}

/// The server that a request names, with a method that servers know.
fn server_of(head: &Parts) -> Result<String, Refusal> {
    let query = head.uri.query().unwrap_or_default();
    let mut fields = url::form_urlencoded::parse(query.as_bytes());
    let known = [Method::POST, Method::GET, Method::DELETE].contains(&head.method);
    match (fields.next(), fields.next()) {
        (Some((field, name)), None) if known && field == "server" => Ok(name.into_owned()),
        _ => {
            let detail = format!("{MCP_PATH} wants POST, GET or DELETE, and ?server=NAME alone");
            Err(Refusal::new(Why::BadRequest, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const TOKEN: &str = "s3cret-token";

    /// What a container gets where the server `hub` answers `status` with `headers` and the secret.
    async fn passed(
        status: u16,
        headers: &[(&str, &str)],
    ) -> Result<(StatusCode, String), Refusal> {
        let told = [("Authorization".to_owned(), "Bearer ${secret:hub}".to_owned())].into();
        let remote = Remote::of("https://a.example/".to_owned(), told, false).unwrap();
        let secret = Secret::of(TOKEN.into()).unwrap();
        let needles = needles([&secret].into_iter());
        let mut answer =
            Response::builder().status(status).header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        let answer = answer.body(Full::new(Bytes::from(TOKEN))).unwrap();
        let asked = Asked { name: "hub", remote: &remote, needles };
        let (head, body) = asked.pass(answer, ()).await?.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let kind = head.headers[CONTENT_TYPE].to_str().unwrap();
        Ok((head.status, format!("{kind}: {}", String::from_utf8_lossy(&body))))
    }

    #[tokio::test]
    async fn of_what_is_compressed_nothing_is_passed_on() {
        let twice = [("content-encoding", "identity"), ("content-encoding", "gzip")];
        for status in [200, 202, 401, 403] {
            let refusal = passed(status, &twice).await.unwrap_err();
            assert!(!refusal.detail.contains(TOKEN), "{refusal:?}");
        }
        for status in [400, 404, 500, 503] {
            let (passed_status, said) = passed(status, &twice).await.unwrap();
            assert_eq!(passed_status.as_u16(), status, "which may say that a session is over");
            assert!(said.starts_with("text/plain") && said.contains("is compressed"), "{said}");
            let (_, said) = passed(status, &twice[..1]).await.unwrap();
            assert_eq!(said, "application/json: [secret]");
        }
    }

    #[tokio::test]
    async fn that_a_server_knows_nobody_is_told_from_what_it_forbids() {
        for (status, expected) in [(401, (500, "host")), (403, (403, "forbidden"))] {
            let refusal = passed(status, &[]).await.unwrap_err();
            assert_eq!((refusal.status(), refusal.word()), expected, "{refusal:?}");
            assert!(refusal.detail.contains("the secret hub"), "{refusal:?}");
        }
    }

    #[tokio::test]
    async fn what_may_have_been_done_is_told_from_what_was_never_sent() {
        for (status, headers) in [(200, [("content-encoding", "br")]), (307, [("location", "/a")])]
        {
            let refusal = passed(status, &headers).await.unwrap_err();
            assert_eq!((refusal.status(), refusal.word()), (502, "unanswered"), "{refusal:?}");
        }
        let remote = Remote::of("https://a.example/".to_owned(), BTreeMap::new(), false).unwrap();
        let asked = Asked { name: "hub", remote: &remote, needles: needles(std::iter::empty()) };
        let word = |error: SendError| asked.unsent(&error).word();
        assert_eq!(word(SendError::NotReached("refused".to_owned())), "unreachable");
        assert_eq!(word(SendError::NoRoots("none".to_owned())), "host");
        assert_eq!(word(SendError::Broken("reset".to_owned())), "unanswered");
        assert_eq!(word(SendError::Silent), "unanswered");
    }
}
