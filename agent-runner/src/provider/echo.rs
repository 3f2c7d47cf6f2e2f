//! `echo`: says back what was said. Shows that everything around a provider works.

use twobox_shared::content::Failure;

use super::{Done, Prompt, Provider, TurnHandle};
use crate::event::Said;

/// One reply for each triggering message, which answers that message and no other.
pub(crate) struct Echo;

impl Provider for Echo {
    fn turn(&mut self, prompt: &Prompt, handle: &TurnHandle) -> Result<Done, Failure> {
        for message in prompt.messages.iter().filter(|message| message.trigger) {
            let text = format!("echo: {}", message.text);
            let answers = Some(message.id.clone());
            handle.say(Said::Reply { text, files: Vec::new(), answers });
        }
        Ok(Done { continuation: None, silent: true })
    }
}
