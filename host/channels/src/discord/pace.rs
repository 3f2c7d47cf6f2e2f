//! When Discord may be asked, by its own numbers: each kind of question has a bucket, of which answers say how much
//! is left and when it is full again; all of them together have another. Pure.
//!
//! Source: <https://docs.discord.com/developers/topics/rate-limits>.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::http::HeaderMap;

/// How many questions are asked within a second at most: Discord takes 50.
const GLOBAL: usize = 40;

/// How many refusals within [`INVALID_SPAN`] are too many. Discord keeps an address away from 10,000 on, which
/// others at it may have a part in.
const INVALID_MAX: usize = 2_000;

/// The span in which refusals are counted.
const INVALID_SPAN: Duration = Duration::from_secs(10 * 60);

/// How many buckets are remembered.
const BUCKETS_MAX: usize = 10_000;

/// What is asked, as far as it matters here: the kind of question, and the channel or the like that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Route {
    kind: &'static str,
    about: String,
}

impl Route {
    /// A question of this kind, such as `POST messages`, about this.
    pub(super) fn new(kind: &'static str, about: impl Into<String>) -> Self {
        Self { kind, about: about.into() }
    }
}

/// What is known of Discord's limits.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// The bucket of each kind of question, by its name with Discord.
    names: HashMap<&'static str, String>,
    /// What is left, by the bucket, or the kind of question as long as its bucket is not known, and what it is about.
    buckets: HashMap<(String, String), Bucket>,
    /// When what was asked within the last second was.
    asked: VecDeque<Instant>,
    /// Until when nothing is asked.
    closed: Option<Instant>,
    /// When it was refused.
    invalid: VecDeque<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u64,
    full_at: Instant,
}

impl Limits {
    /// Asks for leave to ask at `now`. It is given, and counted; or it is said for how long there is none.
    ///
    /// # Errors
    /// The pause.
    pub(super) fn ask(&mut self, route: &Route, now: Instant) -> Result<(), Duration> {
        let pause = self.pause_before(route, now);
        if !pause.is_zero() {
            return Err(pause);
        }
        let key = self.key(route);
        if let Some(bucket) = self.buckets.get_mut(&key) {
            bucket.left = bucket.left.saturating_sub(1);
        }
        self.asked.push_back(now);
        Ok(())
    }

    /// For how long there is no leave to ask at `now`.
    pub(super) fn pause_before(&mut self, route: &Route, now: Instant) -> Duration {
        let second = Duration::from_secs(1);
        drop_before(&mut self.asked, now, second);
        drop_before(&mut self.invalid, now, INVALID_SPAN);
        let left = |until: Instant| until.saturating_duration_since(now);
        let closed = self.closed.map_or(Duration::ZERO, left);
        let full = self.asked.front().filter(|_| self.asked.len() >= GLOBAL);
        let full = full.map_or(Duration::ZERO, |first| left(*first + second));
        let refused = self.invalid.front().filter(|_| self.invalid.len() >= INVALID_MAX);
        let refused = refused.map_or(Duration::ZERO, |first| left(*first + INVALID_SPAN));
        let key = self.key(route);
        let bucket = self.buckets.get(&key).filter(|bucket| bucket.full_at > now);
        let empty = bucket.filter(|bucket| bucket.left == 0);
        let empty = empty.map_or(Duration::ZERO, |bucket| left(bucket.full_at));
        closed.max(full).max(refused).max(empty)
    }

    /// Takes note of what an answer says of the limits.
    pub(super) fn hear(&mut self, route: &Route, headers: &HeaderMap, now: Instant) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(left) = text("x-ratelimit-remaining").and_then(|it| it.parse().ok()) else {
            return;
        };
        let after = text("x-ratelimit-reset-after").and_then(|it| it.parse().ok());
        let Some(after) = after.and_then(|it| Duration::try_from_secs_f64(it).ok()) else { return };
        if let Some(name) = text("x-ratelimit-bucket").filter(|it| it.len() <= 100) {
            self.names.insert(route.kind, name.to_owned());
        }
        let Some(full_at) = now.checked_add(after) else { return };
        self.put(route, Bucket { left, full_at }, now);
    }

    /// It wants a pause, about this or about all.
    pub(super) fn pause(&mut self, route: &Route, pause: Duration, global: bool, now: Instant) {
        let until = now + pause;
        match global {
            true => self.closed = self.closed.max(Some(until)),
            false => self.put(route, Bucket { left: 0, full_at: until }, now),
        }
    }

    /// It was asked what should not have been asked.
    pub(super) fn refuse(&mut self, now: Instant) {
        if self.invalid.len() < INVALID_MAX {
            self.invalid.push_back(now);
        }
    }

    fn put(&mut self, route: &Route, bucket: Bucket, now: Instant) {
        if self.buckets.len() >= BUCKETS_MAX {
            self.buckets.retain(|_, bucket| bucket.full_at > now);
        }
        let key = self.key(route);
        let known = self.buckets.get(&key).filter(|known| known.full_at > now);
        // Answers overtake each other: within a period what is left only becomes less.
        let bucket = match known {
            Some(known) if known.full_at + SLACK > bucket.full_at => Bucket {
                left: known.left.min(bucket.left),
                full_at: known.full_at.max(bucket.full_at),
            },
            _ => bucket,
        };
        if self.buckets.len() < BUCKETS_MAX {
            self.buckets.insert(key, bucket);
        }
    }

    fn key(&self, route: &Route) -> (String, String) {
        let name = self.names.get(route.kind).map_or(route.kind, String::as_str);
        (name.to_owned(), route.about.clone())
    }
}

/// How far the ends of one period may be apart, as two answers have it.
const SLACK: Duration = Duration::from_millis(50);

fn drop_before(times: &mut VecDeque<Instant>, now: Instant, span: Duration) {
    while times.front().is_some_and(|at| now.saturating_duration_since(*at) >= span) {
        times.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(left: &str, after: &str, bucket: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-ratelimit-remaining", left),
            ("x-ratelimit-reset-after", after),
            ("x-ratelimit-bucket", bucket),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn an_empty_bucket_is_waited_for_and_others_are_not() {
        let mut limits = Limits::default();
        let now = Instant::now();
        let post = |channel: &str| Route::new("POST messages", channel);
        assert_eq!(limits.ask(&post("1"), now), Ok(()), "nothing is known");
        limits.hear(&post("1"), &headers("1", "2.5", "b"), now);
        assert_eq!(limits.ask(&post("1"), now), Ok(()), "one is left");
        assert_eq!(limits.ask(&post("1"), now), Err(secs(2.5)), "and then none");
        assert_eq!(limits.ask(&post("2"), now), Ok(()), "another channel");
        let get = Route::new("GET messages", "1");
        assert_eq!(limits.ask(&get, now), Ok(()), "another bucket");
        limits.hear(&get, &headers("5", "1", "b"), now);
        assert_eq!(limits.ask(&get, now), Err(secs(2.5)), "as it turns out, it is the same");
        assert_eq!(limits.ask(&post("1"), now + secs(2.5)), Ok(()), "it is full again");
    }

    #[test]
    fn what_is_left_only_becomes_less_within_a_period() {
        let mut limits = Limits::default();
        let now = Instant::now();
        let route = Route::new("POST messages", "1");
        limits.hear(&route, &headers("0", "5", "b"), now);
        limits.hear(&route, &headers("3", "5", "b"), now);
        assert!(limits.ask(&route, now).is_err(), "an older answer came late");
        limits.hear(&route, &headers("4", "5", "b"), now + secs(5.0));
        assert_eq!(limits.ask(&route, now + secs(5.0)), Ok(()));
    }

    #[test]
    fn a_pause_is_kept_to_the_millisecond() {
        let mut limits = Limits::default();
        let now = Instant::now();
        let (one, two) = (Route::new("POST messages", "1"), Route::new("POST messages", "2"));
        limits.pause(&one, secs(7.125), false, now);
        assert_eq!(limits.ask(&one, now), Err(secs(7.125)));
        assert_eq!(limits.ask(&two, now), Ok(()));
        limits.pause(&one, secs(3.0), true, now);
        assert_eq!(limits.ask(&two, now), Err(secs(3.0)));
        assert_eq!(limits.ask(&two, now + secs(3.0)), Ok(()));
        assert_eq!(limits.ask(&one, now + secs(7.125)), Ok(()));
    }

    #[test]
    fn there_are_never_too_many_in_a_second_nor_too_many_refusals() {
        let mut limits = Limits::default();
        let now = Instant::now();
        let route = |number: usize| Route::new("GET channel", number.to_string());
        for number in 0..GLOBAL {
            assert_eq!(limits.ask(&route(number), now), Ok(()));
        }
        assert_eq!(limits.ask(&route(99), now), Err(secs(1.0)));
        assert_eq!(limits.ask(&route(99), now + secs(1.0)), Ok(()));
        (0..INVALID_MAX * 2).for_each(|_| limits.refuse(now));
        assert_eq!(limits.ask(&route(1), now + secs(60.0)), Err(secs(540.0)));
        assert_eq!(limits.ask(&route(1), now + INVALID_SPAN), Ok(()));
        limits.hear(&route(1), &headers("x", "-1", "b"), now);
        limits.hear(&route(1), &headers("0", "1e300", "b"), now);
        assert_eq!(limits.ask(&route(1), now + INVALID_SPAN), Ok(()), "nonsense says nothing");
    }
}
