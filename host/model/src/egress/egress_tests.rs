use super::*;

fn list(rules: &[&str]) -> Egress {
    let read = |rule: &&str| Rule::try_from((*rule).to_owned()).unwrap();
    Egress::of(rules.iter().map(read).collect()).unwrap()
}

#[test]
fn a_rule_names_one_host_or_what_is_below_a_domain() {
    let cases: [(&str, &[&str], &[&str]); 8] = [
        (
            "api.github.com",
            &["api.github.com:443", "API.GitHub.com:443", "api.github.com.:443"],
            &[
                "github.com:443",
                "xapi.github.com:443",
                "api.github.com:80",
                "api.github.com.evil.org:443",
            ],
        ),
        (
            "*.Wikipedia.org",
            &["en.wikipedia.org:443", "a.b.WIKIPEDIA.org.:443"],
            &[
                "wikipedia.org:443",
                "evilwikipedia.org:443",
                "en.wikipedia.org:8443",
                "wikipedia.org.evil.com:443",
            ],
        ),
        ("git.example:8443", &["git.example:8443"], &["git.example:443"]),
        ("*", &["anything.example:443"], &["anything.example:22", "1.1.1.1:443", "[2606::1]:443"]),
        ("*:8080", &["a:8080"], &["a:443"]),
        ("192.168.1.5:8080", &["192.168.1.5:8080"], &["192.168.1.5:443", "192.168.1.50:8080"]),
        ("[2001:DB8::5]:8080", &["[2001:db8:0::5]:8080"], &["[2001:db8::5]:443"]),
        ("2001:db8::5", &["[2001:db8::5]:443"], &["[2001:db8::6]:443"]),
    ];
    for (rule, named, other) in cases {
        let list = list(&[rule]);
        for (targets, expected) in [(named, true), (other, false)] {
            for target in targets {
                assert_eq!(
                    list.names(&Target::parse(target).unwrap()),
                    expected,
                    "{rule} {target}"
                );
            }
        }
        let text = list.rules()[0].to_string();
        assert_eq!(self::list(&[&text]), list, "{text} is read as it is written");
    }
    assert!(!Egress::default().names(&Target::parse("a:443").unwrap()));
}

#[test]
fn a_mistake_in_a_rule_is_told_with_what_to_write() {
    let long = format!("{}.org", "a".repeat(64));
    let cases = [
        ("", "is no name of a host"),
        (".", "is no name of a host"),
        ("*.", "is no name of a host"),
        ("a..b", "is no name of a host"),
        ("-a.org", "is no name of a host"),
        ("a b.org", "is no name of a host"),
        (long.as_str(), "is no name of a host"),
        ("bücher.example", "xn--"),
        ("https://api.github.com", "has more than a host and a port"),
        ("api.github.com/repos", "has more than a host and a port"),
        ("user@host", "has more than a host and a port"),
        ("api.*.com", "comes first"),
        ("*wikipedia.org", "comes first"),
        ("*.*.org", "is no name of a host"),
        ("*.1.2.3.4", "nothing is below an address"),
        ("a.org:0", "is no port"),
        ("a.org:70000", "is no port"),
        ("a.org:+443", "is no port"),
        ("a.org:", "is no port"),
        ("127.1", "ends in a number"),
        ("2130706433", "ends in a number"),
        ("0x7f000001", "ends in a number"),
        ("1.2.3.0x4", "ends in a number"),
        ("[::1", "is no"),
        ("[fe80::1%eth0]", "is no address"),
        ("0.0.0.0:80", "no single host"),
        ("[::]:80", "no single host"),
        ("224.0.0.1", "no single host"),
    ];
    for (rule, expected) in cases {
        let error = Rule::try_from(rule.to_owned()).unwrap_err();
        assert!(error.contains(expected), "{rule}: {error}");
        assert!(error.contains("HOST:PORT"), "{rule}: {error}");
    }
    let many = vec![Rule::try_from("a".to_owned()).unwrap(); RULES_MAX + 1];
    assert!(Egress::of(many).unwrap_err().contains("101 rules"));
}

#[test]
fn what_is_asked_for_is_a_host_and_a_port() {
    for text in
        ["a", "a:", "a:b", ":443", "1.2.3.4", "::1", "[::1]", "::1:443", "a:443:443", "127.1:80"]
    {
        assert!(Target::parse(text).is_err(), "{text}");
    }
    assert_eq!(Target::parse("[::1]:80").unwrap().to_string(), "[::1]:80");
}

#[test]
fn no_name_leads_inside_and_an_address_does_where_a_rule_has_it() {
    let own = ["203.0.114.7".parse().unwrap()];
    let named = list(&["*", "intranet.example", "10.0.0.5", "[::ffff:10.0.0.6]", "127.0.0.1:8080"]);
    let cases = [
        ("93.184.216.34", 443, true),
        ("10.0.0.5", 443, true),
        ("10.0.0.5", 8443, false),
        ("10.0.0.6", 443, false),
        ("::ffff:10.0.0.5", 443, false),
        ("127.0.0.1", 8080, true),
        ("127.0.0.1", 443, false),
        ("203.0.114.7", 443, false),
        ("::ffff:203.0.114.7", 443, false),
        ("203.0.114.8", 443, true),
    ];
    for (address, port, expected) in cases {
        let led = named.leads_to(address.parse().unwrap(), port, &own);
        assert_eq!(led.is_ok(), expected, "{address}:{port}: {led:?}");
    }
}
