//! What an agent's models may use in a day and what it may reach of the network, as its configuration says it
//! at the moment of each request: what a person takes back is gone for the containers that live already.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use twobox_config::Containers;
use twobox_gateway::{Allowed, price};
use twobox_runtime::Profile;
use twobox_shared::agent_config::AgentConfigError;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

/// What one agent may do.
pub(crate) struct Allowance {
    source: PathBuf,
    settings: Containers,
    known: Mutex<Known>,
}

/// What was read last, and of which file.
struct Known {
    allowed: Allowed,
    file: Option<Seen>,
}

/// What changes with a file: its inode, its size, and when it and its place were changed.
type Seen = (u64, u64, (i64, i64), (i64, i64));

/// What `profile` allows.
pub(crate) fn of(profile: &Profile) -> Allowed {
    let limit = price::limit(profile.budget.usd_per_day, profile.budget.tokens_per_day);
    let run = profile.budget.usd_per_run.map(price::nano);
    let (egress, servers) =
        (Arc::new(profile.egress.clone()), Allowed::servers_of(&profile.agent.provider));
    Allowed { limit, run, egress, records: profile.record, servers }
}

impl Allowance {
    /// That of the agent whose configuration is `source`, which is known to be `allowed`.
    pub(crate) fn new(source: PathBuf, settings: Containers, allowed: Allowed) -> Self {
        Self { source, settings, known: Mutex::new(Known { allowed, file: None }) }
    }

    /// That of the agent whose configuration is `source`.
    ///
    /// # Errors
    /// If it cannot be read. A file that is missing is an error too: nobody says then that there is no
    /// limit.
    pub(crate) fn load(source: PathBuf, settings: Containers) -> Result<Self, AgentConfigError> {
        let seen = fs::metadata(&source)
            .map_err(|error| AgentConfigError::new(&source, error.to_string()))?;
        let allowed = of(&Profile::load(&source, &settings)?);
        // One that went away meanwhile reads as one that says nothing, and so as no limit.
        let same = fs::metadata(&source).is_ok_and(|meta| look(&meta) == look(&seen));
        if !same {
            return Err(AgentConfigError::new(&source, "it changes at this moment".to_owned()));
        }
        let known = Known { allowed, file: Some(look(&seen)) };
        Ok(Self { source, settings, known: Mutex::new(known) })
    }

    /// What it may do now. It costs a look at the file, and reads it if it was changed. While there is no file
    /// that can be read, the last word that was understood holds.
    pub(crate) fn now(&self) -> Allowed {
        let mut known = lock(&self.known);
        let seen = match fs::metadata(&self.source) {
            Ok(meta) => look(&meta),
            Err(error) => {
                self.complain(&error.to_string());
                return known.allowed.clone();
            }
        };
        if known.file != Some(seen) {
            match Profile::load(&self.source, &self.settings) {
                // One that went away meanwhile reads as one that says nothing, and so as no limit.
                Ok(profile) if fs::metadata(&self.source).is_ok_and(|it| look(&it) == seen) => {
                    *known = Known { allowed: of(&profile), file: Some(seen) };
                }
                Ok(_) => {} // it changes at this moment: the next request reads it
                Err(error) => self.complain(&error.to_string()),
            }
        }
        known.allowed.clone()
    }

    fn complain(&self, error: &str) {
        if let Some(before) = warned("gateway.budget", error) {
            tracing::warn!(file = %self.source.display(), error, before,
                "what an agent may use and reach cannot be read: what it might before holds");
        }
    }
}

fn look(meta: &Metadata) -> Seen {
    let (changed, placed) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
    (meta.ino(), meta.size(), changed, placed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_is_changed_counts_at_once_and_a_mistake_never_lifts_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.json");
        let settings = twobox_config::Config::default().containers;
        let budget = |tokens: u64| format!(r#"{{"budget": {{"tokens_per_day": {tokens}}}}}"#);
        fs::write(&file, budget(1000)).unwrap();
        let allowance = Allowance::load(file.clone(), settings.clone()).unwrap();
        let tokens = || allowance.now().limit.tokens;
        assert_eq!(tokens(), Some(1000));
        fs::write(&file, budget(10)).unwrap();
        assert_eq!(tokens(), Some(10), "lowered");
        fs::write(&file, "{").unwrap();
        assert_eq!((tokens(), tokens()), (Some(10), Some(10)), "no configuration");
        fs::remove_file(&file).unwrap();
        assert_eq!(tokens(), Some(10), "no file");
        fs::write(&file, "{}").unwrap();
        assert_eq!(tokens(), None, "lifted by a person");
        let reached =
            || allowance.now().egress.rules().iter().map(ToString::to_string).collect::<Vec<_>>();
        fs::write(&file, r#"{"egress": ["a.org", "b.org"]}"#).unwrap();
        assert_eq!(reached(), ["a.org", "b.org"]);
        fs::write(&file, r#"{"egress": ["b.org"]}"#).unwrap();
        assert_eq!(reached(), ["b.org"], "taken back");
        fs::remove_file(&file).unwrap();
        assert!(Allowance::load(file.clone(), settings.clone()).is_err());
        fs::write(&file, "{").unwrap();
        assert!(Allowance::load(file, settings).is_err());
    }
}
