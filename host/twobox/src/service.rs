//! What the service manager is told that started this host, in the words of sd_notify(3): that it is
//! ready, how it does, that it still lives, and that it stops. Without one nobody is told anything.
//!
//! A sign of life is worth something only if a host that stalls does not give it. It is given after
//! one round ([`round`]) through all that every message passes: a turn on an async worker, the table
//! of awake sessions and that of places with their locks, a thread for blocking work, and the
//! connection to `host.db`. It is withheld, too, when a task that lives as long as the host has ended
//! ([`Vital`]), and when the safety net has not come round for [`NET_PATIENCE`].
//!
//! A disk or an engine that refuses is no stall: the host says so, goes on with what it can, and to be
//! started again would not help it.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use twobox_config::Config;
use twobox_session::core::{Core, LookAround};
use twobox_store::Store;
use twobox_system::blocking::blocking;
use twobox_system::repeat::warned;

/// How often the manager hears how the host does, if it wants no signs of life.
const NEWS: Duration = Duration::from_secs(20);

/// How many signs of life are due in the time after which the manager takes the host for stalled.
const SIGNS: u32 = 3;

/// How long the safety net may take to come round: its pause is a minute, and each question to an
/// engine has a limit of its own.
const NET_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// What the host itself takes beyond the patience of its settings until it has stopped.
const STOP_MARGIN: Duration = Duration::from_secs(15);

/// Tells the manager something. That it does not listen is nothing to stop for.
async fn tell(lines: Vec<String>) {
    let told = blocking(move || {
        let states: Vec<NotifyState<'_>> =
            lines.iter().map(|line| NotifyState::Custom(line)).collect();
        sd_notify::notify(&states)
    });
    if let Err(error) = told.await {
        let error = error.to_string();
        if let Some(before) = warned("service manager", &error) {
            tracing::warn!(error, before, "the service manager cannot be told how this host does");
        }
    }
}

/// `STATUS=`, which is one line.
fn status(words: &str) -> String {
    format!("STATUS={}", words.replace(['\n', '\r'], " "))
}

/// Says that the host does not come up, and why, before it leaves.
pub(crate) fn fails(reason: &str) {
    // The same is said on standard error, and by the exit code.
    sd_notify::notify(&[NotifyState::Custom(&status(reason))]).ok();
}

/// Says that doors are open and everything that was due has been woken.
pub(crate) async fn ready(core: &Core) {
    tell(vec!["READY=1".to_owned(), status(&words(core))]).await;
}

/// Says that the host stops, and how long that may take.
pub(crate) async fn stopping(config: &Config) {
    let patience = config.stop_patience() + STOP_MARGIN;
    tell(vec![
        "STOPPING=1".to_owned(),
        format!("EXTEND_TIMEOUT_USEC={}", patience.as_micros()),
        status("stopping: what is under way may come to its end"),
    ])
    .await;
}

/// What lives as long as the host.
#[derive(Debug)]
pub(crate) struct Vital {
    /// Tasks, with what people call them.
    pub(crate) tasks: Vec<(&'static str, AbortHandle)>,
    /// When the safety net came round last.
    pub(crate) net: watch::Receiver<Option<Instant>>,
}

impl Vital {
    /// What has ended that should not have.
    ///
    /// # Errors
    /// What it is, for people.
    fn judge(&self, now: Instant) -> Result<(), String> {
        if let Some((name, _)) = self.tasks.iter().find(|(_, task)| task.is_finished()) {
            return Err(format!("{name} has broken"));
        }
        let silent =
            self.net.borrow().map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        match silent < NET_PATIENCE {
            true => Ok(()),
            false => Err(format!("the safety net has not come round for {} s", silent.as_secs())),
        }
    }
}

/// Gives signs of life and says how the host does, for as long as it runs.
pub(crate) async fn live(core: &Core, vital: &Vital) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    let period = watchdog.map_or(NEWS, |patience| (patience / SIGNS).min(NEWS));
    let mut said = String::new();
    loop {
        tokio::time::sleep(period).await;
        round(core.parts.store.clone()).await;
        let words = words(core);
        let mut lines = Vec::new();
        match vital.judge(Instant::now()) {
            Ok(()) if watchdog.is_some() => lines.push("WATCHDOG=1".to_owned()),
            Ok(()) => {}
            Err(reason) => {
                if let Some(before) = warned("sign of life", &reason) {
                    tracing::error!(reason, before, "the host gives no sign of life");
                }
            }
        }
        if words != said || !lines.is_empty() {
            lines.push(status(&words));
            said = words;
            tell(lines).await;
        }
    }
}

/// Comes to an end when the connection to `host.db` is free and a thread for blocking work was too.
/// That the statement is refused is no stall.
async fn round(store: Store) {
    if let Err(error) = store.is_readable().await {
        tracing::debug!(%error, "host.db does not answer");
    }
}

/// How the host does, in one line.
fn words(core: &Core) -> String {
    let (held, waiting) = core.places();
    let awake = core.awake().len();
    let error = match core.probe() {
        LookAround::Failed { error, .. } => Some(error.unwrap_or_else(|| "see doctor".to_owned())),
        LookAround::NotYet | LookAround::Ok { .. } | LookAround::Waiting { .. } => None,
    };
    let places = (held, waiting, core.parts.config.containers.max_running);
    summary(awake, places, error.as_deref())
}

/// `places` are those that are held, the starts that wait for one, and all that there are.
fn summary(awake: usize, places: (usize, usize, usize), error: Option<&str>) -> String {
    let (held, waiting, all) = places;
    let mut words =
        format!("{held} of {all} places held, {waiting} waiting; {awake} sessions awake");
    if let Some(error) = error {
        words.push_str("; no agent can start: ");
        words.push_str(error);
    }
    words
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_status_is_one_line_that_says_what_is_in_the_way() {
        let words = summary(3, (2, 1, 4), None);
        assert_eq!(words, "2 of 4 places held, 1 waiting; 3 sessions awake");
        let words = summary(0, (0, 0, 4), Some("bwrap is gone\nREADY=1"));
        assert!(!status(&words).contains('\n'), "{words}");
        assert!(words.contains("no agent can start: bwrap is gone"), "{words}");
    }

    #[tokio::test]
    async fn no_sign_of_life_comes_while_the_connection_to_host_db_is_stuck() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.db");
        drop(Store::create(&path).unwrap());
        let store = Store::open(&path).unwrap();
        let (begun, has_begun) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let stuck = store.clone();
        let stuck = tokio::task::spawn_blocking(move || {
            let _held = stuck.raw();
            begun.send(()).unwrap();
            may_go.recv().unwrap();
        });
        blocking(move || has_begun.recv()).await.unwrap();
        let asked = tokio::time::timeout(Duration::from_millis(200), round(store.clone())).await;
        assert!(asked.is_err(), "it goes round something that is stuck");
        go.send(()).unwrap();
        stuck.await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), round(store)).await.expect("it goes on");
    }

    #[tokio::test]
    async fn no_sign_of_life_comes_when_a_part_of_the_host_has_broken() {
        let lives = tokio::spawn(std::future::pending::<()>());
        let now = Instant::now();
        let (came_round, net) = watch::channel(Some(now));
        let vital = Vital { tasks: vec![("the keeper", lives.abort_handle())], net };
        assert_eq!(vital.judge(now), Ok(()));
        assert_eq!(vital.judge(now + NET_PATIENCE / 2), Ok(()));
        let late = vital.judge(now + NET_PATIENCE).unwrap_err();
        assert!(late.contains("600 s"), "{late}");
        came_round.send_replace(Some(now + NET_PATIENCE));
        assert_eq!(vital.judge(now + NET_PATIENCE), Ok(()));
        lives.abort();
        lives.await.unwrap_err();
        assert_eq!(vital.judge(now + NET_PATIENCE), Err("the keeper has broken".to_owned()));
    }
}
