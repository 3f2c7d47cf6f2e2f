//! What `twobox doctor` says of an instance: whether the homeserver answers, whose account it is, and which of
//! its rooms are encrypted. Changes nothing, and does not log in.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::sync::Arc;
use twobox_shared::visible;
use twobox_system::blocking::blocking;

use super::client::{Ask, Client};
use super::kept::{Kept, Token, folder};
use super::path::step;
use super::settings::{Credential, Settings};
use super::{described, enter};
use crate::kinds::{Found, Setup};
use twobox_model::people::Senders;

/// How many rooms are looked at.
const ROOMS_MAX: usize = 50;

#[derive(Deserialize)]
struct JoinedRooms {
    joined_rooms: Vec<String>,
}

/// Begins to look.
pub(super) fn begin(
    setup: &Setup<'_>,
) -> Result<BoxFuture<'static, Result<Found, String>>, String> {
    let settings = Settings::of(setup)?;
    let (secrets, folder) = (Arc::clone(&setup.secrets), folder(setup.folder, setup.id));
    let look = async move {
        let client = Client::new(settings.homeserver.clone());
        let versions = Ask::json(Method::GET, "client/versions".to_owned(), None);
        client.ask::<Value>(versions).await.map_err(|trouble| trouble.to_string())?;
        let credential = settings.credential.clone();
        let (user, homeserver) = (settings.user.clone(), settings.homeserver.clone());
        let token = blocking(move || match credential {
            Credential::Token(ref name) => match secrets(name)? {
                Some(token) => Ok(Ok(Token(token))),
                None => Err(enter::missing(&credential)),
            },
            Credential::Password(_) => {
                let kept = Kept::read(&folder)?;
                Ok(kept.token_of(&user, &homeserver).cloned().ok_or_else(|| strange(&kept)))
            }
        });
        let mut warnings = Vec::new();
        if settings.senders == Senders::Open {
            warnings.push("whoever finds the account is heard (senders = [\"*\"])".to_owned());
        }
        if settings.is_open() {
            warnings.push(
                "whoever is on the way to the homeserver reads what is said, and the token: \
                 use https://"
                    .to_owned(),
            );
        }
        let what = described(&settings);
        let token = match token.await? {
            Ok(token) => token,
            Err(why) => {
                let what =
                    format!("{what}; the homeserver answers; {why}a host that starts logs in");
                return Ok(Found { what, warnings });
            }
        };
        let whoami = Ask::get(&token, "client/v3/account/whoami".to_owned());
        let who: Value = client.ask(whoami).await.map_err(|trouble| trouble.to_string())?;
        if who["user_id"] != settings.user.as_str() {
            return Err(format!("the token is that of another account than {}", settings.user));
        }
        let rooms = Ask::get(&token, "client/v3/joined_rooms".to_owned());
        let rooms: JoinedRooms = client.ask(rooms).await.map_err(|trouble| trouble.to_string())?;
        let mut encrypted = Vec::new();
        for room in rooms.joined_rooms.iter().take(ROOMS_MAX) {
            let path = format!("client/v3/rooms/{}/state/m.room.encryption", step(room));
            match client.ask::<IgnoredAny>(Ask::get(&token, path)).await {
                Ok(IgnoredAny) => encrypted.push(room.as_str()),
                Err(trouble) if trouble.is_final() => {} // it is not, or is left by now
                // Each of the others may take as long.
                Err(trouble) => {
                    warnings.push(format!("not all rooms were looked at: {trouble}"));
                    break;
                }
            }
        }
        if !encrypted.is_empty() {
            warnings.push(format!("encrypted rooms are not read: {}", encrypted.join(", ")));
        }
        let what = format!("{what}; it is let in, and in {} rooms", rooms.joined_rooms.len());
        Ok(Found { what, warnings })
    };
    Ok(look.boxed())
}

/// Why the token that is kept is not used, if there is one: another homeserver has given it, or to another account.
fn strange(kept: &Kept) -> String {
    match kept.token {
        Some(_) => format!(
            "what is kept is of {} at {}, and is not shown to this one; ",
            visible::line(&kept.whose),
            visible::line(&kept.homeserver)
        ),
        None => String::new(),
    }
}
