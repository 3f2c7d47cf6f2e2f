//! What is done to send an answer, step by step, as a value.

use super::script::{Step, Trouble};
use super::shape::Event;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Send these bytes at once.
    Send(Vec<u8>),
    /// Wait so many milliseconds.
    Pause(u64),
    /// Wait until somebody releases it.
    Stall,
    /// All that is paid for was told.
    Sold,
    /// Break the connection off. After anything else the body ends properly.
    Break,
}

/// Plans an answer. `error` words an error as an event after so many others.
pub(super) fn plan(
    mut events: Vec<Event>,
    step: &Step,
    error: impl Fn(usize) -> String,
) -> Vec<Act> {
    if let Some(Trouble::Error(after)) = step.trouble {
        let mut bytes = 0;
        let is_before = |event: &&Event| {
            let fits = bytes < after;
            bytes += event.text.len();
            fits
        };
        let count = events.iter().take_while(is_before).count();
        events.truncate(count);
        events.push(Event { text: error(count), paced: false, last_usage: false });
    }
    let mut acts = Vec::new();
    let mut left = match step.trouble {
        Some(Trouble::Cut(bytes) | Trouble::Short(bytes) | Trouble::Stall(bytes)) => Some(bytes),
        Some(Trouble::Error(_)) | None => None,
    };
    for event in events {
        if event.paced && !step.drip && step.pause_ms > 0 {
            acts.push(Act::Pause(step.pause_ms));
        }
        let (now, later) = match left {
            Some(bytes) if bytes < event.text.len() => event.text.as_bytes().split_at(bytes),
            _ => (event.text.as_bytes(), [].as_slice()),
        };
        send(now, step, &mut acts);
        left = left.map(|bytes| bytes - now.len());
        if !later.is_empty() {
            match step.trouble {
                Some(Trouble::Cut(_)) => {
                    acts.push(Act::Break);
                    return acts;
                }
                Some(Trouble::Stall(_)) => acts.push(Act::Stall),
                Some(Trouble::Short(_) | Trouble::Error(_)) | None => return acts,
            }
            left = None;
            send(later, step, &mut acts);
        }
        if event.last_usage {
            acts.push(Act::Sold);
        }
    }
    match step.trouble {
        // The answer was shorter than that, so it happens at its end.
        Some(Trouble::Cut(_)) => acts.push(Act::Break),
        Some(Trouble::Stall(_)) if left.is_some() => acts.push(Act::Stall),
        _ => {}
    }
    acts
}

fn send(bytes: &[u8], step: &Step, acts: &mut Vec<Act>) {
    if !step.drip {
        acts.extend((!bytes.is_empty()).then(|| Act::Send(bytes.to_vec())));
        return;
    }
    for &byte in bytes {
        acts.extend((step.pause_ms > 0).then_some(Act::Pause(step.pause_ms)));
        acts.push(Act::Send(vec![byte]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acts(step: &Step) -> String {
        let event =
            |text: &str, paced, last_usage| Event { text: text.to_owned(), paced, last_usage };
        let events =
            vec![event("ab", false, false), event("cd", true, true), event("e", false, false)];
        let write = |act: Act| match act {
            Act::Send(bytes) => String::from_utf8(bytes).unwrap(),
            Act::Pause(span) => span.to_string(),
            Act::Stall => "?".to_owned(),
            Act::Sold => "$".to_owned(),
            Act::Break => "!".to_owned(),
        };
        let acts = plan(events, step, |count| format!("error{count}"));
        acts.into_iter().map(write).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_happens_happens_at_its_byte() {
        let with = |trouble| acts(&Step::empty().with(trouble));
        let cases = [
            (acts(&Step::empty()), "ab cd $ e"),
            (acts(&Step::empty().with_pauses(7)), "ab 7 cd $ e"),
            (acts(&Step::empty().dripping(7).with(Trouble::Short(3))), "7 a 7 b 7 c"),
            (acts(&Step::empty().dripping(0)), "a b c d $ e"),
            (with(Trouble::Cut(0)), "!"),
            (with(Trouble::Cut(3)), "ab c !"),
            (with(Trouble::Cut(4)), "ab cd $ !"),
            (with(Trouble::Cut(9)), "ab cd $ e !"),
            (with(Trouble::Short(1)), "a"),
            (with(Trouble::Stall(0)), "? ab cd $ e"),
            (with(Trouble::Stall(3)), "ab c ? d $ e"),
            (with(Trouble::Stall(9)), "ab cd $ e ?"),
            (with(Trouble::Error(0)), "error0"),
            (with(Trouble::Error(1)), "ab error1"),
            (with(Trouble::Error(3)), "ab cd $ error2"),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }
}
