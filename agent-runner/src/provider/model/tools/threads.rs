//! What is done beside the turn's own thread, which hears meanwhile what is pushed.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};

use super::{Aside, Bench, Cancelled, Job, LOOK, Made, Run, TurnHandle, gather, kill_group};

/// What is done in a thread.
pub(super) trait Act: Fn(&Bench) -> Made + Sync {}

impl<F: Fn(&Bench) -> Made + Sync> Act for F {}

pub(super) fn beside<'a>(
    job: &Result<Job<'a>, String>,
) -> Option<impl Fn(&Bench) -> Made + Sync + use<'a>> {
    match *job {
        Ok(Job::Own(Run::Beside(run), given)) => Some(move |bench: &Bench| run(bench, given)),
        Ok(Job::Own(Run::Alone(_) | Run::Host(_), _) | Job::Foreign(..)) | Err(_) => None,
    }
}

/// Does all of `work` at once, and hears meanwhile what is pushed.
pub(super) fn in_threads(
    bench: &Bench,
    work: &[&dyn Act],
    handle: &TurnHandle,
    aside: &mut Aside,
) -> Result<Vec<Made>, Cancelled> {
    let (done, coming) = mpsc::channel();
    let mut made: Vec<Option<Made>> = work.iter().map(|_| None).collect();
    let cancelled = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, act) in work.iter().enumerate() {
            let done = done.clone();
            let one = move || drop(done.send((index, act(bench))));
            match std::thread::Builder::new().name("tool".to_owned()).spawn_scoped(scope, one) {
                Ok(thread) => threads.push(thread),
                Err(error) => made[index] = Some(Err(format!("there is no room for it: {error}"))),
            }
        }
        drop(done);
        let mut cancelled = false;
        loop {
            match coming.recv_timeout(LOOK) {
                Ok((index, one)) => made[index] = Some(one),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if gather(handle, aside).is_err() {
                cancelled = true;
                bench.cancelled.store(true, Ordering::Relaxed);
                kill_group(&bench.group);
            }
        }
        for thread in threads {
            drop(thread.join()); // a panic was reported where it happened, and has no result
        }
        cancelled
    });
    match cancelled {
        true => Err(Cancelled),
        false => {
            let broke = || Err("the tool itself broke".to_owned());
            Ok(made.into_iter().map(|one| one.unwrap_or_else(broke)).collect())
        }
    }
}
