//! The real daemon: what one client says is stored in the order in which it was said.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Stops the daemon, whatever becomes of the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn twobox(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twobox"));
    // Nothing is answered here: a runner that does nothing is enough.
    command.arg("--data").arg(data).env("TWOBOX_CONTAINERS_RUNNER", "/bin/true");
    command.env("TWOBOX_API_LISTEN", "");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn messages_of_one_client_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert!(twobox(&data).args(["init", "--runtime", "process"]).status().unwrap().success());
    let _daemon = Daemon(twobox(&data).arg("up").spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut stream = loop {
        match UnixStream::connect(data.join("host.sock")) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "no daemon answers: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();

    let mut last = 0;
    for round in 0..10 {
        let said: String = (0..100)
            .map(|number| {
                let (id, text) = (format!("{round}-{number}"), number.to_string());
                format!(
                    "{}\n",
                    json!({"op": "message", "agent": "assistant", "id": id, "text": text})
                )
            })
            .collect();
        stream.write_all(said.as_bytes()).unwrap();
        for number in 0..100 {
            let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
            assert_eq!(answer["event"], "accepted", "{answer}");
            assert_eq!(answer["id"], format!("{round}-{number}"));
            let seq = answer["receipts"][0]["seq"].as_i64().unwrap();
            assert!(seq > last, "message {number} of round {round} has {seq}, after {last}");
            last = seq;
        }
    }
}
