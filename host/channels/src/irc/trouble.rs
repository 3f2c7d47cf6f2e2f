//! What a server says of a line that it did not take, and what that means for the message. Pure.

use std::time::Duration;

use super::enter::words;
use super::wire::Message;

/// The longest pause that is granted to a server.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);

/// The pause where it is too busy and does not say for how long.
const PAUSE: Duration = Duration::from_secs(60);

/// Why a line was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not now.
    Busy { error: String, retry_after: Duration },
    /// Never.
    Final { error: String },
    /// Not with colours and the like.
    Marks { error: String },
}

impl Refusal {
    /// What `message` says of a line that was said to `target`, if it says that it was not taken. It `is_ours` where
    /// the server says that it is about that line.
    pub(super) fn of(
        message: &Message,
        is_ours: bool,
        is_target: &dyn Fn(&str) -> bool,
    ) -> Option<Self> {
        let error = || format!("{} ({})", words(message.last()), message.command);
        if message.command == "FAIL" {
            let is_it = is_ours || ["PRIVMSG", "NOTICE"].contains(&message.param(0));
            return is_it.then(|| Self::Final { error: error() });
        }
        let number = message
            .numeric()
            .filter(|number| (400..600).contains(number) || matches!(number, 263 | 716))?;
        let names_it = is_target(message.param(1));
        match number {
            // The server is busy, or wants fewer people spoken to at a time.
            263 if is_ours || ["PRIVMSG", "NOTICE"].contains(&message.param(1)) => {
                Some(Self::Busy { error: error(), retry_after: PAUSE })
            }
            439 if is_ours || names_it => {
                let retry_after = seconds(message.last()).unwrap_or(PAUSE).min(PAUSE_MAX);
                Some(Self::Busy { error: error(), retry_after })
            }
            404 if is_ours || names_it => match message.last().to_ascii_lowercase() {
                said if said.contains("color")
                    || said.contains("colour")
                    || said.contains("formatting") =>
                {
                    Some(Self::Marks { error: error() })
                }
                _ => Some(Self::Final { error: error() }),
            },
            401 | 403..=407 | 414 | 415 | 442 | 477 | 486 | 489 | 494 | 531 | 716
                if is_ours || names_it =>
            {
                Some(Self::Final { error: error() })
            }
            411 | 412 | 413 | 417 => Some(Self::Final { error: error() }),
            _ if is_ours => Some(Self::Final { error: error() }),
            _ => None,
        }
    }
}

/// The number of seconds that a text names.
fn seconds(text: &str) -> Option<Duration> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = words.windows(2).find(|it| it[1].starts_with("sec")).map(|it| it[0])?;
    number.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_means_what_it_says_for_a_line() {
        let busy = |seconds| Some(("busy", Some(Duration::from_secs(seconds))));
        let (never, marks) = (Some(("final", None)), Some(("marks", None)));
        let cases = [
            (":s 401 me ada :No such nick", false, never),
            (":s 401 me eve :No such nick", false, None),
            (":s 401 me eve :No such nick", true, never),
            (":s 404 me ada :You cannot send messages to this channel", false, never),
            (":s 404 me ada :Can't send colors to channel (+c is set)", false, marks),
            (":s 412 me :No text to send", false, never),
            (":s 439 me ada :Target change too fast. Please wait 7 seconds.", false, busy(7)),
            (":s 439 me ada :Target change too fast.", false, busy(60)),
            (":s 439 me ada :wait 999999 seconds", false, busy(3600)),
            (":s 263 me PRIVMSG :Server load is temporarily too heavy", false, busy(60)),
            (":s 263 me LIST :Server load is temporarily too heavy", false, None),
            (":s 433 me nick :Nickname is already in use.", false, None),
            (":s 471 me #r :Cannot join", false, None),
            (":s 477 me ada :You need to identify", false, never),
            (":s 531 me ada :You are not permitted to send private messages", false, never),
            (":s 499 me :whatever", true, never),
            (":s 301 me ada :is away", true, None),
            (":s FAIL PRIVMSG CANNOT_SEND ada :no", false, never),
            (":s FAIL JOIN X #r :no", false, None),
            (":s NOTICE me :404", false, None),
        ];
        for (line, is_ours, expected) in cases {
            let message = Message::read(line.as_bytes()).unwrap();
            let is_target = |name: &str| name == "ada";
            let found = Refusal::of(&message, is_ours, &is_target);
            let found = found.map(|found| match found {
                Refusal::Busy { retry_after, .. } => ("busy", Some(retry_after)),
                Refusal::Final { .. } => ("final", None),
                Refusal::Marks { .. } => ("marks", None),
            });
            assert_eq!(found, expected, "{line} {is_ours}");
        }
    }
}
