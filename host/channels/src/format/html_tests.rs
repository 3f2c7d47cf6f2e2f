use proptest::prelude::*;

use super::*;

#[test]
fn markdown_becomes_the_tags_that_clients_show() {
    let cases = [
        ("**b** and *e* and ~~d~~", "<p><strong>b</strong> and <em>e</em> and <del>d</del></p>"),
        ("# one\n\ntwo", "<h1>one</h1><p>two</p>"),
        ("one\ntwo *x*", "<p>one<br>two <em>x</em></p>"),
        (
            "- a\n- b\n  - c\n    1. d\n",
            "<ul><li>a</li><li>b<ul><li>c<ol><li>d</li></ol></li></ul></li></ul>",
        ),
        ("7. a\n8. b", "<ol start=\"7\"><li>a</li><li>b</li></ol>"),
        (
            "|a|b|\n|-|-|\n|1|`x|y`|\n",
            "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>`x</td></tr></tbody></table>",
        ),
        ("`a ` b`", "<p><code>a </code> b`</p>"),
        ("`` a`b ``", "<p><code>a`b</code></p>"),
        (
            "```rust\nlet a = \"`<&\";\n```",
            "<pre><code class=\"language-rust\">let a = &quot;`&lt;&amp;&quot;;\n</code></pre>",
        ),
        ("```a\"b\nx\n```", "<pre><code>x\n</code></pre>"),
        ("> said\n> so", "<blockquote><p>said<br>so</p></blockquote>"),
        ("- [x] done\n- [ ] not", "<ul><li>☑ done</li><li>☐ not</li></ul>"),
        ("---", "<hr>"),
        (
            "[wiki](https://en.example/A_(b)?x=1&y=\"2\")",
            "<p><a href=\"https://en.example/A_(b)?x=1&amp;y=&quot;2&quot;\">wiki</a></p>",
        ),
        (
            "[wiki](https://en.example/A_(b)?x=1&y=2)",
            "<p><a href=\"https://en.example/A_(b)?x=1&amp;y=2\">wiki</a></p>",
        ),
        ("[bad](javascript:alert(1)) *x*", "<p>bad <em>x</em></p>"),
        ("[bad](data:text/html,x)", "<p>bad</p>"),
        (
            "![a picture](https://x.example/p.png)",
            "<p><a href=\"https://x.example/p.png\">a picture</a></p>",
        ),
        (
            "[![in](https://x.example/p.png)](https://x.example/)",
            "<p><a href=\"https://x.example/\">in</a></p>",
        ),
        ("**שלום** עולם", "<p><strong>שלום</strong> עולם</p>"),
        (
            "<b>raw</b> & <script>x</script>",
            "<p>&lt;b&gt;raw&lt;/b&gt; &amp; &lt;script&gt;x&lt;/script&gt;</p>",
        ),
        ("<div onclick=\"x\">\n", "<p>&lt;div onclick=&quot;x&quot;&gt;\n</p>"),
        ("1 \\* 2", "<p>1 * 2</p>"),
    ];
    for (markdown, expected) in cases {
        assert_eq!(html(markdown).as_deref(), Some(expected), "{markdown:?}");
    }
}

#[test]
fn plain_text_needs_no_html() {
    for plain in
        ["", "hello", "one\ntwo", "one\n\ntwo\n", "what? (yes!) 5 * 3 = 15", "a_b_c", "  x"]
    {
        assert_eq!(html(plain), None, "{plain:?}");
    }
}

/// Every tag that is written is closed, in its order, and is one of those that clients show.
fn check(html: &str) {
    const ALONE: [&str; 2] = ["br", "hr"];
    const KNOWN: [&str; 24] = [
        "p",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "blockquote",
        "pre",
        "code",
        "ul",
        "ol",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "em",
        "strong",
        "del",
        "a",
        "span",
    ];
    let mut open = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split(' ').next().unwrap();
        if ALONE.contains(&name) {
            continue;
        }
        assert!(KNOWN.contains(&name), "<{tag}> in {html}");
        match tag.starts_with('/') {
            true => assert_eq!(open.pop(), Some(name), "{html}"),
            false => open.push(name),
        }
        assert!(open.len() < 100, "deep: {html}");
    }
    assert!(open.is_empty(), "{open:?} in {html}");
}

#[test]
fn what_is_nested_without_end_is_cut_off() {
    for (mark, times) in [("> ", 5_000), ("- ", 500), ("[", 5_000), ("*", 5_000)] {
        let text = mark.repeat(times) + "x";
        check(&html(&text).unwrap_or_default());
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_tag_that_is_not_ours(text in "[-a<>&\"'*_`~#|\\[\\]()!: \n/0-9.=ש]{0,300}") {
        check(&html(&text).unwrap_or_default());
    }
}
