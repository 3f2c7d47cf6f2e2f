//! What `twobox doctor` says of an instance: whose the tokens are, and what the app may not do that it should.
//! Changes nothing: an address to connect to is asked for, and not used.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::de::IgnoredAny;
use twobox_shared::visible;
use twobox_system::blocking::blocking;

use super::api::Api;
use super::described;
use super::enter::{Tokens, whoami};
use super::settings::Settings;
use crate::kinds::{Found, Setup};

/// What the bot has to have, and what is not there without it.
const SCOPES: [(&str, &str); 12] = [
    ("chat:write", "nothing is sent"),
    ("channels:history", "nothing is heard in public channels"),
    ("groups:history", "nothing is heard in private channels"),
    ("im:history", "nothing is heard from one person alone"),
    ("mpim:history", "nothing is heard in groups of some people"),
    ("app_mentions:read", "mentions come with messages alone"),
    ("channels:read", "what was missed in public channels may not be found"),
    ("groups:read", "what was missed in private channels may not be found"),
    ("im:read", "what was missed of one person may not be found"),
    ("mpim:read", "what was missed in groups of some people may not be found"),
    ("users:read", "people are called by their ids"),
    ("files:write", "files are named and not sent"),
];

/// Begins to look.
pub(super) fn begin(
    setup: &Setup<'_>,
) -> Result<BoxFuture<'static, Result<Found, String>>, String> {
    let settings = Settings::of(setup)?;
    let secrets = Arc::clone(&setup.secrets);
    let look = async move {
        let given = settings.clone();
        let tokens = blocking(move || Tokens::of(&given, &secrets)).await?;
        let api = Api::new(settings.api.clone());
        let (identity, scopes) =
            whoami(&api, &tokens.bot).await.map_err(|trouble| trouble.to_string())?;
        let opened = api.form::<IgnoredAny>(&tokens.app, "apps.connections.open", &[]).await;
        opened.map_err(|trouble| {
            format!(
                "no connection is opened for the app's token: {trouble}. Is it one with the scope connections:write, \
                 and is Socket Mode on?"
            )
        })?;
        let mut warnings = Vec::new();
        if settings.is_open() {
            warnings.push(
                "whoever is on the way to Slack reads what is said, and the tokens: use https://"
                    .to_owned(),
            );
        }
        if identity.bot_id.is_none() {
            warnings.push("the bot's token is not that of a bot".to_owned());
        }
        warnings.extend(scopes.as_deref().map(missing).unwrap_or_default());
        let (user, team) = (visible::line(&identity.user), visible::line(&identity.team));
        let what = format!("{}; it is @{user} in the workspace {team}", described(&settings));
        Ok(Found { what, warnings })
    };
    Ok(look.boxed())
}

/// What is not there without the scopes that are missing.
fn missing(scopes: &[String]) -> Vec<String> {
    let lacks = SCOPES.iter().filter(|(scope, _)| !scopes.iter().any(|it| it == scope));
    lacks
        .map(|(scope, follows)| {
            format!("without the scope {scope} {follows}: add it, and install the app again")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_follows() {
        let all: Vec<String> = SCOPES.iter().map(|(scope, _)| (*scope).to_owned()).collect();
        assert_eq!(missing(&all), Vec::<String>::new());
        let lacks = missing(&all[1..]);
        assert_eq!(
            lacks,
            ["without the scope chat:write nothing is sent: add it, and install the app again"]
        );
    }
}
