//! What the answer to a POST means for the message in it. Pure.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::http::{Answer, Fault};
use crate::parts::Sent;

/// The longest pause that is granted.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);

/// The longest id that is kept, in bytes.
const PLATFORM_ID_MAX: usize = twobox_shared::bounds::NAME.most;

/// What an answer may say. Anything else is passed over.
#[derive(Debug, Deserialize)]
struct Says {
    #[serde(default)]
    platform_message_id: Value,
}

/// What became of it.
pub(super) fn judge(answered: Result<Answer, Fault>) -> Sent {
    let answer = match answered {
        Ok(answer) => answer,
        Err(Fault::NotReached(why)) => {
            let error = format!("the receiver cannot be reached: {why}");
            return Sent::NotSent { error, retry_after: None };
        }
        Err(Fault::Silent(why)) => {
            return Sent::Unknown(format!("the receiver did not answer: {why}"));
        }
        Err(Fault::Strange(why)) => return Sent::Unknown(why),
    };
    let status = answer.status;
    let error = format!("the receiver answered {status}");
    let retry_after = answer.retry_after().map(|pause| pause.min(PAUSE_MAX));
    match status {
        200..300 => Sent::Taken(id_in(&answer.body)),
        // The address is wrong, and an operator can mend that.
        300..400 => Sent::NotSent {
            error: format!(
                "{error}, which leads elsewhere and is not followed: set where it leads"
            ),
            retry_after,
        },
        // Each says that it was not taken, and may be later.
        408 | 425 | 429 | 503 => Sent::NotSent { error, retry_after },
        400..500 => Sent::Refused(error),
        // It may have been taken before that went wrong.
        _ => Sent::Unknown(error),
    }
}

fn id_in(body: &[u8]) -> Option<String> {
    let id = match serde_json::from_slice::<Says>(body).ok()?.platform_message_id {
        Value::String(id) => id,
        Value::Number(id) => id.to_string(),
        _ => return None,
    };
    let fits = !id.is_empty() && id.len() <= PLATFORM_ID_MAX && !id.contains(char::is_control);
    fits.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeaderMap, HeaderValue};

    fn answer(status: u16, retry_after: &str, body: &str) -> Result<Answer, Fault> {
        let mut headers = HeaderMap::new();
        if !retry_after.is_empty() {
            headers.insert("retry-after", HeaderValue::from_str(retry_after).unwrap());
        }
        Ok(Answer { status, headers, body: body.to_owned().into() })
    }

    #[test]
    fn each_answer_is_a_yes_a_no_or_a_later_or_nobody_knows() {
        let id = |id: &str| Sent::Taken(Some(id.to_owned()));
        let cases = [
            (200, "", "", Sent::Taken(None)),
            (204, "", "ok", Sent::Taken(None)),
            (202, "", r#"{"platform_message_id":"p1","more":1}"#, id("p1")),
            (200, "", r#"{"platform_message_id":17}"#, id("17")),
            (200, "", r#"{"platform_message_id":"\u001b[2J"}"#, Sent::Taken(None)),
        ];
        for (status, after, body, expected) in cases {
            assert_eq!(judge(answer(status, after, body)), expected, "{status} {body}");
        }
        let later = [
            (429, "7", Some(7)),
            (429, "", None),
            (503, "0", Some(0)),
            (408, "", None),
            (425, "", None),
            (429, "99999999", Some(3600)),
            (429, "soon", None),
            (302, "", None),
        ];
        for (status, after, seconds) in later {
            match judge(answer(status, after, "")) {
                Sent::NotSent { retry_after, .. } => {
                    assert_eq!(retry_after, seconds.map(Duration::from_secs), "{status} {after}");
                }
                other => panic!("{status}: {other:?}"),
            }
        }
        for status in [400, 401, 403, 404, 409, 410, 413, 422] {
            assert!(matches!(judge(answer(status, "9", "")), Sent::Refused(_)), "{status}");
        }
        for status in [500, 502, 504, 100, 600] {
            assert!(matches!(judge(answer(status, "", "")), Sent::Unknown(_)), "{status}");
        }
    }

    #[test]
    fn only_what_did_not_leave_is_known_not_to_have_arrived() {
        let fault = |fault: fn(String) -> Fault| judge(Err(fault("x".to_owned())));
        assert!(matches!(fault(Fault::NotReached), Sent::NotSent { .. }));
        assert!(matches!(fault(Fault::Silent), Sent::Unknown(_)));
        assert!(matches!(fault(Fault::Strange), Sent::Unknown(_)));
    }
}
