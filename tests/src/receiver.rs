//! What posts to a `webhook` channel and is posted to by it, by the published rules of Standard Webhooks
//! (<https://www.standardwebhooks.com>) and with a code of its own for signatures.
//!
//! What it answers, and that it says nothing until it is told to, is the test's choice: the rules leave that open.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::wait::wait_for;

/// A message that was posted.
#[derive(Debug, Clone)]
pub struct Post {
    /// The headers, by their names in lower case.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: Value,
    /// Whether it was signed with the secret, about now.
    pub is_signed: bool,
}

impl Post {
    /// Its text.
    pub fn text(&self) -> &str {
        self.body["text"].as_str().unwrap()
    }

    /// The key in its head.
    pub fn key(&self) -> &str {
        &self.headers["idempotency-key"]
    }
}

#[derive(Debug, Default)]
struct State {
    posts: Vec<Post>,
    /// What is answered to a text that contains the first, so often: a status and more headers; `None` is silence.
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    text: String,
    left: usize,
    answer: Option<(u16, String)>,
}

/// A server that takes what is posted to it.
#[derive(Debug)]
pub struct Receiver {
    address: String,
    secret: String,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    /// One that takes everything, and knows this secret.
    pub fn open(secret: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let (kept, known) = (Arc::clone(&state), secret.to_owned());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, known) = (Arc::clone(&kept), known.clone());
                std::thread::spawn(move || {
                    drop(serve(&stream.unwrap(), &known, &kept)); // whoever posted may have died
                });
            }
        });
        Self { address, secret: secret.to_owned(), state }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("{}/in", self.address)
    }

    /// From now on it answers so to the next `count` posts whose text contains `text`. `headers` are whole lines.
    pub fn plan(&self, text: &str, count: usize, status: u16, headers: &str) {
        let answer = Some((status, headers.to_owned()));
        state(&self.state).rules.push(Rule { text: text.to_owned(), left: count, answer });
    }

    /// From now on it takes the next `count` posts whose text contains `text`, and does not say so.
    pub fn plan_silence(&self, text: &str, count: usize) {
        state(&self.state).rules.push(Rule { text: text.to_owned(), left: count, answer: None });
    }

    /// What was posted so far.
    pub fn posts(&self) -> Vec<Post> {
        state(&self.state).posts.clone()
    }

    /// The texts of all that.
    pub fn texts(&self) -> Vec<String> {
        self.posts().iter().map(|post| post.text().to_owned()).collect()
    }

    /// Waits for so many posts.
    #[track_caller]
    pub fn wait_posts(&self, count: usize) -> Vec<Post> {
        wait_for(&format!("{count} posts"), || {
            Some(self.posts()).filter(|posts| posts.len() >= count)
        })
    }

    /// The headers of a message with this id and body that is posted to the host `skew` seconds from now.
    pub fn sign(&self, id: &str, skew: i64, body: &[u8]) -> Vec<String> {
        let at = now() + skew;
        let signature = signature(&self.secret, id, at, body);
        vec![
            format!("webhook-id: {id}"),
            format!("webhook-timestamp: {at}"),
            format!("webhook-signature: v1,{signature}"),
        ]
    }
}

fn state(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "what is posted is signed at a real time")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn serve(stream: &TcpStream, secret: &str, kept: &Mutex<State>) -> std::io::Result<()> {
    let mut input = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let method = line.split(' ').next().unwrap_or_default().to_owned();
        let mut headers = HashMap::new();
        loop {
            line.clear();
            input.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        if method != "POST" {
            write!(&mut &*stream, "HTTP/1.1 405 x\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        }
        let at: i64 = headers["webhook-timestamp"].parse().unwrap();
        let right = signature(secret, &headers["webhook-id"], at, &body);
        let is_signed =
            headers["webhook-signature"] == format!("v1,{right}") && now().abs_diff(at) < 60;
        let post = Post { headers, body: serde_json::from_slice(&body).unwrap(), is_signed };
        let answer = {
            let mut state = state(kept);
            let text = post.text().to_owned();
            state.posts.push(post);
            let mut rules = state.rules.iter_mut();
            let rule = rules.find(|rule| rule.left > 0 && text.contains(&rule.text));
            match rule {
                Some(rule) => {
                    rule.left -= 1;
                    rule.answer.clone()
                }
                None => Some((202, String::new())),
            }
        };
        let Some((status, more)) = answer else {
            // Until whoever waits for it leaves.
            return input.read_line(&mut line).map(drop);
        };
        write!(&mut &*stream, "HTTP/1.1 {status} x\r\n{more}content-length: 0\r\n\r\n")?;
    }
}

/// HMAC-SHA256 (RFC 2104) over `id.at.body`, as base64.
fn signature(secret: &str, id: &str, at: i64, body: &[u8]) -> String {
    assert!(secret.len() <= 64, "a longer key is hashed first");
    let mut key = [0u8; 64];
    key[..secret.len()].copy_from_slice(secret.as_bytes());
    let pad = |with: u8| key.map(|byte| byte ^ with);
    let mut inner = Sha256::new();
    inner.update(pad(0x36));
    inner.update(format!("{id}.{at}.").as_bytes());
    inner.update(body);
    let mut outer = Sha256::new();
    outer.update(pad(0x5c));
    outer.update(inner.finalize());
    base64(&outer.finalize())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let of = |three: &[u8]| {
        let number = (0..3).fold(0u32, |sum, i| sum << 8 | u32::from(*three.get(i).unwrap_or(&0)));
        let digit = |i: u32| char::from(DIGITS[(number >> (18 - 6 * i) & 63) as usize]);
        let count = u32::try_from(three.len()).unwrap();
        (0..4).map(|i| if i <= count { digit(i) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(of).collect()
}
