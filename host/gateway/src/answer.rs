//! What a container gets back.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use twobox_shared::agent_config::{Api, REFUSAL_HEADER};

use crate::refusal::{Refusal, Why};

/// An answer.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

/// A refusal to whoever wanted a tunnel. Its words stand in the first line as well: many clients show no
/// more of it.
pub(crate) fn refused_tunnel(refusal: &Refusal, api: Api) -> Answer {
    let mut answer = refused(refusal, api);
    if refusal.why == Why::NotYours {
        *answer.status_mut() = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        let wanted = HeaderValue::from_static("Basic realm=\"Twobox\"");
        answer.headers_mut().insert(hyper::header::PROXY_AUTHENTICATE, wanted);
    }
    if let Ok(words) = ReasonPhrase::try_from(format!("Twobox: {}", refusal.detail)) {
        answer.extensions_mut().insert(words);
    }
    answer
}

/// A refusal as an answer.
pub(crate) fn refused(refusal: &Refusal, api: Api) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REFUSAL_HEADER, HeaderValue::from_static(refusal.word()));
    match refusal.is_passing() {
        true => headers.insert("retry-after", HeaderValue::from_static("1")),
        false => headers.insert("x-should-retry", HeaderValue::from_static("false")),
    };
    let status = StatusCode::from_u16(refusal.status()).expect("a status of the list");
    plain(status, refusal.body(api), headers)
}

/// An answer with `body`.
pub(crate) fn plain(status: StatusCode, body: String, headers: HeaderMap) -> Answer {
    with_body(status, headers, Full::new(Bytes::from(body)).map_err(|never| match never {}))
}

/// An answer with a body that comes in pieces.
pub(crate) fn with_body(
    status: StatusCode,
    headers: HeaderMap,
    body: impl hyper::body::Body<Data = Bytes, Error = Box<dyn std::error::Error + Send + Sync>>
    + Send
    + 'static,
) -> Answer {
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}
