use super::*;

#[test]
fn a_reader_sees_words_lines_and_links() {
    let cases = [
        ("plain", "hello", "hello"),
        (
            "a page",
            "<html><head><title>T</title><style>p{}</style></head><body><p>One</p><p>Two</p></body>",
            "One\n\nTwo",
        ),
        ("lines", "one<br>two<div>three</div><div>four</div>five", "one\ntwo\nthree\nfour\nfive"),
        ("breaks", "one<br><br>two", "one\n\ntwo"),
        ("spaces", "<p> one \n two </p>  <b>bold</b>er", "one two\n\nbolder"),
        ("a list", "<ul><li>one</li><li>two</li></ul>end", "- one\n- two\n\nend"),
        ("a table", "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        (
            "a link",
            "see <a href=\"https://x.org/a?b=1&amp;c\">here</a>.",
            "see here <https://x.org/a?b=1&c>.",
        ),
        ("a bare link", "<a href='https://x.org/'>https://x.org</a>", "https://x.org"),
        ("an address", "<a href=\"mailto:a@x.org\">a@x.org</a>", "a@x.org"),
        ("a script's link", "<a href=\"javascript:x\">here</a>", "here"),
        (
            "entities",
            "&lt;b&gt; &amp;amp; &#228;&#x20ac; &uuml; &nope; &",
            "<b> &amp; ä€ ü &nope; &",
        ),
        ("a quotation", "yes<blockquote>no?<br>really?</blockquote>", "yes\n\n> no?\n> really?"),
        ("code", "<pre>a\n  b\n</pre>c", "a\n  b\n\nc"),
        ("script", "a<script>if (a < b) { '</p>' }</script>b", "ab"),
        ("a comment", "a<!-- <p>no</p> -->b", "ab"),
        ("open comment", "a<!-- no", "a"),
        ("a picture", "<img src=\"http://spy/x.png\" alt=\"a cat\"> ok", "[a cat] ok"),
        ("no tags", "1 < 2 > 0 <3", "1 < 2 > 0 <3"),
        ("in quotes", "<p title=\"a>b\">x", "x"),
        ("open quote", "<p title=\"a>b", "b"),
    ];
    for (case, html, expected) in cases {
        assert_eq!(plain(html), expected, "{case}");
    }
}

#[test]
fn bombs_are_read_in_time() {
    let begun = std::time::Instant::now();
    for piece in [
        "<",
        "<a ",
        "<a href=\"",
        "&",
        "<div>",
        "<!--",
        "<script>",
        "<blockquote>x",
        "<p a=\"",
        "</",
    ] {
        plain(&piece.repeat(200_000 / piece.len()));
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

proptest::proptest! {
    #[test]
    fn nothing_breaks_it(html in "(<|>|a|/|\"|=|&|;|#|x|é|<p>|<br>|<a href=|<pre>|<li>|</a>| |\n){0,80}") {
        plain(&html);
    }
}
