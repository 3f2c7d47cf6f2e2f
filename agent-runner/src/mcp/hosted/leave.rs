//! How whoever listens is told that there is nothing to hear any more. It waits for that and for what is said, and
//! does not look again and again, for it waits as long as the runner is awake.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::held;
use crate::mcp::link::{Trouble, Until};

/// The shortest wait that can be set, for none means that it never ends.
const SHORTEST: Duration = Duration::from_millis(1);

/// The word to one thread that it is to leave.
#[derive(Debug, Default)]
pub(super) struct Leave {
    said: AtomicBool,
    /// What it reads at the moment.
    reads: Mutex<Option<UnixStream>>,
    changed: Condvar,
}

impl Leave {
    /// Says it, which ends what the thread reads, and its pause.
    pub(super) fn say(&self) {
        let mut reads = held(&self.reads);
        self.said.store(true, Ordering::Relaxed);
        if let Some(stream) = reads.take() {
            drop(stream.shutdown(Shutdown::Both)); // it has ended by itself
        }
        self.changed.notify_all();
    }

    /// Whether it was said.
    pub(super) fn is_said(&self) -> bool {
        self.said.load(Ordering::Relaxed)
    }

    /// Until it is said, or `deadline`.
    pub(super) fn or(&self, deadline: Instant) -> Until<'_> {
        Until { deadline, cancelled: &self.said }
    }

    /// Has `stream` be read without looking up until `deadline`, and end when it is said.
    ///
    /// # Errors
    /// It was said, or the stream is of no use.
    pub(super) fn ends<'a>(
        &'a self,
        stream: &UnixStream,
        deadline: Instant,
    ) -> Result<Reads<'a>, Trouble> {
        let broken = |error: std::io::Error| Trouble::Cut(error.to_string());
        let patience = deadline.saturating_duration_since(Instant::now()).max(SHORTEST);
        stream.set_read_timeout(Some(patience)).map_err(broken)?;
        let own = stream.try_clone().map_err(broken)?;
        let mut reads = held(&self.reads);
        if self.is_said() {
            return Err(Trouble::Cancelled);
        }
        *reads = Some(own);
        Ok(Reads(self))
    }

    /// Waits for `span`, or until it is said. Returns whether it was.
    pub(super) fn pause(&self, span: Duration) -> bool {
        let waits = self.changed.wait_timeout_while(held(&self.reads), span, |_| !self.is_said());
        drop(waits.unwrap_or_else(PoisonError::into_inner));
        self.is_said()
    }
}

/// That a stream is read. With it this end of the stream is given up, or the other would not see it close.
pub(super) struct Reads<'a>(&'a Leave);

impl Drop for Reads<'_> {
    fn drop(&mut self) {
        held(&self.0.reads).take();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::thread::scope;

    use super::*;

    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn whoever_reads_or_pauses_is_ended_at_once_and_whoever_comes_later_does_not_begin() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let leave = Leave::default();
        let (begun, deadline) = (Instant::now(), Instant::now() + LONG);
        scope(|scope| {
            let reads = leave.ends(&here, deadline).unwrap();
            let pauses = scope.spawn(|| leave.pause(LONG));
            let reader = scope.spawn(move || here.read(&mut [0]).unwrap());
            leave.say();
            assert!(pauses.join().unwrap());
            assert_eq!(reader.join().unwrap(), 0);
            drop(reads);
        });
        assert!(matches!(leave.ends(&there, deadline), Err(Trouble::Cancelled)));
        assert!(leave.pause(LONG) && begun.elapsed() < LONG);
    }

    #[test]
    fn what_is_read_no_more_is_closed() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let leave = Leave::default();
        drop(leave.ends(&here, Instant::now() + LONG).unwrap());
        drop(here);
        assert_eq!(there.read(&mut [0]).unwrap(), 0);
        assert!(!leave.is_said() && !leave.pause(Duration::ZERO));
    }
}
