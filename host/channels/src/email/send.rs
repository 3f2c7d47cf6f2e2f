//! Sending one message, as one mail. Servers do not know keys: what was handed over is recorded, and what is not
//! known is looked for where the server keeps what it has sent, if there is such a folder.

use std::fmt::Write;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lettre::Address as Mailbox;
use twobox_model::channel::{Address, Outbound, Outcome};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::content::{digest16, shorten};
use twobox_shared::ids::{IdSource, MessageId, SystemIds};
use twobox_shared::time::UnixMillis;
use twobox_shared::visible;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use super::EmailChannel;
use super::compose::{self, Draft};
use super::imap::Imap;
use super::letter::{self, handed, is_id, own_id};
use super::smtp::{Login, Submitted, submit};
use crate::parcel::Parcel;
use crate::parts::{self, Looked, Part, Platform, Sent};

/// The most bytes of the files of a mail: most servers take 25 MB, and a file is a third longer in a mail.
const FILES_MAX: u64 = 18 << 20;

/// The pauses before it is looked for what was sent: a server does not put it there at once.
const LOOKS: [Duration; 4] = [
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// The longest name of a file that is told, in characters.
const NAME_MAX: usize = 150;

/// A mail on its way.
pub(super) struct Out {
    to: String,
    id: String,
    mail: Vec<u8>,
}

/// The servers, for one mail.
struct Post<'a> {
    channel: &'a EmailChannel,
    password: &'a str,
}

impl Platform<Out> for Post<'_> {
    fn send<'a>(&'a self, part: &'a Part<Out>) -> BoxFuture<'a, Sent> {
        let settings = &self.channel.settings;
        let login = Login { user: &settings.user, password: self.password };
        let Out { to, id, mail } = &part.what;
        async move {
            let from = settings.address.to_string();
            let submitted = submit(&settings.smtp, &login, &from, to, mail).await;
            match submitted {
                Submitted::Taken => Sent::Taken(Some(id.clone())),
                Submitted::NotTaken(error) => Sent::NotSent { error, retry_after: None },
                Submitted::Refused(error) => Sent::Refused(error),
                Submitted::Unknown(error) => match self.comes_to_be_there(id).await {
                    true => Sent::Taken(Some(id.clone())),
                    false => Sent::Unknown(error),
                },
            }
        }
        .boxed()
    }

    fn look<'a>(&'a self, part: &'a Part<Out>, _begun: UnixMillis) -> BoxFuture<'a, Looked> {
        async move {
            let Some(folder) = &self.channel.settings.sent_folder else { return Looked::Unknown };
            match self.is_there(folder, &part.what.id).await {
                Ok(true) => Looked::There(Some(part.what.id.clone())),
                // It may come yet: a server may put it there later than it sends it.
                Ok(false) => Looked::Unknown,
                Err(error) => Looked::NotNow { error, retry_after: None },
            }
        }
        .boxed()
    }
}

impl Post<'_> {
    /// Whether a mail of which nobody knows is where the server keeps what it has sent, now or soon.
    async fn comes_to_be_there(&self, id: &str) -> bool {
        let Some(folder) = &self.channel.settings.sent_folder else { return false };
        for pause in LOOKS {
            tokio::time::sleep(pause).await;
            if self.is_there(folder, id).await == Ok(true) {
                return true;
            }
        }
        false
    }

    async fn is_there(&self, folder: &str, id: &str) -> Result<bool, String> {
        let settings = &self.channel.settings;
        let login = Login { user: &settings.user, password: self.password };
        let mut imap = Imap::enter(&settings.imap, &login).await?;
        imap.examine(folder).await?;
        let found = imap.has(&format!("<{id}>")).await?;
        imap.leave().await;
        Ok(found)
    }
}

impl EmailChannel {
    /// Sends one message, if that was not done before.
    pub(super) async fn send(&self, address: &Address, outbound: &Outbound) -> Outcome {
        let answered = outbound.in_reply_to.as_ref();
        let files = match self.files(outbound).await {
            Ok(files) => files,
            Err(error) => {
                let error = format!("the files could not be put ready: {error}");
                return Outcome::Transient { error, retry_after: None };
            }
        };
        self.send_text(address, &outbound.key, &outbound.text, answered, files).await
    }

    /// Sends a text under this key.
    pub(super) async fn send_text(
        &self,
        address: &Address,
        key: &str,
        text: &str,
        answered: Option<&MessageId>,
        files: Files,
    ) -> Outcome {
        let chat = address.platform_id.as_str();
        let to = letter::address(chat).and_then(|it| it.parse::<Mailbox>().ok());
        let Some(to) = to else {
            let error = format!("{} is no address that mail can be sent to", visible::line(chat));
            return Outcome::Permanent { error };
        };
        let password = match self.password().await {
            Ok(password) => password,
            Err(error) => return Outcome::Transient { error, retry_after: None },
        };
        let _one_of_few = self.sending.acquire().await.expect("it is never closed");
        let (id, thread, mail) = match self.made(address, key, text, answered, files, &to).await {
            Ok(made) => made,
            Err(error) => return Outcome::Permanent { error },
        };
        let part = Part { name: "1".to_owned(), what: Out { to: to.to_string(), id, mail } };
        let post = Post { channel: self, password: &password };
        let parts = [part];
        let outcome = parts::deliver(&*self.journal, key, &parts, &post).await;
        if let (Outcome::Delivered { .. }, [part]) = (&outcome, &parts) {
            let (id, now) = (&part.what.id, SystemClock.now());
            lock(&self.kept).note(chat, &thread, None, &[], id, now);
        }
        outcome
    }

    /// The mail's id, its thread and its bytes.
    async fn made(
        &self,
        address: &Address,
        key: &str,
        text: &str,
        answered: Option<&MessageId>,
        files: Files,
        to: &Mailbox,
    ) -> Result<(String, String, Vec<u8>), String> {
        let id = own_id(key, address.thread_id.as_deref(), self.settings.address.domain());
        let thread = address.thread_id.clone().unwrap_or_else(|| digest16(&id));
        let known = lock(&self.kept).thread(&address.platform_id, &thread).cloned();
        let mut references = known.as_ref().map(|it| it.ids.clone()).unwrap_or_default();
        references.retain(|it| *it != id);
        let in_reply_to = answers(answered, &references);
        if let Some(answered) = &in_reply_to {
            references.retain(|it| it != answered);
            references.push(answered.clone());
        }
        let mut text = text.to_owned();
        if !files.missing.is_empty() {
            text.push_str("\n\n");
            text.push_str(&not_sent(&files.missing));
        }
        let subject = match (&known, &in_reply_to) {
            (Some(thread), _) if !thread.subject.is_empty() => {
                compose::answer_subject(&thread.subject)
            }
            (_, Some(_)) => compose::answer_subject(""),
            (_, None) => compose::first_words(&text),
        };
        if address.thread_id.is_none() {
            lock(&self.kept).note(
                &address.platform_id,
                &thread,
                Some(&subject),
                &[],
                &id,
                SystemClock.now(),
            );
        }
        let now = u64::try_from(SystemClock.now().0).unwrap_or_default();
        let (from, name, to) =
            (self.settings.address.clone(), self.settings.name.clone(), to.clone());
        let (made_id, files) = (id.clone(), files.files);
        let mail = blocking(move || {
            compose::mail(&Draft {
                from: &from,
                name: name.as_deref(),
                to: &to,
                id: &made_id,
                subject,
                references,
                in_reply_to,
                date: UNIX_EPOCH + Duration::from_millis(now),
                text: &text,
                files,
            })
        });
        mail.await.map(|mail| (id, thread, mail))
    }

    /// What is in the files of a message, as far as it can be sent.
    async fn files(&self, outbound: &Outbound) -> io::Result<Files> {
        let names = outbound.files.clone();
        let Some(shelf) = outbound.shelf.clone().filter(|_| !names.is_empty()) else {
            let missing = names.into_iter().map(|name| (name, "it is not there".to_owned()));
            return Ok(Files { files: Vec::new(), missing: missing.collect() });
        };
        let folder = self.parcels.join(SystemIds.uuid().to_string());
        blocking(move || {
            let parcel = Parcel::pack(&folder, &shelf, &names)?;
            let mut read = Files::default();
            let mut room = FILES_MAX;
            for file in &parcel.attachments {
                let bytes = match &file.path {
                    Some(path) => fitting(path, &mut room),
                    None => Err(file.error.clone().unwrap_or_else(|| "it is not there".to_owned())),
                };
                match bytes {
                    Ok(bytes) => read.files.push((file.name.clone(), bytes)),
                    Err(why) => read.missing.push((file.name.clone(), why)),
                }
            }
            Ok(read)
        })
        .await
    }
}

/// Files of a message, and those that cannot be sent, with the reason.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: Vec<(String, Vec<u8>)>,
    missing: Vec<(String, String)>,
}

/// The bytes of the file, if there is room for them.
fn fitting(path: &str, room: &mut u64) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > *room {
        return Err(format!(
            "with it the files of the mail would have more than {} MiB",
            FILES_MAX >> 20
        ));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    *room = room.saturating_sub(bytes.len() as u64);
    Ok(bytes)
}

/// Which mail is answered: the one that is said, as it is known, else the last of the thread.
fn answers(answered: Option<&MessageId>, thread: &[String]) -> Option<String> {
    let said = answered.and_then(|answered| {
        let known = thread.iter().find(|id| handed(id) == *answered).cloned();
        // A message that somebody else handed in for this chat has an id that no mail has.
        let is_mail = |id: &&str| is_id(id) && id.contains('@');
        known.or_else(|| Some(answered.as_str()).filter(is_mail).map(str::to_owned))
    });
    said.or_else(|| thread.last().cloned())
}

/// What people are told of files that could not be sent.
fn not_sent(missing: &[(String, String)]) -> String {
    let mut text = "Not sent:".to_owned();
    for (name, why) in missing {
        let name = shorten(&visible::line(name), NAME_MAX).replace('`', "'");
        write!(text, "\n- `{name}`: {why}").expect("a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_is_what_was_said_or_the_last_of_the_thread() {
        let thread = ["a/b@x".to_owned(), "c@x".to_owned()];
        let answers = |id: Option<MessageId>, thread: &[String]| answers(id.as_ref(), thread);
        assert_eq!(answers(Some(handed("a/b@x")), &thread).as_deref(), Some("a/b@x"));
        assert_eq!(answers(Some(handed("d@x")), &thread).as_deref(), Some("d@x"), "forgotten");
        assert_eq!(
            answers(Some(MessageId::parse("run-1").unwrap()), &thread).as_deref(),
            Some("c@x")
        );
        assert_eq!(answers(None, &[]), None);
    }
}
