//! What `twobox doctor` says of an instance: whether the server lets it in, as whom, and what it can do. It is there for
//! a moment, goes to no channel and says nothing.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use twobox_system::blocking::blocking;

use super::enter::{Entered, Stop};
use super::kept::Kept;
use super::settings::Settings;
use super::{REMEDY, described, enter};
use crate::kinds::{Found, Setup};
use crate::state;

/// Begins to look.
pub(super) fn begin(
    setup: &Setup<'_>,
) -> Result<BoxFuture<'static, Result<Found, String>>, String> {
    let settings = Settings::of(setup)?;
    let secrets = Arc::clone(&setup.secrets);
    let file = state::file(&state::folder(setup.folder, setup.id));
    let look = async move {
        let kept: Kept = blocking(move || state::read(&file, REMEDY)).await?;
        let entered = enter(&settings, &secrets).await;
        let (mut connection, entered) = entered.map_err(|stop| match stop {
            Stop::Refused(why) | Stop::Trouble(why) => why,
        })?;
        // Whether the server hears that is not waited for: it is gone in any case.
        drop(connection.writer.say("QUIT").await);
        Ok(Found {
            what: what(&settings, &entered),
            warnings: warnings(&settings, &entered, &kept),
        })
    };
    Ok(look.boxed())
}

fn what(settings: &Settings, entered: &Entered) -> String {
    let mut what = described(settings);
    what.push_str("; it is let in");
    if let Some(account) = &entered.account {
        what.push_str(&format!(", as {account}"));
    }
    if let Some(network) = &entered.server.network {
        what.push_str(&format!(", on {network}"));
    }
    match entered.server.has("labeled-response") && entered.server.has("echo-message") {
        true => what.push_str("; the server says what it took"),
        false => what.push_str("; a line counts as said when the server answers a PING behind it"),
    }
    what
}

fn warnings(settings: &Settings, entered: &Entered, kept: &Kept) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.is_open() {
        warnings.push(
            "whoever is on the way to the server reads what is said: leave `tls` out".to_owned(),
        );
    }
    if !entered.server.has("account-tag") {
        warnings.push(
            "the server does not tell who is logged in, so a nick is nobody's proof".to_owned(),
        );
    }
    if let Some(most) = entered.server.nick_max.filter(|most| *most < settings.nick.len()) {
        warnings.push(format!(
            "the server takes nicks of {most} letters at most: it is called {}",
            entered.nick
        ));
    }
    if settings.channels.is_empty() {
        warnings.push(
            "it goes to no channel, and hears only what is said to it alone: set `channels`"
                .to_owned(),
        );
    }
    for (channel, why) in kept.outside.iter().filter(|(it, _)| settings.channels.contains(it)) {
        warnings.push(format!("it is not in {channel}: {why}"));
    }
    if let Some(away) = kept.away {
        warnings.push(format!("what was said {away} was not heard: nobody was there"));
    }
    warnings
}
