//! What the stand-in is like.

use std::path::PathBuf;

use super::Api;
use super::fault::Fault;
use super::mind::Mind;

/// What the stand-in is like.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The port of the loopback interface; any that is free if it is 0.
    pub port: u16,
    /// A unix socket where it answers too. It must not exist.
    pub socket: Option<PathBuf>,
    /// The key that a request has to give. Any will do if it is left out.
    pub key: Option<String>,
    /// The models that there are. Any will do if it is empty.
    pub models: Vec<String>,
    /// The most tokens of a prompt.
    pub context_tokens: Option<u64>,
    /// What answers where no script does; without one it repeats what was said.
    pub mind: Option<Mind>,
    /// Whether it forgets of each request what it said, but for its model: for storms, in which
    /// conversations grow long.
    pub forgets: bool,
}

impl Options {
    /// The models that are told.
    pub fn told(&self) -> Vec<String> {
        match self.models.is_empty() {
            true => vec!["stand-in-large".to_owned(), "stand-in-small".to_owned()],
            false => self.models.clone(),
        }
    }

    /// Whether there is this model.
    ///
    /// # Errors
    /// There is not.
    pub fn knows(&self, api: Api, model: &str) -> Result<(), Fault> {
        if self.models.is_empty() || self.models.iter().any(|known| known == model) {
            return Ok(());
        }
        Err(match api {
            Api::Messages => Fault::new(404, format!("model: {model}")),
            Api::Responses | Api::Chat => {
                let said =
                    format!("The model `{model}` does not exist or you do not have access to it.");
                Fault::new(404, said).of("model").coded("model_not_found")
            }
        })
    }
}
