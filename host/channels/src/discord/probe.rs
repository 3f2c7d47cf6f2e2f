//! What `twobox doctor` says of an instance: whether Discord answers, which bot it is, whether that may read messages,
//! and what of its day is left. Changes nothing, and begins no session.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use twobox_shared::content::shorten;
use twobox_shared::visible;
use twobox_system::blocking::blocking;

use super::api::{Api, Question, Token};
use super::missing;
use super::pace::Route;
use super::settings::Settings;
use super::trouble::Trouble;
use super::wire::User;
use crate::kinds::{Found, Setup};

/// The flags of an application by which it may read messages: of a small bot, and of one that was looked at.
const MESSAGE_CONTENT: u64 = (1 << 18) | (1 << 19);

/// How many sessions should be left of a day.
const SESSIONS: u64 = 50;

/// How far the clocks may be apart, in milliseconds.
const CLOCKS_MS: u64 = 30_000;

/// Begins to look.
pub(super) fn begin(
    setup: &Setup<'_>,
) -> Result<BoxFuture<'static, Result<Found, String>>, String> {
    let settings = Settings::of(setup)?;
    let secrets = Arc::clone(&setup.secrets);
    let look = async move {
        let name = settings.token_secret.clone();
        let token = match blocking(move || secrets(&name)).await? {
            Some(token) => Token(token),
            None => return Err(missing(&settings)),
        };
        let api = Api::new(settings.api.clone());
        let ask = |kind: &'static str, path: &'static str| {
            Question::get(Route::new(kind, ""), path).by(&token)
        };
        let said = |trouble: Trouble| match trouble.is_about_token() {
            true => format!("{trouble}: `twobox secrets set {}`", settings.token_secret),
            false => trouble.to_string(),
        };
        let me: User = api.read(ask("GET me", "users/@me")).await.map_err(said)?;
        let app: Value = api.read(ask("GET app", "applications/@me")).await.map_err(said)?;
        let door: Value = api.read(ask("GET gateway", "gateway/bot")).await.map_err(said)?;
        let mut warnings = Vec::new();
        if app["flags"].as_u64().unwrap_or(0) & MESSAGE_CONTENT == 0 {
            return Err(
                "the bot may not read messages: switch on \"Message Content Intent\" on the page \"Bot\" of the \
                 Developer Portal, and save"
                    .to_owned(),
            );
        }
        if app["interactions_endpoint_url"].is_string() {
            warnings.push(
                "buttons that are pressed go to the \"Interactions Endpoint URL\" of the Developer Portal, and not \
                 here: leave it empty"
                    .to_owned(),
            );
        }
        let limit = &door["session_start_limit"];
        let left = limit["remaining"].as_u64().unwrap_or(SESSIONS);
        if left < SESSIONS {
            let reset = Duration::from_millis(limit["reset_after"].as_u64().unwrap_or(0));
            let minutes = reset.as_secs() / 60;
            warnings.push(format!(
                "only {left} sessions can be begun within the next {minutes} min: does another program use the token?"
            ));
        }
        if door["shards"].as_u64().is_some_and(|shards| shards > 1) {
            warnings.push("it is in so many servers that one connection will not do".to_owned());
        }
        if api.ahead_ms().unsigned_abs() > CLOCKS_MS {
            let seconds = api.ahead_ms().unsigned_abs() / 1000;
            warnings.push(format!("this machine's clock and Discord's are {seconds} s apart"));
        }
        let name = shorten(&visible::line(&me.username), 100);
        let guilds = app["approximate_guild_count"].as_u64();
        let guilds = guilds.map(|guilds| format!(", in {guilds} servers")).unwrap_or_default();
        Ok(Found { what: format!("the bot {name} ({}){guilds}; it is let in", me.id), warnings })
    };
    Ok(look.boxed())
}
