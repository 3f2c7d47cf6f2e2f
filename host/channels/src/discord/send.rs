//! Sending one message: its parts, and what became of each.
//!
//! Each part has a nonce, made of the message's key, by which Discord knows for some minutes that it has taken it. As
//! long as that is certain, a part of which nobody knows is simply sent again. After that it is looked for among what
//! the bot has said since, where there are no nonces any more: by what it says.
//!
//! Source: `enforce_nonce` in <https://docs.discord.com/developers/resources/message>.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::time::sleep;
use twobox_model::channel::{Address, Outbound, Outcome};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::{IdSource, SystemIds};
use twobox_shared::time::UnixMillis;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use super::api::Question;
use super::compose::{self, Extras};
use super::pace::Route;
use super::snowflake::Snowflake;
use super::trouble::Trouble;
use super::wire::{Message, Named};
use super::{Account, DiscordChannel};
use crate::media::media_type;
use crate::parcel::Parcel;
use crate::parts::{self, Looked, Part, Platform, Sent};

/// The most bytes of a file that Discord takes everywhere.
const FILE_MAX: u64 = 10 << 20;

/// How long a file may take to be sent.
const UPLOAD: Duration = Duration::from_secs(90);

/// How long a text may take to be sent.
const PATIENCE: Duration = Duration::from_secs(15);

/// The pauses before a part is sent once more of which nobody knows.
const AGAIN: [Duration; 1] = [Duration::from_secs(1)];

/// How long a nonce is taken to be known. Discord says "the past few minutes".
const NONCE_KNOWN: Duration = Duration::from_secs(60);

/// How far the two clocks may be apart, as far as that is known.
const SLACK: Duration = Duration::from_secs(3);

/// How many pages of a channel are looked through for what was said there, and how long each is.
const PAGES: usize = 10;
const PAGE: usize = 100;

/// The numbers by which Discord says that something is not to be answered there: its history may not be read, or what
/// it answers is none of a person's.
const NO_REPLY: [u64; 2] = [160_002, 50_035];

/// Sending into a channel.
pub(super) fn post_route(channel: &str) -> Route {
    Route::new("POST messages", channel)
}

/// The channel that a message for `address` is sent to, if it can be one.
pub(super) fn target(address: &Address) -> Option<&str> {
    let id = address.thread_id.as_ref().unwrap_or(&address.platform_id);
    let plain = (1..=20).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit());
    plain.then_some(id.as_str())
}

/// What a part is.
#[derive(Debug, Clone)]
enum Piece {
    Text(String, Extras),
    File { name: String, path: PathBuf },
}

/// One message on its way.
struct Letter<'a> {
    channel: &'a DiscordChannel,
    account: &'a Account,
    to: &'a str,
    key: &'a str,
}

impl DiscordChannel {
    /// Sends one message, as far as that was not done before.
    pub(super) async fn send(&self, address: &Address, outbound: &Outbound) -> Outcome {
        let Some(account) = self.account() else { return Outcome::Unavailable };
        let Some(to) = target(address) else {
            let error = "it is for a chat that is no channel of Discord's".to_owned();
            return Outcome::Permanent { error };
        };
        let parcel = match self.pack(outbound).await {
            Ok(parcel) => parcel,
            Err(error) => {
                let error = format!("the files could not be put ready: {error}");
                return Outcome::Transient { error, retry_after: None };
            }
        };
        let parts = parts_of(outbound, &parcel, self.is_group(address)).await;
        let letter = Letter { channel: self, account: &account, to, key: &outbound.key };
        let outcome = parts::deliver(&*self.journal, &outbound.key, &parts, &letter).await;
        parcel.end().await;
        outcome
    }

    /// Whether several may be there; where only one is, nothing is quoted.
    fn is_group(&self, address: &Address) -> bool {
        let id = Snowflake::parse(&address.platform_id);
        let kept = lock(&self.kept);
        id.and_then(|id| kept.known.get(&id)).is_none_or(|known| known.place.guild.is_some())
    }

    async fn pack(&self, outbound: &Outbound) -> io::Result<Parcel> {
        let names = outbound.files.clone();
        let Some(shelf) = outbound.shelf.clone() else { return Ok(Parcel::empty()) };
        let folder = self.parcels.join(SystemIds.uuid().to_string());
        blocking(move || Parcel::pack(&folder, &shelf, &names)).await
    }
}

/// The parts of a message: its text, its files, and the names of those that cannot be sent.
async fn parts_of(outbound: &Outbound, parcel: &Parcel, is_group: bool) -> Vec<Part<Piece>> {
    let text = outbound.text.clone();
    let texts = blocking(move || compose::texts(&text)).await;
    let answered = outbound.in_reply_to.as_ref().filter(|_| is_group);
    let answered = answered.and_then(|id| Snowflake::parse(id.as_str()));
    let last = texts.len().saturating_sub(1);
    let mut parts: Vec<Part<Piece>> = Vec::with_capacity(texts.len());
    for (index, text) in texts.into_iter().enumerate() {
        let extras = Extras {
            reply_to: answered.filter(|_| index == 0),
            prompt: outbound.prompt.clone().filter(|_| index == last),
        };
        parts.push(Part { name: (index + 1).to_string(), what: Piece::Text(text, extras) });
    }
    let mut missing = Vec::new();
    for (index, file) in parcel.attachments.iter().enumerate() {
        let path = match (&file.path, &file.error) {
            (Some(path), _) => PathBuf::from(path),
            (None, error) => {
                let why = error.clone().unwrap_or_else(|| "it is not there".to_owned());
                missing.push((file.name.clone(), why));
                continue;
            }
        };
        match std::fs::metadata(&path).map(|meta| meta.len()) {
            Ok(0) => missing.push((file.name.clone(), "there is nothing in it".to_owned())),
            Ok(size) if size > FILE_MAX => {
                let why = format!("it has {size} bytes, and Discord takes {FILE_MAX}");
                missing.push((file.name.clone(), why));
            }
            Ok(_) => {
                let what = Piece::File { name: file.name.clone(), path };
                parts.push(Part { name: format!("file-{index}"), what });
            }
            Err(error) => missing.push((file.name.clone(), error.to_string())),
        }
    }
    if !missing.is_empty() {
        let texts = compose::texts(&compose::not_sent(&missing));
        parts.extend(texts.into_iter().enumerate().map(|(index, text)| Part {
            name: format!("missing-{index}"),
            what: Piece::Text(text, Extras::default()),
        }));
    }
    parts
}

impl Platform<Piece> for Letter<'_> {
    fn ready<'a>(&'a self, _part: &'a Part<Piece>) -> BoxFuture<'a, Result<(), Outcome>> {
        Box::pin(async {
            let ready = self.channel.api.ready(&post_route(self.to)).await;
            ready.map_err(|trouble| {
                let retry_after = busy(&trouble);
                Outcome::Transient { error: trouble.to_string(), retry_after }
            })
        })
    }

    fn send<'a>(&'a self, part: &'a Part<Piece>) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            let mut pauses = AGAIN.iter();
            loop {
                let trouble = match self.post(part).await {
                    Ok(id) => return Sent::Taken(Some(id.to_string())),
                    Err(trouble) => trouble,
                };
                let error = trouble.to_string();
                let retry_after = busy(&trouble);
                match trouble {
                    trouble if trouble.is_final() => return Sent::Refused(error),
                    Trouble::NotReached(_) | Trouble::Busy { .. } | Trouble::Refused(_) => {
                        return Sent::NotSent { error, retry_after };
                    }
                    // Under the same nonce it shows once.
                    Trouble::Silent(_) | Trouble::Strange(_) => match pauses.next() {
                        Some(pause) => sleep(*pause).await,
                        None => return Sent::Unknown(error),
                    },
                }
            }
        })
    }

    fn tells_later(&self) -> bool {
        true
    }

    fn look<'a>(&'a self, part: &'a Part<Piece>, begun: UnixMillis) -> BoxFuture<'a, Looked> {
        Box::pin(async move {
            let nonce = compose::nonce(self.key, &part.name);
            if let Some(id) = lock(&self.channel.echoes).get(&nonce) {
                return Looked::There(Some(id.to_string()));
            }
            // Its record stays as it is meanwhile, with the time of the first attempt.
            if is_nonce_known(begun, SystemClock.now()) {
                match self.post(part).await {
                    Ok(id) => return Looked::There(Some(id.to_string())),
                    Err(trouble) if trouble.is_final() => {}
                    Err(trouble) => return not_now(&trouble),
                }
            }
            match self.find(part, begun).await {
                Ok(Some(id)) => Looked::There(Some(id.to_string())),
                Ok(None) => match self.channel.shows_history(self.account, self.to).await {
                    Ok(true) => Looked::NotThere,
                    Ok(false) => Looked::Unknown,
                    Err(trouble) if trouble.is_final() => Looked::Unknown,
                    Err(trouble) => not_now(&trouble),
                },
                Err(trouble) if trouble.is_final() => Looked::Unknown,
                Err(trouble) => not_now(&trouble),
            }
        })
    }
}

impl Letter<'_> {
    /// Has Discord make a message of a part.
    async fn post(&self, part: &Part<Piece>) -> Result<Snowflake, Trouble> {
        let sent = self.post_once(part, true).await;
        let sent = match (&part.what, sent) {
            (Piece::Text(_, extras), Err(trouble))
                if extras.reply_to.is_some() && trouble.is_code(&NO_REPLY) =>
            {
                self.post_once(part, false).await
            }
            (_, sent) => sent,
        };
        if sent.as_ref().is_err_and(Trouble::is_about_token) {
            self.channel.in_doubt.notify_one();
        }
        sent
    }

    async fn post_once(&self, part: &Part<Piece>, quotes: bool) -> Result<Snowflake, Trouble> {
        let nonce = compose::nonce(self.key, &part.name);
        let (path, route) = (format!("channels/{}/messages", self.to), post_route(self.to));
        let token = &self.account.token;
        let question = match &part.what {
            Piece::Text(text, extras) => {
                let reply_to = extras.reply_to.filter(|_| quotes);
                let extras = Extras { reply_to, ..extras.clone() };
                let body = compose::message(text, &nonce, &extras);
                Question::post(route, &path, &body).patient(PATIENCE)
            }
            Piece::File { name, path: file } => {
                let _one = self.channel.uploading.acquire().await.expect("it is never closed");
                let file = file.clone();
                let bytes = blocking(move || std::fs::read(file)).await;
                let bytes = bytes.map_err(|error| Trouble::NotReached(error.to_string()))?;
                let boundary = SystemIds.uuid().simple().to_string();
                let shown = compose::file_name(name);
                let message = compose::message("", &nonce, &Extras::default());
                let (kind, body) =
                    compose::with_file(&message, (&shown, media_type(name)), &bytes, &boundary);
                let question = Question::post_body(route, &path, &kind, body.into());
                let named: Named =
                    self.channel.api.read(question.by(token).patient(UPLOAD)).await?;
                return Ok(named.id);
            }
        };
        let named: Named = self.channel.api.read(question.by(token)).await?;
        Ok(named.id)
    }

    /// Looks for a part among what the bot has said since it was begun.
    async fn find(
        &self,
        part: &Part<Piece>,
        begun: UnixMillis,
    ) -> Result<Option<Snowflake>, Trouble> {
        let nonces: Vec<Snowflake> = lock(&self.channel.echoes).values().copied().collect();
        let api = &self.channel.api;
        let mut after = Snowflake::at(api.theirs(begun) - NONCE_KNOWN);
        for _ in 0..PAGES {
            let path = format!("channels/{}/messages?limit={PAGE}&after={after}", self.to);
            let question = Question::get(Route::new("GET messages", self.to), &path);
            let page: Vec<Value> = api.read(question.by(&self.account.token)).await?;
            let since = Snowflake::at(api.theirs(begun) - SLACK);
            let is_last = page.len() < PAGE;
            let mut messages: Vec<Message> =
                page.into_iter().filter_map(|it| serde_json::from_value(it).ok()).collect();
            messages.sort_by_key(|message| message.id);
            let is_it = |message: &&Message| {
                message.author.id == self.account.bot
                    && message.id >= since
                    // What is known to be another part is not this one.
                    && !nonces.contains(&message.id)
                    && says(message, &part.what)
            };
            if let Some(found) = messages.iter().find(is_it) {
                return Ok(Some(found.id));
            }
            match messages.last() {
                Some(last) if !is_last => after = after.max(last.id),
                _ => return Ok(None),
            }
        }
        // So much was said since that nobody can tell.
        Err(Trouble::Refused(super::trouble::Refused {
            status: 400,
            code: 0,
            message: "too much was said since".to_owned(),
        }))
    }
}

/// Whether a part that was begun then is known by its nonce at `now`, and while it is sent once more.
fn is_nonce_known(begun: UnixMillis, now: UnixMillis) -> bool {
    begun <= now && now.since(begun) <= NONCE_KNOWN
}

/// Whether a message is this part. Discord leaves out what it does not show, so letters and digits have to do.
fn says(message: &Message, piece: &Piece) -> bool {
    fn plain(text: &str) -> impl Iterator<Item = char> + '_ {
        text.chars().filter(|c| c.is_alphanumeric())
    }
    match piece {
        Piece::Text(text, _) => {
            let is_bare = plain(text).next().is_none();
            message.attachments.is_empty()
                && plain(&message.content).eq(plain(text))
                && (!is_bare || message.content.trim() == text.trim())
        }
        Piece::File { name, .. } => {
            let shown = compose::file_name(name);
            message.attachments.iter().any(|file| plain(&file.filename).eq(plain(&shown)))
        }
    }
}

fn busy(trouble: &Trouble) -> Option<Duration> {
    match trouble {
        Trouble::Busy { wait, .. } => Some(*wait),
        _ => None,
    }
}

fn not_now(trouble: &Trouble) -> Looked {
    Looked::NotNow { error: trouble.to_string(), retry_after: busy(trouble) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_can_be_a_channel_is_sent_to() {
        let address = |platform: &str, thread: Option<&str>| Address {
            channel_type: "d".to_owned(),
            platform_id: platform.to_owned(),
            thread_id: thread.map(str::to_owned),
        };
        assert_eq!(target(&address("12", None)), Some("12"));
        assert_eq!(target(&address("12", Some("34"))), Some("34"));
        for bad in ["", "..", "12/../34", "12?x", "me", "１２"] {
            assert_eq!(target(&address(bad, None)), None, "{bad}");
            assert_eq!(target(&address("12", Some(bad))), None, "{bad}");
        }
    }

    #[test]
    fn a_nonce_is_known_for_a_minute() {
        let begun = UnixMillis(1_000_000);
        for (after, known) in [(0, true), (60_000, true), (60_001, false), (-1, false)] {
            assert_eq!(is_nonce_known(begun, UnixMillis(begun.0 + after)), known, "{after}");
        }
    }

    #[test]
    fn a_part_is_known_by_what_it_says() {
        let message = |content: &str, file: Option<&str>| -> Message {
            let files: Vec<_> = file.into_iter().map(|name| json!({ "filename": name })).collect();
            serde_json::from_value(json!({
                "id": "1", "channel_id": "2", "author": { "id": "7" },
                "content": content, "attachments": files,
            }))
            .unwrap()
        };
        let text = |text: &str| Piece::Text(text.to_owned(), Extras::default());
        let file = Piece::File { name: "a plan.txt".to_owned(), path: PathBuf::new() };
        assert!(says(&message("hello, *you*", None), &text(" hello, *you*\u{7} ")));
        assert!(!says(&message("hello, you two", None), &text("hello, you")));
        assert!(says(&message("👍", None), &text("👍")));
        assert!(
            !says(&message("👎", None), &text("👍")),
            "what has no letters is compared as it is"
        );
        assert!(says(&message("", Some("a_plan.txt")), &file));
        assert!(!says(&message("", Some("plan.txt")), &file));
        assert!(!says(&message("", Some("a_plan.txt")), &text("")));
    }
}
