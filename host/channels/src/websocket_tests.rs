use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_websockets::ServerBuilder;

use super::*;

type Server = WebSocketStream<TcpStream>;

const LONG: Duration = Duration::from_secs(30);

/// A server that takes one connection, and where it is.
async fn server() -> (Url, tokio::task::JoinHandle<Server>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/link?ticket=s3cret", listener.local_addr().unwrap());
    let taken = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (request, stream) = ServerBuilder::new().accept(stream).await.unwrap();
        assert_eq!(request.uri().query(), Some("ticket=s3cret"));
        stream
    });
    (url.parse().unwrap(), taken)
}

async fn connected(most: usize) -> (WebSocket, Server) {
    let (url, taken) = server().await;
    let ours = WebSocket::connect(&url, LONG, most).await.unwrap();
    (ours, taken.await.unwrap())
}

/// What comes next, which is a text.
async fn text(ours: &mut WebSocket) -> String {
    match ours.receive(LONG).await {
        Ok(Received::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn texts_go_both_ways_and_pings_are_answered() {
    let (mut ours, mut theirs) = connected(100_000).await;
    ours.send("grüße").await.unwrap();
    let heard = theirs.next().await.unwrap().unwrap();
    assert_eq!(heard.as_text(), Some("grüße"));
    let long = "a long one 😀 ".repeat(5_000);
    theirs.send(Message::ping("are you there")).await.unwrap();
    theirs.send(Message::text(long.clone())).await.unwrap();
    assert_eq!(text(&mut ours).await, long);
    let answer = theirs.next().await.unwrap().unwrap();
    assert!(answer.is_pong() && answer.as_payload()[..] == *b"are you there", "{answer:?}");
    ours.ping().await.unwrap();
    let asked = theirs.next().await.unwrap().unwrap();
    assert!(asked.is_ping());
}

#[tokio::test]
async fn whoever_stops_waiting_loses_nothing() {
    let (mut ours, mut theirs) = connected(1_000).await;
    for number in 0..50 {
        let said = format!("number {number}");
        theirs.feed(Message::text(said.clone())).await.unwrap();
        // Before it has come, and as it comes.
        tokio::select! {
            biased;
            early = ours.receive(LONG) => panic!("{early:?}"),
            () = tokio::task::yield_now() => {}
        }
        theirs.flush().await.unwrap();
        assert_eq!(text(&mut ours).await, said);
    }
}

#[tokio::test]
async fn an_end_is_told_with_its_reason_and_one_without_a_word_is_a_loss() {
    let (mut ours, mut theirs) = connected(1_000).await;
    theirs.send(Message::close(Some(CloseCode::GOING_AWAY), "a\u{1b}[2Jb")).await.unwrap();
    let end = ours.receive(LONG).await.unwrap();
    let Received::Closed { code, reason } = end else { panic!("{end:?}") };
    assert_eq!(code, Some(1001));
    assert!(!reason.contains('\u{1b}'), "{reason:?}");
    assert!(ours.send("too late").await.is_err());
    let (mut ours, theirs) = connected(1_000).await;
    drop(theirs);
    let lost = ours.receive(LONG).await.unwrap_err();
    assert!(matches!(lost, Fault::Lost(_)), "{lost:?}");
}

#[tokio::test]
async fn what_is_too_long_whole_or_in_pieces_is_not_taken() {
    for pieces in [100_000, 100] {
        let (mut ours, theirs) = connected(1_000).await;
        let config = tokio_websockets::Config::default().frame_size(pieces);
        let mut theirs = ServerBuilder::new().config(config).serve(theirs.into_inner());
        theirs.send(Message::text("x".repeat(1_001))).await.unwrap();
        let fault = ours.receive(LONG).await.unwrap_err();
        assert!(matches!(fault, Fault::Strange(_)), "{fault:?}");
    }
}

#[tokio::test]
async fn a_line_on_which_nothing_comes_is_dead_and_a_ping_is_a_sign_of_life() {
    let (mut ours, mut theirs) = connected(1_000).await;
    let short = Duration::from_millis(400);
    let ping = tokio::spawn(async move {
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..40 {
            clock.tick().await;
            theirs.send(Message::ping("")).await.unwrap();
        }
        theirs
    });
    let began = Instant::now();
    let lost = ours.receive(short).await.unwrap_err();
    assert!(began.elapsed() > Duration::from_millis(40 * 20), "the pings kept it: {lost:?}");
    assert_eq!(lost, Fault::Lost("nothing came for 0.4 s".to_owned()));
    drop(ping.await.unwrap());
}

#[tokio::test]
async fn who_does_not_agree_is_strange_and_no_ticket_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url =
        format!("ws://{}/?ticket=s3cret", listener.local_addr().unwrap()).parse().unwrap();
    let says = [
        "HTTP/1.1 403 Forbidden\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"
            .to_owned(),
        format!("HTTP/1.1 101 Switching Protocols\r\nx: {}", "x".repeat(1 << 20)),
        "nonsense\r\n\r\n".to_owned(),
    ];
    for answer in says {
        let connect = WebSocket::connect(&url, LONG, 1_000);
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Who reads no further has closed it before all was written.
            drop(stream.write_all(answer.as_bytes()).await);
            stream
        };
        let (connected, _stream) = tokio::join!(connect, serve);
        let fault = connected.unwrap_err();
        assert!(!fault.to_string().contains("s3cret"), "{fault}");
    }
    drop(listener);
    let fault = WebSocket::connect(&url, LONG, 1_000).await.unwrap_err();
    assert!(matches!(fault, Fault::NotReached(_)), "{fault:?}");
    let wrong: Url = "https://127.0.0.1/?ticket=s3cret".parse().unwrap();
    let fault = WebSocket::connect(&wrong, LONG, 1_000).await.unwrap_err();
    assert!(matches!(fault, Fault::Strange(_)), "{fault:?}");
}

#[tokio::test]
async fn a_server_that_is_silent_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("ws://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let fault = WebSocket::connect(&url, Duration::from_millis(100), 1_000).await.unwrap_err();
    assert!(matches!(fault, Fault::NotReached(_)), "{fault:?}");
}
