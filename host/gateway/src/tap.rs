//! An answer on its way to a container: passed on as it comes, and counted as it passes. A task of its own
//! fetches it, so that it ends in time also where nobody reads it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::counting::{Counted, Counting};
use crate::recording::Recorder;

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How long an upstream may say nothing in the middle of it.
    pub(crate) silence: Duration,
    /// How long a client may read nothing of it.
    pub(crate) reader: Duration,
    /// How long all of it may take.
    pub(crate) whole: Duration,
}

/// What every answer gets.
pub(crate) const PATIENCE: Patience = Patience {
    silence: Duration::from_secs(5 * 60),
    reader: Duration::from_secs(5 * 60),
    whole: Duration::from_secs(60 * 60),
};
const _: () = assert!(PATIENCE.silence.as_secs() < PATIENCE.whole.as_secs());

/// How many pieces are fetched beyond the one that the client reads.
const AHEAD: usize = 1;

/// The body of an answer.
pub(crate) struct Tap {
    pieces: mpsc::Receiver<Frame<Bytes>>,
    /// Whether the answer came to its end. Without this, one that broke off would look whole.
    whole: Arc<AtomicBool>,
    size: SizeHint,
}

/// What follows an answer: who hears what it has cost, once, also if the task is gone; and who records it.
pub(crate) struct Count {
    counting: Option<(Counting, Told)>,
    recorder: Option<Recorder>,
}

type Told = Box<dyn FnOnce(Counted) + Send>;

impl Count {
    /// Nobody wants to know what the answer costs.
    pub(crate) fn nothing() -> Self {
        Self { counting: None, recorder: None }
    }

    /// Tells `told` what `counting` has found: at the end of the answer, or when it goes no further.
    pub(crate) fn of(counting: Counting, told: impl FnOnce(Counted) + Send + 'static) -> Self {
        Self { counting: Some((counting, Box::new(told))), recorder: None }
    }

    /// The same, and `recorder` writes it down when it has come to its end.
    pub(crate) fn recorded(mut self, recorder: Option<Recorder>) -> Self {
        self.recorder = recorder;
        self
    }

    fn feed(&mut self, frame: &Frame<Bytes>) {
        let Some(data) = frame.data_ref() else { return };
        if let Some((counting, _)) = &mut self.counting {
            counting.feed(data);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.feed(data);
        }
    }

    fn settle(&mut self, whole: bool) {
        if let Some((counting, told)) = self.counting.take() {
            told(counting.end(whole));
        }
        if let Some(recorder) = self.recorder.take().filter(|_| whole) {
            recorder.end();
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        // Who has read the last event need not wait for the end of the connection.
        let whole = self.counting.as_ref().is_some_and(|(counting, _)| counting.is_final());
        self.settle(whole);
    }
}

impl Tap {
    /// Passes `inner` on, of which `count` follows what it costs. `turn` is dropped when all of it is
    /// fetched, or nothing more will be.
    pub(crate) fn new<B>(
        inner: B,
        count: Count,
        turn: impl Send + 'static,
        patience: Patience,
    ) -> Self
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Send,
    {
        let (to, pieces) = mpsc::channel(AHEAD);
        let (size, whole) = (inner.size_hint(), Arc::<AtomicBool>::default());
        let ended = Arc::clone(&whole);
        tokio::spawn(async move {
            ended.store(pump(inner, count, &to, patience).await, Ordering::Release);
            drop((to, turn));
        });
        Self { pieces, whole, size }
    }
}

/// Fetches `inner` piece by piece, as fast as `to` takes them. Returns whether that was all of it.
async fn pump<B>(
    mut inner: B,
    mut count: Count,
    to: &mpsc::Sender<Frame<Bytes>>,
    patience: Patience,
) -> bool
where
    B: Body<Data = Bytes> + Unpin,
{
    let end = Instant::now() + patience.whole;
    loop {
        let next = tokio::select! {
            next = timeout(patience.silence, inner.frame()) => next,
            () = to.closed() => return false,
            () = sleep_until(end) => return false,
        };
        let frame = match next {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => {
                count.settle(true);
                return true;
            }
            // It broke off, or has fallen silent.
            Ok(Some(Err(_))) | Err(_) => {
                count.settle(false);
                return false;
            }
        };
        count.feed(&frame);
        // Where the length is known, nobody asks for more.
        let last = inner.is_end_stream();
        if last {
            count.settle(true);
        }
        let taken = tokio::select! {
            taken = timeout(patience.reader, to.send(frame)) => taken.is_ok_and(|it| it.is_ok()),
            () = sleep_until(end) => false,
        };
        if last || !taken {
            return last && taken;
        }
    }
}

impl Body for Tap {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.pieces.poll_recv(cx).map(|piece| match piece {
            Some(frame) => Some(Ok(frame)),
            None if self.whole.load(Ordering::Acquire) => None,
            None => Some(Err("the answer was not passed on to its end".into())),
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::{Semaphore, oneshot};
    use twobox_shared::agent_config::Api;

    /// An answer that never ends: of pieces, or of silence.
    struct Endless {
        silent: bool,
    }

    impl Body for Endless {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            match self.silent {
                true => Poll::Pending,
                false => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b": x\n"))))),
            }
        }
    }

    #[tokio::test]
    async fn an_answer_ends_in_time_whether_anybody_reads_it_or_not() {
        let (long, short) = (Duration::from_secs(600), Duration::from_millis(30));
        let usual = Patience { silence: long, reader: long, whole: long };
        let cases = [
            ("nobody reads", false, false, Patience { reader: short, ..usual }),
            ("nobody reads for all its time", false, false, Patience { whole: short, ..usual }),
            ("somebody reads for ever", false, true, Patience { whole: short, ..usual }),
            ("nothing comes", true, false, Patience { silence: short, ..usual }),
            ("nothing comes, in all its time", true, true, Patience { whole: short, ..usual }),
        ];
        for (case, silent, reads, patience) in cases {
            let (told, hears) = oneshot::channel();
            let turns = Arc::new(Semaphore::new(1));
            let turn = Arc::clone(&turns).try_acquire_owned().unwrap();
            let counting = Counting::new(Api::Messages, "text/event-stream");
            let count = Count::of(counting, move |counted| told.send(counted).unwrap());
            let mut tap = Tap::new(Endless { silent }, count, turn, patience);
            let ended = async {
                while reads && tap.frame().await.is_some_and(|frame| frame.is_ok()) {
                    tokio::task::yield_now().await;
                }
                let counted = hears.await.unwrap();
                (counted, turns.acquire().await.unwrap())
            };
            let (counted, _turn) = timeout(Duration::from_secs(10), ended).await.expect(case);
            assert!(!counted.complete, "{case}");
            let mut last = None;
            while let Some(Ok(frame)) = tap.frame().await {
                last = Some(frame);
            }
            assert_eq!(last.is_some(), !silent && !reads, "{case}: what was fetched before");
            assert!(tap.frame().await.unwrap().is_err(), "{case}: it does not look whole");
        }
    }
}
