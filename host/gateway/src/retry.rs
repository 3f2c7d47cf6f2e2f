//! Whether an upstream that did not answer is asked again, and when: pure.

use std::time::Duration;

/// How often one request is sent at most.
pub const ATTEMPTS_MAX: u32 = 4;

/// A wait that an upstream asks for and that is longer than this ends the request: the message can be
/// tried again later, and nobody holds a place meanwhile.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// The pause before the second attempt; each is twice the one before.
const FIRST: Duration = Duration::from_millis(500);

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream answered with this status, and asked to wait that long.
    Status(u16, Option<Duration>),
    /// It was not reached. Nothing was sent.
    NotReached,
    /// The connection broke before the head of an answer.
    Broken,
}

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The client gets what there is.
    Answer,
    /// Once more, after this time.
    Again(Duration),
}

/// What follows attempt number `attempt`, from 1, that came to `outcome`. `jitter` is a number from 0 to 1.
pub fn next(attempt: u32, outcome: Outcome, jitter: f64) -> Next {
    let asked = match outcome {
        Outcome::Status(429 | 503 | 529, asked) => asked,
        // It may have been bought, as with 500, 502 and 504: that is not asked for twice.
        Outcome::Status(..) | Outcome::Broken => return Next::Answer,
        Outcome::NotReached => None,
    };
    if attempt >= ATTEMPTS_MAX {
        return Next::Answer;
    }
    let usual = FIRST * 2u32.saturating_pow(attempt.saturating_sub(1));
    let wait = asked.unwrap_or(usual);
    match wait > WAIT_MAX {
        true => Next::Answer,
        // Never sooner than was asked for; spread, so that those who wait do not all come at once.
        false => Next::Again(wait + usual.mul_f64(jitter.clamp(0.0, 1.0) / 2.0)),
    }
}

impl Outcome {
    /// Whether a model may have worked for it: the upstream says so, or says nothing, or somebody between could
    /// not, or did not wait until it had answered.
    pub fn may_be_bought(self) -> bool {
        match self {
            Self::Status(status, _) => matches!(status, 200..=299 | 502 | 504),
            Self::NotReached => false,
            Self::Broken => true,
        }
    }
}

/// What `retry-after` says, in seconds or as `retry-after-ms` in milliseconds.
pub fn asked(seconds: Option<&str>, millis: Option<&str>) -> Option<Duration> {
    let number = |text: Option<&str>| {
        text.and_then(|text| text.trim().parse::<f64>().ok()).filter(|it| (0.0..1e9).contains(it))
    };
    let millis = number(millis).map(|it| it / 1000.0);
    millis.or(number(seconds)).map(Duration::from_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_asked_again_and_nothing_is_bought_twice() {
        let s = Duration::from_secs;
        let ms = Duration::from_millis;
        let cases = [
            (1, Outcome::Status(200, None), 0.0, Next::Answer),
            (1, Outcome::Status(400, None), 0.0, Next::Answer),
            (1, Outcome::Status(401, None), 0.0, Next::Answer),
            (1, Outcome::Status(500, None), 0.0, Next::Answer),
            (1, Outcome::Status(502, Some(s(1))), 0.0, Next::Answer),
            (1, Outcome::Status(504, None), 0.0, Next::Answer),
            (1, Outcome::Status(503, None), 0.0, Next::Again(ms(500))),
            (2, Outcome::Status(529, None), 0.0, Next::Again(s(1))),
            (3, Outcome::NotReached, 1.0, Next::Again(s(3))),
            (4, Outcome::Status(503, None), 0.0, Next::Answer),
            (1, Outcome::Status(429, Some(s(2))), 1.0, Next::Again(ms(2250))),
            (1, Outcome::Status(429, Some(s(60))), 0.0, Next::Again(s(60))),
            (1, Outcome::Status(429, Some(s(61))), 0.0, Next::Answer),
            (1, Outcome::Broken, 0.0, Next::Answer),
        ];
        for (attempt, outcome, jitter, expected) in cases {
            assert_eq!(next(attempt, outcome, jitter), expected, "{attempt} {outcome:?}");
        }
    }

    #[test]
    fn nothing_is_bought_of_whoever_says_no_and_anything_of_whoever_says_nothing() {
        let bought = [200, 204, 502, 504].map(|status| Outcome::Status(status, None));
        let spared =
            [400, 401, 404, 429, 500, 503, 529].map(|status| Outcome::Status(status, None));
        assert!(bought.into_iter().chain([Outcome::Broken]).all(Outcome::may_be_bought));
        assert!(!spared.into_iter().chain([Outcome::NotReached]).any(Outcome::may_be_bought));
    }

    #[test]
    fn a_wait_is_read_in_seconds_or_milliseconds() {
        let cases = [
            (None, None, None),
            (Some("2"), None, Some(Duration::from_secs(2))),
            (Some("0.5"), None, Some(Duration::from_millis(500))),
            (Some("2"), Some("30"), Some(Duration::from_millis(30))),
            (Some("Wed, 21 Oct 2026 07:28:00 GMT"), None, None),
            (Some("-1"), None, None),
            (Some("1e300"), None, None),
            (Some("NaN"), None, None),
        ];
        for (seconds, millis, expected) in cases {
            assert_eq!(asked(seconds, millis), expected, "{seconds:?} {millis:?}");
        }
    }
}
