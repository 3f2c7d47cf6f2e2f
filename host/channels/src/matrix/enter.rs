//! Being let in: by a token that is kept, or by the password, always as the same device.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::{IdSource, SystemIds};
use twobox_shared::time::UnixMillis;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use super::client::Ask;
use super::kept::{self, Kept, Token};
use super::receive::Stop;
use super::settings::Credential;
use super::trouble::Trouble;
use super::{Account, MatrixChannel};

/// After how long without a word a message may have been sent by an earlier life that the homeserver does not
/// remember any more: it does for a day.
pub(super) const CAUTION: Duration = Duration::from_secs(60 * 60);

#[derive(Deserialize)]
struct Identity {
    user_id: String,
    #[serde(default)]
    device_id: Option<String>,
}

#[derive(Deserialize)]
struct LoggedIn {
    access_token: String,
    device_id: String,
    user_id: String,
}

/// That nobody has given the secret.
pub(super) fn missing(credential: &Credential) -> String {
    let (what, name) = (credential.what(), credential.secret());
    format!("the account's {what} is not there: `twobox secrets set {name}`")
}

impl MatrixChannel {
    /// Is let in, and says as whom.
    ///
    /// # Errors
    /// [`Stop`].
    pub(super) async fn enter(&self) -> Result<Arc<Account>, Stop> {
        let account = match &self.settings.credential {
            Credential::Token(name) => {
                let token = Token(self.secret(name).await?);
                let identity = self.whoami(&token).await.map_err(|trouble| {
                    let again = format!("get another one, and `twobox secrets set {name}`");
                    refused(&trouble, 401, &again).unwrap_or_else(|| trouble.into())
                })?;
                self.take_identity(identity, &token).await?
            }
            Credential::Password(name) => {
                // Nobody but who has given it is shown it.
                let (user, homeserver) = (&self.settings.user, &self.settings.homeserver);
                let kept = lock(&self.kept).token_of(user, homeserver).cloned();
                let known = match kept {
                    Some(token) => match self.whoami(&token).await {
                        Ok(identity) => Some(self.take_identity(identity, &token).await?),
                        Err(trouble) if trouble.refused(401).is_some() => None,
                        Err(trouble) => return Err(trouble.into()),
                    },
                    None => None,
                };
                match known {
                    Some(account) => account,
                    None => self.log_in(name).await?,
                }
            }
        };
        let account = Arc::new(account);
        *lock(&self.account) = Some(Arc::clone(&account));
        Ok(account)
    }

    async fn whoami(&self, token: &Token) -> Result<Identity, Trouble> {
        self.client.ask(Ask::get(token, "client/v3/account/whoami".to_owned())).await
    }

    /// Takes note of who it is, and of whether that is who it was.
    async fn take_identity(&self, identity: Identity, token: &Token) -> Result<Account, Stop> {
        let user = &self.settings.user;
        if identity.user_id != *user {
            return Err(Stop::Refused(format!(
                "the token is that of another account than {user}: mend the one or the other"
            )));
        }
        self.put_aside().await?;
        let (homeserver, device) = (&self.settings.homeserver, identity.device_id);
        let kept = match &self.settings.credential {
            Credential::Password(_) => Some(token.clone()),
            Credential::Token(_) => None, // it is a secret of its own
        };
        let now = SystemClock.now();
        let entered = self.keep(|state| state.enter(homeserver, device, kept, now)).await;
        if entered.map_err(Stop::Refused)? {
            lock(&self.past).clear();
        }
        Ok(Account { user: user.clone(), token: token.clone() })
    }

    /// Puts what is kept of another account aside, if there is any: this one was let in.
    async fn put_aside(&self) -> Result<(), Stop> {
        if !self.is_anothers.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (folder, user) = (self.folder.clone(), self.settings.user.clone());
        let aside = blocking(move || kept::put_aside(&folder, &user)).await.map_err(|error| {
            let folder = self.folder.display();
            Stop::Refused(format!(
                "cannot put aside what is kept of another account in {folder}: {error}"
            ))
        })?;
        self.is_anothers.store(false, Ordering::Relaxed);
        tracing::warn!(
            channel = self.id,
            user = self.settings.user,
            aside = %aside.display(),
            "the account is another than it was: what is kept of the other was put aside, and is taken again if \
             it is set again"
        );
        Ok(())
    }

    /// Logs in with the password `name`, as the device that it was, and keeps the token.
    async fn log_in(&self, name: &str) -> Result<Account, Stop> {
        let password = self.secret(name).await?;
        let known = lock(&self.kept).device_id.clone();
        let device = match self.settings.device_id.clone().or_else(|| known.clone()) {
            Some(device) => device,
            None => {
                let random = SystemIds.uuid().simple().to_string().to_uppercase();
                format!("TWOBOX{}", &random[20..])
            }
        };
        if known.as_ref() != Some(&device) {
            let now = SystemClock.now();
            let choose = |kept: &mut Kept| {
                if known.is_some() {
                    kept.cautious_since = Some(now);
                }
                kept.device_id = Some(device.clone());
            };
            match self.is_anothers.load(Ordering::Relaxed) {
                // Nothing of the other account is touched before this one is let in.
                true => choose(&mut lock(&self.kept)),
                // Before it is used: whoever dies in between logs in as the same again.
                false => self.keep(choose).await.map_err(Stop::Refused)?,
            }
        }
        let user = &self.settings.user;
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": user },
            "password": password,
            "device_id": device,
            "initial_device_display_name": "Twobox",
        });
        let ask = Ask::json(Method::POST, "client/v3/login".to_owned(), Some(&body));
        let logged_in: LoggedIn = self.client.ask(ask).await.map_err(|trouble| {
            let again = format!("is the password of {user} right? `twobox secrets set {name}`");
            refused(&trouble, 403, &again).unwrap_or_else(|| trouble.into())
        })?;
        tracing::info!(channel = self.id, user, device, "logged in to the homeserver");
        let token = Token(logged_in.access_token);
        let identity =
            Identity { user_id: logged_in.user_id, device_id: Some(logged_in.device_id) };
        self.take_identity(identity, &token).await
    }

    /// The secret that is called so.
    async fn secret(&self, name: &str) -> Result<String, Stop> {
        let (secrets, wanted) = (Arc::clone(&self.secrets), name.to_owned());
        match blocking(move || secrets(&wanted)).await {
            Ok(Some(secret)) => Ok(secret),
            Ok(None) => Err(Stop::Refused(missing(&self.settings.credential))),
            Err(error) => Err(Stop::Refused(error)),
        }
    }

    /// Whether a time that was kept is so long ago that nobody remembers what was sent then.
    pub(super) fn is_long_ago(at: UnixMillis) -> bool {
        SystemClock.now().since(at) > CAUTION
    }
}

/// That the homeserver does not let it in, if that is what `trouble` is, and what to do.
fn refused(trouble: &Trouble, status: u16, again: &str) -> Option<Stop> {
    trouble
        .refused(status)
        .map(|_| Stop::Refused(format!("{trouble}; {again}; it is tried again by itself")))
}
