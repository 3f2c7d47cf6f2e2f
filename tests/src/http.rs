//! A client of the HTTP API that says exactly what it is told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::description::Description;
use crate::world::World;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who uses the API, with a connection for each request, and sees that what is answered is
/// what the API's description says.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    token: String,
    /// Every answer has to keep to it.
    pub description: Description,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, with their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; `null` if there is none.
    pub body: Value,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The status and the code of an error.
    #[track_caller]
    pub fn error(&self) -> (u16, &str) {
        let error = &self.body["error"];
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        (self.status, error["code"].as_str().unwrap_or_else(|| panic!("{self:?}")))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_ascii_lowercase(), value.to_owned()))
        };
        let headers = lines.map(header).collect::<Option<_>>()?;
        let body = match &bytes[end + 4..] {
            [] => Value::Null,
            body => serde_json::from_slice(body).ok()?,
        };
        Some(Self { status, headers, body })
    }
}

impl World {
    /// Somebody who uses the API and knows the token.
    #[track_caller]
    pub fn client(&self) -> Client {
        let status = self.status().expect("a host that answers");
        let address = status["api"].as_str().unwrap_or_else(|| panic!("no API: {status}"));
        let token = self.twobox(&["status", "--token"]).trim().to_owned();
        let address = address.parse().unwrap();
        let client = Client { address, token, description: Description::new(Value::Null) };
        let said =
            client.send_raw(&client.request("GET", "/api/openapi.json", &client.headers(), b""));
        Client { description: Description::new(said.body), ..client }
    }
}

impl Client {
    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The headers of a request that is let in.
    pub fn headers(&self) -> [String; 2] {
        [format!("host: {}", self.address), format!("authorization: Bearer {}", self.token)]
    }

    /// Asks for something, without a body.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str) -> Answer {
        self.send(method, target, &self.headers(), b"")
    }

    /// Asks with a JSON body.
    #[track_caller]
    pub fn ask_with(&self, method: &str, target: &str, body: &Value) -> Answer {
        let json = "content-type: application/json".to_owned();
        let headers: Vec<String> = self.headers().into_iter().chain([json]).collect();
        self.send(method, target, &headers, body.to_string().as_bytes())
    }

    /// Sends a request with these headers and no others but the body's length.
    #[track_caller]
    pub fn send<H: AsRef<str>>(
        &self,
        method: &str,
        target: &str,
        headers: &[H],
        body: &[u8],
    ) -> Answer {
        let answer = self.send_raw(&self.request(method, target, headers, body));
        self.description.check(method, target, &answer);
        answer
    }

    fn request<H: AsRef<str>>(
        &self,
        method: &str,
        target: &str,
        headers: &[H],
        body: &[u8],
    ) -> Vec<u8> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
        for header in headers {
            request += header.as_ref();
            request += "\r\n";
        }
        if !body.is_empty() {
            request += &format!("content-length: {}\r\n", body.len());
        }
        request += "\r\n";
        [request.as_bytes(), body].concat()
    }

    /// Sends these bytes, and reads until the other side has nothing more to say.
    #[track_caller]
    pub fn send_raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_answer(&mut stream)
    }

    /// A connection on which nothing was said yet.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl World {
    /// A connection to the API's socket, on which nothing was said yet.
    pub fn api_socket(&self) -> UnixStream {
        let stream = UnixStream::connect(self.data().join("api.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

/// Reads one answer, and leaves the connection as it is.
#[track_caller]
pub fn read_one_answer(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    let mut next = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut next).unwrap();
        bytes.push(next[0]);
    }
    let head = Answer::parse(&bytes).unwrap();
    let length = head.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Answer::parse(&[bytes, body].concat()).unwrap()
}

/// Reads to the end of a connection, and what was answered on it.
#[track_caller]
pub fn read_answer(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = || String::from_utf8_lossy(&bytes);
    Answer::parse(&bytes).unwrap_or_else(|| panic!("no answer in JSON: {:?}", text()))
}
