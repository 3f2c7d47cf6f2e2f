//! Hearing what comes: the folder is read from the position on, and then the server tells when there is more.
//!
//! The position is written when everything before it is durable, is nobody's word, or is written down as waiting:
//! a correspondent whose mail cannot be taken now keeps nobody else waiting.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use twobox_model::backoff::Backoff;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use super::EmailChannel;
use super::hear::{Heard, Stuck, mark_of};
use super::imap::{Folder, Imap, Mail};
use super::kept::{Kept, WAITING_MAX};
use super::smtp::Login;
use crate::instance::Surroundings;
use crate::{Channel, state};

/// How long the server is left alone. RFC 2177 wants less than 29 minutes; behind many routers it is less than 5
/// until nobody knows the connection any more.
const RENEW: Duration = Duration::from_secs(4 * 60);

/// How often a server is asked that does not tell by itself.
const POLL: Duration = Duration::from_secs(30);

/// The pauses after trouble with the server, and before mail is tried again that could not be taken.
const PAUSE: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

/// How many heads are read at once.
const HEADS: usize = 50;

/// How many mails are looked at that were there before the folder is read for the first time.
const PAST: u32 = 500;

/// What follows if the file of the state is removed.
const REMEDY: &str =
    "then the host begins behind the last mail, and does not hear what came meanwhile";

impl EmailChannel {
    /// Lives until the host ends it.
    ///
    /// # Errors
    /// What a person has to mend, and how.
    pub(super) async fn live(&self, surroundings: &Surroundings) -> Result<(), String> {
        let path = state::file(&self.folder);
        let kept: Kept = blocking(move || state::read(&path, REMEDY)).await?;
        *lock(&self.kept) = kept.of(&self.mailbox());
        let mut failures = 0;
        loop {
            let Err(why) = self.follow(surroundings, &mut failures).await;
            failures += 1;
            surroundings.down(why);
            sleep(PAUSE.after(failures)).await;
        }
    }

    /// The mailbox and the folder that are read.
    fn mailbox(&self) -> String {
        let settings = &self.settings;
        format!("{} {} {}", settings.user, settings.imap, settings.folder)
    }

    /// Is let in, and listens until something is in the way.
    async fn follow(
        &self,
        surroundings: &Surroundings,
        failures: &mut i64,
    ) -> Result<Infallible, String> {
        let password = self.password().await?;
        let login = Login { user: &self.settings.user, password: &password };
        let mut imap = Imap::enter(&self.settings.imap, &login).await?;
        let folder = imap.examine(&self.settings.folder).await?;
        self.settle_in(&mut imap, folder).await?;
        let mut pause = Pause::default();
        loop {
            self.catch_up(surroundings, &mut imap, &mut pause).await?;
            surroundings.up();
            *failures = 0;
            imap.wait(pause.left().min(self.pace.renew), POLL).await?;
        }
    }

    /// Finds out where to go on in the folder.
    async fn settle_in(&self, imap: &mut Imap, folder: Folder) -> Result<(), String> {
        let (is_new, before, read) = {
            let kept = lock(&self.kept);
            (kept.is_new(), kept.uid_validity, kept.read)
        };
        if is_new {
            return self.begin(imap, folder).await;
        }
        let is_back = folder.uid_next.is_some_and(|next| next <= read);
        if before != folder.uid_validity || is_back {
            tracing::warn!(
                channel = self.id,
                before,
                now = folder.uid_validity,
                "the mail server has numbered all mail anew; was it restored from a copy? What was heard is known by \
                 its id, and the rest of the folder is read again"
            );
            lock(&self.kept).begin_anew(folder.uid_validity);
            self.write_down().await?;
        }
        Ok(())
    }

    /// Begins behind what is there.
    async fn begin(&self, imap: &mut Imap, folder: Folder) -> Result<(), String> {
        let first = folder.uid_next.map_or(1, |next| next.saturating_sub(PAST).max(1));
        let mut uids = imap.uids_from(first).await?;
        if let Some(next) = folder.uid_next {
            uids.retain(|uid| *uid < next); // what came since is heard
        }
        let last = uids.last().copied().or(folder.uid_next.map(|next| next.saturating_sub(1)));
        let uids = &uids[uids.len().saturating_sub(PAST as usize)..];
        let mut there = Vec::new();
        for some in uids.chunks(HEADS) {
            let heads = imap.heads(some).await?;
            there.extend(heads.iter().map(|mail| (mark_of(mail), mail.got)));
        }
        lock(&self.kept).begin(folder.uid_validity, last.unwrap_or_default(), there);
        self.write_down().await
    }

    /// Hears what waits, if its time has come, and what is new.
    async fn catch_up(
        &self,
        surroundings: &Surroundings,
        imap: &mut Imap,
        pause: &mut Pause,
    ) -> Result<(), String> {
        if pause.is_over() {
            let waiting: Vec<u32> = lock(&self.kept).waiting.iter().copied().collect();
            pause.stuck.clear();
            for some in waiting.chunks(HEADS) {
                self.hear_all(surroundings, imap, some, &mut pause.stuck).await?;
            }
            pause.note(!lock(&self.kept).waiting.is_empty());
        }
        let first = lock(&self.kept).read.saturating_add(1);
        let new = imap.uids_from(first).await?;
        for some in new.chunks(HEADS) {
            if lock(&self.kept).waiting.len() + some.len() > WAITING_MAX {
                break; // the position waits with them
            }
            self.hear_all(surroundings, imap, some, &mut pause.stuck).await?;
        }
        pause.begin(!lock(&self.kept).waiting.is_empty());
        Ok(())
    }

    /// Hears these mails, and writes down how far it came, also if the server is gone in the middle.
    async fn hear_all(
        &self,
        surroundings: &Surroundings,
        imap: &mut Imap,
        uids: &[u32],
        stuck: &mut Stuck,
    ) -> Result<(), String> {
        let mails = imap.heads(uids).await?;
        let ended = self.hear_each(surroundings, imap, uids, &mails, stuck).await;
        let written = self.write_down().await;
        ended.and(written)
    }

    async fn hear_each(
        &self,
        surroundings: &Surroundings,
        imap: &mut Imap,
        uids: &[u32],
        mails: &[Mail],
        stuck: &mut Stuck,
    ) -> Result<(), String> {
        let mut heard = lock(&self.kept).marks();
        for uid in uids {
            let Some(mail) = mails.iter().find(|mail| mail.uid == *uid) else {
                lock(&self.kept).pass(*uid, false); // somebody has deleted it
                continue;
            };
            let became = self.hear(surroundings, imap, mail, (&heard, stuck)).await?;
            let mut kept = lock(&self.kept);
            kept.pass(*uid, became == Heard::Later);
            if let Heard::Done(mark) = became
                && heard.insert(mark.clone())
            {
                kept.done(mark, mail.got);
            }
        }
        Ok(())
    }

    /// Writes down what is known now.
    async fn write_down(&self) -> Result<(), String> {
        let _one_after_the_other = self.writing.lock().await;
        let (kept, said) = (lock(&self.kept).clone(), std::mem::take(&mut *lock(&self.said)));
        let folder = self.folder.clone();
        let written = blocking(move || state::write(&folder, &kept)).await;
        // A disk that is full may have room later.
        match written {
            // The mails that it was about are never handed in again.
            Ok(()) => said.iter().for_each(|key| self.forget(key)),
            Err(error) => {
                lock(&self.said).extend(said);
                return Err(format!("cannot write in {}: {error}", self.folder.display()));
            }
        }
        Ok(())
    }
}

/// How often the channel does what it does by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) renew: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { renew: RENEW }
    }
}

/// When mail is tried again that could not be taken, and whose it was.
#[derive(Debug, Default)]
struct Pause {
    failures: i64,
    next: Option<Instant>,
    stuck: Stuck,
}

impl Pause {
    fn is_over(&self) -> bool {
        self.next.is_none_or(|next| next <= Instant::now())
    }

    /// What waits was tried, and some of it still waits.
    fn note(&mut self, waits: bool) {
        self.failures = if waits { self.failures + 1 } else { 0 };
        self.next = waits.then(|| Instant::now() + PAUSE.after(self.failures));
    }

    /// Something waits, perhaps for the first time.
    fn begin(&mut self, waits: bool) {
        if waits && self.next.is_none() {
            self.note(true);
        }
    }

    fn left(&self) -> Duration {
        self.next.map_or(Duration::MAX, |next| next.saturating_duration_since(Instant::now()))
    }
}
