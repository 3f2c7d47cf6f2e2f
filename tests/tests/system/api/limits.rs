//! How much, how many, how long.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use twobox_tests::{Setup, holds_for, on_process, read_answer, wait_for};

on_process!(
    a_client_that_says_nothing_is_let_go,
    clients_beyond_the_limit_wait_for_a_place,
    a_host_that_stops_ends_what_was_asked_and_waits_for_nobody,
);

/// How long a head and a body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many clients may be connected.
const CONNECTIONS_MAX: usize = 64;

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
    write!(idle, "GET /healthz HTTP/1.1\r\n{host}\r\n\r\n").unwrap();
    let mut body = client.connect();
    let head =
        format!("POST /api/x HTTP/1.1\r\n{host}\r\n{token}\r\ncontent-length: 9\r\n\r\n1234");
    body.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut body).error(), (408, "request_timeout"));
    for (case, stream) in [("silent", silent), ("slow", slow), ("idle", idle)] {
        let took = ended(stream);
        assert!(took < PATIENCE, "{case}: another {took:?}");
    }
}

fn clients_beyond_the_limit_wait_for_a_place(setup: Setup) {
    let world = setup.api().up();
    let client = world.client();
    let mut places: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| client.connect()).collect();
    let host = &client.headers()[0];
    let ask = format!("GET /healthz HTTP/1.1\r\n{host}\r\nconnection: close\r\n\r\n");
    let mut last = client.connect();
    last.write_all(ask.as_bytes()).unwrap();
    last.set_nonblocking(true).unwrap();
    holds_for(Duration::from_secs(1), "it is not answered", || last.peek(&mut [0]).is_err());
    places.pop().unwrap().shutdown(Shutdown::Both).unwrap();
    wait_for("its place", || last.peek(&mut [0]).ok());
    last.set_nonblocking(false).unwrap();
    assert_eq!(read_answer(&mut last).status, 200);
}

fn a_host_that_stops_ends_what_was_asked_and_waits_for_nobody(setup: Setup) {
    let world = setup.api().up();
    let client = world.client();
    let [host, token] = client.headers();
    let _silent = client.connect();
    let mut idle = client.connect();
    write!(idle, "GET /healthz HTTP/1.1\r\n{host}\r\n\r\n").unwrap();
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
