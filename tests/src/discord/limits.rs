//! The buckets of questions. How large they are is a guess; how they are told of is published.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::options::Options;

/// How many questions a bot may ask within a second.
const GLOBAL: u32 = 50;

#[derive(Debug)]
pub(super) struct Limits {
    messages: u32,
    period: Duration,
    buckets: HashMap<(&'static str, String), Bucket>,
    all: Bucket,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    used: u32,
    until: Instant,
}

/// What is said of a bucket beside an answer.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) headers: Vec<(&'static str, String)>,
    /// The refusal, if it was empty.
    pub(super) refusal: Option<Value>,
}

impl Limits {
    pub(super) fn new(options: &Options) -> Self {
        let all = Bucket { used: 0, until: Instant::now() };
        let (messages, period) = (options.messages, options.period);
        Self { messages, period, buckets: HashMap::new(), all }
    }

    /// A question of this kind is asked about this at `now`.
    pub(super) fn ask(&mut self, kind: &'static str, about: &str, now: Instant) -> Said {
        if let Some(wait) = self.all.take(GLOBAL, Duration::from_secs(1), now) {
            let headers = vec![
                ("x-ratelimit-global", "true".to_owned()),
                ("x-ratelimit-scope", "global".to_owned()),
                ("retry-after", wait.as_secs_f64().ceil().to_string()),
            ];
            return Said { headers, refusal: Some(limited(wait, true)) };
        }
        let most = match kind {
            "" => return Said { headers: Vec::new(), refusal: None },
            "post" => self.messages,
            _ => self.messages * 4,
        };
        let fresh = Bucket { used: 0, until: now };
        let bucket = self.buckets.entry((kind, about.to_owned())).or_insert(fresh);
        let refused = bucket.take(most, self.period, now);
        let after = bucket.until.saturating_duration_since(now).as_secs_f64();
        let mut headers = vec![
            ("x-ratelimit-limit", most.to_string()),
            ("x-ratelimit-remaining", (most - bucket.used.min(most)).to_string()),
            ("x-ratelimit-reset-after", format!("{after:.3}")),
            ("x-ratelimit-bucket", format!("bucket-{kind}")),
        ];
        if let Some(wait) = refused {
            headers.push(("x-ratelimit-scope", "user".to_owned()));
            headers.push(("retry-after", wait.as_secs_f64().ceil().to_string()));
        }
        Said { headers, refusal: refused.map(|wait| limited(wait, false)) }
    }
}

impl Bucket {
    /// Takes one; or says how long there is none.
    fn take(&mut self, most: u32, period: Duration, now: Instant) -> Option<Duration> {
        if now >= self.until {
            *self = Self { used: 0, until: now + period };
        }
        if self.used >= most {
            return Some(self.until - now);
        }
        self.used += 1;
        None
    }
}

fn limited(wait: Duration, global: bool) -> Value {
    // To the millisecond, and not too early.
    let seconds = (wait.as_secs_f64() * 1000.0).ceil() / 1000.0;
    json!({ "message": "You are being rate limited.", "retry_after": seconds, "global": global })
}
