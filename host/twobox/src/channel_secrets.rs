//! The secrets of this host, as channels ask for them: by name, when they need one.

use std::collections::BTreeMap;
use std::sync::Arc;

use twobox_channels::kinds::SecretOf;
use twobox_gateway::secrets::Secrets;
use twobox_shared::errors::chain;
use twobox_system::data::DataDir;

/// Those of `data`, and those that `environment` has or leads to.
pub(crate) fn secret_of(data: &DataDir, environment: &BTreeMap<String, String>) -> SecretOf {
    let secrets = Secrets::new(data.secrets(), environment);
    Arc::new(move |name| {
        let found = secrets.find(name).map_err(|error| chain(&error))?;
        Ok(found.map(|(secret, _)| secret.text().to_owned()))
    })
}
