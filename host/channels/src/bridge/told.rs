//! What a bridge's answer means for a message. Pure.

use std::time::Duration;

use twobox_shared::content::shorten;
use twobox_shared::visible;

use super::seat::Handed;
use crate::parts::Sent;
use crate::socket::{TellsOf, Told};

/// The longest error that is kept, in characters.
const ERROR_MAX: usize = 300;

/// The longest platform's id that is kept, in bytes.
const PLATFORM_ID_MAX: usize = twobox_shared::bounds::NAME.most;

/// The longest pause that a bridge may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// What became of what was handed over.
pub(super) fn sent(handed: Handed) -> Sent {
    let told = match handed {
        Handed::Told(told) => told,
        Handed::Not(error) => return Sent::NotSent { error, retry_after: None },
        Handed::Unknown(error) => return Sent::Unknown(error),
    };
    let Told { outcome, platform_message_id, error, retry_after_ms, key: _ } = told;
    let why = |otherwise: &str| match error.as_deref().map(str::trim) {
        None | Some("") => otherwise.to_owned(),
        Some(error) => shorten(&visible::line(error), ERROR_MAX),
    };
    match outcome {
        TellsOf::Delivered => Sent::Taken(platform_message_id.filter(|id| is_fit(id))),
        TellsOf::Transient => Sent::NotSent {
            error: why("the bridge asks for another time"),
            retry_after: retry_after_ms.map(|ms| Duration::from_millis(ms).min(RETRY_AFTER_MAX)),
        },
        TellsOf::Permanent => Sent::Refused(why("the bridge refuses it")),
        TellsOf::Uncertain => Sent::Unknown(why("the bridge does not know whether it arrived")),
    }
}

fn is_fit(id: &str) -> bool {
    !id.is_empty() && id.len() <= PLATFORM_ID_MAX && !id.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(outcome: TellsOf) -> Told {
        Told {
            key: "k".to_owned(),
            outcome,
            platform_message_id: None,
            error: None,
            retry_after_ms: None,
        }
    }

    #[test]
    fn each_answer_means_what_it_says_and_no_more_than_is_fit_to_keep() {
        let says = |outcome, error: &str| Told { error: Some(error.to_owned()), ..told(outcome) };
        let named = |id: &str| Told {
            platform_message_id: Some(id.to_owned()),
            ..told(TellsOf::Delivered)
        };
        let later = |ms| Told { retry_after_ms: Some(ms), ..says(TellsOf::Transient, "429") };
        let not_sent = |seconds: Option<u64>| Sent::NotSent {
            error: "429".to_owned(),
            retry_after: seconds.map(Duration::from_secs),
        };
        let cases = [
            ("taken", told(TellsOf::Delivered), Sent::Taken(None)),
            ("and named", named("p1"), Sent::Taken(Some("p1".to_owned()))),
            ("by what steers a terminal", named("\u{1b}[2J"), Sent::Taken(None)),
            ("by too long a name", named(&"x".repeat(256)), Sent::Taken(None)),
            ("later", says(TellsOf::Transient, "429"), not_sent(None)),
            ("not before", later(90_000), not_sent(Some(90))),
            ("much later", later(u64::MAX), not_sent(Some(3600))),
            ("never", says(TellsOf::Permanent, "a\nb"), Sent::Refused("a b".to_owned())),
            (
                "never, without a word",
                says(TellsOf::Permanent, " "),
                Sent::Refused("the bridge refuses it".to_owned()),
            ),
            ("unknown", says(TellsOf::Uncertain, "?"), Sent::Unknown("?".to_owned())),
        ];
        for (case, told, expected) in cases {
            let shown = sent(Handed::Told(told));
            match (&shown, &expected) {
                // How a line break is shown is `visible`'s business.
                (Sent::Refused(shown), Sent::Refused(_)) if case == "never" => {
                    assert!(!shown.contains('\n') && shown.contains('a'), "{shown}");
                }
                _ => assert_eq!(shown, expected, "{case}"),
            }
        }
        let long = says(TellsOf::Permanent, &"x".repeat(5000));
        assert!(matches!(sent(Handed::Told(long)), Sent::Refused(error) if error.len() < 400));
    }

    #[test]
    fn what_was_not_handed_over_is_not_sent_and_what_is_not_answered_is_unknown() {
        let not = sent(Handed::Not("x".to_owned()));
        assert_eq!(not, Sent::NotSent { error: "x".to_owned(), retry_after: None });
        assert_eq!(sent(Handed::Unknown("x".to_owned())), Sent::Unknown("x".to_owned()));
    }
}
