//! Conversations that do to their sockets what they like.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::Way;
use crate::Error;
use crate::installation::wait_for;

/// How many there are.
pub(super) const HOSTILE: usize = 10;

/// How many connections one of them tries to hold at once.
const CONNECTIONS: usize = 100;

/// Between two things that one of them does: it shares its processors with those that mean well.
const PAUSE: Duration = Duration::from_millis(5);

/// What is written at once of a request that is meant to be read for ever.
const DRIP: usize = 16;

/// Has `others` do their worst while `measure` runs, once each of them has begun.
pub(super) fn beside<T>(
    others: &[Way],
    measure: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let over = AtomicBool::new(false);
    let deeds: Vec<AtomicUsize> = others.iter().map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for (number, (way, done)) in others.iter().zip(&deeds).enumerate() {
            let over = &over;
            scope.spawn(move || {
                let mut held = Vec::new();
                for turn in number.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    // What it is told for it, or whether it is let in at all, is the host's matter.
                    drop(pester(way, turn, &mut held));
                    done.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(PAUSE);
                }
            });
        }
        let begun = wait_for("the hostile conversations to begin", || {
            let all = deeds.iter().all(|done| done.load(Ordering::Relaxed) >= 2 * WAYS);
            Ok(all.then_some(()))
        });
        let measured = begun.and_then(|()| measure());
        over.store(true, Ordering::Relaxed);
        measured
    })
}

/// How many different things one does, in turn.
const WAYS: usize = 5;

fn pester(way: &Way, turn: usize, held: &mut Vec<UnixStream>) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(&way.socket)?;
    stream.set_write_timeout(Some(PAUSE))?;
    stream.set_read_timeout(Some(PAUSE))?;
    let request = way.request("a question");
    match turn % WAYS {
        // A thousand connections together that say next to nothing.
        0 => stream.write_all(&request.as_bytes()[..DRIP])?,
        // A body of which the end never comes.
        1 => stream
            .write_all(request.replacen("content-length: ", "content-length: 9", 1).as_bytes())?,
        // One request in another one's body.
        2 => {
            let both = request.replacen("connection: close", "transfer-encoding: chunked", 1);
            stream.write_all((both + &request).as_bytes())?;
        }
        // A head that is too long.
        3 => {
            let long = format!("connection: close\r\nx-long: {}", "x".repeat(1 << 20));
            stream.write_all(request.replacen("connection: close", &long, 1).as_bytes())?;
        }
        // One that is answered, and whose answer nobody reads. It is short: what a vendor needs for a long
        // one is not measured here.
        _ => stream.write_all(request.as_bytes())?,
    }
    drop(stream.read(&mut [0; 64])); // a refusal, or nothing for as long as the pause
    held.push(stream);
    if held.len() >= CONNECTIONS {
        held.remove(0);
    }
    Ok(())
}
