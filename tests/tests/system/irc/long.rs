//! Long answers: nothing of them is cut off or lost, and no line is longer than a server takes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use twobox_tests::{Software, wait_for};

use super::{BOT, Place, ROOM};

/// Answers `lines` with thirty lines, and `euro` with a long word and many short ones.
fn long() -> Value {
    let lines: Vec<String> = (0..30).map(|number| format!("line {number}")).collect();
    let words = format!("{} {}", "€".repeat(400), "wörds änd ✓ ".repeat(100));
    json!({
        "rules": [
            { "match": "lines", "do": [{ "reply": lines.join("\n") }] },
            { "match": "euro", "do": [{ "reply": words }] },
        ],
        "otherwise": [{ "reply": "echo: {text}" }],
    })
}

/// Hands on what goes both ways, and keeps what the host says.
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    said: Arc<Mutex<Vec<u8>>>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    /// Whether what the server says is held back.
    deaf: Arc<Mutex<bool>>,
}

impl Listener {
    pub(super) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let this =
            Self { address, said: Arc::default(), streams: Arc::default(), deaf: Arc::default() };
        let (said, streams, deaf) =
            (Arc::clone(&this.said), Arc::clone(&this.streams), Arc::clone(&this.deaf));
        std::thread::spawn(move || {
            for mut host in listener.incoming().map_while(Result::ok) {
                let Ok(mut there) = TcpStream::connect(server) else { continue };
                streams
                    .lock()
                    .unwrap()
                    .extend([host.try_clone().unwrap(), there.try_clone().unwrap()]);
                let (mut back, mut from) = (host.try_clone().unwrap(), there.try_clone().unwrap());
                let (kept, is_deaf) = (Arc::clone(&said), Arc::clone(&deaf));
                std::thread::spawn(move || {
                    pump(&mut host, &mut there, |bytes| {
                        kept.lock().unwrap().extend_from_slice(bytes);
                        true
                    })
                });
                std::thread::spawn(move || {
                    pump(&mut from, &mut back, |_| !*is_deaf.lock().unwrap())
                });
            }
        });
        this
    }

    /// The lines that the host has said, without their ends.
    pub(super) fn lines(&self) -> Vec<Vec<u8>> {
        let said = self.said.lock().unwrap().clone();
        said.split(|it| *it == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
            .collect()
    }

    /// From now on the host hears nothing of the server.
    pub(super) fn deafen(&self, deaf: bool) {
        *self.deaf.lock().unwrap() = deaf;
    }

    /// Cuts every connection.
    pub(super) fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            // One that is cut already is cut.
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
    }
}

fn pump(from: &mut TcpStream, to: &mut TcpStream, mut pass: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if pass(&buffer[..length]) && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    drop(to.shutdown(std::net::Shutdown::Both));
}

fn whole_and_in_order(software: Software) {
    let Some(mut place) = Place::make(software, long()) else { return };
    let listener = Listener::before(place.ircd.address());
    place.set_at(listener.address, "tls = false\nburst = 4\npause = \"500ms\"");
    place.world.up();
    place.wait_there();
    place.me.say(ROOM, "lines");
    place.me.wait_said(BOT, ROOM, "line 29");
    let expected: Vec<String> = (0..30).map(|number| format!("line {number}")).collect();
    assert_eq!(place.answers(), expected, "each once and in its order");
    place.me.say(ROOM, "euro");
    wait_for("all of it", || {
        let said = place.answers()[30..].join(" ");
        (said.matches('€').count() == 400 && said.matches('✓').count() == 100).then_some(())
    });
    let said = place.answers()[30..].join(" ");
    assert!(!said.contains('\u{fffd}') && !said.contains("[CUT]"), "{said}");
    let words = said.split(' ').filter(|word| !word.contains('€')).collect::<Vec<_>>().join(" ");
    assert_eq!(words, "wörds änd ✓ ".repeat(100).trim(), "and no word of it is cut");
    let longest = listener.lines().iter().map(Vec::len).max().unwrap();
    assert!(longest <= 510, "a line of {longest} bytes");
    assert!(
        listener.lines().iter().all(|line| std::str::from_utf8(line).is_ok()),
        "a character was cut"
    );
}

#[test]
fn thirty_lines_and_a_long_word_arrive_whole_through_ngircd() {
    whole_and_in_order(Software::Ngircd);
}

#[test]
fn thirty_lines_and_a_long_word_arrive_whole_through_inspircd() {
    whole_and_in_order(Software::Inspircd);
}

#[test]
fn a_host_that_stops_in_the_middle_loses_no_line_though_inspircd_forgets_what_it_has_not_read() {
    let Some(mut place) = Place::up(Software::Inspircd, long()) else { return };
    place.me.say(ROOM, "lines");
    wait_for("some of it", || (place.answers().len() > 5).then_some(()));
    place.world.stop_host();
    let before = place.answers().len();
    assert!(before < 30, "it was to stop in the middle");
    place.world.up();
    place.me.wait_said(BOT, ROOM, "line 29");
    let expected: Vec<String> = (0..30).map(|number| format!("line {number}")).collect();
    assert_eq!(place.answers(), expected, "each once and in its order");
    assert_eq!(
        place.world.session("ada").wait_delivery(&expected.join("\n"), "delivered").status,
        "delivered"
    );
}

#[test]
fn as_many_lines_are_said_as_are_set_and_the_rest_is_counted() {
    let Some(mut place) = Place::make(Software::Ngircd, long()) else { return };
    place.set("lines = 3");
    place.world.up();
    place.wait_there();
    place.me.say(ROOM, "lines");
    place.me.wait_said(BOT, ROOM, "[27 more lines are not shown]");
    assert_eq!(place.answers(), ["line 0", "line 1", "line 2", "[27 more lines are not shown]"]);
}
