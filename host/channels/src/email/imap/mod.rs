//! Reading a mailbox (RFC 9051, and 3501 before it): the dozen commands that the channel needs. Nothing in the
//! mailbox is changed, and no mail is marked as read.
//!
//! This is no library's, because the one there is brings a second of five crates that are here, and a runtime's
//! channels, for these commands.

mod fetched;
mod syntax;

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::settings::Server;
use super::smtp::Login;
use super::wire::{Wire, within, words};
pub(super) use fetched::Mail;
use fetched::{content, mail};
use syntax::{Response, Status, Value};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most bytes of the head of a mail.
const HEAD_MAX: usize = 64 << 10;

/// How many mails may be told of at once.
const FOUND_MAX: usize = 200_000;

/// A connection to a mailbox.
pub(super) struct Imap {
    wire: Wire,
    server: Server,
    next: u32,
    /// What the server can do, in capitals.
    can: Vec<String>,
    /// How many mails there are in the folder, by its last word.
    exists: u32,
    /// Whether something came since that was asked last.
    has_news: bool,
}

/// A folder that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Folder {
    /// As long as this is the same, a UID means the same mail.
    pub(super) uid_validity: u32,
    /// What the next mail gets at least, if the server says so.
    pub(super) uid_next: Option<u32>,
}

impl Imap {
    /// Connects, begins TLS, and logs in. Without TLS nothing is said to a server that is not on this machine.
    ///
    /// # Errors
    /// Why that is not possible, for people.
    pub(super) async fn enter(server: &Server, login: &Login<'_>) -> Result<Self, String> {
        let wire = Wire::open(server).await?;
        let mut imap = Self {
            wire,
            server: server.clone(),
            next: 0,
            can: Vec::new(),
            exists: 0,
            has_news: false,
        };
        match within(PATIENCE, server, imap.response()).await? {
            Response::Told(status) if status.word == "OK" => {}
            Response::Told(status) => return Err(imap.no("does not begin", &status)),
            Response::Done { .. } | Response::Data(_) | Response::More => {
                return Err(format!("{server} does not begin as an IMAP server"));
            }
        }
        imap.look().await?;
        if !imap.wire.is_secret && imap.knows("STARTTLS") {
            imap.ask("STARTTLS").await?;
            let Self { wire, .. } = imap;
            imap = Self {
                wire: wire.secure().await?,
                server: server.clone(),
                next: 100,
                can: Vec::new(),
                exists: 0,
                has_news: false,
            };
            imap.look().await?;
        }
        if !imap.wire.is_secret && !server.near {
            return Err(format!("{server} does not offer TLS, and nothing is said to it without"));
        }
        imap.log_in(login).await?;
        imap.look().await?; // it may say more of itself now
        Ok(imap)
    }

    async fn look(&mut self) -> Result<(), String> {
        let said = self.ask("CAPABILITY").await?;
        let words = said.iter().filter(|it| it.first().is_some_and(|it| it.is("CAPABILITY")));
        let words = words.flat_map(|it| it.iter().skip(1).filter_map(Value::atom));
        self.can = words.map(str::to_ascii_uppercase).collect();
        Ok(())
    }

    /// Whether the server can do that.
    pub(super) fn knows(&self, word: &str) -> bool {
        self.can.iter().any(|it| it == word)
    }

    async fn log_in(&mut self, login: &Login<'_>) -> Result<(), String> {
        let Login { user, password } = login;
        let server = self.server.clone();
        let refused = |why: String| {
            format!(
                "{server} does not let the account in; are its name and password right? ({why})"
            )
        };
        if self.knows("AUTH=PLAIN") {
            let plain = BASE64_STANDARD.encode(format!("\0{user}\0{password}"));
            let tag = self.send("AUTHENTICATE PLAIN").await?;
            within(PATIENCE, &server, async {
                loop {
                    match self.response().await? {
                        Response::More => {
                            self.wire.write(format!("{plain}\r\n").as_bytes()).await?
                        }
                        Response::Done { tag: other, status } if other == tag => {
                            return match status.word == "OK" {
                                true => Ok(()),
                                false => Err(refused(words(&status.text))),
                            };
                        }
                        Response::Done { .. } | Response::Told(_) | Response::Data(_) => {}
                    }
                }
            })
            .await
        } else if self.knows("LOGINDISABLED") {
            Err(format!("{server} knows no login that the host knows (PLAIN)"))
        } else {
            let (user, password) = (quoted(user)?, quoted(password)?);
            self.ask(&format!("LOGIN {user} {password}")).await.map(drop).map_err(refused)
        }
    }

    /// Opens a folder to read it.
    ///
    /// # Errors
    /// Why that is not possible, for people.
    pub(super) async fn examine(&mut self, folder: &str) -> Result<Folder, String> {
        let name = quoted(folder)?;
        let tag = self.send(&format!("EXAMINE {name}")).await?;
        let server = self.server.clone();
        let mut opened = Folder { uid_validity: 0, uid_next: None };
        within(PATIENCE, &server, async {
            loop {
                match self.response().await? {
                    Response::Told(status) => match (status.code.first(), status.code.get(1)) {
                        (Some(word), Some(number)) if word.eq_ignore_ascii_case("UIDVALIDITY") => {
                            opened.uid_validity = number.parse().unwrap_or_default();
                        }
                        (Some(word), Some(number)) if word.eq_ignore_ascii_case("UIDNEXT") => {
                            opened.uid_next = number.parse().ok();
                        }
                        _ => {}
                    },
                    Response::Done { tag: other, status } if other == tag => {
                        return match status.word == "OK" {
                            true => Ok(()),
                            false => {
                                Err(self
                                    .no(&format!("does not open the folder {folder:?}"), &status))
                            }
                        };
                    }
                    Response::Data(values) => self.note(&values),
                    Response::Done { .. } | Response::More => {}
                }
            }
        })
        .await?;
        match opened.uid_validity {
            0 => Err(format!(
                "{server} does not say how long its numbers mean the same (UIDVALIDITY)"
            )),
            _ => Ok(opened),
        }
    }

    /// The UIDs of all mails from `first` on, in their order.
    ///
    /// # Errors
    /// For people.
    pub(super) async fn uids_from(&mut self, first: u32) -> Result<Vec<u32>, String> {
        self.has_news = false;
        let said = self.ask(&format!("UID SEARCH UID {first}:*")).await?;
        let mut uids = found(&said);
        // `n:*` has the last mail in it, even if its number is below n.
        uids.retain(|uid| *uid >= first);
        uids.sort_unstable();
        uids.dedup();
        match uids.len() > FOUND_MAX {
            true => Err(format!("{} has more mail than can be read", self.server)),
            false => Ok(uids),
        }
    }

    /// The heads of these mails, as far as they are still there, in the order of their UIDs.
    ///
    /// # Errors
    /// For people.
    pub(super) async fn heads(&mut self, uids: &[u32]) -> Result<Vec<Mail>, String> {
        if uids.is_empty() {
            return Ok(Vec::new());
        }
        let set = uids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let said = self
            .ask(&format!(
                "UID FETCH {set} (UID RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER]<0.{HEAD_MAX}>)"
            ))
            .await?;
        let mut mails: Vec<Mail> = said.iter().filter_map(|it| mail(it)).collect();
        mails.retain(|mail| uids.contains(&mail.uid));
        mails.sort_unstable_by_key(|mail| mail.uid);
        mails.dedup_by_key(|mail| mail.uid);
        Ok(mails)
    }

    /// A mail, or its first `most` bytes; `None` if it is not there any more.
    ///
    /// # Errors
    /// For people.
    pub(super) async fn mail(&mut self, uid: u32, most: usize) -> Result<Option<Bytes>, String> {
        let said = self.ask(&format!("UID FETCH {uid} (UID BODY.PEEK[]<0.{most}>)")).await?;
        Ok(said.iter().find_map(|values| content(values, uid)).map(Bytes::from))
    }

    /// Whether there is a mail with this id in the folder.
    ///
    /// # Errors
    /// For people.
    pub(super) async fn has(&mut self, id: &str) -> Result<bool, String> {
        let said = self.ask(&format!("UID SEARCH HEADER Message-ID {}", quoted(id)?)).await?;
        Ok(!found(&said).is_empty())
    }

    /// Waits until something comes, for `limit` at most. Where the server does not tell by itself, it is asked
    /// when `limit` or `poll` is over, whichever is first. Returns when it was last known to be alive: now.
    ///
    /// # Errors
    /// That it is not any more.
    pub(super) async fn wait(&mut self, limit: Duration, poll: Duration) -> Result<(), String> {
        if self.has_news {
            return Ok(());
        }
        if !self.knows("IDLE") {
            tokio::time::sleep(limit.min(poll)).await;
            return self.ask("NOOP").await.map(drop);
        }
        let end = Instant::now() + limit;
        let tag = self.send("IDLE").await?;
        let mut is_idle = false;
        while !self.has_news {
            match timeout_at(end, self.response()).await {
                Ok(Ok(Response::More)) => is_idle = true,
                Ok(Ok(Response::Data(values))) => self.note(&values),
                Ok(Ok(Response::Told(status))) if status.word == "BYE" => {
                    return Err(self.no("ends the connection", &status));
                }
                Ok(Ok(Response::Told(_))) => {}
                Ok(Ok(Response::Done { status, .. })) => {
                    return Err(self.no("ends its waiting", &status));
                }
                Ok(Err(why)) => return Err(why),
                Err(_) => break,
            }
        }
        if !is_idle {
            // It was never said that it waits: what follows would be no command.
            within(PATIENCE, &self.server.clone(), async {
                while self.response().await? != Response::More {}
                Ok(())
            })
            .await?;
        }
        self.wire.write(b"DONE\r\n").await?;
        self.finish(&tag).await.map(drop)
    }

    /// Ends it politely, as far as the server does.
    pub(super) async fn leave(mut self) {
        if let Ok(tag) = self.send("LOGOUT").await {
            let server = self.server.clone();
            drop(within(Duration::from_secs(2), &server, self.until(&tag)).await);
        }
        self.wire.close().await;
    }

    /// Asks for something, and returns what was said of it.
    async fn ask(&mut self, command: &str) -> Result<Vec<Vec<Value>>, String> {
        let tag = self.send(command).await?;
        self.finish(&tag).await
    }

    async fn send(&mut self, command: &str) -> Result<String, String> {
        self.next += 1;
        let tag = format!("T{}", self.next);
        let line = format!("{tag} {command}\r\n");
        let server = self.server.clone();
        within(PATIENCE, &server, self.wire.write(line.as_bytes())).await?;
        Ok(tag)
    }

    /// Reads up to the end of the command under `tag`. As long as something comes, it is waited for.
    async fn finish(&mut self, tag: &str) -> Result<Vec<Vec<Value>>, String> {
        let (said, status) = self.until(tag).await?;
        match status.word == "OK" {
            true => Ok(said),
            false => Err(self.no("does not do what it is asked", &status)),
        }
    }

    async fn until(&mut self, tag: &str) -> Result<(Vec<Vec<Value>>, Status), String> {
        let mut said = Vec::new();
        loop {
            match self.response_within(PATIENCE).await? {
                Response::Done { tag: other, status } if other == tag => return Ok((said, status)),
                Response::Data(values) => {
                    self.note(&values);
                    said.push(values);
                }
                Response::Told(status) if status.word == "BYE" => {
                    return Err(self.no("ends the connection", &status));
                }
                Response::Told(_) | Response::Done { .. } | Response::More => {}
            }
        }
    }

    /// The next answer, which may take as long as it comes: it is silence that is not waited for longer than that.
    async fn response_within(&mut self, patience: Duration) -> Result<Response, String> {
        let server = self.server.clone();
        loop {
            if let Some(response) = self.whole()? {
                return Ok(response);
            }
            within(patience, &server, self.wire.fill()).await?;
        }
    }

    /// What was read already of an answer, if it is all of one.
    fn whole(&mut self) -> Result<Option<Response>, String> {
        let told = |why| format!("{}: {why}", self.server);
        let Some(length) = syntax::complete(self.wire.read()).map_err(told)? else {
            return Ok(None);
        };
        let bytes = self.wire.take(length);
        syntax::read(&bytes).map(Some).map_err(|why| format!("{}: {why}", self.server))
    }

    /// The next answer. Whoever stops waiting loses nothing.
    async fn response(&mut self) -> Result<Response, String> {
        loop {
            if let Some(response) = self.whole()? {
                return Ok(response);
            }
            self.wire.fill().await?;
        }
    }

    /// Takes note of what is new in the folder.
    fn note(&mut self, values: &[Value]) {
        if let [number, word, ..] = values
            && word.is("EXISTS")
            && let Some(number) = number.number()
        {
            self.has_news |= number > self.exists;
            self.exists = number;
        }
        if let [number, word, ..] = values
            && word.is("EXPUNGE")
            && number.number().is_some()
        {
            self.exists = self.exists.saturating_sub(1);
        }
    }

    fn no(&self, what: &str, status: &Status) -> String {
        format!("{} {what} ({} {})", self.server, status.word, words(&status.text))
    }
}

/// `text` as a string of a command.
fn quoted(text: &str) -> Result<String, String> {
    match text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true => Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))),
        false => Err("it has characters that IMAP does not take".to_owned()),
    }
}

/// The numbers that a search has found.
fn found(said: &[Vec<Value>]) -> Vec<u32> {
    let searches = said.iter().filter(|it| it.first().is_some_and(|it| it.is("SEARCH")));
    searches.flat_map(|it| it.iter().skip(1).filter_map(Value::number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_a_server_is_one_string() {
        assert_eq!(quoted("a \"b\\").unwrap(), "\"a \\\"b\\\\\"");
        for odd in ["a\r\nT1 LOGOUT", "ä", "\0"] {
            assert!(quoted(odd).is_err(), "{odd}");
        }
    }
}
