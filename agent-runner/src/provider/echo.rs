//! `echo`: says back what was said. Shows that everything around a provider works.

use twobox_shared::content::Failure;

use super::{Desk, Done, Prompt, Provider};
use crate::event::Said;

/// One reply for each triggering message, which answers that message and no other.
pub(crate) struct Echo;

impl Provider for Echo {
    fn turn(&mut self, prompt: &Prompt, desk: &Desk) -> Result<Done, Failure> {
        for message in prompt.messages.iter().filter(|message| message.trigger) {
            let text = format!("echo: {}", message.text);
            let answers = Some(message.id.clone());
            desk.say(Said::Reply { text, files: Vec::new(), answers });
        }
        Ok(Done { continuation: None, silent: true })
    }
}
