use proptest::prelude::*;

use super::*;
use crate::format::split::parts;

#[test]
fn what_discord_shows_passes_as_it_stands() {
    for text in [
        "",
        "plain\ntext",
        "# one\n## two\n### three",
        "**bold** *it* _it_ ~~no~~ `code` ``a ` b``",
        "- one\n  - two\n    1. three\n- four",
        "> a quote\n> of two lines",
        "```rust\nlet a = 1 || 2;\n```",
        "[a (link)](https://e.org/a_(b)) and <https://e.org>",
        "شكرا **جزيلا** 👩‍👩‍👧",
        "a \\* b \\| c",
        "<@123> <#4> :smile: @everyone",
    ] {
        assert_eq!(discord(text), text);
    }
}

#[test]
fn what_it_knows_not_is_changed_in_its_place() {
    let cases = [
        ("#### four\n###### six", "### four\n### six"),
        ("over\n====\n\nunder\n---\nx", "# over\n\n## under\nx"),
        ("a\n\n---\n\nb", "a\n\n———\n\nb"),
        ("__strong__ and ___both___", "**strong** and _**both**_"),
        ("- [ ] open\n- [x] done", "- ☐ open\n- ☑ done"),
        ("![a plan](https://e.org/p.png)", "[a plan](https://e.org/p.png)"),
        ("![](https://e.org/p.png)", "https://e.org/p.png"),
        ("see [this][1]\n\n[1]: https://e.org", "see [this](https://e.org)\n\n[1]: https://e.org"),
        ("a || b || c", "a \\|| b \\|| c"),
        ("one\\\ntwo", "one\ntwo"),
        ("1 &lt; 2 &amp; *", "1 \\< 2 & *"),
        ("text\n\n    code `a`\n    more\n\nend", "text\n\n```\ncode `a`\nmore\n```\n\nend"),
        ("~~~sh\nls\n~~~", "```sh\nls\n```"),
        ("````md\n```\nin\n```\n````", "```md\n`\u{200b}`\u{200b}`\nin\n`\u{200b}`\u{200b}`\n```"),
        ("```rust ignore\nx\n```", "```rust\nx\n```"),
        (
            "| name | n |\n|:-|-:|\n| **one** | `1` |\n| `a \\| b` | 22 |\n\nafter",
            "```\nname   n\n-----  --\none    1\na | b  22\n```\n\nafter",
        ),
        ("- list\n\n  |a|b|\n  |-|-|\n  |1|2|", "- list\n\n```\na  b\n-  -\n1  2\n```"),
    ];
    for (text, expected) in cases {
        assert_eq!(discord(text), expected, "{text}");
    }
}

#[test]
fn a_long_text_comes_in_parts_that_are_as_long_as_they_may_be() {
    let table = "|a|b|\n|-|-|\n".to_owned() + &"|ä😀|`x`|\n".repeat(5_000);
    for text in ["😀 emoji. ".repeat(10_000), table, "```sh\nls\n```\n".repeat(8_000)] {
        let whole = discord(&text);
        let fits = |part: &str| length(part) <= 2_000;
        let parts = parts(&whole, 8_000, &fits);
        assert!(parts.len() > 10);
        for part in &parts {
            assert!(fits(part) && !part.trim().is_empty());
            assert_eq!(part.matches("```").count() % 2, 0, "a block is closed: {part}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_that_is_said_is_lost_or_said_twice(text in r"[a-c \n_*#>&;\\=-]{0,60}") {
        let letters = |text: &str| -> String { text.chars().filter(|c| "abc".contains(*c)).collect() };
        prop_assert_eq!(letters(&discord(&text)), letters(&text));
    }

    #[test]
    fn whatever_stands_there_is_changed_without_a_panic(text in r"[a \n|`_*#>\[\]()!&;~:\\é-]{0,80}") {
        discord(&text);
    }
}
