//! Two connections that are one: what either side says is carried to the other, unread and within limits.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::sleep;
use twobox_system::lock::lock;

/// How much of one direction is kept that the other side has not taken, in bytes.
const BUFFER: usize = 16 << 10;

/// What one tunnel may use up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes, in both directions together.
    pub(crate) bytes: u64,
    /// How long nothing may pass.
    pub(crate) silence: Duration,
    /// How long it may last.
    pub(crate) whole: Duration,
}

/// Those of every tunnel.
pub(crate) const LIMITS: Limits =
    Limits { bytes: 4 << 30, silence: Duration::from_secs(300), whole: Duration::from_secs(3600) };

/// What a tunnel has carried.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// Bytes from the container,
    pub(crate) up: u64,
    /// and to it.
    pub(crate) down: u64,
    /// How long it lasted.
    pub(crate) took: Duration,
    /// Why it ended.
    pub(crate) end: End,
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides have said all.
    Done,
    /// One of them broke off.
    Broken,
    /// It has carried as much as one may.
    Bytes,
    /// Nothing passed for too long.
    Silence,
    /// It lasted too long.
    Time,
    /// Its session's door closed on it.
    Dropped,
}

struct Meter {
    limits: Limits,
    begun: Instant,
    up: AtomicU64,
    down: AtomicU64,
    last: Mutex<Instant>,
}

/// Says what a tunnel has carried, however it ends.
struct Ending<F: FnMut(Traffic)> {
    meter: Meter,
    end: End,
    ended: F,
}

impl<F: FnMut(Traffic)> Drop for Ending<F> {
    fn drop(&mut self) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Meter { begun, up, down, .. } = &self.meter;
        let traffic = Traffic { up: of(up), down: of(down), took: begun.elapsed(), end: self.end };
        (self.ended)(traffic);
    }
}

/// Carries until both sides have ended, one breaks, or a limit is reached, and tells `ended` what it was, also
/// where it is dropped before. A side that has ended can still hear.
pub(crate) async fn carry<A, B>(client: A, host: B, limits: Limits, ended: impl FnMut(Traffic))
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let begun = Instant::now();
    let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
    let meter = Meter { limits, begun, up, down, last: Mutex::new(begun) };
    let mut ending = Ending { meter, end: End::Dropped, ended };
    let end = both_ways(client, host, &ending.meter).await;
    ending.end = end;
}

async fn both_ways<A, B>(client: A, host: B, meter: &Meter) -> End
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let ((mut from_client, mut to_client), (mut from_host, mut to_host)) =
        (split(client), split(host));
    let both = async {
        tokio::try_join!(
            pour(&mut from_client, &mut to_host, meter, &meter.up),
            pour(&mut from_host, &mut to_client, meter, &meter.down),
        )
    };
    tokio::select! {
        poured = both => poured.map_or_else(|end| end, |_| End::Done),
        () = meter.silence() => End::Silence,
        () = sleep(meter.limits.whole) => End::Time,
    }
}

async fn pour(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    meter: &Meter,
    count: &AtomicU64,
) -> Result<(), End> {
    let broken = |_: io::Error| End::Broken;
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await.map_err(broken)?;
        if read == 0 {
            to.shutdown().await.map_err(broken)?;
            return Ok(());
        }
        meter.take(count, read as u64)?;
        to.write_all(&buffer[..read]).await.map_err(broken)?;
        to.flush().await.map_err(broken)?;
        *lock(&meter.last) = Instant::now();
    }
}

impl Meter {
    /// Counts `bytes` that are carried, unless they are too many.
    fn take(&self, count: &AtomicU64, bytes: u64) -> Result<(), End> {
        let so_far = self.up.load(Ordering::Relaxed) + self.down.load(Ordering::Relaxed);
        if so_far + bytes > self.limits.bytes {
            return Err(End::Bytes);
        }
        count.fetch_add(bytes, Ordering::Relaxed);
        *lock(&self.last) = Instant::now();
        Ok(())
    }

    /// Waits until nothing has passed for as long as that may be.
    async fn silence(&self) {
        loop {
            let quiet = lock(&self.last).elapsed();
            match self.limits.silence.checked_sub(quiet) {
                Some(left) if !left.is_zero() => sleep(left).await,
                Some(_) | None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    const LONG: Duration = Duration::from_secs(3600);

    fn limits(bytes: u64, silence: Duration) -> Limits {
        Limits { bytes, silence, whole: LONG }
    }

    async fn between(client: DuplexStream, host: DuplexStream, limits: Limits) -> Traffic {
        let mut said = None;
        carry(client, host, limits, |traffic| said = Some(traffic)).await;
        said.unwrap()
    }

    #[tokio::test]
    async fn what_a_tunnel_has_carried_is_said_also_if_it_is_dropped() {
        let ((near, mut client), (far, mut host)) = (duplex(64), duplex(64));
        let said = Mutex::new(None);
        let carrying = carry(near, far, limits(1000, LONG), |traffic| *lock(&said) = Some(traffic));
        let passing = async {
            client.write_all(b"question").await.unwrap();
            host.read_exact(&mut [0; 8]).await.unwrap();
        };
        tokio::select! {
            () = carrying => panic!("neither side has ended it"),
            () = passing => {}
        }
        let Traffic { up, down, end, .. } = lock(&said).take().unwrap();
        assert_eq!((up, down, end), (8, 0, End::Dropped));
    }

    #[tokio::test]
    async fn a_side_that_has_said_all_still_hears_the_other() {
        let ((near, mut client), (far, mut host)) = (duplex(64), duplex(64));
        let carried = tokio::spawn(between(near, far, limits(1 << 20, LONG)));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        host.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");
        host.write_all(b"a longer answer").await.unwrap();
        host.shutdown().await.unwrap();
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "a longer answer");
        let Traffic { up, down, end, .. } = carried.await.unwrap();
        assert_eq!((up, down, end), (8, 15, End::Done));
    }

    #[tokio::test]
    async fn a_tunnel_ends_when_it_has_carried_as_much_as_it_may() {
        let ((near, mut client), (far, mut host)) = (duplex(64), duplex(64));
        let carried = tokio::spawn(between(near, far, limits(1000, LONG)));
        let writing =
            tokio::spawn(async move { while client.write_all(&[7; 64]).await.is_ok() {} });
        let mut heard = Vec::new();
        host.read_to_end(&mut heard).await.unwrap();
        writing.await.unwrap();
        let traffic = carried.await.unwrap();
        assert_eq!(traffic.end, End::Bytes);
        assert!(heard.len() <= 1000 && traffic.up <= 1000, "{} {traffic:?}", heard.len());
    }

    #[tokio::test]
    async fn a_tunnel_ends_in_which_nothing_passes_or_that_lasts_too_long() {
        let ((near, _client), (far, _host)) = (duplex(64), duplex(64));
        let silence = Duration::from_millis(20);
        assert_eq!(between(near, far, limits(1000, silence)).await.end, End::Silence);
        let ((near, _client), (far, _host)) = (duplex(64), duplex(64));
        let short = Limits { bytes: 1000, silence: LONG, whole: Duration::from_millis(20) };
        assert_eq!(between(near, far, short).await.end, End::Time);
    }

    #[tokio::test]
    async fn a_side_that_reads_nothing_holds_the_other_back() {
        let ((near, mut client), (far, _host)) = (duplex(64), duplex(64));
        let _carried = tokio::spawn(between(near, far, limits(1 << 30, LONG)));
        let mut taken = 0;
        while let Ok(written) =
            tokio::time::timeout(Duration::from_millis(200), client.write(&[7; 64])).await
        {
            taken += written.unwrap();
        }
        assert!(taken <= BUFFER + 3 * 64, "{taken} bytes were taken for a side that reads none");
    }
}
