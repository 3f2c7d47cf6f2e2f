//! Asking the Bot API. The token is in the path of every request: no error has a word of one.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::trouble::Trouble;
use crate::http::{self, Ask};

/// How long a file may take.
const FETCH: Duration = Duration::from_secs(60);

/// The most bytes of a token. Telegram takes no longer ones.
const TOKEN_MAX: usize = 80;

/// A token, which is a bot's id and a secret behind it. Its text is for Telegram alone.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(String);

impl Token {
    /// The token, if it has the form of one; nothing else is ever put into a path.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (id, secret) = text.split_once(':')?;
        let is_id = (1..=16).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_digit())
            && !id.starts_with('0');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_secret = secret.len() >= 8 && secret.bytes().all(plain);
        (is_id && is_secret && text.len() <= TOKEN_MAX).then(|| Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// The connections to one Bot API.
#[derive(Debug)]
pub(super) struct Api(http::Client);

/// An answer that is a success.
#[derive(Deserialize)]
struct Success<T> {
    ok: bool,
    result: T,
}

impl Api {
    pub(super) fn new(base: Url) -> Self {
        Self(http::Client::new(base))
    }

    /// Has `method` done with what `parameters` say, and reads what comes of it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        token: &Token,
        method: &str,
        parameters: &Value,
    ) -> Result<T, Trouble> {
        self.call_within(token, method, parameters, http::PATIENCE).await
    }

    /// As [`Api::call`], with another patience.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn call_within<T: DeserializeOwned>(
        &self,
        token: &Token,
        method: &str,
        parameters: &Value,
        patience: Duration,
    ) -> Result<T, Trouble> {
        self.ask(Ask::post_json(path(token, method), parameters).patient(patience)).await
    }

    /// As [`Api::call`], with a form that has files in it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        token: &Token,
        method: &str,
        (kind, form): (&str, Bytes),
        patience: Duration,
    ) -> Result<T, Trouble> {
        let ask = Ask::new(hyper::Method::POST, path(token, method)).body(kind, form);
        self.ask(ask.patient(patience)).await
    }

    /// Fetches the file at `path`, if it has at most so many bytes.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn fetch(
        &self,
        Token(token): &Token,
        path: &str,
        most: usize,
    ) -> Result<Bytes, Trouble> {
        let ask = Ask::get(format!("file/bot{token}/{path}")).at_most(most).patient(FETCH);
        let answer = self.0.ask(ask).await?;
        match answer.is_success() {
            true => Ok(answer.body),
            false => Err(Trouble::of(answer.status, answer.retry_after(), &answer.body)),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, Trouble> {
        let answer = self.0.ask(ask).await?;
        if !answer.is_success() {
            return Err(Trouble::of(answer.status, answer.retry_after(), &answer.body));
        }
        match answer.json::<Success<T>>() {
            Ok(Success { ok: true, result }) => Ok(result),
            Ok(Success { ok: false, .. }) | Err(_) => {
                Err(Trouble::of(answer.status, answer.retry_after(), &answer.body))
            }
        }
    }
}

fn path(Token(token): &Token, method: &str) -> String {
    format!("bot{token}/{method}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_the_form_of_a_token_is_put_into_no_path() {
        let token = Token::parse(" 123456:ABC-DEF_ghIkl\n").unwrap();
        assert_eq!(format!("{token:?}"), "Token");
        let long = format!("1:{}", "a".repeat(80));
        let bad =
            ["", "123456", "a:ABCDEFGHIJ", "12/3:ABCDEFGHIJ", "1:a/../b/getMe", "0:ABCDEFGHI"];
        for bad in bad.into_iter().chain(["1:AB?CDEFGHI", "1:short", long.as_str()]) {
            assert_eq!(Token::parse(bad), None, "{bad}");
        }
    }
}
