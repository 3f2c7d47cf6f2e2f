use proptest::prelude::*;

use super::*;

fn shown(markdown: &str) -> Vec<String> {
    lines(markdown, 350)
}

#[test]
fn markdown_is_shown_in_lines_with_the_few_marks_that_there_are() {
    let cases: &[(&str, &[&str])] = &[
        ("", &[]),
        (" \n\n ", &[]),
        ("plain", &["plain"]),
        ("one\ntwo\n\n\nthree", &["one", "two", "three"]),
        ("# Head\ntext", &["\u{2}Head", "text"]),
        ("a **b** c", &["a \u{2}b\u{2} c"]),
        ("*i* and ***both***", &["\u{1d}i\u{1d} and \u{2}\u{1d}both"]),
        ("`code` and ``a`b``", &["`code` and ``a`b``"]),
        ("~~gone~~", &["~~gone~~"]),
        ("- a\n- b\n  - c\n    more\n- d", &["- a", "- b", "  - c", "    more", "- d"]),
        ("3. c\n4. d\n\n   e", &["3. c", "4. d", "   e"]),
        ("- [x] done\n- [ ] open", &["- [x] done", "- [ ] open"]),
        ("> q\n> > deeper\n\nout", &["> q", "> > deeper", "out"]),
        ("[here](https://x/a_(b))", &["here (https://x/a_(b))"]),
        ("<https://x/>", &["https://x/"]),
        ("[https://x/](https://x/)", &["https://x/"]),
        (
            "![a plan](https://x/p.png) and ![](https://x/q)",
            &["a plan (https://x/p.png) and https://x/q"],
        ),
        ("| a | b |\n|---|---|\n| 1 | `\\|` |", &["\u{2}a | b", "1 | `|`"]),
        ("```rust\nfn a() {\n\n\tb();\n}\n```\nend", &["fn a() {", "    b();", "}", "end"]),
        ("one\n\n---\n\ntwo", &["one", "───", "two"]),
        ("<b>html</b> & &amp;", &["<b>html</b> & &"]),
        ("\\*stars\\*", &["*stars*"]),
        ("- \u{5e9}\u{5dc}\u{5d5}\u{5dd}", &["- \u{5e9}\u{5dc}\u{5d5}\u{5dd}"]),
    ];
    for (markdown, expected) in cases {
        assert_eq!(shown(markdown), *expected, "{markdown:?}");
    }
}

#[test]
fn no_control_of_an_agent_leaves() {
    for text in ["\u{1}ACTION waves\u{1}", "a\rQUIT", "a\u{0}b", "`\u{3}4red`", "```\n\u{2}b\n```"]
    {
        let all = shown(text);
        let control = |line: &String| line.chars().any(char::is_control);
        assert!(!all.is_empty() && !all.iter().any(control), "{all:?}");
    }
}

#[test]
fn a_line_is_cut_between_words_and_goes_on_as_it_was() {
    assert_eq!(lines("one two three", 7), ["one two", "three"]);
    assert_eq!(lines("one two three", 8), ["one two", "three"]);
    assert_eq!(lines("**one two**", 5), ["\u{2}one", "\u{2}two"]);
    assert_eq!(lines("> one two", 7), ["> one", "> two"]);
    assert_eq!(lines("- one two", 7), ["- one", "  two"]);
    assert_eq!(lines("abcdef", 4), ["abcd", "ef"]);
    assert_eq!(lines("€€€", 7), ["€€", "€"]);
    let family = "👨\u{200d}👩\u{200d}👧";
    assert_eq!(
        lines(&format!("ab{family}"), 18),
        ["ab", family],
        "what is one character stays one"
    );
    assert_eq!(lines("```\n    a b\n```", 8), ["    a b"]);
}

#[test]
fn what_is_deeper_than_anybody_reads_still_fits() {
    let deep = format!("{}end", "> ".repeat(500));
    assert!(lines(&deep, 100).iter().all(|line| line.len() <= 100), "{deep}");
    let long = "word ".repeat(20_000);
    let all = lines(&long, 350);
    assert_eq!(all.iter().flat_map(|line| line.split(' ')).count(), 20_000);
    assert!(all.len() < 300);
    assert_eq!(lines(&"€".repeat(33_000), 350).concat(), "€".repeat(33_000));
}

#[test]
fn marks_and_colours_of_others_are_left_out() {
    let cases = [
        ("\u{2}bold\u{f} \u{1f}u\u{1f} \u{1d}i\u{16}", "bold u i"),
        ("\u{3}4red\u{3} \u{3}04,12both\u{3} \u{3}4,x", "red both ,x"),
        ("\u{3}123 is 3", "3 is 3"),
        ("\u{4}ff0000hex\u{4}", "hex"),
        ("a\u{0}\u{7}b\tc", "ab\tc"),
    ];
    for (text, expected) in cases {
        assert_eq!(plain(text), expected, "{text:?}");
    }
}

proptest! {
    #[test]
    fn every_line_fits_and_none_is_empty_or_broken(text in "\\PC{0,400}", most in 64_usize..120) {
        let text = text.replace('~', "\n");
        for line in lines(&text, most) {
            prop_assert!(!line.trim().is_empty() && line.len() <= most, "{line:?}");
            let breaks = line.contains(['\r', '\n', '\0', '\u{1}']);
            prop_assert!(!breaks, "{line:?}");
        }
    }

    #[test]
    fn plain_words_all_arrive_in_their_order(words in proptest::collection::vec("[a-zä€]{1,20}", 0..60)) {
        let text = words.join(" ");
        let all = lines(&text, 64);
        prop_assert_eq!(all.join(" "), text);
    }
}
