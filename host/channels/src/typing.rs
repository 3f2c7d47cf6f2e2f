//! Where an answer is being written, and when a platform is to be told so. It is no message: what cannot be shown is
//! lost. How it is told is each kind's.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;
use twobox_system::lock::lock;

/// After how long without a word of it an agent is taken to be at it no more.
const STALE: Duration = Duration::from_secs(10 * 60);

/// The places of one instance, each what its platform shows it in.
#[derive(Debug)]
pub(crate) struct Typing<P> {
    /// When it is said again: before the platform shows it no more by itself.
    again: Duration,
    /// In how many places it is shown at once.
    most: usize,
    places: Mutex<HashMap<P, Shown>>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    /// When an agent was last seen at it; `None` once it is over.
    seen: Option<Instant>,
    /// When the platform was last told.
    told: Option<Instant>,
}

impl<P: Eq + Hash + Clone> Typing<P> {
    /// Nowhere yet. It is said again after `again`, in `most` places at once.
    pub(crate) fn new(again: Duration, most: usize) -> Self {
        Self { again, most, places: Mutex::default(), changed: Notify::new() }
    }

    /// An agent is at something for `place`, or is at it no more.
    pub(crate) fn show(&self, place: P, is_at_it: bool, now: Instant) {
        {
            let mut places = lock(&self.places);
            if let Some(shown) = places.get_mut(&place) {
                shown.seen = is_at_it.then_some(now);
            } else if is_at_it && places.len() < self.most {
                places.insert(place, Shown { seen: Some(now), told: None });
            } else {
                return;
            }
        }
        self.changed.notify_one();
    }

    /// What the platform is to be told now: where somebody is at it, and where nobody is any more.
    pub(crate) fn due(&self, now: Instant) -> Vec<(P, bool)> {
        let since = |then: Instant| now.saturating_duration_since(then);
        let mut due = Vec::new();
        lock(&self.places).retain(|place, shown| {
            let goes_on = shown.seen.is_some_and(|seen| since(seen) < STALE);
            match (goes_on, shown.told) {
                (true, Some(told)) if since(told) < self.again => {}
                (true, _) => {
                    shown.told = Some(now);
                    due.push((place.clone(), true));
                }
                (false, Some(_)) => due.push((place.clone(), false)),
                (false, None) => {}
            }
            goes_on
        });
        due
    }

    /// Where the platform is to be told so now, for one that shows by itself when it is over.
    pub(crate) fn begun(&self, now: Instant) -> Vec<P> {
        self.due(now)
            .into_iter()
            .filter_map(|(place, is_at_it)| is_at_it.then_some(place))
            .collect()
    }

    /// Returns when there may be something to tell: at the latest after a part of the time for which it is shown, and never where
    /// nothing is.
    pub(crate) async fn wait(&self) {
        let is_quiet = lock(&self.places).is_empty();
        tokio::select! {
            () = self.changed.notified() => {}
            () = sleep(self.again / 8), if !is_quiet => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_when_it_begins_now_and_then_and_when_it_ends() {
        let typing = Typing::new(Duration::from_secs(20), 2);
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let said = |is_at_it| vec![("r", is_at_it)];
        typing.show("r", false, at(0));
        assert_eq!(typing.due(at(0)), [], "nobody was at anything");
        typing.show("r", true, at(0));
        assert_eq!(typing.due(at(0)), said(true));
        typing.show("r", true, at(10));
        assert_eq!(typing.due(at(10)), [], "it is shown still");
        assert_eq!(typing.due(at(20)), said(true));
        typing.show("r", false, at(21));
        assert_eq!(typing.due(at(21)), said(false));
        assert_eq!(typing.due(at(22)), [], "once");
        typing.show("r", true, at(30));
        typing.show("r", false, at(30));
        assert_eq!(typing.due(at(30)), [], "it was over before anybody saw it");
        typing.show("r", true, at(40));
        assert_eq!(typing.begun(at(40)), ["r"]);
        assert_eq!(typing.due(at(700)), said(false), "nobody says that it ended");
        typing.show("r", true, at(701));
        typing.show("r", false, at(702));
        assert_eq!(typing.begun(at(702)), Vec::<&str>::new());
    }

    #[test]
    fn it_is_shown_in_so_many_places_at_once() {
        let typing = Typing::new(Duration::from_secs(20), 2);
        let now = Instant::now();
        for place in ["a", "b", "c", "a"] {
            typing.show(place, true, now);
        }
        assert_eq!(typing.due(now).len(), 2);
        typing.show("a", false, now);
        typing.due(now);
        typing.show("c", true, now);
        assert_eq!(typing.due(now), [("c", true)], "there is room again");
    }
}
