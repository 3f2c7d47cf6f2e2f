use proptest::prelude::*;

use super::*;
use crate::format::split::parts;

/// The text with what is marked in it shown by tags.
fn shown(markdown: &str) -> String {
    let Rich { text, marks } = rich(markdown);
    let units: Vec<u16> = text.encode_utf16().collect();
    let mut shown = String::new();
    for at in 0..=units.len() {
        for mark in marks.iter().rev().filter(|mark| mark.offset + mark.length == at) {
            shown += &format!("</{}>", tag(&mark.kind));
        }
        for mark in marks.iter().filter(|mark| mark.offset == at) {
            shown += &match &mark.kind {
                Kind::Link(to) => format!("<a {to}>"),
                Kind::Block(Some(language)) => format!("<pre {language}>"),
                kind => format!("<{}>", tag(kind)),
            };
        }
        if let Some(unit) = units.get(at) {
            let first = at == 0 || !(0xdc00..0xe000).contains(unit);
            if first {
                let rest = char::decode_utf16(units[at..].iter().copied()).next();
                shown.push(rest.unwrap().unwrap());
            }
        }
    }
    shown
}

const fn tag(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bold => "b",
        Kind::Italic => "i",
        Kind::Struck => "s",
        Kind::Code => "code",
        Kind::Block(_) => "pre",
        Kind::Link(_) => "a",
        Kind::Quote => "quote",
    }
}

#[test]
fn markdown_becomes_text_and_marks() {
    let cases = [
        ("plain", "plain"),
        ("**b** and *e* and ~~d~~", "<b>b</b> and <i>e</i> and <s>d</s>"),
        ("**b *both* b**", "<b>b <i>both</i> b</b>"),
        ("***both***", "<i><b>both</b></i>"),
        ("**a **b** c**", "<b>a b c</b>"),
        ("😀 **ä😀** x", "😀 <b>ä😀</b> x"),
        ("# one **two**\n\nthree", "<b>one two</b>\n\nthree"),
        ("one\ntwo *x*", "one\ntwo <i>x</i>"),
        ("one\n\n\n\ntwo", "one\n\ntwo"),
        ("- a\n- b\n  - c\n    1. d\n    2. e\n- f", "• a\n• b\n  • c\n    1. d\n    2. e\n• f"),
        ("- a\n\n  more\n\n- b\n\nend", "• a\n  more\n• b\n\nend"),
        ("7. a\n8. b", "7. a\n8. b"),
        ("- **a**: `b`", "• <b>a</b>: <code>b</code>"),
        ("- a\n  ```sh\n  x\n    y\n  ```\n- b", "• a\n<pre sh>x\n  y</pre>\n• b"),
        (
            "|a|long|\n|-|-|\n|1|**x**|\n|ü2|`y`|\n\nend",
            "<pre>a  | long\n---+-----\n1  | x\nü2 | y</pre>\n\nend",
        ),
        ("`a ` b`", "<code>a </code> b`"),
        ("`` a`b ``", "<code>a`b</code>"),
        ("**a `b` c**", "<b>a </b><code>b</code><b> c</b>"),
        ("***`b`***", "<code>b</code>"),
        ("```rust\nlet a = \"`<&\";\n\n```\nend", "<pre rust>let a = \"`<&\";</pre>\n\nend"),
        ("```a\"b\nx\n```", "<pre>x</pre>"),
        ("    indented", "<pre>indented</pre>"),
        ("> said\n> so\n\nend", "<quote>said\nso</quote>\n\nend"),
        ("> a\n> > b\n> > `c`\n\nd", "<quote>a\n\nb\n<code>c</code></quote>\n\nd"),
        ("> - a\n> - b", "<quote>• a\n• b</quote>"),
        ("- [x] done\n- [ ] not", "• ☑ done\n• ☐ not"),
        ("a\n\n---\n\nb", "a\n\n———\n\nb"),
        (
            "[wiki](https://en.example/A_(b)?x=1&y=2)",
            "<a https://en.example/A_(b)?x=1&y=2>wiki</a>",
        ),
        ("[**b** `c`](http://x.example)", "<a http://x.example><b>b</b> c</a>"),
        ("**[x](http://x.example) y**", "<b><a http://x.example>x</a> y</b>"),
        ("[me](tg://user?id=1) [js](javascript:alert(1))", "me js"),
        ("![a picture](https://x.example/p.png)", "<a https://x.example/p.png>a picture</a>"),
        ("![](https://x.example/p)", "<a https://x.example/p>https://x.example/p</a>"),
        ("[![in](https://x.example/p)](https://x.example/)", "<a https://x.example/>in</a>"),
        ("**שלום** עולם", "<b>שלום</b> עולם"),
        ("<b>raw</b> & x", "<b>raw</b> & x"),
        ("<div>\n<p>\n\nend", "<div>\n<p>\n\nend"),
        ("1 \\* 2", "1 * 2"),
        ("  \n ", ""),
        ("[]()", ""),
    ];
    for (markdown, expected) in cases {
        assert_eq!(shown(markdown), expected, "{markdown:?}");
    }
}

/// What Telegram wants of marks, and what is true of every text.
fn check(markdown: &str) -> Rich {
    let rich = rich(markdown);
    let Rich { text, marks } = &rich;
    assert_eq!(text.trim(), text, "{markdown:?}");
    let units: Vec<u16> = text.encode_utf16().collect();
    for (index, mark) in marks.iter().enumerate() {
        let (begin, end) = (mark.offset, mark.offset + mark.length);
        assert!(mark.length > 0 && end <= units.len(), "{mark:?} in {text:?}");
        let is_cut = |at: usize| units.get(at).is_some_and(|it| (0xdc00..0xe000).contains(it));
        assert!(!is_cut(begin) && !is_cut(end), "a mark cuts a character: {mark:?} in {text:?}");
        for other in &marks[..index] {
            let other_end = other.offset + other.length;
            let within = end <= other_end;
            assert!(other.offset <= begin && (within || other_end <= begin), "{marks:?}: {text:?}");
            if within {
                let is_code = matches!(other.kind, Kind::Code | Kind::Block(_));
                assert!(!is_code, "something lies in code: {marks:?}: {markdown:?}");
                let is_same = other.kind == mark.kind;
                assert!(!is_same || begin >= other_end, "{marks:?}: {markdown:?}");
            }
            let code_in_light = within && other.kind.is_light() && matches!(mark.kind, Kind::Code);
            assert!(!code_in_light, "{marks:?}: {markdown:?}");
        }
    }
    rich
}

#[test]
fn what_is_nested_without_end_is_bounded() {
    for (mark, times) in [("> ", 5_000), ("- ", 500), ("[", 5_000), ("*", 5_000), ("1. ", 500)] {
        check(&(mark.repeat(times) + "x"));
    }
}

#[test]
fn every_part_of_a_long_text_fits_and_its_code_is_code() {
    let pieces = [
        "Some **bold** words, and a [link](https://x.example/a_(b)).\n\n",
        "```rust\nlet x = \"ä😀\";\nlet y = 2;\n```\n\n",
        "- item `code`\n  - deeper\n",
        "|a|b|\n|-|-|\n|1|2|\n\n",
        "שלום עולם 😀👩‍👩‍👧 ",
    ];
    let text = pieces.concat().repeat(100_000 / pieces.concat().len());
    let fits = |part: &str| utf16_len(&rich(part).text) <= 4096;
    let parts = parts(&text, 16 << 10, &fits);
    assert!(parts.len() > 15);
    for part in &parts {
        let rich = check(part);
        assert!(utf16_len(&rich.text) <= 4096);
        assert!(!rich.text.contains("```"), "{}", rich.text);
    }
}

proptest! {
    #[test]
    fn no_text_makes_marks_that_are_not_well_formed(
        text in "[-a<>&\"'*_`~#|\\[\\]()!: \n/0-9.=ש😀]{0,300}"
    ) {
        check(&text);
    }
}
