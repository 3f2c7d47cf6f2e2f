//! How people are called, and which conversations are with one person alone. What cannot be found out in time is not waited for: an
//! id is a name as well.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::time::timeout;
use twobox_shared::content::shorten;
use twobox_shared::visible;
use twobox_system::lock::lock;

use super::api::{Api, Token};

/// How many people are known at once.
const KNOWN_MAX: usize = 5_000;

/// How long a name is believed.
const FRESH: Duration = Duration::from_secs(60 * 60);

/// How long is not asked again for a name that could not be found out.
const MISSED: Duration = Duration::from_secs(60);

/// How long a name is waited for: what was said is acknowledged within three seconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest name, in characters.
const NAME_MAX: usize = 100;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct People {
    names: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    name: Option<String>,
    until: Instant,
}

#[derive(Deserialize)]
struct Found {
    user: User,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    name: String,
    #[serde(default)]
    real_name: String,
    #[serde(default)]
    profile: Profile,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Profile {
    display_name: String,
    real_name: String,
}

impl User {
    /// What they call themselves: one line, which is bounded and hides nothing.
    fn called(&self) -> Option<String> {
        let names =
            [&self.profile.display_name, &self.profile.real_name, &self.real_name, &self.name];
        let shown = names.into_iter().map(|name| visible::line(name).trim().to_owned());
        shown.into_iter().find(|name| !name.is_empty()).map(|name| shorten(&name, NAME_MAX))
    }
}

impl People {
    /// What the person with this id is called.
    pub(super) async fn name(&self, api: &Api, token: &Token, id: &str) -> Option<String> {
        let now = Instant::now();
        if let Some(known) = lock(&self.names).get(id).filter(|known| known.until > now) {
            return known.name.clone();
        }
        let fields = [("user", id)];
        let asked = timeout(PATIENCE, api.form::<Found>(token, "users.info", &fields)).await;
        let name = asked.ok().and_then(Result::ok).and_then(|found| found.user.called());
        let mut names = lock(&self.names);
        if names.len() >= KNOWN_MAX {
            names.clear();
        }
        let until = now + if name.is_some() { FRESH } else { MISSED };
        names.insert(id.to_owned(), Known { name: name.clone(), until });
        name
    }

    /// The person with this id is called so.
    pub(super) fn know(&self, id: &str, name: &str) {
        let name = Some(shorten(&visible::line(name), NAME_MAX));
        let until = Instant::now() + FRESH * 24;
        lock(&self.names).insert(id.to_owned(), Known { name, until });
    }
}
