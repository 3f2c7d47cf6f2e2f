//! Looking at Telegram from outside of the host, for `twobox doctor`. It changes nothing, and takes nothing of what
//! was said away from a host that runs.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;
use twobox_system::blocking::blocking;
use url::Url;

use super::api::{Api, Token};
use super::settings::Settings;
use super::trouble::words;
use super::updates::Bot;
use crate::kinds::{Found, Setup};

/// How many updates that wait are worth a word.
const MANY: u64 = 100;

#[derive(Deserialize)]
struct Webhook {
    url: String,
    #[serde(default)]
    pending_update_count: u64,
}

/// Begins to look.
pub(super) fn begin(
    setup: &Setup<'_>,
) -> Result<BoxFuture<'static, Result<Found, String>>, String> {
    let settings = Settings::of(setup)?;
    let secrets = Arc::clone(&setup.secrets);
    Ok(look(settings, secrets).boxed())
}

async fn look(settings: Settings, secrets: crate::kinds::SecretOf) -> Result<Found, String> {
    let name = settings.token_secret.clone();
    let secret = blocking(move || secrets(&name)).await?.ok_or_else(|| settings.missing())?;
    let name = &settings.token_secret;
    let unknown = |what: &str| {
        format!("{what}: `twobox secrets set {name}`, with the token that @BotFather shows")
    };
    let token = Token::parse(&secret)
        .ok_or_else(|| unknown(&format!("the secret {name:?} is no token of a bot")))?;
    let api = Api::new(settings.api.clone());
    let bot: Bot = api.call(&token, "getMe", &json!({})).await.map_err(|trouble| match trouble
        .is_about_token()
    {
        true => unknown(&trouble.to_string()),
        false => trouble.to_string(),
    })?;
    let webhook: Webhook = api
        .call(&token, "getWebhookInfo", &json!({}))
        .await
        .map_err(|trouble| trouble.to_string())?;
    if !webhook.url.is_empty() {
        return Err(with_webhook(&settings, &webhook.url));
    }
    Ok(found(&settings, &bot, webhook.pending_update_count))
}

/// What is wrong where what is said goes elsewhere, and how that is mended.
fn with_webhook(settings: &Settings, url: &str) -> String {
    // An address of a webhook may have a secret in its path.
    let host = Url::parse(url).ok().and_then(|url| Some(url.host_str()?.to_owned()));
    let host = words(&host.unwrap_or_else(|| "somewhere".to_owned()));
    let api = settings.api.as_str().trim_end_matches('/');
    format!(
        "a webhook is set for this bot, so that what is said to it goes to {host} and not here. If nobody needs \
         that any more, take it away: read -rs TOKEN && printf 'url = \"{api}/bot%s/deleteWebhook\"' \"$TOKEN\" | \
         curl -K -"
    )
}

fn found(settings: &Settings, bot: &Bot, waiting: u64) -> Found {
    let mut warnings = Vec::new();
    if settings.is_open() {
        warnings.push(
            "whoever is on the way to the Bot API reads what is said, and the token: use https://"
                .to_owned(),
        );
    }
    if waiting >= MANY {
        warnings.push(format!(
            "{waiting} messages wait with Telegram, which keeps them for a day: does the host run?"
        ));
    }
    let groups = match bot.can_read_all_group_messages {
        true => "in groups it is told everything",
        false => {
            "in groups it is told only what is said to it (/setprivacy at @BotFather changes that, for groups \
             that it enters afterwards)"
        }
    };
    let what = format!("@{} ({}), {groups}", words(&bot.username), bot.id);
    Found { what, warnings }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_says_what_an_operator_may_not_know() {
        let settings = |api: &str| Settings {
            api: Url::parse(api).unwrap(),
            token_secret: "telegram".to_owned(),
        };
        let bot = |all| Bot { id: 7, username: "two".to_owned(), can_read_all_group_messages: all };
        let good = found(&settings("https://api.telegram.org"), &bot(true), 0);
        assert_eq!(good.what, "@two (7), in groups it is told everything");
        assert_eq!(good.warnings, Vec::<String>::new());
        let bad = found(&settings("http://bots.example:8081"), &bot(false), 5_000);
        assert!(bad.what.contains("/setprivacy"), "{}", bad.what);
        let [open, many] = &bad.warnings[..] else { panic!("{:?}", bad.warnings) };
        assert!(open.contains("use https://") && many.starts_with("5000 messages wait"));
        let hook = with_webhook(&settings("https://x.example"), "https://h.example/s3cret");
        assert!(hook.contains("h.example") && !hook.contains("s3cret"), "{hook}");
    }
}
