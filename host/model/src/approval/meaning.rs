//! What a person means by an answer in a chat.

use super::{Approval, CODE_LENGTH, CODE_LETTERS, Kind, Status, Verdict, quoted};

/// The longest answer that can be one to a prompt, in bytes.
const ANSWER_MAX: usize = 64;

/// What stands in the place of a code where a container can read it.
const NO_CODE: &str = "····";

/// Whether a text may be an answer to anything: most are not, and need no look at what was asked.
pub fn has_form_of_answer(text: &str) -> bool {
    is_number(text) || named_code(text).is_some()
}

/// Whether a text is a number and nothing else.
pub fn is_number(text: &str) -> bool {
    text.trim().len() <= ANSWER_MAX && number(text.trim()).is_some()
}

/// The code that a text begins with, if it has the form of an answer with one.
pub fn named_code(text: &str) -> Option<String> {
    with_code(text).map(|(code, _)| code)
}

/// `text` as a container may read it: without the code, if it has the form of an answer with one.
pub fn without_code(text: &str) -> String {
    with_code(text).map_or_else(|| text.to_owned(), |(_, word)| format!("{NO_CODE} {word}"))
}

/// A code and the word behind it, if `text` is that.
fn with_code(text: &str) -> Option<(String, &str)> {
    let text = text.trim();
    let mut words = text.split_whitespace();
    let (Some(code), Some(word), None) = (words.next(), words.next(), words.next()) else {
        return None;
    };
    let code = code.to_lowercase();
    let is_code =
        code.len() == CODE_LENGTH && code.bytes().all(|byte| CODE_LETTERS.contains(&byte));
    (is_code && text.len() <= ANSWER_MAX).then_some((code, word))
}

/// A number as people write one: digits alone. `+1` is a word of agreement, and about nothing in particular.
fn number(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// What an answer in a chat means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// It is no answer to anything that was asked.
    Nothing,
    /// It decides the approval with this index.
    Decide(usize, Verdict),
    /// It decides nothing, and this is why, for whoever said it.
    Unclear(String),
}

/// What a person means who says `text` where `asked` was asked, which may be over. A number alone
/// answers the one question that is open there; nothing is allowed without the code, for an agent could
/// ask something harmless about the same number. Only what has the form of an answer is one.
pub fn meant(text: &str, asked: &[&Approval]) -> Meant {
    let text = text.trim();
    if let Some((code, word)) = with_code(text) {
        let Some(at) = asked.iter().position(|approval| approval.code == code) else {
            return Meant::Nothing;
        };
        return by_code(at, word, asked[at]);
    }
    match number(text).filter(|_| text.len() <= ANSWER_MAX) {
        Some(number) => by_number(number, asked),
        None => Meant::Nothing,
    }
}

fn by_number(number: usize, asked: &[&Approval]) -> Meant {
    let open = |kind: Kind| {
        let pending = asked.iter().enumerate().filter(|(_, it)| it.status == Status::Pending);
        pending.filter(move |(_, it)| it.subject.kind == kind)
    };
    let fits: Vec<_> = open(Kind::Question)
        .filter(|(_, it)| (1..=it.subject.choices.len()).contains(&number))
        .collect();
    match fits.as_slice() {
        [(at, _)] if open(Kind::Permission).next().is_none() || number > 2 => {
            Meant::Decide(*at, Verdict::Choose(number))
        }
        [] => match open(Kind::Permission).next() {
            Some((_, permission)) if number == 1 || number == 2 => Meant::Unclear(format!(
                "To decide about {}, say its code too: `{} {number}`.",
                quoted(&permission.subject.what),
                permission.code
            )),
            _ => Meant::Nothing,
        },
        _ => Meant::Unclear(
            "More than one thing is asked here: say the code of the one that you mean, and then the \
             number."
                .to_owned(),
        ),
    }
}

fn by_code(at: usize, word: &str, approval: &Approval) -> Meant {
    let choices = &approval.subject.choices;
    let number = number(word).filter(|number| (1..=choices.len()).contains(number));
    let named = choices.iter().position(|choice| choice.eq_ignore_ascii_case(word));
    match number.or(named.map(|at| at + 1)) {
        Some(number) => Meant::Decide(at, Verdict::Choose(number)),
        None if word.eq_ignore_ascii_case("deny") => Meant::Decide(at, Verdict::Deny),
        None => Meant::Unclear(format!(
            "[{}] has no choice {}: say a number from 1 to {}.",
            approval.code,
            quoted(word),
            choices.len()
        )),
    }
}
