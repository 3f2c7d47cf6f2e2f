//! Being let in: whose the bot's token is, and that it is the bot that it was.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use super::api::{Api, Token};
use super::kept::{self, Kept};
use super::settings::Settings;
use super::trouble::Trouble;
use super::ts::Ts;
use super::{Account, SlackChannel};
use crate::kinds::SecretOf;

/// Why it does not go on as it is.
#[derive(Debug)]
pub(super) enum Stop {
    /// A person has to mend something.
    Refused(String),
    /// Later it may do.
    Trouble {
        /// What.
        why: String,
        /// For how long Slack wants to be left alone.
        wait: Option<Duration>,
    },
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble { wait: trouble.busy(), why: trouble.to_string() }
    }
}

/// Whose a bot's token is.
#[derive(Debug, Deserialize)]
pub(super) struct Identity {
    pub(super) user_id: String,
    pub(super) team_id: String,
    #[serde(default)]
    pub(super) user: String,
    #[serde(default)]
    pub(super) team: String,
    #[serde(default)]
    pub(super) bot_id: Option<String>,
}

/// The two tokens of an instance.
pub(super) struct Tokens {
    pub(super) bot: Token,
    pub(super) app: Token,
}

impl Tokens {
    /// Those that are given now. Blocks.
    ///
    /// # Errors
    /// Which is not there, for people.
    pub(super) fn of(settings: &Settings, secrets: &SecretOf) -> Result<Self, String> {
        let get = |name: &str, begin: &str, what: &str| -> Result<Token, String> {
            let given = secrets(name)?.map(|token| token.trim().to_owned());
            let token =
                given.ok_or_else(|| format!("{what} is not there: `twobox secrets set {name}`"))?;
            match token.starts_with(begin) {
                true => Ok(Token(token)),
                false => Err(format!(
                    "the secret {name} is not {what}, which begins with \"{begin}\": `twobox secrets set {name}`"
                )),
            }
        };
        Ok(Self {
            bot: get(&settings.bot_token, "xoxb-", "the bot's token")?,
            app: get(&settings.app_token, "xapp-", "the app's token")?,
        })
    }
}

/// Asks whose the token is, and which scopes it has.
pub(super) async fn whoami(
    api: &Api,
    bot: &Token,
) -> Result<(Identity, Option<Vec<String>>), Trouble> {
    let answer = api.answer(bot, "auth.test", &[]).await?;
    let scopes = answer.headers.get("x-oauth-scopes").and_then(|it| it.to_str().ok());
    let scopes =
        scopes.map(|scopes| scopes.split(',').map(|scope| scope.trim().to_owned()).collect());
    Ok((answer.json()?, scopes))
}

impl SlackChannel {
    /// Is let in, and says as whom.
    ///
    /// # Errors
    /// [`Stop`].
    pub(super) async fn enter(&self) -> Result<Arc<Account>, Stop> {
        let (settings, secrets) = (self.settings.clone(), Arc::clone(&self.secrets));
        let tokens = blocking(move || Tokens::of(&settings, &secrets)).await;
        let Tokens { bot, app } = tokens.map_err(Stop::Refused)?;
        let (identity, _) =
            whoami(&self.api, &bot).await.map_err(|trouble| match trouble.is_access() {
                true => {
                    let name = &self.settings.bot_token;
                    Stop::Refused(format!("{trouble}; mend it, and `twobox secrets set {name}`"))
                }
                false => trouble.into(),
            })?;
        self.be(&identity).await?;
        self.people.know(&identity.user_id, &identity.user);
        let account = Arc::new(Account { bot, app, user: identity.user_id });
        *lock(&self.account) = Some(Arc::clone(&account));
        Ok(account)
    }

    /// Is this bot. What is kept of another is put aside; where nothing is kept, it begins to hear now.
    async fn be(&self, identity: &Identity) -> Result<(), Stop> {
        let whose = format!("{}/{}", identity.team_id, identity.user_id);
        let known = lock(&self.kept).whose.clone();
        if !known.is_empty() && known != whose {
            let folder = self.folder.clone();
            let aside = blocking(move || kept::put_aside(&folder)).await.map_err(|error| {
                let folder = self.folder.display();
                Stop::Refused(format!("cannot put aside what is kept in {folder}: {error}"))
            })?;
            tracing::warn!(
                channel = self.id,
                was = known,
                is = whose,
                aside = %aside.display(),
                "the bot is another than it was: what is kept of the other was put aside"
            );
            *lock(&self.kept) = Kept::default();
        }
        let is_new = lock(&self.kept).since.is_none();
        if is_new {
            let now = Ts::at(SystemClock.now());
            let written = self.keep(|kept| (kept.whose, kept.since) = (whose, Some(now))).await;
            written.map_err(|why| Stop::Trouble { why, wait: None })?;
        }
        Ok(())
    }
}
