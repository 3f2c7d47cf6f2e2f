use std::path::Path;
use std::sync::Arc;

use twobox_config::ChannelSettings;

use super::*;
use crate::parts::MemoryJournal;

fn read(text: &str) -> Result<Settings, String> {
    let settings = &ChannelSettings { kind: "irc".to_owned(), settings: text.parse().unwrap() };
    let (folder, scratch) = (Path::new("/"), Path::new("/"));
    let name_of = &|name: &str| format!("channels.i.{name}");
    let secrets = Arc::new(|_: &str| Ok(None));
    let journal = Arc::new(MemoryJournal::default());
    let file_max = 0;
    Settings::of(&Setup { id: "i", settings, name_of, folder, scratch, secrets, journal, file_max })
}

const GOOD: &str = "server = 'irc.example'\nnick = 'adabot'\n";

#[test]
fn each_mistake_names_its_setting_and_what_is_allowed() {
    let with = |more: &str| format!("{GOOD}{more}");
    let cases = [
        (GOOD.replace("server", "host"), "channels.i.host: unknown field `host`"),
        (GOOD.replace("server = 'irc.example'", ""), "channels.i.server is missing"),
        (GOOD.replace("nick = 'adabot'", ""), "channels.i.nick is missing"),
        (GOOD.replace("irc.example", "ircs://irc.example"), "channels.i.server: "),
        (GOOD.replace("irc.example", "irc.example:0"), "channels.i.server: "),
        (GOOD.replace("adabot", "1bot"), "channels.i.nick: \"1bot\" is not allowed"),
        (GOOD.replace("adabot", "ada bot"), "channels.i.nick: "),
        (with("tls = 'no'"), "channels.i.tls: \"no\" is not allowed: use true or false"),
        (with("fingerprint = 'aa:bb'"), "channels.i.fingerprint: "),
        (
            with(&format!("tls = false\nfingerprint = '{}'", "a".repeat(64))),
            "channels.i.fingerprint is",
        ),
        (with("account = 'ada'"), "channels.i.password_secret is missing"),
        (with("password_secret = 'with a space'"), "channels.i.password_secret: what stands there"),
        (with("tls = false\npassword_secret = 'irc'"), "channels.i.tls is off"),
        (with("channels = ['room']"), "channels.i.channels: "),
        (with("channels = ['#a,#b']"), "channels.i.channels: "),
        (with("burst = 0"), "channels.i.burst: 0 is not allowed"),
        (with("pause = '1ms'"), "channels.i.pause: \"1ms\" is not allowed"),
        (with("lines = 5000"), "channels.i.lines: 5000 is not allowed"),
        (with("user = 'a b'"), "channels.i.user: "),
        (with("name = ''"), "channels.i.name: "),
    ];
    for (text, expected) in cases {
        let error = read(&text).unwrap_err();
        assert!(error.starts_with(expected), "{text}\n{error}");
        assert!(!error.contains("with a space"), "what may be a secret is repeated: {error}");
    }
}

#[test]
fn what_is_left_out_is_what_most_want() {
    let settings = read(GOOD).unwrap();
    assert_eq!((settings.port, &settings.tls, settings.login), (6697, &Tls::Authorities, None));
    assert_eq!((settings.user.as_str(), settings.name.as_str()), ("twobox", "adabot"));
    assert_eq!(settings.pace, Pace { burst: 2, pause: Duration::from_secs(1) });
    let open = read(&format!("{GOOD}tls = false\nchannels = ['#a']")).unwrap();
    assert!(open.port == 6667 && open.is_open() && open.channels == ["#a"]);
    let near = "server = '127.0.0.1:7000'\nnick = 'a'\ntls = false\npassword_secret = 'irc'";
    let near = read(near).unwrap();
    assert!(near.port == 7000 && !near.is_open(), "nobody is on the way");
    assert_eq!(near.login.unwrap().account, "a");
    let digits = (0..32).map(|it| format!("{it:02X}")).collect::<Vec<_>>().join(":");
    let pinned = read(&format!("{GOOD}fingerprint = '{digits}'")).unwrap();
    assert_eq!(pinned.tls, Tls::Pinned(std::array::from_fn(|it| u8::try_from(it).unwrap())));
    for (server, host, port) in
        [("[::1]:7000", "::1", 7000), ("::1", "::1", 6697), ("[::1]", "::1", 6697)]
    {
        let settings = read(&GOOD.replace("irc.example", server)).unwrap();
        assert_eq!((settings.host.as_str(), settings.port), (host, port), "{server}");
    }
}
