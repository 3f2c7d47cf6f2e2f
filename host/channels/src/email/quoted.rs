//! What somebody has written in a mail, without what mail programs put below it: the mail that is answered, and
//! the signature. What stands between quoted lines stays, with them: it is about them. Pure.

/// How many lines an introduction of a quotation may have, as in `On …, somebody` and `wrote:`.
const INTRODUCTION: usize = 3;

/// How many lines of a head may stand between the mark of a forwarded mail and its first header.
const HEAD: usize = 2;

/// `text` without what follows what was written; all of it, if nothing else is there.
pub(super) fn written(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.iter().position(|line| is_signature(line)).unwrap_or(lines.len());
    // What is quoted below the signature is gone with it; what is quoted above may be.
    let end = original(&lines[..end]).unwrap_or(end);
    let end = without_quotation(&lines[..end]);
    let kept = lines[..end].join("\n");
    match kept.trim().is_empty() {
        true => text.trim().to_owned(),
        false => kept.trim().to_owned(),
    }
}

/// RFC 3676: two hyphens and a space. Some lose the space.
fn is_signature(line: &str) -> bool {
    matches!(line.trim_end_matches('\r'), "-- " | "--")
}

fn is_quoted(line: &str) -> bool {
    line.trim_start().starts_with('>')
}

/// Where the quotation begins that is the end of `lines`, with its introduction; or their number.
fn without_quotation(lines: &[&str]) -> usize {
    let Some(last) = lines.iter().rposition(|line| !line.trim().is_empty()) else { return 0 };
    if !is_quoted(lines[last]) {
        return lines.len();
    }
    let before = lines[..last].iter().rposition(|line| !is_quoted(line) && !line.trim().is_empty());
    let Some(before) = before else { return 0 };
    // What stands there in one piece, up to the colon at its end.
    let piece = lines[..=before].iter().rposition(|line| line.trim().is_empty());
    let first = piece.map_or(0, |empty| empty + 1).max((before + 1).saturating_sub(INTRODUCTION));
    let sentence = |index: usize| {
        lines[index..=before].iter().map(|it| it.trim()).collect::<Vec<_>>().join(" ")
    };
    let begins = (first..=before).rev().find(|index| introduces(&sentence(*index)));
    let names = |sentence: &str| sentence.ends_with(':') && sentence.contains('@');
    begins.or(names(&sentence(before)).then_some(before)).unwrap_or(before + 1)
}

/// Whether `sentence` says who has written what follows, and when.
fn introduces(sentence: &str) -> bool {
    const BEGINS: [&str; 11] =
        ["On ", "Am ", "Le ", "El ", "Il ", "Op ", "Em ", "W dniu ", "Dne ", "Den ", "På "];
    sentence.ends_with(':')
        && sentence.contains(|c: char| c.is_ascii_digit())
        && BEGINS.iter().any(|it| sentence.starts_with(it))
}

/// Where a mail begins that a program has put below whole, with its head.
fn original(lines: &[&str]) -> Option<usize> {
    let is_mark = |line: &str| {
        let inner = line.trim().trim_matches(['-', '_', ' ', '*']);
        let marks = [
            "Original Message",
            "Original-Nachricht",
            "Ursprüngliche Nachricht",
            "Message d'origine",
        ];
        line.trim().starts_with("--") && marks.iter().any(|it| inner.eq_ignore_ascii_case(it))
    };
    let is_rule = |line: &str| line.trim().len() >= 8 && line.trim().chars().all(|c| c == '_');
    lines.iter().enumerate().position(|(index, line)| {
        is_mark(line)
            || (is_rule(line) && begins_head(&lines[index + 1..]))
            || begins_whole_head(&lines[index..])
    })
}

/// Whether a head comes soon.
fn begins_head(lines: &[&str]) -> bool {
    (0..=HEAD).any(|skipped| lines.get(skipped..).is_some_and(|it| heads(it) >= 2))
}

/// Whether these lines are the head of a mail without any mark before it.
fn begins_whole_head(lines: &[&str]) -> bool {
    heads(lines) >= 4
}

/// With how many lines of a mail's head `lines` begin. The first says from whom it is.
fn heads(lines: &[&str]) -> usize {
    const FROM: [&str; 4] = ["From:", "Von:", "De:", "Da:"];
    const REST: [&str; 16] = [
        "Sent:",
        "Date:",
        "To:",
        "Cc:",
        "Subject:",
        "Gesendet:",
        "Datum:",
        "An:",
        "Betreff:",
        "Envoyé :",
        "Envoyé:",
        "À :",
        "À:",
        "Objet :",
        "Objet:",
        "Reply-To:",
    ];
    let is = |line: &str, names: &[&str]| {
        let line = line.trim().trim_start_matches('*');
        names
            .iter()
            .any(|name| line.starts_with(name) || line.starts_with(&name.replace(':', ":*")))
    };
    match lines.split_first() {
        Some((first, rest)) if is(first, &FROM) => {
            1 + rest.iter().take_while(|line| is(line, &REST)).count()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_kept_and_what_was_put_below_is_not() {
        let cases = [
            ("plain", "hello\n\nyou\n", "hello\n\nyou"),
            ("signature", "hello\n-- \nAda\n+1 555", "hello"),
            (
                "answered below",
                "yes\n\nOn Mon, 30 Nov 2026 at 10:00, Bot <b@x> wrote:\n> no?\n>\n> really?\n",
                "yes",
            ),
            (
                "broken introduction",
                "yes\n\nOn Mon, 30 Nov 2026 at 10:00, Bot\n<bot@x.org> wrote:\n\n> no?\n",
                "yes",
            ),
            ("German", "ja\n\nAm 30.11.26 um 10:00 schrieb Bot:\n> nein?\n", "ja"),
            ("without introduction", "yes\n\n> no?\n", "yes"),
            ("a colon of one's own", "I mean this:\n> no?\n", "I mean this:"),
            (
                "in between",
                "> one?\nyes\n> two?\nno\n> three?\n> four?\n",
                "> one?\nyes\n> two?\nno",
            ),
            ("Outlook", "yes\n\n-----Original Message-----\nFrom: B\nSent: now\n\nno?", "yes"),
            (
                "Outlook of today",
                "yes\n\n________________________________\nFrom: B\nSent: now\nTo: A\nno?",
                "yes",
            ),
            (
                "without a rule",
                "yes\n\nFrom: B <b@x>\nSent: Monday\nTo: A\nSubject: x\n\nno?",
                "yes",
            ),
            ("bold", "yes\n\n*From:* B\n*Sent:* Monday\n*To:* A\n*Subject:* x\n\nno?", "yes"),
            (
                "talk of heads",
                "From: is a header\nTo: is another",
                "From: is a header\nTo: is another",
            ),
            ("quotation alone", "> one?\n> two?\n", "> one?\n> two?"),
            ("signature alone", "-- \nAda", "-- \nAda"),
            ("nothing", " \n \n", ""),
            ("a rule", "above\n________\nbelow", "above\n________\nbelow"),
            ("Markdown", "a\n---\nb", "a\n---\nb"),
        ];
        for (case, text, expected) in cases {
            assert_eq!(written(text), expected, "{case}");
            assert_eq!(
                written(&text.replace('\n', "\r\n")).replace('\r', ""),
                expected,
                "{case}, CRLF"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_something_is_left(text in "(>|From: x|To: y|-- |On 1@:|a|\n){0,60}") {
            let kept = written(&text);
            proptest::prop_assert_eq!(kept.is_empty(), text.trim().is_empty());
            let lines: std::collections::HashSet<&str> = text.lines().map(str::trim).collect();
            proptest::prop_assert!(kept.lines().all(|line| lines.contains(line.trim())));
        }
    }
}
