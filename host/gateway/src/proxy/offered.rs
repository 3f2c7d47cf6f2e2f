//! Which models an upstream offers: asked by the host itself, for people.

use http_body_util::{BodyExt, Limited};
use hyper::header::{HeaderMap, HeaderValue};
use serde_json::Value;
use tokio::time::timeout;
use twobox_shared::agent_config::Api;
use twobox_shared::errors::for_a_terminal;

use super::{Outgoing, Proxy};
use crate::body::Held;
use crate::headers;
use crate::refusal::{Refusal, Why};
use crate::secrets::Secret;
use crate::tap::PATIENCE;
use crate::unsaid;

/// The longest list of models, in bytes.
const LIST_MAX: usize = 4 << 20;

impl Proxy {
    /// The names of the models that the upstream `name` offers to whoever has the host's key, or `key` in its
    /// place.
    ///
    /// # Errors
    /// Why it does not tell them, in its own words where it has some.
    pub async fn offered(&self, name: &str, key: Option<&Secret>) -> Result<Vec<String>, Refusal> {
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
        if !head.status.is_success() {
            let said = unsaid::without_key(body, &out.headers).await;
            let said: Value = serde_json::from_slice(&said).unwrap_or_default();
            let words = said["error"]["message"].as_str().unwrap_or("it says no more");
            return Err(unreadable(format!("{}: {}", head.status, for_a_terminal(words))));
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
