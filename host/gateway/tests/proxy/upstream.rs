//! An upstream that answers what it is told to, byte for byte, and keeps what it was asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// One step of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Writes this.
    Write(String),
    /// Waits until the test lets it go on.
    Wait,
    /// Closes the connection.
    Close,
}

/// What it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<VecDeque<Vec<Step>>>,
    asked: Mutex<Vec<Asked>>,
    count: watch::Sender<usize>,
    go_on: Notify,
}

/// An answer of `status` with a JSON body and a length.
pub(crate) fn plain(status: &str, headers: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    vec![Step::Write(head + body)]
}

/// The head of a stream.
pub(crate) fn stream() -> Step {
    Step::Write(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\
         request-id: req_1\r\nopenai-organization: secret-org\r\n\r\n"
            .to_owned(),
    )
}

/// A piece of a stream.
pub(crate) fn piece(data: &str) -> Step {
    Step::Write(format!("{:x}\r\n{data}\r\n", data.len()))
}

/// The end of a stream.
pub(crate) fn end() -> Step {
    Step::Write("0\r\n\r\n".to_owned())
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let server = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(Arc::clone(&server), stream));
            }
        });
        Self { address, shared }
    }

    /// What the next requests are answered, in their order.
    pub(crate) fn answers(&self, answers: impl IntoIterator<Item = Vec<Step>>) {
        self.shared.answers.lock().unwrap().extend(answers);
    }

    /// Lets a [`Step::Wait`] go on.
    pub(crate) fn go_on(&self) {
        self.shared.go_on.notify_one();
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Waits until it was asked so often.
    pub(crate) async fn wait_for(&self, count: usize) {
        self.shared.count.subscribe().wait_for(|asked| *asked >= count).await.unwrap();
    }
}

async fn converse(shared: Arc<Shared>, mut stream: TcpStream) {
    while let Some(asked) = read(&mut stream).await {
        shared.asked.lock().unwrap().push(asked);
        shared.count.send_modify(|count| *count += 1);
        let steps = shared.answers.lock().unwrap().pop_front();
        let steps = steps.unwrap_or_else(|| plain("418 Unexpected", "", "{}"));
        for step in steps {
            match step {
                Step::Write(text) => {
                    if stream.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Step::Wait => shared.go_on.notified().await,
                Step::Close => return,
            }
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked { head, body })
}
