//! Conversations that are behind, read from where they were heard. Slack has pages that begin with the newest,
//! and tells of a thread only where it was begun: so the threads that are known are read as well, and those that
//! stand in what was said last.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::time::sleep;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use super::super::enter::Stop;
use super::super::events::{Message, Next as NextPage, Page, Raw, is_id, next_of};
use super::super::trouble::Trouble;
use super::super::ts::Ts;
use super::super::{Account, SlackChannel};
use super::chats::Next;
use crate::instance::Surroundings;

/// How long a page is.
const PAGE: &str = "200";

/// How many pages of a history are held at once. What is newer is read again when these are taken in.
const HELD: usize = 20;

/// How many pages there are at most of one thing: some say for ever that there is more.
const PAGES_MAX: usize = 1_000;

/// How far before its position a conversation is read: what Slack handed over late may stand there.
const OVERLAP: Duration = Duration::from_secs(2 * 60);

/// How far the clocks of Slack and this machine may be apart.
const CLOCKS: Duration = Duration::from_secs(5 * 60);

/// The kinds of conversations, each with the scope by which they are known.
const KINDS: &str = "public_channel,private_channel,mpim,im";

/// How a conversation came on.
enum Came {
    /// It was read up to now.
    There,
    /// There is more.
    Further,
    /// It takes nothing at the moment, or cannot be read now.
    Stuck(String, Option<Duration>),
    /// It cannot be read, whoever asks again.
    Unreadable(Trouble),
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    channels: Vec<Conversation>,
    #[serde(default)]
    response_metadata: Option<NextPage>,
}

#[derive(Deserialize)]
struct Conversation {
    id: String,
}

impl SlackChannel {
    /// Brings conversations forward that are behind, for ever.
    pub(super) async fn catch_up(
        &self,
        surroundings: &Surroundings,
        account: &Account,
    ) -> Result<Infallible, Stop> {
        loop {
            let now = Instant::now();
            let began = SystemClock.now();
            let next = self.chats.next(now, |chat| lock(&self.kept).position(chat));
            match next {
                Next::List => {
                    self.list(account).await?;
                    self.begun_at(Ts::at(began).before(CLOCKS));
                }
                Next::Read(chat) => self.bring_forward(surroundings, account, &chat).await?,
                Next::Nothing(until) => {
                    let pause = async {
                        match until {
                            Some(at) => sleep(at.saturating_duration_since(now)).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = pause => {}
                        () = self.chats.changed() => {}
                    }
                }
            }
            self.note_up_to_date();
        }
    }

    /// A look at all conversations began then.
    fn begun_at(&self, at: Ts) {
        *lock(&self.look_began) = Some(at);
    }

    /// Once every conversation was read, those in which nobody was heard are heard up to when that began.
    fn note_up_to_date(&self) {
        if !self.chats.is_up_to_date() {
            return;
        }
        if let Some(at) = lock(&self.look_began).take() {
            let mut kept = lock(&self.kept);
            kept.since = kept.since.max(Some(at));
            self.moved.notify_one();
        }
    }

    /// Finds out which conversations the bot is in.
    async fn list(&self, account: &Account) -> Result<(), Stop> {
        let round = self.chats.round();
        let mut found: Vec<String> = lock(&self.kept).chats.keys().cloned().collect();
        match self.conversations(account).await {
            Ok(all) => found.extend(all),
            Err(trouble) if trouble.is_final() || trouble.error() == Some("missing_scope") => {
                if let Some(before) =
                    warned("slack conversations", &format!("{} {trouble}", self.id))
                {
                    let error = trouble.to_string();
                    tracing::warn!(
                        channel = self.id,
                        error,
                        before,
                        "which conversations there are cannot be found out: what was said meanwhile where nobody \
                         was heard yet is not heard"
                    );
                }
            }
            Err(trouble) if trouble.is_access() => return Err(trouble.into()),
            Err(trouble) => {
                self.chats.list_later(Instant::now(), trouble.busy());
                return Ok(());
            }
        }
        self.chats.listed(round, found);
        Ok(())
    }

    async fn conversations(&self, account: &Account) -> Result<Vec<String>, Trouble> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let fields = [
                ("types", KINDS),
                ("exclude_archived", "true"),
                ("limit", PAGE),
                ("cursor", &cursor),
            ];
            let listed: Listed =
                self.api.form(&account.bot, "users.conversations", &fields).await?;
            all.extend(listed.channels.into_iter().map(|it| it.id).filter(|id| is_id(id)));
            match next_of(listed.response_metadata) {
                Some(next) => cursor = next,
                None => break,
            }
        }
        Ok(all)
    }

    /// Reads a conversation on, and then what was said there meanwhile.
    async fn bring_forward(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        chat: &str,
    ) -> Result<(), Stop> {
        match self.read_on(surroundings, account, chat).await {
            Came::Further => return Ok(()),
            Came::There => {}
            Came::Stuck(why, wait) => {
                self.tell_of_waiting(chat, &why);
                self.chats.fail(chat, wait);
                return Ok(());
            }
            Came::Unreadable(trouble) => {
                if let Some(before) = warned("slack history", &format!("{} {chat}", self.id)) {
                    let error = trouble.to_string();
                    tracing::warn!(
                        channel = self.id,
                        chat,
                        error,
                        before,
                        "what was said in a conversation meanwhile cannot be read, and is not heard"
                    );
                }
            }
        }
        loop {
            let mut waiting: VecDeque<_> = self.chats.catch(chat).into();
            if waiting.is_empty() {
                return Ok(());
            }
            while let Some((message, ack)) = waiting.pop_front() {
                if let Err(why) = self.hear(surroundings, account, &message).await {
                    self.tell_of_waiting(chat, &why);
                    waiting.push_front((message, ack));
                    self.chats.put_back(waiting);
                    self.chats.fail(chat, None);
                    return Ok(());
                }
                ack.send();
            }
        }
    }

    /// Takes in what was said in a conversation behind its position, oldest first.
    async fn read_on(&self, surroundings: &Surroundings, account: &Account, chat: &str) -> Came {
        let (last, since) = {
            let kept = lock(&self.kept);
            (kept.chats.get(chat).and_then(|chat| chat.last), kept.since)
        };
        let Some(from) = last.map(|last| last.before(OVERLAP)).or(since) else {
            return Came::There;
        };
        let (said, until) = match self.said_since(account, chat, from).await {
            Ok(said) => said,
            // Whoever is not let in at all reads it when they are again.
            Err(trouble) if trouble.is_final() || trouble.error() == Some("missing_scope") => {
                return Came::Unreadable(trouble);
            }
            Err(trouble) => return Came::Stuck(trouble.to_string(), trouble.busy()),
        };
        for message in said.values() {
            if let Err(why) = self.hear(surroundings, account, message).await {
                return Came::Stuck(why, None);
            }
        }
        match until {
            Some(until) if Some(until) > last => {
                lock(&self.kept).hear(chat, until, None);
                self.moved.notify_one();
                Came::Further
            }
            Some(_) | None => Came::There,
        }
    }

    /// What people have said since `from`, in the conversation and in its threads; and up to when, if that is not
    /// all.
    async fn said_since(
        &self,
        account: &Account,
        chat: &str,
        from: Ts,
    ) -> Result<(BTreeMap<Ts, Message>, Option<Ts>), Trouble> {
        let (pages, is_all) = self.pages(account, chat, from).await?;
        let known = lock(&self.kept).chats.get(chat).map(|chat| chat.threads.clone());
        // Of threads that stand in the pages it is known when something was said there.
        let mut threads: BTreeMap<Ts, Option<Ts>> =
            known.unwrap_or_default().into_keys().map(|thread| (thread, None)).collect();
        let mut said = BTreeMap::new();
        let newest = pages.iter().flatten().map(|raw| raw.ts).max();
        let mut until = newest.filter(|_| !is_all);
        for raw in pages.into_iter().flatten() {
            if raw.latest_reply.is_some() {
                threads.insert(raw.ts, raw.latest_reply);
            }
            add(&mut said, raw, chat, from);
        }
        for (thread, latest) in threads {
            if latest.is_none_or(|latest| latest > from) {
                let (replies, is_all) = self.replies(account, chat, thread, from).await?;
                let newest = replies.iter().map(|raw| raw.ts).max();
                if let Some(newest) = newest.filter(|_| !is_all) {
                    until = Some(until.map_or(newest, |until| until.min(newest)));
                }
                for raw in replies {
                    add(&mut said, raw, chat, from);
                }
            }
        }
        if let Some(until) = until {
            said.retain(|ts, _| *ts <= until);
        }
        Ok((said, until))
    }

    /// The pages of a history up to `from`, and the first one in any case; and whether these are all.
    async fn pages(
        &self,
        account: &Account,
        chat: &str,
        from: Ts,
    ) -> Result<(VecDeque<Vec<Raw>>, bool), Trouble> {
        let (mut pages, mut cursor, mut is_all) = (VecDeque::new(), String::new(), true);
        for _ in 0..PAGES_MAX {
            let fields = [("channel", chat), ("limit", PAGE), ("cursor", &cursor)];
            let mut page: Page =
                self.api.form(&account.bot, "conversations.history", &fields).await?;
            self.tell_of_unreadable(chat, page.messages.unreadable);
            let next = page.next();
            let oldest = page.messages.messages.iter().map(|raw| raw.ts).min();
            pages.push_back(page.messages.messages);
            if pages.len() > HELD {
                pages.pop_front();
                is_all = false;
            }
            match next {
                Some(next) if oldest.is_none_or(|oldest| oldest > from) => cursor = next,
                Some(_) | None => break,
            }
        }
        Ok((pages, is_all))
    }

    /// What was said in a thread since `from`, oldest first; and whether that is all.
    async fn replies(
        &self,
        account: &Account,
        chat: &str,
        thread: Ts,
        from: Ts,
    ) -> Result<(Vec<Raw>, bool), Trouble> {
        let (thread, from) = (thread.to_string(), from.to_string());
        let (mut all, mut cursor) = (Vec::new(), String::new());
        for _ in 0..HELD {
            let fields = [
                ("channel", chat),
                ("ts", &thread),
                ("oldest", &from),
                ("limit", PAGE),
                ("cursor", &cursor),
            ];
            let asked = self.api.form(&account.bot, "conversations.replies", &fields).await;
            let mut page: Page = match asked {
                Ok(page) => page,
                // Somebody has deleted it.
                Err(trouble) if trouble.error() == Some("thread_not_found") => {
                    return Ok((all, true));
                }
                Err(trouble) => return Err(trouble),
            };
            self.tell_of_unreadable(chat, page.messages.unreadable);
            let next = page.next();
            all.extend(page.messages.messages);
            match next {
                Some(next) => cursor = next,
                None => return Ok((all, true)),
            }
        }
        Ok((all, false))
    }

    fn tell_of_unreadable(&self, chat: &str, count: usize) {
        if count > 0
            && let Some(before) = warned("unreadable on slack", &format!("{} {chat}", self.id))
        {
            tracing::warn!(
                channel = self.id,
                chat,
                count,
                before,
                "what stands in a conversation cannot be read and is passed over"
            );
        }
    }
}

/// Adds what a person said since `from`.
fn add(said: &mut BTreeMap<Ts, Message>, raw: Raw, chat: &str, from: Ts) {
    if raw.ts > from
        && let Some(message) = raw.said(chat, None)
    {
        said.insert(message.ts, message);
    }
}
