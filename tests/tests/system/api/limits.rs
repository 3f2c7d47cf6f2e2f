//! How much, how many, how long.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use twobox_tests::{Setup, holds_for, on_process, read_answer, read_one_answer, wait_for};

on_process!(
    a_client_that_says_nothing_is_let_go,
    strangers_give_way_and_are_answered_once,
    those_that_are_known_keep_their_places_and_others_wait_for_one,
    a_host_that_stops_ends_what_was_asked_and_waits_for_nobody,
);

/// How long a head and a body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many strangers may be connected, and how many that have shown the token.
const PLACES: usize = 64;

/// Waits until the host has ended a connection, and returns how long that took.
fn ended(mut stream: TcpStream) -> Duration {
    let begin = Instant::now();
    std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    begin.elapsed()
}

fn a_client_that_says_nothing_is_let_go(setup: Setup) {
    let world = setup.api().up();
    let client = world.client();
    let [host, token] = client.headers();
    let silent = client.connect();
    let mut slow = client.connect();
    write!(slow, "GET /healthz HTTP/1.1\r\n{host}\r\n").unwrap();
    let mut idle = client.connect();
    write!(idle, "GET /healthz HTTP/1.1\r\n{host}\r\n{token}\r\n\r\n").unwrap();
    let mut inside = world.api_socket();
    inside.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut body = client.connect();
    let head =
        format!("POST /api/x HTTP/1.1\r\n{host}\r\n{token}\r\ncontent-length: 9\r\n\r\n1234");
    body.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_one_answer(&mut body).error(), (408, "request_timeout"));
    for (case, stream) in [("silent", silent), ("slow", slow), ("idle", idle)] {
        let took = ended(stream);
        assert!(took < PATIENCE, "{case}: another {took:?}");
    }
    assert_eq!(read_answer(&mut inside).status, 200, "it is let go too");
}

fn strangers_give_way_and_are_answered_once(setup: Setup) {
    let world = setup.api().up();
    let client = world.client();
    let [host, token] = client.headers();
    let mut known = client.connect();
    let ask = format!("GET /api/openapi.json HTTP/1.1\r\n{host}\r\n{token}\r\n\r\n");
    known.write_all(ask.as_bytes()).unwrap();
    assert_eq!(read_one_answer(&mut known).status, 200);

    // Far more than there may be, and none of them says anything.
    let silent: Vec<TcpStream> = (0..3 * PLACES).map(|_| client.connect()).collect();
    for stream in &silent[..2 * PLACES] {
        let mut stream = stream;
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "the oldest are let go");
    }
    // Whoever comes next is answered at once, and then let go.
    let mut stranger = client.connect();
    write!(stranger, "GET /healthz HTTP/1.1\r\n{host}\r\n\r\n").unwrap();
    let answer = read_answer(&mut stranger);
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    let mut wrong = client.connect();
    write!(wrong, "GET /api/runs HTTP/1.1\r\n{host}\r\n\r\n").unwrap();
    let answer = read_answer(&mut wrong);
    assert_eq!(answer.error(), (401, "unauthorized"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(client.ask("GET", "/api/runs").status, 200);
    // Whoever had shown the token kept its place.
    known.write_all(ask.as_bytes()).unwrap();
    let answer = read_one_answer(&mut known);
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    assert!(!world.host_log().contains("panicked"));
}

fn those_that_are_known_keep_their_places_and_others_wait_for_one(setup: Setup) {
    let world = setup.api().up();
    let client = world.client();
    let [host, token] = client.headers();
    let ask = format!("GET /api/runs HTTP/1.1\r\n{host}\r\n{token}\r\n\r\n");
    // A request whose body is still to come keeps a connection busy.
    let begin = format!("POST /api/x HTTP/1.1\r\n{host}\r\n{token}\r\ncontent-length: 1\r\n\r\n");
    let mut known: Vec<TcpStream> = (0..PLACES)
        .map(|_| {
            let mut stream = client.connect();
            stream.write_all(ask.as_bytes()).unwrap();
            assert_eq!(read_one_answer(&mut stream).status, 200);
            stream.write_all(begin.as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut last = client.connect();
    last.write_all(ask.as_bytes()).unwrap();
    last.set_nonblocking(true).unwrap();
    holds_for(Duration::from_secs(1), "it is not answered", || last.peek(&mut [0]).is_err());
    // Strangers, and those on the socket, have places of their own.
    let healthy = client.send("GET", "/healthz", &[&host], b"");
    assert_eq!(healthy.status, 200);
    let mut inside = world.api_socket();
    inside.write_all(b"GET /api/runs HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    assert_eq!(read_one_answer(&mut inside).status, 200);
    known.pop().unwrap().shutdown(Shutdown::Both).unwrap();
    wait_for("its place", || last.peek(&mut [0]).ok());
    last.set_nonblocking(false).unwrap();
    assert_eq!(read_one_answer(&mut last).status, 200);
}

fn a_host_that_stops_ends_what_was_asked_and_waits_for_nobody(setup: Setup) {
    let world = setup.api().up();
    let client = world.client();
    let [host, token] = client.headers();
    let _silent = client.connect();
    let mut idle = client.connect();
    write!(idle, "GET /healthz HTTP/1.1\r\n{host}\r\n{token}\r\n\r\n").unwrap();
    wait_for("an answer", || (idle.peek(&mut [0]).unwrap() > 0).then_some(()));
    let mut asks = client.connect();
    let head = format!("POST /api/x HTTP/1.1\r\n{host}\r\n{token}\r\ncontent-length: 2\r\n\r\n1");
    asks.write_all(head.as_bytes()).unwrap();
    // Whoever came after it is answered after it was taken up.
    assert_eq!(client.ask("GET", "/healthz").status, 200);
    let begin = Instant::now();
    world.ask_host_to_stop();
    assert!(ended(idle) < PATIENCE / 2);
    asks.write_all(b"2").unwrap();
    assert_eq!(read_answer(&mut asks).error(), (404, "not_found"));
    assert!(world.wait_host_gone().success());
    assert!(begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
}
