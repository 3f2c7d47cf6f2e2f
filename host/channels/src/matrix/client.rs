//! Asking the homeserver.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::kept::Token;
use super::trouble::Trouble;
use crate::http::{self, Fault};

pub(super) use crate::http::PATIENCE;

/// How long a file may take.
const FETCH: Duration = Duration::from_secs(60);

/// The connections to one homeserver.
#[derive(Debug)]
pub(super) struct Client(http::Client);

/// What is asked.
pub(super) struct Ask(http::Ask);

impl Ask {
    /// Asks for what is there.
    pub(super) fn get(token: &Token, path: String) -> Self {
        Self::json(Method::GET, path, None).with(token)
    }

    /// Asks for something to be done.
    pub(super) fn put(token: &Token, path: String, body: &Value) -> Self {
        Self::json(Method::PUT, path, Some(body)).with(token)
    }

    /// Asks for something to be done that has no key.
    pub(super) fn post(token: &Token, path: String, body: &Value) -> Self {
        Self::json(Method::POST, path, Some(body)).with(token)
    }

    /// Hands over a file of the type `kind`.
    pub(super) fn upload(token: &Token, path: String, kind: &str, file: Bytes) -> Self {
        Self(http::Ask::new(Method::POST, below(&path)).body(kind, file)).with(token)
    }

    /// Asks as nobody, for what is at `path` below `/_matrix/`.
    pub(super) fn json(method: Method, path: String, body: Option<&Value>) -> Self {
        let ask = http::Ask::new(method, below(&path));
        Self(match body {
            Some(body) => ask.json(body),
            None => ask,
        })
    }

    fn with(self, token: &Token) -> Self {
        Self(self.0.bearer(&token.0))
    }

    /// As it is, with another patience.
    pub(super) fn patient(self, patience: Duration) -> Self {
        Self(self.0.patient(patience))
    }
}

fn below(path: &str) -> String {
    format!("_matrix/{path}")
}

impl Client {
    pub(super) fn new(base: Url) -> Self {
        Self(http::Client::new(base))
    }

    /// Fetches what is at `path` below `/_matrix/`, if it has at most so many bytes.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn fetch(
        &self,
        token: &Token,
        path: &str,
        most: usize,
    ) -> Result<Bytes, Trouble> {
        let ask = http::Ask::get(below(path)).bearer(&token.0).at_most(most).patient(FETCH);
        let answer = self.0.ask(ask).await?;
        match answer.is_success() {
            true => Ok(answer.body),
            false => Err(Trouble::of(answer.status, None, &answer.body)),
        }
    }

    /// Asks, and reads the answer as `T`.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn ask<T: DeserializeOwned>(&self, Ask(ask): Ask) -> Result<T, Trouble> {
        let answer = self.0.ask(ask).await?;
        match answer.is_success() {
            true => Ok(answer.json()?),
            false => {
                let wait = answer.retry_after().map(|it| it.as_secs());
                Err(Trouble::of(answer.status, wait, &answer.body))
            }
        }
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotReached(why) => Self::NotReached(why),
            Fault::Silent(why) => Self::Silent(why),
            Fault::Strange(why) => Self::Strange(why),
        }
    }
}
