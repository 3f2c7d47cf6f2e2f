//! Which models an upstream offers: asked by the host itself, for people.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue};
use serde_json::Value;
use tokio::time::timeout;
use twobox_shared::agent_config::Api;
use twobox_shared::errors::for_a_terminal;
use twobox_system::lock::lock;

use super::{Outgoing, Proxy};
use crate::body::Held;
use crate::headers;
use crate::refusal::{Refusal, Why};
use crate::secrets::Secret;
use crate::tap::PATIENCE;
use crate::unsaid;

/// The longest list of models, in bytes.
const LIST_MAX: usize = 4 << 20;

/// For how long what an upstream offers holds. What it refused does not: who asks again wants to know it anew.
const KEPT: Duration = Duration::from_secs(30);

/// The models of an upstream, or why it does not tell them.
type Said = Result<Vec<String>, Refusal>;

/// What upstreams offered last, and when, by their names.
#[derive(Default)]
pub(super) struct Offered(Mutex<HashMap<String, (Instant, Vec<String>)>>);

impl Offered {
    /// What `name` offered not long before `now`.
    fn known(&self, name: &str, now: Instant) -> Option<Vec<String>> {
        let known = lock(&self.0);
        let (at, models) = known.get(name)?;
        (now.saturating_duration_since(*at) < KEPT).then(|| models.clone())
    }

    fn note(&self, name: &str, said: &Said, now: Instant) {
        if let Ok(models) = said {
            lock(&self.0).insert(name.to_owned(), (now, models.clone()));
        }
    }
}

impl Proxy {
    /// The names of the models that the upstream `name` offers to whoever has the host's key, or `key` in its
    /// place. What it offers to the host's own is not asked again for half a minute.
    ///
    /// # Errors
    /// Why it does not tell them, in its own words where it has some: [`Why::NotYours`] if it is the key.
    pub async fn offered(&self, name: &str, key: Option<&Secret>) -> Result<Vec<String>, Refusal> {
        if key.is_some() {
            return self.ask_what_is_offered(name, key).await;
        }
        if let Some(models) = self.offered.known(name, Instant::now()) {
            return Ok(models);
        }
        let said = self.ask_what_is_offered(name, None).await;
        self.offered.note(name, &said, Instant::now());
        said
    }

    async fn ask_what_is_offered(&self, name: &str, key: Option<&Secret>) -> Said {
        let upstream = self
            .upstreams
            .get(name)
            .ok_or_else(|| Refusal::new(Why::NotFound, format!("there is no upstream {name:?}")))?;
        let mut asked = HeaderMap::new();
        let path = match upstream.api {
            Api::Messages => {
                asked.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
                "/v1/models?limit=1000"
            }
            Api::Responses | Api::Chat => "/models",
        };
        let headers = match key {
            Some(key) => headers::up(upstream.api, &asked, Some(key)).ok_or_else(|| {
                Refusal::new(Why::Unfit, format!("the key for {name} is no single line"))
            })?,
            None => self.credentials(upstream, &asked).await?,
        };
        let out =
            Outgoing { upstream, path, method: hyper::Method::GET, headers, held: Held::nothing() };
        let (head, body) = self.send(&out, None).await?.into_parts();
        let unreadable = |what: String| Refusal::new(Why::Unreachable, format!("{name}: {what}"));
        let is_of_the_key = matches!(head.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if !head.status.is_success() {
            let said = unsaid::without_key(body, &out.headers).await;
            let said: Value = serde_json::from_slice(&said).unwrap_or_default();
            let words = said["error"]["message"].as_str().unwrap_or("it says no more");
            let refusal = unreadable(format!("{}: {}", head.status, for_a_terminal(words)));
            let why = if is_of_the_key { Why::NotYours } else { refusal.why };
            return Err(Refusal { why, ..refusal });
        }
        let list = timeout(PATIENCE.silence, Limited::new(body, LIST_MAX).collect()).await;
        let list = list.map_err(|_| unreadable("its list does not come".to_owned()))?;
        let list = list.map_err(|error| unreadable(error.to_string()))?.to_bytes();
        let value: Value = serde_json::from_slice(&list).unwrap_or_default();
        let models =
            value["data"].as_array().ok_or_else(|| unreadable("no list came".to_owned()))?;
        let id = |model: &Value| model["id"].as_str().map(for_a_terminal);
        Ok(models.iter().filter_map(id).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_upstream_offers_holds_for_a_while_and_what_it_refused_does_not() {
        let (offered, now) = (Offered::default(), Instant::now());
        let refused = Refusal::new(Why::Unreachable, "a: it is silent".to_owned());
        offered.note("a", &Ok(vec!["m".to_owned()]), now);
        offered.note("b", &Err(refused), now);
        let late = now + KEPT;
        let cases = [
            ("a", now, Some(vec!["m".to_owned()])),
            ("a", late - Duration::from_millis(1), Some(vec!["m".to_owned()])),
            ("a", late, None),
            ("b", now, None),
            ("another", now, None),
        ];
        for (name, at, expected) in cases {
            assert_eq!(offered.known(name, at), expected, "{name}");
        }
    }
}
