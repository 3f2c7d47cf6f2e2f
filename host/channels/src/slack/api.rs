//! Asking Slack's Web API. A method that Slack wants left alone is left alone until the time that it said, also
//! by whoever did not hear that.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hyper::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use twobox_system::lock::lock;
use url::{Url, form_urlencoded};

use super::trouble::Trouble;
use crate::http::{Answer, Ask, Client};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The method whose limits are of one conversation, and not of all: whoever waits for that one is told.
const BY_CHAT: &str = "chat.postMessage";

/// The most bytes of an answer.
const ANSWER_MAX: usize = 16 << 20;

/// A token. Its text is for Slack alone.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(pub(super) String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// The Web API.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    /// Until when methods are left alone.
    left_alone: Mutex<HashMap<&'static str, Instant>>,
}

impl Api {
    /// That at `base`. Nothing is connected yet.
    pub(super) fn new(base: Url) -> Self {
        Self { client: Client::new(base), left_alone: Mutex::default() }
    }

    /// Asks `method` with simple fields, as all of them take them.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn form<T: DeserializeOwned>(
        &self,
        token: &Token,
        method: &'static str,
        fields: &[(&str, &str)],
    ) -> Result<T, Trouble> {
        self.answer(token, method, fields).await?.json().map_err(Trouble::from)
    }

    /// As [`Api::form`], and returns the whole answer, which is a success.
    pub(super) async fn answer(
        &self,
        token: &Token,
        method: &'static str,
        fields: &[(&str, &str)],
    ) -> Result<Answer, Trouble> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let ask = Ask::new(Method::POST, method).body("application/x-www-form-urlencoded", body);
        self.ask(token, method, ask).await
    }

    /// Asks `method` with what has fields in its fields.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        token: &Token,
        method: &'static str,
        body: &Value,
    ) -> Result<T, Trouble> {
        let kind = "application/json; charset=utf-8";
        let ask = Ask::new(Method::POST, method).body(kind, body.to_string());
        self.ask(token, method, ask).await?.json().map_err(Trouble::from)
    }

    async fn ask(&self, token: &Token, method: &'static str, ask: Ask) -> Result<Answer, Trouble> {
        if let Some(left) = self.left(method) {
            return Err(Trouble::Busy(left));
        }
        let ask = ask.bearer(&token.0).patient(PATIENCE).at_most(ANSWER_MAX);
        let answer = self.client.ask(ask).await?;
        match Trouble::of(&answer) {
            None => Ok(answer),
            Some(trouble) => {
                if let Some(pause) = trouble.busy().filter(|_| method != BY_CHAT) {
                    lock(&self.left_alone).insert(method, Instant::now() + pause);
                }
                Err(trouble)
            }
        }
    }

    /// For how long a method is left alone.
    fn left(&self, method: &'static str) -> Option<Duration> {
        let mut all = lock(&self.left_alone);
        let left = all.get(method)?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            all.remove(method);
            return None;
        }
        Some(left)
    }
}
