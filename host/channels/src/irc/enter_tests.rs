use std::time::Duration;

use super::super::settings::{Login, Pace, Tls};
use super::*;

fn settings(login: bool) -> Settings {
    Settings {
        host: "irc.example".to_owned(),
        port: 6697,
        tls: Tls::Authorities,
        nick: "adabot".to_owned(),
        user: "twobox".to_owned(),
        name: "Ada".to_owned(),
        login: login.then(|| Login { account: "ada".to_owned(), secret: "irc".to_owned() }),
        server_secret: None,
        channels: Vec::new(),
        pace: Pace { burst: 2, pause: Duration::from_secs(1) },
        lines: 200,
    }
}

/// Plays what a server says, and what is answered to each line. The last line may be what comes of it.
fn play(
    settings: &Settings,
    passwords: &Passwords,
    lines: &[(&str, &[&str])],
) -> Result<Option<Entered>, Stop> {
    let (mut entering, first) = Entering::begin(settings, passwords);
    assert_eq!(first.first().map(String::as_str), Some("CAP LS 302"));
    let mut entered = None;
    for (line, expected) in lines {
        let message = Message::read(line.as_bytes()).unwrap();
        assert_eq!(entering.take(&message)?, *expected, "{line}");
        entered = entering.entered(&message);
    }
    Ok(entered)
}

#[test]
fn it_is_let_in_by_a_server_that_can_do_much_and_by_one_that_can_do_little() {
    let all = [
        ("NOTICE * :*** Looking up your hostname", &[][..]),
        (":s CAP * LS * :server-time echo-message away-notify", &[]),
        (
            ":s CAP * LS :sasl=EXTERNAL,PLAIN batch",
            &["CAP REQ :batch echo-message server-time sasl"],
        ),
        (":s CAP * ACK :batch echo-message server-time sasl", &["AUTHENTICATE PLAIN"]),
        ("AUTHENTICATE +", &["AUTHENTICATE YWRhAGFkYQBzM2NyZXQ="]),
        (":s 900 adabot adabot!a@h ada :You are now logged in as ada", &[]),
        ("PING :x y", &["PONG :x y"]),
        (":s 903 adabot :SASL authentication successful", &["CAP END"]),
        (":s 001 adabot :Welcome", &[]),
        (":s 005 adabot NICKLEN=30 NETWORK=Net :are supported", &[]),
        (":s 376 adabot :End of MOTD", &[]),
    ];
    let passwords = Passwords { account: Some("s3cret".to_owned()), server: None };
    let entered = play(&settings(true), &passwords, &all).unwrap().unwrap();
    assert_eq!((entered.nick.as_str(), entered.account.as_deref()), ("adabot", Some("ada")));
    assert!(entered.server.has("echo-message") && !entered.server.has("labeled-response"));
    assert_eq!(entered.server.network.as_deref(), Some("Net"));
    let little = [
        (":s 421 * CAP :Unknown command", &[][..]),
        (":s 001 adabot :Welcome", &[]),
        (":s 422 adabot :MOTD File is missing", &[]),
    ];
    assert!(play(&settings(false), &Passwords::default(), &little).unwrap().is_some());
    let none_of_ours = [(":s CAP * LS :away-notify", &["CAP END"][..])];
    play(&settings(false), &Passwords::default(), &none_of_ours).unwrap();
    let refused =
        [(":s CAP * LS :batch", &["CAP REQ :batch"][..]), (":s CAP * NAK :batch", &["CAP END"])];
    play(&settings(false), &Passwords::default(), &refused).unwrap();
}

#[test]
fn without_its_account_it_does_not_go_on() {
    let passwords = Passwords { account: Some("s3cret".to_owned()), server: None };
    let cases = [
        (":s CAP * LS :batch", false, "offers no SASL"),
        (":s CAP * LS :sasl=EXTERNAL", false, "but by EXTERNAL"),
        (":s 001 adabot :Welcome", false, "offers no SASL"),
        (":s 904 adabot :SASL authentication failed", true, "twobox secrets set irc"),
    ];
    for (line, is_final, expected) in cases {
        let stop = play(&settings(true), &passwords, &[(line, &[])]).unwrap_err();
        let why = match (&stop, is_final) {
            (Stop::Refused(why), true) | (Stop::Trouble(why), false) => why.clone(),
            _ => panic!("{line}: {stop:?}"),
        };
        assert!(why.contains(expected) && !why.contains("s3cret"), "{why}");
    }
}

#[test]
fn a_long_password_is_said_in_pieces() {
    for length in [400, 500, 3_000] {
        let password = "x".repeat(length);
        let passwords = Passwords { account: Some(password.clone()), server: None };
        let with = settings(true);
        let (entering, _) = Entering::begin(&with, &passwords);
        let lines = entering.authenticate(&Message::read(b"AUTHENTICATE +").unwrap());
        assert!(lines.iter().all(|line| line.len() <= wire::LINE_MAX));
        let text: String = lines
            .iter()
            .map(|line| line.trim_start_matches("AUTHENTICATE ").trim_start_matches('+'))
            .collect();
        let said = String::from_utf8(BASE64.decode(text).unwrap()).unwrap();
        assert_eq!(said, format!("ada\0ada\0{password}"));
        let last = lines.last().unwrap().len() - "AUTHENTICATE ".len();
        assert!(last < SASL_LINE, "the last one says that it is the last");
    }
}

#[test]
fn a_nick_that_is_not_to_be_had_is_another() {
    let taken = |nick: &str| format!(":s 433 * {nick} :Nickname is already in use.");
    let with = settings(false);
    let passwords = Passwords::default();
    let (mut entering, _) = Entering::begin(&with, &passwords);
    let mut take = |line: &str| entering.take(&Message::read(line.as_bytes()).unwrap());
    for expected in ["adabot_", "adabot__", "adabot___", "adabo____", "adab_____"] {
        assert_eq!(take(&taken("x")).unwrap(), [format!("NICK {expected}")]);
    }
    take(":s 001 adab_____ :Welcome").unwrap();
    let end = Message::read(b":s 376 adab_____ :End").unwrap();
    let entered = entering.entered(&end).unwrap();
    assert_eq!(entered.nick, "adab_____");
    assert_eq!(entered.nick_trouble.as_deref(), Some("Nickname is already in use."));

    let with = Settings { nick: "toolongnick".to_owned(), ..settings(false) };
    let (mut entering, _) = Entering::begin(&with, &passwords);
    let long =
        Message::read(b":s 432 * toolongnick :Nickname too long, max. 9 characters").unwrap();
    assert_eq!(entering.take(&long).unwrap(), ["NICK toolongni"]);
    let taken = Message::read(b":s 433 * toolongni :Nickname is already in use.").unwrap();
    assert_eq!(entering.take(&taken).unwrap(), ["NICK toolongn_"], "and no longer");
    assert!(matches!(entering.take(&long), Err(Stop::Refused(_))), "it is not the length");
}

#[test]
fn a_ban_is_told_in_the_servers_words() {
    let cases = [
        ("ERROR :Closing link: (twobox@h) [K-Lined: \u{1b}[2Jgo away]", "K-Lined"),
        (":s 465 adabot :You are banned from this server", "banned"),
        (":s 464 * :Password incorrect", "server_password_secret"),
        ("ERROR :Access denied: Bad password?", "server_password_secret"),
    ];
    for (line, expected) in cases {
        let stop = play(&settings(false), &Passwords::default(), &[(line, &[])]).unwrap_err();
        let (Stop::Refused(why) | Stop::Trouble(why)) = stop;
        assert!(why.contains(expected) && !why.contains('\u{1b}'), "{why}");
    }
}
