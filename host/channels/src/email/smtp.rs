//! Handing a mail over to a server (RFC 5321, 6409). What became of it is told apart exactly: up to the dot at its
//! end nothing has happened, whatever breaks; behind the dot, only the server's answer says.
//!
//! That is why this is no library's: theirs do not say on which side of the dot something broke.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::settings::Server;
use super::wire::{Wire, within, words};

/// How long an answer may take: RFC 5321 §4.5.3.2, as far as somebody waits for it. The last one is what a server
/// looks through the mail for.
const PATIENCE: Duration = Duration::from_secs(60);
const LAST: Duration = Duration::from_secs(10 * 60);

/// The most bytes of a line of an answer, and how many lines it may have.
const LINE_MAX: usize = 4 << 10;
const LINES_MAX: usize = 200;

/// Who is let in.
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) password: &'a str,
}

/// What became of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Submitted {
    /// The server has it.
    Taken,
    /// It has not, and may take it later.
    NotTaken(String),
    /// It never will.
    Refused(String),
    /// It was told all of it, and has not said whether it has it.
    Unknown(String),
}

/// Hands over `mail`, from `from` to `to`.
pub(super) async fn submit(
    server: &Server,
    login: &Login<'_>,
    from: &str,
    to: &str,
    mail: &[u8],
) -> Submitted {
    match Smtp::enter(server, login).await {
        Ok(mut smtp) => {
            let submitted = smtp.submit(from, to, mail).await;
            smtp.leave().await;
            submitted
        }
        Err(why) => Submitted::NotTaken(why),
    }
}

/// A connection over which mail can be handed.
pub(super) struct Smtp {
    wire: Wire,
    server: Server,
    /// What the server can do.
    can: Vec<String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    fn is_good(&self) -> bool {
        matches!(self.code, 200..400)
    }

    fn words(&self) -> String {
        format!("{} {}", self.code, words(&self.lines.join(" ")))
    }
}

impl Smtp {
    /// Connects, begins TLS, and logs in. Without TLS nothing is said to a server that is not on this machine; to
    /// one that is, and knows no logins, mail is handed without.
    ///
    /// # Errors
    /// Why that is not possible, for people.
    pub(super) async fn enter(server: &Server, login: &Login<'_>) -> Result<Self, String> {
        let wire = Wire::open(server).await?;
        let mut smtp = Self { wire, server: server.clone(), can: Vec::new() };
        let greeting = smtp.reply(PATIENCE).await?;
        smtp.check(&greeting, "does not begin")?;
        smtp.hello().await?;
        if !smtp.wire.is_secret && smtp.knows("STARTTLS") {
            let answer = smtp.ask("STARTTLS").await?;
            smtp.check(&answer, "does not begin TLS")?;
            let Self { wire, .. } = smtp;
            smtp = Self { wire: wire.secure().await?, server: server.clone(), can: Vec::new() };
            smtp.hello().await?;
        }
        if !smtp.wire.is_secret && !server.near {
            return Err(format!("{server} does not offer TLS, and nothing is said to it without"));
        }
        smtp.log_in(login).await?;
        Ok(smtp)
    }

    async fn hello(&mut self) -> Result<(), String> {
        let name = match self.wire.local {
            Some(std::net::IpAddr::V4(address)) => format!("[{address}]"),
            Some(std::net::IpAddr::V6(address)) => format!("[IPv6:{address}]"),
            None => "localhost".to_owned(),
        };
        let answer = self.ask(&format!("EHLO {name}")).await?;
        self.check(&answer, "does not speak ESMTP")?;
        self.can = answer.lines.iter().skip(1).map(|line| line.to_ascii_uppercase()).collect();
        Ok(())
    }

    async fn log_in(&mut self, login: &Login<'_>) -> Result<(), String> {
        let ways = self.can.iter().find_map(|line| line.strip_prefix("AUTH").map(str::to_owned));
        let Some(ways) = ways else {
            let server = &self.server;
            return match server.near {
                true => Ok(()),
                false => Err(format!("{server} lets nobody log in: is it the server for sending?")),
            };
        };
        let encoded = |text: &str| BASE64_STANDARD.encode(text);
        let has = |way: &str| ways.split([' ', '=']).any(|it| it == way);
        let answer = if has("PLAIN") {
            let plain = encoded(&format!("\0{}\0{}", login.user, login.password));
            self.ask(&format!("AUTH PLAIN {plain}")).await?
        } else if has("LOGIN") {
            let mut answer = self.ask("AUTH LOGIN").await?;
            for word in [login.user, login.password] {
                if answer.code == 334 {
                    answer = self.ask(&encoded(word)).await?;
                }
            }
            answer
        } else {
            return Err(format!("{} knows neither of the logins PLAIN and LOGIN", self.server));
        };
        self.check(&answer, "does not let the account in; are its name and password right?")
    }

    /// Hands over one mail.
    pub(super) async fn submit(&mut self, from: &str, to: &str, mail: &[u8]) -> Submitted {
        let most = self.size_max();
        if most.is_some_and(|most| mail.len() > most) {
            let most = most.unwrap_or_default();
            return Submitted::Refused(format!(
                "the mail has {} bytes, and {} takes {most}",
                mail.len(),
                self.server
            ));
        }
        let asked = [
            (format!("MAIL FROM:<{from}>"), ""),
            (format!("RCPT TO:<{to}>"), to),
            ("DATA".to_owned(), ""),
        ];
        for (command, whom) in asked {
            let answer = match self.ask(&command).await {
                Ok(answer) => answer,
                Err(why) => return Submitted::NotTaken(why),
            };
            let is_good = answer.is_good() && (command != "DATA" || answer.code == 354);
            if !is_good {
                return self.refused(&answer, whom);
            }
        }
        // A server that does not see the end of a mail throws away what it has of it.
        let sent = within(LAST, &self.server.clone(), self.wire.write(&stuffed(mail))).await;
        if let Err(why) = sent {
            return Submitted::NotTaken(why);
        }
        self.end().await
    }

    /// Says that the mail ends here.
    async fn end(&mut self) -> Submitted {
        let server = self.server.clone();
        let answer = async {
            within(PATIENCE, &server, self.wire.write(b".\r\n")).await?;
            self.reply(LAST).await
        };
        match answer.await {
            Ok(answer) if matches!(answer.code, 200..300) => Submitted::Taken,
            Ok(answer) => self.refused(&answer, ""),
            Err(why) => {
                Submitted::Unknown(format!("the whole mail was handed over, and then: {why}"))
            }
        }
    }

    /// What a no means. `whom` is who was named, if anybody was.
    fn refused(&self, answer: &Reply, whom: &str) -> Submitted {
        let whom = if whom.is_empty() { String::new() } else { format!(" for {whom}") };
        let why = format!("{} does not take the mail{whom}: {}", self.server, answer.words());
        match answer.code {
            500..600 => Submitted::Refused(why),
            _ => Submitted::NotTaken(why),
        }
    }

    /// The most bytes of a mail, if the server says so.
    pub(super) fn size_max(&self) -> Option<usize> {
        let size = self.can.iter().find_map(|line| line.strip_prefix("SIZE "))?;
        size.trim().parse().ok().filter(|most| *most > 0)
    }

    fn knows(&self, word: &str) -> bool {
        self.can.iter().any(|line| line.split(' ').next() == Some(word))
    }

    /// Ends it politely, as far as the server does.
    pub(super) async fn leave(mut self) {
        if self.wire.write(b"QUIT\r\n").await.is_ok() {
            drop(self.reply(Duration::from_secs(2)).await);
        }
        self.wire.close().await;
    }

    async fn ask(&mut self, command: &str) -> Result<Reply, String> {
        if command.contains(['\r', '\n']) {
            return Err("a command has a line break in it".to_owned());
        }
        let server = self.server.clone();
        within(PATIENCE, &server, self.wire.write(format!("{command}\r\n").as_bytes())).await?;
        self.reply(PATIENCE).await
    }

    async fn reply(&mut self, patience: Duration) -> Result<Reply, String> {
        let server = self.server.clone();
        within(patience, &server, async {
            let mut lines = Vec::new();
            loop {
                let line = self.line().await?;
                let (code, more, text) = read(&line)
                    .ok_or_else(|| format!("{} does not answer as a mail server", self.server))?;
                lines.push(text.to_owned());
                match more {
                    true if lines.len() < LINES_MAX => {}
                    true => return Err(format!("{} does not come to an end", self.server)),
                    false => return Ok(Reply { code, lines }),
                }
            }
        })
        .await
    }

    async fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.wire.read().iter().position(|byte| *byte == b'\n') {
                return Ok(String::from_utf8_lossy(&self.wire.take(end + 1)).trim_end().to_owned());
            }
            if self.wire.read().len() > LINE_MAX {
                return Err(format!("{} does not answer as a mail server", self.server));
            }
            self.wire.fill().await?;
        }
    }

    fn check(&self, answer: &Reply, otherwise: &str) -> Result<(), String> {
        match answer.is_good() && answer.code != 334 {
            true => Ok(()),
            false => Err(format!("{} {otherwise} ({})", self.server, answer.words())),
        }
    }
}

/// A line of an answer: its number, whether more lines follow, and its words.
fn read(line: &str) -> Option<(u16, bool, &str)> {
    let code = line.get(..3).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()))?;
    let code = code.parse().ok().filter(|code| (200..600).contains(code))?;
    let (more, text) = match line.as_bytes().get(3) {
        Some(b'-') => (true, &line[4..]),
        Some(b' ') => (false, &line[4..]),
        None => (false, ""),
        Some(_) => return None,
    };
    Some((code, more, text))
}

/// `mail` as it is sent before the dot that ends it: each line ends in CR LF, and no line of it is that dot. A lone
/// CR or LF, which some servers take for the end of a line, is none.
fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len() + 64);
    let mut begins = true;
    let mut bytes = mail.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' | b'\n' => {
                if byte == b'\r' && bytes.peek() == Some(&b'\n') {
                    bytes.next();
                }
                out.extend_from_slice(b"\r\n");
                begins = true;
            }
            byte => {
                if begins && byte == b'.' {
                    out.push(b'.');
                }
                out.push(byte);
                begins = false;
            }
        }
    }
    if !begins {
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
#[path = "smtp_tests.rs"]
mod breaks;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_mail_is_the_dot_that_ends_it() {
        let cases = [
            ("a\r\n.\r\nb", "a\r\n..\r\nb\r\n"),
            (".\r\n", "..\r\n"),
            ("..", "...\r\n"),
            ("a\n.\nb\r.\r", "a\r\n..\r\nb\r\n..\r\n"),
            ("a.\r\n", "a.\r\n"),
            ("", ""),
        ];
        for (mail, expected) in cases {
            assert_eq!(stuffed(mail.as_bytes()), expected.as_bytes(), "{mail:?}");
        }
    }

    #[test]
    fn an_answer_is_a_number_and_words() {
        assert_eq!(read("250-SIZE 5"), Some((250, true, "SIZE 5")));
        assert_eq!(read("354 go on"), Some((354, false, "go on")));
        assert_eq!(read("250"), Some((250, false, "")));
        for strange in ["", "25", "2500 x", "HTTP/1.1 400", "999 x", "ä50 x", "250\u{e9}"] {
            assert_eq!(read(strange), None, "{strange}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_mail_has_its_end_is_not_in_it(mail in "(\\.|\r|\n|\r\n|a){0,30}") {
            let sent = String::from_utf8(stuffed(mail.as_bytes())).unwrap();
            let lines = ["\r\n", sent.as_str()].concat();
            proptest::prop_assert!(!lines.contains("\r\n.\r\n"));
            proptest::prop_assert!(!sent.replace("\r\n", "").contains(['\r', '\n']));
            proptest::prop_assert!(sent.is_empty() || sent.ends_with("\r\n"));
        }
    }
}
