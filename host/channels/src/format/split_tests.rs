use proptest::prelude::*;

use super::*;
use crate::format::{encoded_len, html};

fn cut(text: &str, most: usize) -> Vec<String> {
    parts(text, most, &|_| true)
}

#[test]
fn a_cut_is_where_a_reader_pauses() {
    let cases: [(&str, &str, usize, &[&str]); 11] = [
        ("it fits", "short", 10, &["short"]),
        ("paragraphs", "one two.\n\nthree four", 14, &["one two.", "three four"]),
        ("lines", "one two. x\nthree four", 14, &["one two. x", "three four"]),
        ("sentences", "One two. Three four five", 14, &["One two.", "Three four", "five"]),
        ("full-width", "一二三。四五六七", 15, &["一二三。", "四五六七"]),
        ("words", "one two three", 9, &["one two", "three"]),
        ("characters", "ääääää", 5, &["ää", "ää", "ää"]),
        (
            "code is closed and opened again",
            "```rust\nlet a;\nlet b;\n```\nend",
            22,
            &["```rust\nlet a;\n```", "```rust\nlet b;\n```\nend"],
        ),
        (
            "an empty line in code is no paragraph's end",
            "x\n\n~~~~\na\n\nb\n~~~~",
            13,
            &["x", "~~~~\na\n\n~~~~", "~~~~\nb\n~~~~"],
        ),
        (
            "a link stays whole",
            "see it [a b c](http://x) y",
            20,
            &["see it", "[a b c](http://x) y"],
        ),
        ("and so does a word in code", "see that `a b c` now", 14, &["see that", "`a b c` now"]),
    ];
    for (case, text, most, expected) in cases {
        assert_eq!(cut(text, most), expected, "{case}");
    }
}

#[test]
fn what_has_many_empty_lines_in_code_is_cut_in_no_time() {
    // Whoever searches from each of them for the beginning of the text is at it for many minutes.
    let most = 1 << 18;
    let text = format!("before\n\n```\n{}```\nafter", "a\n\n".repeat(most / 2));
    let parts = cut(&text, most);
    let lengths: Vec<usize> = parts.iter().map(String::len).collect();
    assert!(lengths.len() == 2 && lengths.iter().all(|length| *length <= most), "{lengths:?}");
    assert!(parts[0].starts_with("before\n\n```\na\n\na") && parts[0].ends_with("\n```"));
    assert!(parts[1].starts_with("```\n") && parts[1].ends_with("\n```\nafter"));
}

#[test]
fn what_is_shown_as_one_character_stays_together() {
    let family = "👩\u{200d}👩\u{200d}👧";
    let parts = cut(&format!("x{family}"), family.len());
    assert_eq!(parts, ["x", family]);
    assert_eq!(cut("xxe\u{301}", 4), ["xx", "e\u{301}"]);
    let endless = "e".to_owned() + &"\u{301}".repeat(500);
    assert_eq!(cut(&endless, 100).concat(), endless);
}

#[test]
fn a_hundred_kilobytes_arrive_whole_whatever_they_are() {
    let code =
        format!("```\n{}```\n", "a `line` of code, (with) \"quotes\" & <tags>\n".repeat(2_500));
    let sentences = "A sentence that is somewhat long, or so it seems. ".repeat(2_100);
    let texts =
        [code, sentences, "&".repeat(100_000), "\n".repeat(50_000) + "x", "😀".repeat(30_000)];
    for text in texts {
        let encoded =
            |part: &str| encoded_len(part) + html::html(part).map_or(0, |html| encoded_len(&html));
        let parts = parts(&text, 60_000, &|part| encoded(part) <= 60_000);
        assert!(parts.iter().all(|part| encoded(part) <= 60_000));
        assert_eq!(bare(&parts.concat()), bare(&text));
        assert!(parts.len() < 40, "{}", parts.len());
    }
}

/// Without what a cut may add or take away.
fn bare(text: &str) -> String {
    text.lines().filter(|line| marks(line.trim()).is_none()).collect::<String>().replace(' ', "")
}

proptest! {
    #[test]
    fn nothing_is_lost_and_every_part_fits(
        text in "([a-c ä😀é.!\n\\[\\]()`~]|```\n|```rs\n|~~~~\n|\n\n|[ש]){0,80}",
        most in 24_usize..60,
    ) {
        let parts = cut(&text, most);
        for part in &parts {
            prop_assert!(part.len() <= most, "{part:?} of {most}");
            prop_assert!(!part.trim().is_empty());
        }
        // A line that is a fence may be added or cut in two; all other letters arrive in their order.
        let letters = |text: &str| text.chars().filter(|c| !" \n`~rs".contains(*c)).collect::<String>();
        prop_assert_eq!(letters(&parts.concat()), letters(&text));
    }
}
