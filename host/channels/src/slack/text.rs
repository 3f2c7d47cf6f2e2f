//! What people write on Slack, as text: who is named by their name, addresses as they stand, and nothing of the
//! marks that Slack puts in their place. Pure.
//!
//! Source: "Retrieving messages" in <https://docs.slack.dev/messaging/formatting-message-text>.

use std::collections::{BTreeSet, HashMap};

use twobox_model::approval::has_form_of_answer;
use twobox_model::people::{self, Form};

/// How many people of one text are looked up.
const NAMED_MAX: usize = 20;

/// The ids of those whom `text` names.
pub(super) fn named(text: &str) -> BTreeSet<&str> {
    let ids = marks(text).filter_map(|mark| match mark {
        Piece::Mark(mark) => user(mark),
        Piece::Text(_) => None,
    });
    ids.take(NAMED_MAX).collect()
}

/// `text` as somebody reads it, with the names that are known.
pub(super) fn plain(text: &str, names: &HashMap<String, String>) -> String {
    let mut plain = String::with_capacity(text.len());
    for piece in marks(text) {
        match piece {
            Piece::Text(text) => unescape(text, &mut plain),
            Piece::Mark(mark) => shown(mark, names, &mut plain),
        }
    }
    plain
}

/// What is said to the bot with the id `us`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addressed<'a> {
    pub(super) mentioned: bool,
    /// Without the name before it, where a word to the host, or an answer to what was asked, is what is left.
    pub(super) text: &'a str,
    /// That word.
    pub(super) word: Option<String>,
}

/// Whether `text`, as Slack has it, names the bot, and what is left of it if that is for the host.
pub(super) fn addressed<'a>(text: &'a str, us: &str) -> Addressed<'a> {
    let mentioned = named(text).contains(us);
    let rest = after_mention(text, us).unwrap_or(text).trim();
    let word = slash(rest).or_else(|| has_form_of_answer(rest).then(|| rest.to_owned()));
    Addressed { mentioned, text, word }
}

/// The word to the host that `text` is: Slack takes what begins with a slash for itself, so that `!stop` says
/// it as well.
fn slash(text: &str) -> Option<String> {
    let word = text.strip_prefix(['/', '!'])?;
    let slashed = format!("/{word}");
    let is_word = people::form(&slashed) == Form::Word;
    is_word.then(|| slashed.to_ascii_lowercase())
}

/// What follows the name of the bot at the beginning of `text`.
fn after_mention<'a>(text: &'a str, us: &str) -> Option<&'a str> {
    let rest = text.trim_start().strip_prefix("<@")?;
    let (mark, rest) = rest.split_once('>')?;
    let id = mark.split('|').next()?;
    (id == us).then(|| rest.trim_start_matches([':', ',', ' ', '\n']))
}

enum Piece<'a> {
    Text(&'a str),
    /// What stands in angles.
    Mark(&'a str),
}

/// The pieces of a text. Angles that people write are escaped, so that each is Slack's.
fn marks(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some((mark, after)) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
            rest = after;
            return Some(Piece::Mark(mark));
        }
        let skipped = usize::from(rest.starts_with('<'));
        let end = rest[skipped..].find('<').map_or(rest.len(), |end| skipped + end);
        let text;
        (text, rest) = rest.split_at(end);
        Some(Piece::Text(text))
    })
}

/// Whom a mark names.
fn user(mark: &str) -> Option<&str> {
    mark.strip_prefix('@')?.split('|').next().filter(|id| !id.is_empty())
}

/// What is shown in the place of a mark.
fn shown(mark: &str, names: &HashMap<String, String>, plain: &mut String) {
    let (what, label) = match mark.split_once('|') {
        Some((what, label)) => (what, Some(label).filter(|label| !label.is_empty())),
        None => (mark, None),
    };
    if let Some(id) = user(mark) {
        plain.push('@');
        match names.get(id) {
            Some(name) => plain.push_str(name),
            None => unescape(label.unwrap_or(id), plain),
        }
    } else if let Some(id) = what.strip_prefix('#') {
        plain.push('#');
        unescape(label.unwrap_or(id), plain);
    } else if let Some(call) = what.strip_prefix('!') {
        // `here`, `subteam^S1|@group`, `date^1^{date}|a fallback`
        match label {
            Some(label) => unescape(label, plain),
            None => {
                plain.push('@');
                unescape(call.split('^').next().unwrap_or(call), plain);
            }
        }
    } else {
        let address = what.strip_prefix("mailto:").or(what.strip_prefix("tel:")).unwrap_or(what);
        match label.filter(|label| *label != address && !what.ends_with(label)) {
            Some(label) => {
                unescape(label, plain);
                plain.push_str(" (");
                unescape(address, plain);
                plain.push(')');
            }
            None => unescape(address, plain),
        }
    }
}

fn unescape(text: &str, plain: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = [("&lt;", '<'), ("&gt;", '>'), ("&amp;", '&')];
        let found = known.into_iter().find(|(escape, _)| rest.starts_with(escape));
        let (escape, c) = found.unwrap_or(("&", '&'));
        plain.push(c);
        rest = &rest[escape.len()..];
    }
    plain.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_what_a_person_reads() {
        let names = HashMap::from([("U1".to_owned(), "Ada <L>".to_owned())]);
        let cases = [
            ("hello", "hello"),
            ("<@U1> and <@U2> and <@U3|bob>", "@Ada <L> and @U2 and @bob"),
            ("a &lt;b&gt; &amp;amp; &quot; &", "a <b> &amp; &quot; &"),
            ("<https://x.example/?a=1&amp;b=2>", "https://x.example/?a=1&b=2"),
            ("<https://x.example/|the site>", "the site (https://x.example/)"),
            ("<http://x.example|x.example>", "http://x.example"),
            ("<mailto:a@x.example|a@x.example>", "a@x.example"),
            ("<#C1|general> <#C2> <#C3|>", "#general #C2 #C3"),
            (
                "<!here> <!channel|@channel> <!subteam^S1|@team> <!subteam^S2>",
                "@here @channel @team @subteam",
            ),
            ("<!date^1^{date}|yesterday>", "yesterday"),
            ("left < open", "left < open"),
            ("<", "<"),
            ("<>", ""),
            ("😀<@U1>שלום", "😀@Ada <L>שלום"),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text, &names), expected, "{text:?}");
        }
        assert_eq!(named("<@U1> <@U2|x> <#C1> <@> <@U1>"), BTreeSet::from(["U1", "U2"]));
    }

    #[test]
    fn words_to_the_host_are_found_behind_a_name_and_with_either_mark() {
        let cases = [
            ("hello", false, None),
            ("<@UB> hello", true, None),
            ("hello <@UB>", true, None),
            ("<@UX> hello", false, None),
            ("!stop", false, Some("/stop")),
            (" /stop ", false, Some("/stop")),
            ("<@UB> !STOP", true, Some("/stop")),
            ("<@UB|bot>: !new", true, Some("/new")),
            ("<@UB>, /status", true, Some("/status")),
            ("!stop it", false, None),
            ("!weather", false, None),
            ("<@UB> 2", true, Some("2")),
            ("1", false, Some("1")),
        ];
        for (text, mentioned, word) in cases {
            let found = addressed(text, "UB");
            assert_eq!((found.mentioned, found.word.as_deref()), (mentioned, word), "{text:?}");
        }
    }
}
