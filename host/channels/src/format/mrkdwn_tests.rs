use proptest::prelude::*;

use super::*;
use crate::format::split::parts;

/// A space without width, so that it can be seen.
fn shown(markdown: &str) -> String {
    mrkdwn(markdown).replace('\u{200b}', "·")
}

#[test]
fn markdown_becomes_what_slack_shows() {
    let cases = [
        ("hello", "hello"),
        ("**b** and *e* and ~~d~~", "*b* and _e_ and ~d~"),
        ("***both***", "_*both*_"),
        ("**one *two* three**", "*one _two_ three*"),
        ("# Title\n\ntext", "*Title*\n\ntext"),
        ("# A **bold** title", "*A bold title*"),
        ("one\ntwo\n\nthree", "one\ntwo\n\nthree"),
        ("**one\ntwo**", "*one*\n*two*"),
        ("in**wor**d", "in·*wor*·d"),
        ("**a**`b`", "*a*·`b`"),
        ("`a < b`", "`a &lt; b`"),
        ("`` a`b ``", "a`·b"),
        (
            "```rust\nlet a = \"<&\";\n\n  b\n```\nafter",
            "```\nlet a = \"&lt;&amp;\";\n\n  b\n```\n\nafter",
        ),
        ("before\n```\nx\n```", "before\n\n```\nx\n```"),
        ("> said\n> so\n\nand", "> said\n> so\n\nand"),
        ("> one\n>\n> two\n> > deep", "> one\n>\n> two\n>\n> deep"),
        ("- a\n- b\n  - c\n    1. d\n- e", "• a\n• b\n    • c\n        1. d\n• e"),
        ("7. a\n8. b\n\n   more", "7. a\n8. b\n    more"),
        ("text\n- a\n\nafter", "text\n\n• a\n\nafter"),
        ("- [x] done\n- [ ] not", "• ☑ done\n• ☐ not"),
        ("- a\n  ```\n  x\n  ```", "• a\n```\nx\n```"),
        ("a\n\n---\n\nb", "a\n\n———\n\nb"),
        ("[wiki](https://en.example/A_(b)?x=1&y=2)", "<https://en.example/A_(b)?x=1&amp;y=2|wiki>"),
        ("<https://x.example/>", "<https://x.example/>"),
        ("https://x.example/_a_?b=1&c=2", "https://x.example/_a_?b=1&amp;c=2"),
        ("[a|b > c](https://x.example/|y)", "<https://x.example/%7Cy|a¦b &gt; c>"),
        ("[bad](javascript:alert(1)) *x*", "bad _x_"),
        ("![a picture](https://x.example/p.png)", "<https://x.example/p.png|a picture>"),
        ("[![in](https://x/p.png)](https://x/)", "<https://x/|in>"),
        ("**[b](https://x/)**", "*<https://x/|b>*"),
        (
            "<!channel> & <@U1> <b>raw</b>",
            "&lt;!channel&gt; &amp; &lt;@U1&gt; &lt;b&gt;raw&lt;/b&gt;",
        ),
        ("\\*no\\* 2 * 3 a_b_c \\~x\\~", "*·no*· 2 * 3 a_b_c ~·x~·"),
        ("**שלום** עולם 😀", "*שלום* עולם 😀"),
        ("", ""),
    ];
    for (markdown, expected) in cases {
        assert_eq!(shown(markdown), expected, "{markdown:?}");
    }
}

#[test]
fn a_table_stands_in_code_with_its_columns_below_each_other() {
    let table = "|name|n|\n|-|-|\n|`a`|1|\n|a **long** one|22|";
    let expected = "```\nname        n\n----------  --\na           1\na long one  22\n```";
    assert_eq!(mrkdwn(table), expected);
}

#[test]
fn code_is_not_ended_by_what_is_in_it() {
    let text = mrkdwn("````\na\n```\nb\n````");
    assert_eq!(text.matches("```").count(), 2, "{text}");
}

#[test]
fn what_is_nested_without_end_is_shown() {
    for (mark, times) in [("> ", 5_000), ("- ", 500), ("1. ", 500), ("[", 5_000), ("*", 5_000)] {
        let text = mrkdwn(&(mark.repeat(times) + "x"));
        assert!(text.contains('x'), "{mark}");
    }
    let long = "- a **b** `c` <!here> |d| [e](https://x/)\n".repeat(100_000 / 40);
    let parts = parts(&long, 16_000, &|part| mrkdwn(part).len() < 4_000);
    assert!(parts.len() > 20 && parts.iter().all(|part| mrkdwn(part).len() < 4_000));
}

proptest! {
    #[test]
    fn nothing_is_a_word_to_slack(text in "[-a<>&!@#U|\"'*_`~\\[\\]()!: \n/0-9.=ש]{0,300}") {
        let text = mrkdwn(&text);
        // What stands in angles is a link of ours.
        for word in text.split('<').skip(1) {
            let to = word.split('>').next().unwrap_or_default();
            prop_assert!(["https://", "http://", "mailto:"].iter().any(|it| to.to_lowercase().starts_with(it)), "{text}");
        }
    }
}
