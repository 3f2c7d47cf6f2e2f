//! Work that blocks: on files, on databases, on the kernel.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// The weakest claim on a processor: a thread with it gets what all others leave, and a little.
const NICE: i32 = 19;

/// Runs `work` on a thread that may block, and waits for it. A panic goes on in the caller.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    outcome(tokio::task::spawn_blocking(work)).await
}

/// Runs `work` as [`blocking`] does and says how much of the processor's time it took.
pub async fn blocking_timed<T: Send + 'static>(
    background: Option<&Background>,
    work: impl FnOnce() -> T + Send + 'static,
) -> (T, Duration) {
    let timed = move || {
        let began = clock_gettime(ClockId::ThreadCPUTime);
        let value = work();
        let took = clock_gettime(ClockId::ThreadCPUTime) - began;
        (value, Duration::try_from(took).unwrap_or_default())
    };
    match background {
        Some(background) => outcome(background.threads.spawn_blocking(timed)).await,
        None => blocking(timed).await,
    }
}

/// What a task has come to. A panic goes on in the caller.
pub async fn outcome<T>(work: JoinHandle<T>) -> T {
    match work.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await, // the runtime is shutting down under us
        },
    }
}

/// Threads for what nobody waits for: everything else that wants a processor comes first.
#[derive(Debug)]
pub struct Background {
    threads: Handle,
    runtime: Option<Runtime>,
}

impl Background {
    /// As many threads as there are processors, at most.
    ///
    /// # Errors
    /// The system's reason.
    pub fn start() -> std::io::Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_current_thread()
            .thread_name("background")
            .max_blocking_threads(processors)
            .on_thread_start(|| {
                if let Err(error) = rustix::process::nice(NICE) {
                    tracing::debug!(%error, "a background thread has the usual priority");
                }
            })
            .build()?;
        Ok(Self { threads: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // waiting is not allowed in async code
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_background_yields_to_everything_else() {
        let background = Background::start().unwrap();
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let usual = nice();
        let (behind, _) = blocking_timed(Some(&background), nice).await;
        assert_eq!(behind, NICE);
        assert_eq!(blocking_timed(None, nice).await.0, usual);
    }

    #[tokio::test]
    async fn what_counts_is_the_processors_time_and_not_the_clocks() {
        const SPAN: Duration = Duration::from_millis(50);
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let (_, waited) = blocking_timed(None, move || told.recv_timeout(SPAN)).await;
        drop(tell);
        assert!(waited < SPAN / 2, "{waited:?}");
        let (_, worked) = blocking_timed(None, || {
            let begun = clock_gettime(ClockId::ThreadCPUTime);
            let worked = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime) - begun);
            while worked().unwrap() < SPAN {}
        })
        .await;
        assert!(worked >= SPAN, "{worked:?}");
    }
}
