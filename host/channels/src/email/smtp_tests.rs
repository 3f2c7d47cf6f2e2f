//! Where a connection breaks, and what is known of the mail then.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;

/// What a server does with a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    /// It closes the connection when it greets, is told who writes, is asked to take the mail, is in its middle, and
    /// has it.
    Greets,
    HearsWhoWrites,
    IsAsked,
    IsInTheMiddle,
    HasIt,
    /// It says that, when it has it.
    Says(&'static str),
}

async fn handed_to(server: Server, mail: usize) -> Submitted {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        if server == Server::Greets {
            return;
        }
        stream.write_all(b"220 here\r\n").await.unwrap();
        let mut line = String::new();
        while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
            let said = std::mem::take(&mut line);
            let answer = match said.get(..4) {
                Some("MAIL") if server == Server::HearsWhoWrites => return,
                Some("DATA") if server == Server::IsAsked => return,
                Some("DATA") => "354 go on",
                Some("QUIT") => "221 bye",
                _ => "250 yes",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
            if answer.starts_with("354") {
                if server == Server::IsInTheMiddle {
                    stream.read_exact(&mut [0; 1000]).await.unwrap();
                    return;
                }
                while said_line(&mut stream).await != ".\r\n" {}
                match server {
                    Server::Says(words) => {
                        stream.write_all(format!("{words}\r\n").as_bytes()).await.unwrap();
                    }
                    _ => return,
                }
            }
        }
    });
    let server = super::Server { host: "127.0.0.1".to_owned(), port, implicit: false, near: true };
    let login = Login { user: "me", password: "pw" };
    let mail = "a line of a mail\r\n".repeat(mail / 18);
    let submitted = submit(&server, &login, "a@x", "b@x", mail.as_bytes());
    tokio::time::timeout(Duration::from_secs(60), submitted).await.unwrap()
}

async fn said_line(stream: &mut BufReader<tokio::net::TcpStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn only_behind_the_dot_nobody_knows() {
    let (small, large) = (1000, 30 << 20);
    for (server, mail) in [
        (Server::Greets, small),
        (Server::HearsWhoWrites, small),
        (Server::IsAsked, small),
        // What fits into the buffers of both systems is sent before anybody can know that nobody reads it.
        (Server::IsInTheMiddle, large),
        (Server::Says("451 later"), small),
    ] {
        let said = handed_to(server, mail).await;
        assert!(matches!(said, Submitted::NotTaken(_)), "{server:?}: {said:?}");
    }
    for server in [Server::HasIt, Server::Says("what?")] {
        let said = handed_to(server, small).await;
        assert!(matches!(said, Submitted::Unknown(_)), "{server:?}: {said:?}");
    }
    assert!(matches!(handed_to(Server::Says("552 too large"), small).await, Submitted::Refused(_)));
    assert_eq!(handed_to(Server::Says("250 taken"), small).await, Submitted::Taken);
}
