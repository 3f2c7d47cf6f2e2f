//! What Claude Code is told besides what it says itself: before every conversation, and of messages.

use std::fmt::Write;
use std::path::Path;

use twobox_shared::visible;

use crate::args::Folders;
use crate::provider::PromptMessage;
use crate::provider::model::{header, prompt, skills, unbracketed};

/// What is said before every conversation of an agent that works in `work`. `reaches`: whether its programs reach
/// something of the network.
pub(super) fn text(folders: &Folders, work: &Path, reaches: bool) -> String {
    let instructions = prompt::instructions(&folders.program);
    let mut text = prompt::system(&prompt::Known {
        instructions: None,
        skills: &[],
        folders,
        work,
        destinations: &[],
        shell: true,
        reaches,
    });
    let skills = skills::found(&folders.program);
    if !skills.is_empty() {
        text.push_str("\nSkills, which say how something is done. Read the file of one before:\n");
    }
    for skill in &skills {
        let about = format!("{}: {}", skill.name, skill.description);
        writeln!(text, "- {} ({})", visible::line(&about), skill.path.display())
            .expect("a String takes everything");
    }
    if let Some(instructions) = instructions {
        write!(text, "\nThe instructions of your definition:\n\n{}\n", instructions.trim())
            .expect("a String takes everything");
    }
    text
}

/// `messages` as they are told, whose files are in `inbox`.
pub(super) fn messages(messages: &[PromptMessage], inbox: &Path) -> String {
    let mut parts = Vec::new();
    for message in messages {
        parts.push(format!("{}\n{}", header(message), unbracketed(&message.text)));
        let folder = inbox.join(message.id.as_str());
        for name in &message.files {
            let path = folder.join(name);
            let path = visible::line(&path.to_string_lossy());
            parts.push(format!("[a file came with it: {path}]"));
        }
    }
    parts.join("\n")
}
