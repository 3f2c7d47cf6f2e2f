use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;

use super::*;

struct Site {
    dir: tempfile::TempDir,
    forwarder: Forwarder,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let forwarder = Forwarder::open(&dir.path().join("gateway.sock")).unwrap();
        Self { dir, forwarder }
    }

    fn host(&self) -> UnixListener {
        UnixListener::bind(self.dir.path().join("gateway.sock")).unwrap()
    }

    fn client(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.forwarder.port())).unwrap()
    }
}

/// Bytes of which no two stretches are alike.
fn bytes(count: u32) -> Vec<u8> {
    (0..count).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect()
}

fn all_of(mut stream: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn what_is_said_arrives_as_it_was_said_and_so_does_the_end_of_each_side() {
    let site = Site::new();
    let host = site.host();
    let (asked, answered) = (bytes(300_000), bytes(200_000));
    std::thread::scope(|scope| {
        let (asked, answered) = (&asked, &answered);
        scope.spawn(|| {
            let mut stream = host.accept().unwrap().0;
            // The answer is begun before the question has been read: nobody waits for anybody.
            assert_eq!(all_of(&stream), *asked);
            stream.write_all(answered).unwrap();
        });
        let client = site.client();
        (&client).write_all(asked).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(all_of(&client), *answered, "after its own end was said");
    });
}

#[test]
fn a_host_that_is_not_there_yet_is_waited_for() {
    let site = Site::new();
    let mut client = site.client();
    client.write_all(b"hello").unwrap();
    // It is asked only now, so that whoever looked once has looked in vain.
    let mut room = [0; 5];
    client.set_read_timeout(Some(PAUSE)).unwrap();
    client.read_exact(&mut room).unwrap_err();
    client.set_read_timeout(None).unwrap();
    let host = site.host();
    let mut stream = host.accept().unwrap().0;
    stream.read_exact(&mut room).unwrap();
    assert_eq!(&room, b"hello");
    stream.write_all(b"there").unwrap();
    client.read_exact(&mut room).unwrap();
    assert_eq!(&room, b"there");
}

#[test]
fn those_that_are_too_many_wait_until_others_have_gone() {
    let site = Site::new();
    let host = site.host();
    let mut clients: Vec<_> = (0..=CONNECTIONS_MAX).map(|_| site.client()).collect();
    let mut streams: Vec<_> = (0..CONNECTIONS_MAX).map(|_| host.accept().unwrap().0).collect();
    host.set_nonblocking(true).unwrap();
    clients[0].write_all(b"x").unwrap();
    let mut room = [0; 1];
    streams[0].read_exact(&mut room).unwrap(); // it has been through its loop since
    assert_eq!(host.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "there is no room");
    host.set_nonblocking(false).unwrap();
    drop(clients.remove(0));
    drop(streams.remove(0));
    let mut last = host.accept().unwrap().0;
    clients.last_mut().unwrap().write_all(b"y").unwrap();
    last.read_exact(&mut room).unwrap();
    assert_eq!(&room, b"y");
}

#[test]
fn a_client_that_goes_is_gone_for_the_host_and_a_host_that_goes_for_the_client() {
    let site = Site::new();
    let host = site.host();
    let client = site.client();
    let stream = host.accept().unwrap().0;
    drop(client);
    assert_eq!(all_of(&stream), b"");
    let client = site.client();
    drop(host.accept().unwrap());
    assert_eq!(all_of(&client), b"");
}

#[test]
fn it_ends_with_everything_that_is_open() {
    let site = Site::new();
    let host = site.host();
    let client = site.client();
    let stream = host.accept().unwrap().0;
    let Site { dir: _dir, forwarder } = site;
    let port = forwarder.port();
    drop(forwarder);
    assert_eq!(all_of(&stream), b"");
    assert!(matches!((&client).read(&mut [0]), Ok(0) | Err(_)));
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}
