//! What of a mail is handed to the host, and what becomes of that.

use std::collections::HashSet;

use bytes::Bytes;
use mailparse::parse_headers;
use twobox_model::channel::{Address, Inbound, Refusal};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::content::{About, Chat, digest16};
use twobox_shared::ids::MessageId;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use super::EmailChannel;
use super::attached::Read;
use super::body::{self, Body, MAIL_MAX};
use super::compose::bare_subject;
use super::imap::{Imap, Mail};
use super::kept::mark;
use super::letter::{Correspondent, Head, handed};
use super::origin::{Origin, judge};
use super::send::Files;
use crate::instance::Surroundings;

/// What became of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is durable, or nobody wants it. By this it is known.
    Done(String),
    /// It could not be taken now.
    Later,
}

/// Chats of which something could not be taken, so that what was written later waits, too.
pub(super) type Stuck = HashSet<String>;

impl EmailChannel {
    /// Hands in a mail, unless it is known by its mark, or nobody's word.
    ///
    /// # Errors
    /// That the server cannot be read any more.
    pub(super) async fn hear(
        &self,
        surroundings: &Surroundings,
        imap: &mut Imap,
        mail: &Mail,
        (heard, stuck): (&HashSet<String>, &mut Stuck),
    ) -> Result<Heard, String> {
        let known = known(mail);
        let is_known = {
            let kept = lock(&self.kept);
            // What waits is no mail of long ago, however long it waits.
            let got = mail.got.filter(|_| !kept.waiting.contains(&mail.uid));
            kept.knows(heard, &known.mark, got)
        };
        if is_known {
            return Ok(Heard::Done(known.mark));
        }
        let Some(from) = self.person(&known) else { return Ok(Heard::Done(known.mark)) };
        if stuck.contains(&from.address) {
            return Ok(Heard::Later);
        }
        let Some(raw) = imap.mail(mail.uid, MAIL_MAX).await? else {
            return Ok(Heard::Done(known.mark)); // somebody has deleted it
        };
        let read = self.read(mail, raw).await;
        let address = from.address.clone();
        match self.hand_in(surroundings, imap, mail, (&known, from), read).await? {
            true => Ok(Heard::Done(known.mark)),
            false => {
                stuck.insert(address);
                Ok(Heard::Later)
            }
        }
    }

    async fn read(&self, mail: &Mail, raw: Bytes) -> Read {
        let (bytes, is_cut) = (raw.clone(), raw.len() < mail.size as usize);
        let body = blocking(move || body::body(&bytes)).await.unwrap_or_else(|why| Body {
            text: format!("[this mail cannot be read: {why}]"),
            attached: Vec::new(),
        });
        Read { raw, body, is_cut }
    }

    /// Whose word it is, if it is a person's and known to be theirs.
    fn person<'a>(&self, known: &'a Known<'_>) -> Option<&'a Correspondent> {
        let from = known.head.from.as_ref();
        let who = from.map_or("nobody", |from| from.address.as_str());
        let own = self.settings.own();
        match judge(&known.headers, from, &own, &self.settings.trust) {
            Origin::Person => return from,
            Origin::Own => {}
            Origin::Program(why) => {
                tracing::debug!(channel = self.id, from = who, why, "a mail is passed over");
            }
            Origin::Bounce => {
                if let Some(before) = warned("mail came back", &self.id) {
                    let subject = &known.head.subject;
                    tracing::warn!(
                        channel = self.id,
                        subject,
                        before,
                        "a mail came back; look into the mailbox"
                    );
                }
            }
            Origin::Unproven(why) => {
                if let Some(before) = warned("unproven mail", &format!("{} {who}", self.id)) {
                    tracing::warn!(
                        channel = self.id,
                        from = who,
                        why,
                        before,
                        "a mail is not heard: nobody knows whether it is from whom it says"
                    );
                }
            }
        }
        None
    }

    /// Hands it in. Returns whether that is done with.
    async fn hand_in(
        &self,
        surroundings: &Surroundings,
        imap: &mut Imap,
        mail: &Mail,
        (known, from): (&Known<'_>, &Correspondent),
        read: Read,
    ) -> Result<bool, String> {
        let (head, id) = (&known.head, known.id.as_str());
        let thread = head.thread(id, self.settings.address.domain());
        let chat = from.address.as_str();
        let is_new = lock(&self.kept).thread(chat, &thread).is_none();
        let before: Vec<String> =
            head.references.iter().chain(&head.in_reply_to).cloned().collect();
        // An answer may leave before this returns.
        let (subject, now) = (Some(head.subject.as_str()), SystemClock.now());
        lock(&self.kept).note(chat, &thread, subject, &before, id, now);
        let address = Address {
            channel_type: self.id.clone(),
            platform_id: chat.to_owned(),
            thread_id: Some(thread),
        };
        let chat = self.chat(head, from, text(head, &read.body, is_new));
        let (at, handed) = (address.clone(), handed(id));
        let mut inbound = Inbound::new(address, handed.clone(), chat);
        let intake = surroundings.intake.as_ref();
        // They are there until it is accepted or refused.
        let _staged = self.attach(intake, imap, mail, read, &mut inbound).await?;
        Ok(match intake.accept(inbound).await {
            Ok(_) => true,
            Err(Refusal::NobodyListens { .. }) => {
                self.tell_unwired(&at.platform_id);
                true
            }
            Err(Refusal::Unheard { say: None }) => true,
            Err(Refusal::Unheard { say: Some(text) }) => {
                self.say(&at, &handed, &text).await;
                true
            }
            Err(refusal @ Refusal::TooManyThreads { .. }) => {
                self.say(&at, &handed, &refusal.to_string()).await;
                true
            }
            Err(refusal @ (Refusal::TryAgain { .. } | Refusal::Blocked { .. })) => {
                tracing::debug!(channel = self.id, %refusal, "a mail waits");
                false
            }
        })
    }

    fn chat(&self, head: &Head, from: &Correspondent, text: String) -> Chat {
        let own = self.settings.own();
        let others = head.to.iter().chain(&head.cc).any(|it| *it != own && *it != from.address);
        Chat {
            text,
            sender: Some(from.name.clone().unwrap_or_else(|| from.address.clone())),
            about: Some(About {
                sender_id: Some(from.address.clone()),
                group: Some(others),
                mentioned: head.to.contains(&own),
                reply_to: head.in_reply_to.as_deref().map(|id| handed(id).to_string()),
                sent_at: head.date,
            }),
            ..Chat::default()
        }
    }

    /// Says to the operator, once for each correspondent, how they can be heard.
    fn tell_unwired(&self, chat: &str) {
        let is_first = warned("unwired correspondent", &format!("{} {chat}", self.id));
        if is_first.is_some_and(|before| before == 0) {
            tracing::warn!(
                channel = self.id,
                "somebody writes to whom no agent listens: `twobox wire add AGENT {} '{}' --session-mode \
                 per-thread` has one listen",
                self.id,
                chat.replace('\'', "'\\''")
            );
        }
    }

    /// Tells somebody something of the host's own, once for each mail, as far as that is possible.
    async fn say(&self, address: &Address, id: &MessageId, text: &str) {
        // A mail is known to its chat alone.
        let key = format!("host:{}:{}:{id}", self.id, address.platform_id);
        let outcome = self.send_text(address, &key, text, Some(id), Files::default()).await;
        tracing::debug!(channel = self.id, ?outcome, "somebody was told something by the host");
        lock(&self.said).push(key);
    }
}

/// What is known of a mail by its head.
struct Known<'a> {
    headers: Vec<mailparse::MailHeader<'a>>,
    head: Head,
    /// Its id, or one that is made of its head: some have none.
    id: String,
    mark: String,
}

fn known(mail: &Mail) -> Known<'_> {
    // What has no readable head is from nobody.
    let headers = parse_headers(&mail.head).map(|(headers, _)| headers).unwrap_or_default();
    let head = Head::of(&headers);
    let made = || format!("{}@no-id.invalid", digest16(&String::from_utf8_lossy(&mail.head)));
    let id = head.id.clone().unwrap_or_else(made);
    let mark = mark(head.from.as_ref().map_or("", |from| from.address.as_str()), &id);
    Known { headers, head, id, mark }
}

/// The mark of a mail that is there before the folder is read for the first time.
pub(super) fn mark_of(mail: &Mail) -> String {
    known(mail).mark
}

/// What the agent reads. A subject is said where a thread begins, and where what is written needs it.
fn text(head: &Head, body: &Body, is_new: bool) -> String {
    let subject = bare_subject(&head.subject);
    let written = body.text.trim();
    match () {
        () if written.is_empty() => subject.to_owned(),
        // A word to the host, which is one only alone.
        () if subject.is_empty() || !is_new || head.is_answer() || written.starts_with('/') => {
            written.to_owned()
        }
        () => format!("Subject: {subject}\n\n{written}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_said_where_a_thread_begins() {
        let head = |subject: &str, answers: bool| Head {
            subject: subject.to_owned(),
            in_reply_to: answers.then(|| "a@x".to_owned()),
            ..Head::default()
        };
        let body = |text: &str| Body { text: text.to_owned(), attached: Vec::new() };
        let cases = [
            ("begins", "lunch", "hi", false, true, "Subject: lunch\n\nhi"),
            ("goes on", "Re: lunch", "hi", true, false, "hi"),
            ("answers what is forgotten", "Re: lunch", "hi", true, true, "hi"),
            ("no subject", "", "hi", false, true, "hi"),
            ("subject alone", "lunch?", "", false, true, "lunch?"),
            ("a word", "x", "/stop", false, true, "/stop"),
            ("a word as subject", "/stop", " ", false, true, "/stop"),
        ];
        for (case, subject, written, answers, is_new, expected) in cases {
            assert_eq!(text(&head(subject, answers), &body(written), is_new), expected, "{case}");
        }
    }

    #[test]
    fn a_mail_without_an_id_is_known_by_its_head() {
        let mail = |head: &str| Mail { uid: 1, size: 1, got: None, head: head.as_bytes().to_vec() };
        let one = mail("From: a@x\r\nSubject: one\r\n\r\n");
        assert_eq!(mark_of(&one), mark_of(&Mail { uid: 9, ..one.clone() }));
        assert_ne!(mark_of(&one), mark_of(&mail("From: a@x\r\nSubject: two\r\n\r\n")));
        let same = mail("From: a@x\r\nMessage-ID: <i@x>\r\n\r\n");
        let stolen = mail("From: e@x\r\nMessage-ID: <i@x>\r\n\r\n");
        assert_ne!(mark_of(&same), mark_of(&stolen), "nobody takes another's mail away");
    }
}
