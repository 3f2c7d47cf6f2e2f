//! A page of the network, for a container: the runner knows no TLS, so the host fetches it. Each address on
//! the way is judged as for a tunnel, that of a redirect too. Of what comes the host reads the head alone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::rt::{Read, Write};
use hyper::{Request, Response};
use hyper_rustls::ConfigBuilderExt;
use hyper_util::rt::TokioIo;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use twobox_model::egress::{Host, Target};
use twobox_shared::agent_config::{LENGTH_HEADER, PLACE_HEADER};
use twobox_system::blocking::blocking;
use url::Url;

use super::reach::Reach;
use crate::answer::{Answer, with_body};
use crate::caller::Caller;
use crate::refusal::{Refusal, Why};
use crate::tap::{Count, Patience, Tap};

/// How many redirects are followed.
const HOPS_MAX: usize = 5;

/// The longest page, in bytes. What is longer breaks off.
const PAGE_MAX: usize = 4 << 20;

/// The longest head of an answer, in bytes.
const HEAD_MAX: usize = 64 << 10;

/// How long an answer may take to begin, with all that comes before it.
const BEGIN: Duration = Duration::from_secs(30);

/// How long a page may take then.
const PATIENCE: Patience = Patience {
    silence: Duration::from_secs(30),
    reader: Duration::from_secs(60),
    whole: Duration::from_secs(120),
};

/// Who fetches.
#[derive(Default)]
pub(crate) struct Fetcher {
    /// Made when it is needed first: it reads this machine's certificates.
    tls: OnceCell<TlsConnector>,
}

impl Fetcher {
    /// Fetches what `url` names for `caller`.
    ///
    /// # Errors
    /// [`Refusal`]. That a server says no is none.
    pub(crate) async fn fetch(
        &self,
        reach: &Reach,
        caller: &Caller,
        url: &str,
    ) -> Result<Answer, Refusal> {
        let turn = reach.turns.take(caller)?;
        let mut url = Url::parse(url).map_err(|error| wrong(format!("{url:?}: {error}")))?;
        for _ in 0..=HOPS_MAX {
            let answer = self.get(reach, caller, &url).await?;
            let location = answer.headers().get(header::LOCATION).and_then(|it| it.to_str().ok());
            match redirect(&url, answer.status().as_u16(), location)? {
                Some(next) => url = next,
                None => {
                    let (head, body) = answer.into_parts();
                    let body = Limited::new(body, PAGE_MAX);
                    let tap = Tap::new(body, Count::nothing(), turn, PATIENCE);
                    return Ok(with_body(head.status, passed(&url, &head.headers)?, tap));
                }
            }
        }
        Err(Refusal::new(
            Why::Unreachable,
            format!("more than {HOPS_MAX} redirects, the last to {url}"),
        ))
    }

    async fn get(
        &self,
        reach: &Reach,
        caller: &Caller,
        url: &Url,
    ) -> Result<Response<Incoming>, Refusal> {
        let target = target(url)?;
        let asked = async {
            let stream = reach.connect(caller, &target).await?;
            if url.scheme() == "http" {
                return ask(TokioIo::new(stream), url).await;
            }
            let name = match &target.host {
                Host::Name(name) => ServerName::try_from(name.clone()),
                Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
            };
            let name = name.map_err(|error| wrong(format!("{url}: {error}")))?;
            let tls = self.tls().await?.connect(name, stream).await;
            ask(TokioIo::new(tls.map_err(|error| broken(url, &error))?), url).await
        };
        let late = |_| Refusal::new(Why::Unreachable, format!("{url} does not answer in time"));
        timeout(BEGIN, asked).await.map_err(late)?
    }

    async fn tls(&self) -> Result<&TlsConnector, Refusal> {
        let made = self.tls.get_or_try_init(|| async {
            let config = blocking(|| {
                let roots = ClientConfig::builder().with_native_roots()?;
                Ok::<_, io::Error>(roots.with_no_client_auth())
            });
            config.await.map(|config| TlsConnector::from(Arc::new(config)))
        });
        made.await.map_err(|error| {
            tracing::warn!(%error, "this machine has no certificates of authorities");
            let detail = "the host has no certificates to know anybody by".to_owned();
            Refusal::new(Why::Unfit, detail)
        })
    }
}

/// Asks for `url` over a connection of its own.
async fn ask<C>(connection: C, url: &Url) -> Result<Response<Incoming>, Refusal>
where
    C: Read + Write + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| broken(url, &error);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX);
    let (mut sender, connection) = builder.handshake(connection).await.map_err(failed)?;
    // It ends with its answer, and in time in any case.
    tokio::spawn(timeout(BEGIN + PATIENCE.whole, connection));
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("Twobox/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "text/html, text/plain, application/json;q=0.9, */*;q=0.5")
        .header(header::ACCEPT_ENCODING, "identity")
        .body(Empty::<Bytes>::new())
        .map_err(|error| wrong(format!("{url}: {error}")))?;
    sender.send_request(request).await.map_err(failed)
}

fn wrong(detail: String) -> Refusal {
    Refusal::new(Why::BadRequest, detail)
}

fn broken(url: &Url, error: &dyn std::error::Error) -> Refusal {
    // Its words are about the other side's TLS or HTTP, and name nothing of this machine.
    Refusal::new(Why::Unreachable, format!("{url}: {}", twobox_shared::errors::chain(error)))
}

/// Where `url` is.
fn target(url: &Url) -> Result<Target, Refusal> {
    let port = match url.scheme() {
        "https" | "http" => url.port_or_known_default(),
        other => return Err(wrong(format!("{other}: nothing but https:// is fetched"))),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("an address with a name or a password in it is not fetched".to_owned()));
    }
    let (Some(host), Some(port)) = (url.host_str(), port) else {
        return Err(wrong(format!("{url} names no host")));
    };
    let host = Host::parse(host).map_err(wrong)?;
    Ok(Target { host, port })
}

/// Where an answer from `url` with this status and `location` leads, if it leads on.
fn redirect(url: &Url, status: u16, location: Option<&str>) -> Result<Option<Url>, Refusal> {
    let (301 | 302 | 303 | 307 | 308, Some(location)) = (status, location) else { return Ok(None) };
    let next = url.join(location).map_err(|error| {
        Refusal::new(Why::Unreachable, format!("{url} leads to {location:?}: {error}"))
    })?;
    match (url.scheme(), next.scheme()) {
        ("https", "http") => {
            let detail = format!("{url} leads to {next}, which is not encrypted");
            Err(Refusal::new(Why::NotAllowed, detail))
        }
        _ => Ok(Some(next)),
    }
}

/// What of an answer's head from `url` a container is told.
fn passed(url: &Url, answered: &HeaderMap) -> Result<HeaderMap, Refusal> {
    let coding = answered.get(header::CONTENT_ENCODING);
    if coding.is_some_and(|it| !it.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let detail = format!("{url} sends it compressed, though it was asked not to");
        return Err(Refusal::new(Why::Unreachable, detail));
    }
    let mut headers = HeaderMap::new();
    if let Some(kind) = answered.get(header::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, kind.clone());
    }
    if let Ok(place) = HeaderValue::from_str(url.as_str()) {
        headers.insert(PLACE_HEADER, place);
    }
    // Not as the length of the body, of which less may come.
    let length = answered.get(header::CONTENT_LENGTH);
    if let Some(length) = length.filter(|it| it.as_bytes().iter().all(u8::is_ascii_digit)) {
        headers.insert(LENGTH_HEADER, length.clone());
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn an_address_is_a_host_and_a_port_however_it_is_written() {
        let cases = [
            ("https://A.org/x", "a.org:443"),
            ("https://a.org:8443", "a.org:8443"),
            ("http://a.org/", "a.org:80"),
            ("https://b\u{fc}cher.example/", "xn--bcher-kva.example:443"),
            ("https://2130706433/", "127.0.0.1:443"),
            ("https://0x7f.1/", "127.0.0.1:443"),
            ("https://[::ffff:7f00:1]/", "[::ffff:127.0.0.1]:443"),
        ];
        for (text, expected) in cases {
            assert_eq!(target(&url(text)).unwrap().to_string(), expected, "{text}");
        }
        for text in ["ftp://a.org/", "file:///etc/passwd", "https://user@a.org/", "data:,x"] {
            assert_eq!(target(&url(text)).unwrap_err().why, Why::BadRequest, "{text}");
        }
    }

    #[test]
    fn a_redirect_is_followed_to_where_it_leads_and_never_out_of_encryption() {
        let from = url("https://a.org/b/c");
        let leads = |status, location| {
            redirect(&from, status, location).map(|it| it.map(String::from)).ok()
        };
        assert_eq!(leads(302, Some("../d?e")), Some(Some("https://a.org/d?e".to_owned())));
        assert_eq!(leads(308, Some("//b.org/")), Some(Some("https://b.org/".to_owned())));
        assert_eq!(leads(200, Some("/d")), Some(None));
        assert_eq!(leads(304, Some("/d")), Some(None));
        assert_eq!(leads(302, None), Some(None));
        assert_eq!(leads(302, Some("http://a.org/")), None);
        assert_eq!(leads(302, Some("https://[")), None);
    }
}
