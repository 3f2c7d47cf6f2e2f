//! An answer on its way to a container: passed on as it comes, and counted as it passes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::counting::{Counted, Counting};

/// How long an upstream may say nothing in the middle of an answer.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(300);

/// The body of an answer.
pub(crate) struct Tap {
    inner: Incoming,
    silence: Pin<Box<Sleep>>,
    count: Option<Count>,
}

/// What follows the answer, and who hears what it has cost.
struct Count {
    counting: Counting,
    told: Box<dyn FnOnce(Counted) + Send + Sync>,
}

impl Tap {
    /// Passes `inner` on, and tells `told` once what it has cost: at its end, or when nobody reads on.
    pub(crate) fn counted(
        inner: Incoming,
        counting: Counting,
        told: impl FnOnce(Counted) + Send + Sync + 'static,
    ) -> Self {
        let mut tap = Self::plain(inner);
        tap.count = Some(Count { counting, told: Box::new(told) });
        tap
    }

    /// Passes `inner` on.
    pub(crate) fn plain(inner: Incoming) -> Self {
        Self { inner, silence: Box::pin(sleep(SILENCE_MAX)), count: None }
    }

    fn settle(&mut self, whole: bool) {
        if let Some(Count { counting, told }) = self.count.take() {
            told(counting.end(whole));
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
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(count), Some(data)) = (&mut this.count, frame.data_ref()) {
                    count.counting.feed(data);
                }
                this.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
                // Where the length is known, nobody polls for the end.
                if this.inner.is_end_stream() {
                    this.settle(true);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.settle(false);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                this.settle(true);
                Poll::Ready(None)
            }
            Poll::Pending if this.silence.as_mut().poll(cx).is_ready() => {
                this.settle(false);
                Poll::Ready(Some(Err("the upstream has fallen silent".into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        // The end is looked at in `poll_frame`, so it has to be polled for.
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // Who has read the last event need not wait for the end of the connection.
        let whole = self.count.as_ref().is_some_and(|count| count.counting.is_final());
        self.settle(whole);
    }
}
