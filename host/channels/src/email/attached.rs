//! The files that came with a mail, put ready for whoever is given them; and their names, for all others.

use bytes::Bytes;
use twobox_model::channel::Inbound;
use twobox_system::blocking::blocking;

use super::EmailChannel;
use super::body::{self, Body, MAIL_MAX, WHOLE_MAX};
use super::imap::{Imap, Mail};
use crate::Intake;
use crate::staged::{FILES_MAX, Staged};

/// A mail as far as it was read.
pub(super) struct Read {
    pub(super) raw: Bytes,
    pub(super) body: Body,
    /// Whether there is more of it.
    pub(super) is_cut: bool,
}

impl EmailChannel {
    /// Has `inbound` bring what is attached to the mail, if somebody is given that; otherwise it is named in the text.
    /// What is returned has to live until the message is accepted or refused.
    ///
    /// # Errors
    /// What is wrong on this side, or with the server.
    pub(super) async fn attach(
        &self,
        intake: &dyn Intake,
        imap: &mut Imap,
        mail: &Mail,
        read: Read,
        inbound: &mut Inbound,
    ) -> Result<Option<Staged>, String> {
        if read.body.attached.is_empty() && !read.is_cut {
            return Ok(None);
        }
        if !intake.takes_files(inbound).await {
            name_in(&mut inbound.chat.text, &read, mail);
            return Ok(None);
        }
        let whole = match read.is_cut && mail.size as usize <= WHOLE_MAX {
            true => imap.mail(mail.uid, WHOLE_MAX).await?.unwrap_or_else(|| read.raw.clone()),
            false => read.raw.clone(),
        };
        if whole.len() < mail.size as usize {
            push_line(&mut inbound.chat.text, &cut(mail, whole.len()));
        }
        let most = self.file_max;
        let Ok(files) = blocking(move || body::files(&whole, FILES_MAX, most)).await else {
            return Ok(None); // its text says so
        };
        let mut staged = Staged::new(&self.parcels);
        for (name, content) in files {
            match content {
                Ok(bytes) => staged.put(&name, bytes.into()).await.map_err(|error| {
                    format!("a file cannot be kept in {}: {error}", self.parcels.display())
                })?,
                Err(why) => staged.missing(&name, why),
            }
        }
        inbound.files = staged.files();
        Ok(Some(staged))
    }
}

fn name_in(text: &mut String, read: &Read, mail: &Mail) {
    for name in &read.body.attached {
        push_line(text, &format!("[attached: {name}]"));
    }
    if read.is_cut {
        push_line(text, &cut(mail, MAIL_MAX));
    }
}

/// Adds a line of the host's to what somebody has written.
fn push_line(text: &mut String, line: &str) {
    let apart = match text.as_str() {
        "" => "",
        text if text.ends_with(']') => "\n",
        _ => "\n\n",
    };
    text.push_str(apart);
    text.push_str(line);
}

fn cut(mail: &Mail, read: usize) -> String {
    let (size, read) = (mail.size.div_ceil(1 << 20), read >> 20);
    format!("[of the {size} MiB of this mail {read} were read]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_fetched_is_named() {
        let mail = Mail { uid: 1, size: 9 << 20, got: None, head: Vec::new() };
        let body = Body { text: String::new(), attached: vec!["a.pdf".into(), "b.pdf".into()] };
        let read = Read { raw: Bytes::new(), body, is_cut: true };
        let mut text = "hi".to_owned();
        name_in(&mut text, &read, &mail);
        assert_eq!(
            text,
            "hi\n\n[attached: a.pdf]\n[attached: b.pdf]\n[of the 9 MiB of this mail 4 were read]"
        );
    }
}
