//! The `email` channel, with a mail server in memory that knows no keys. Real ones are asked in the tests of the
//! whole system.

use std::sync::{Arc, Mutex};

use mailparse::{MailHeaderMap, ParsedMail, parse_mail};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use twobox_config::ChannelSettings;
use twobox_model::channel::Address;
use twobox_system::lock::lock;

use super::{Bench, Weather, conforms};
use crate::Channel;
use crate::email::EmailChannel;
use crate::kinds::Setup;
use crate::parts::MemoryJournal;

#[derive(Default)]
struct Server {
    mails: Vec<String>,
    mended: bool,
    cut: bool,
}

impl Server {
    /// What it answers to a mail; `None` is silence.
    fn take(&mut self, mail: String) -> Option<&'static str> {
        let weather = Weather::of(&text(&mail)).filter(|_| !self.mended);
        if weather == Some(Weather::Never) {
            return Some("550 never");
        }
        self.mails.push(mail);
        (weather != Some(Weather::Silent)).then_some("250 taken")
    }
}

/// What was written in a mail, without what the host has to say of its files.
fn text(mail: &str) -> String {
    let mail = parse_mail(mail.as_bytes()).unwrap();
    let text = plain(&mail).expect("a text").get_body().unwrap();
    text.split("Not sent:").next().unwrap_or_default().trim().to_owned()
}

fn plain<'a, 'b>(part: &'a ParsedMail<'b>) -> Option<&'a ParsedMail<'b>> {
    match part.ctype.mimetype.as_str() {
        "text/plain" => Some(part),
        _ => part.subparts.iter().find_map(plain),
    }
}

struct EmailBench {
    server: Arc<Mutex<Server>>,
    journal: Arc<MemoryJournal>,
    port: u16,
    folder: TempDir,
}

impl EmailBench {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Arc::<Mutex<Server>>::default();
        tokio::spawn(serve(TcpListener::from_std(listener).unwrap(), Arc::clone(&server)));
        let (folder, journal) = (tempfile::tempdir().unwrap(), Arc::default());
        Self { server, journal, port, folder }
    }
}

async fn serve(listener: TcpListener, server: Arc<Mutex<Server>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if !lock(&server).cut {
            tokio::spawn(converse(stream, Arc::clone(&server)));
        }
    }
}

async fn converse(stream: TcpStream, server: Arc<Mutex<Server>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 here\r\n").await.ok()?;
    let mut line = String::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        let answer = match line.split([' ', ':']).next()?.trim() {
            "EHLO" => "250-here\r\n250 AUTH PLAIN",
            "AUTH" => {
                assert_eq!(line.trim_end(), "AUTH PLAIN AGJvdEB4Lm9yZwBodW50ZXIy");
                "235 come in"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.ok()?;
                let mut mail = String::new();
                loop {
                    line.clear();
                    stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
                    if line == ".\r\n" {
                        break;
                    }
                    mail.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                let answer = lock(&server).take(mail);
                answer? // the connection is closed without a word
            }
            "MAIL" | "RCPT" => "250 yes",
            _ => "221 bye",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
}

impl Bench for EmailBench {
    fn begin(&mut self) -> Arc<dyn Channel> {
        let settings = json!({
            "address": "bot@x.org", "imap": "imap://127.0.0.1:1",
            "smtp": format!("smtp://127.0.0.1:{}", self.port),
            "password_secret": "mail", "trust_from": true,
        });
        let settings = toml::Table::try_from(settings).unwrap();
        let settings = &ChannelSettings { kind: "email".to_owned(), settings };
        let folder = self.folder.path();
        let scratch = &folder.join("scratch");
        let secrets = Arc::new(|_: &str| Ok(Some("hunter2".to_owned())));
        let (name_of, journal) = (&str::to_owned, Arc::clone(&self.journal));
        let setup = Setup {
            id: "c",
            settings,
            name_of,
            folder,
            scratch,
            secrets,
            journal,
            file_max: 1 << 20,
        };
        Arc::new(EmailChannel::new(&setup).unwrap())
    }

    fn address(&self) -> Address {
        Address { platform_id: "ada@x.org".to_owned(), ..super::address() }
    }

    fn shown(&self) -> Vec<String> {
        lock(&self.server).mails.iter().map(|mail| text(mail)).collect()
    }

    fn files(&self) -> Vec<String> {
        let server = lock(&self.server);
        let parsed = server.mails.iter().map(|mail| parse_mail(mail.as_bytes()).unwrap());
        let files = |mail: ParsedMail<'_>| -> Vec<String> {
            let is_file = |part: &&ParsedMail<'_>| {
                part.headers.get_first_value("Content-Disposition").is_some()
            };
            mail.subparts.iter().filter(is_file).map(|part| part.get_body().unwrap()).collect()
        };
        parsed.flat_map(files).collect()
    }

    fn knows(&self, weather: Weather) -> bool {
        // No mail server says for how long it wants to be left alone.
        weather != Weather::Busy
    }

    fn mend(&mut self) {
        lock(&self.server).mended = true;
    }

    fn cut(&mut self, cut: bool) {
        lock(&self.server).cut = cut;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_conforms() {
    conforms(EmailBench::new).await;
}
