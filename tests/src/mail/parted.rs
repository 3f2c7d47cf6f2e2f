//! A connection to a server for mail that breaks where it matters.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Where a connection breaks, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// When it is asked to take a mail.
    BeforeTheMail,
    /// When the server has taken the mail, before it can say so.
    AfterTheDot,
}

/// Connections to a server that break as they are told. It ends with its test.
#[derive(Debug)]
pub struct Parted {
    port: u16,
    next: Arc<Mutex<Vec<Parting>>>,
}

impl Parted {
    pub(super) fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let next = Arc::<Mutex<Vec<Parting>>>::default();
        let partings = Arc::clone(&next);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let partings = Arc::clone(&partings);
                thread::spawn(move || {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
                    drop(carry(&client, &server, &partings));
                    client.shutdown(Shutdown::Both).ok();
                    server.shutdown(Shutdown::Both).ok();
                });
            }
        });
        Self { port, next }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Has the next mails part so, one after the other.
    pub fn part(&self, partings: &[Parting]) {
        self.next.lock().unwrap().extend(partings.iter().rev());
    }

    /// How many partings are left.
    pub fn left(&self) -> usize {
        self.next.lock().unwrap().len()
    }
}

/// Carries what is said to and fro, one after the other as the protocol has it, until it parts.
fn carry(
    mut client: &TcpStream,
    mut server: &TcpStream,
    partings: &Mutex<Vec<Parting>>,
) -> std::io::Result<()> {
    relay(server, client)?;
    let mut in_mail = false;
    loop {
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = client.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            said.extend_from_slice(&buffer[..length]);
            let end: &[u8] = if in_mail { b"\r\n.\r\n" } else { b"\r\n" };
            if said.ends_with(end) {
                break;
            }
        }
        let parting = partings.lock().unwrap().last().copied();
        if said.eq_ignore_ascii_case(b"DATA\r\n") && parting == Some(Parting::BeforeTheMail) {
            partings.lock().unwrap().pop();
            return Ok(());
        }
        server.write_all(&said)?;
        if in_mail && parting == Some(Parting::AfterTheDot) {
            // The server has it when it answers; nobody hears that.
            assert_ne!(server.read(&mut buffer)?, 0, "it answers");
            partings.lock().unwrap().pop();
            return Ok(());
        }
        let answer = relay(server, client)?;
        in_mail = answer.starts_with(b"354");
    }
}

/// Passes on one answer, whole.
fn relay(mut server: &TcpStream, mut client: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = server.read(&mut buffer)?;
        if length == 0 {
            return Ok(said);
        }
        said.extend_from_slice(&buffer[..length]);
        client.write_all(&buffer[..length])?;
        let is_last = |line: &[u8]| line.len() >= 4 && line[3] != b'-';
        if said.ends_with(b"\r\n")
            && said[..said.len() - 2].rsplit(|it| *it == b'\n').next().is_some_and(is_last)
        {
            return Ok(said);
        }
    }
}
