//! `echo`: says back what was said. Shows that everything around a provider works.

use twobox_shared::content::Failure;

use super::{Desk, Done, Prompt, Provider};
use crate::event::Said;

/// One reply for each triggering message.
pub(crate) struct Echo;

impl Provider for Echo {
    fn turn(&mut self, prompt: &Prompt, desk: &Desk) -> Result<Done, Failure> {
        for message in prompt.messages.iter().filter(|message| message.trigger) {
            let text = format!("echo: {}", message.text);
            desk.say(Said::Reply { text, files: Vec::new() });
        }
        Ok(Done { continuation: None, silent: true })
    }
}
