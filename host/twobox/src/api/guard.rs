//! Who gets in, and what is taken in: looked at before anything is done.
//!
//! A web page on this machine can send requests here, and with a name of its own that leads to this
//! machine (DNS rebinding) it could read the answers too. A page's requests to another origin carry
//! `Origin`, and those to a name of its own carry that name: both are refused. The token is looked at
//! before the body is read.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Extension, FromRequest, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use super::error::{ApiError, Code};
use super::visitor::Visitor;
use twobox_app::token::TokenFile;

/// The largest body, in bytes.
pub(super) const BODY_MAX: usize = twobox_shared::bounds::API_BODY.most;

/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A request of somebody who may do everything.
#[derive(Debug, Clone, Copy)]
struct Admitted;

/// Looks who asks: whoever came by the socket or shows the token is let in, and keeps the connection.
/// All others are answered once.
pub(super) async fn look_who_asks(
    State(token): State<TokenFile>,
    Extension(visitor): Extension<Arc<Visitor>>,
    mut request: Request,
    next: Next,
) -> Response {
    let admitted = visitor.is_trusted()
        || match given_token(request.headers()) {
            Some(given) => token.admits(given).await && visitor.recognise().await,
            None => false,
        };
    if admitted {
        request.extensions_mut().insert(Admitted);
        return next.run(request).await;
    }
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Refuses what a web page has sent.
pub(super) async fn refuse_browsers(request: Request, next: Next) -> Result<Response, ApiError> {
    if request.headers().contains_key(header::ORIGIN) {
        let message = "requests from web pages are refused: leave the Origin header out";
        return Err(ApiError::new(Code::OriginRefused, message));
    }
    Ok(next.run(request).await)
}

/// Refuses what a web page may read by a name of its own that leads here. `at` is where we listen; a socket is on
/// this machine, and what is put in front of it may be reached by web pages too.
pub(super) async fn refuse_names(
    State(at): State<Option<SocketAddr>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let asked = request.uri().authority();
    if at.is_none_or(|at| at.ip().is_loopback())
        && !(asked.is_none_or(is_this_machine) && names_this_machine(request.headers()))
    {
        let like = at.map_or_else(|| "localhost".to_owned(), |at| at.to_string());
        let message = format!("the Host header has to be an IP address or localhost, like {like}");
        return Err(ApiError::new(Code::HostRefused, message));
    }
    Ok(next.run(request).await)
}

/// Whether there is one Host header, with an address or `localhost`.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    host.as_ref().is_some_and(is_this_machine) && hosts.next().is_none()
}

/// No name that somebody else could make lead here.
fn is_this_machine(host: &Authority) -> bool {
    let name = host.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// Lets in who was admitted.
pub(super) async fn require_token(request: Request, next: Next) -> Result<Response, ApiError> {
    match request.extensions().get::<Admitted>() {
        Some(Admitted) => Ok(next.run(request).await),
        None => {
            let message = "send the header `Authorization: Bearer TOKEN`, with what `twobox token \
                           show` shows, or use the socket api.sock in the data directory, which \
                           asks for none";
            Err(ApiError::new(Code::Unauthorized, message))
        }
    }
}

fn given_token(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// Reads the body, all of it and in time, before anything is done with the request.
pub(super) async fn take_in_body(request: Request, next: Next) -> Result<Response, ApiError> {
    let (parts, body) = whole(request).await?;
    Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
}

/// A request with all of its body.
pub(super) async fn whole(request: Request) -> Result<(Parts, Bytes), ApiError> {
    if request.body().size_hint().lower() > BODY_MAX as u64 {
        return Err(ApiError::too_large());
    }
    let (parts, body) = request.into_parts();
    let reading = Bytes::from_request(Request::from_parts(parts.clone(), body), &());
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(body) => Ok((parts, body?)),
        Err(_) => {
            let message = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
            Err(ApiError::new(Code::RequestTimeout, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_this_machine() {
        for host in ["127.0.0.1", "127.0.0.1:8642", "[::1]:8642", "LocalHost:1", "192.168.1.7"] {
            assert!(is_this_machine(&host.parse().unwrap()), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8642", "127.0.0.1.evil.example"] {
            assert!(!is_this_machine(&host.parse().unwrap()), "{host}");
        }
    }

    #[test]
    fn one_host_header_is_required() {
        let headers = |hosts: &[&'static str]| {
            let host = |text: &&'static str| (header::HOST, text.parse().unwrap());
            hosts.iter().map(host).fold(HeaderMap::new(), |mut all, (name, value)| {
                all.append(name, value);
                all
            })
        };
        assert!(names_this_machine(&headers(&["localhost"])));
        assert!(!names_this_machine(&headers(&[])));
        assert!(!names_this_machine(&headers(&["not a host"])));
        assert!(!names_this_machine(&headers(&["localhost", "localhost"])));
    }

    #[test]
    fn a_token_comes_as_a_bearer() {
        let given = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            given_token(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(given("Bearer abc").unwrap(), b"abc");
        assert_eq!(given("bearer abc").unwrap(), b"abc");
        assert_eq!(given("Basic abc"), None);
        assert_eq!(given("Bear"), None);
    }
}
