use super::*;

fn hear(line: &str) -> Option<Said> {
    hear_with(line, &mut Times::default())
}

fn hear_with(line: &str, times: &mut Times) -> Option<Said> {
    let mut server = Server::default();
    server.take_in(
        &Message::read(b":s 005 me CHANTYPES=# STATUSMSG=@+ CASEMAPPING=rfc1459 :x").unwrap(),
    );
    let ears = Ears { server: &server, nick: "adabot_", wanted: "adabot" };
    ears.hear(&Message::read(line.as_bytes()).unwrap(), times)
}

fn about(said: &Said) -> &About {
    said.chat.about.as_ref().unwrap()
}

#[test]
fn what_people_say_is_heard_with_who_they_are_and_where() {
    let said = hear("@account=Me;time=2026-11-30T00:00:00.500Z;msgid=m1 :Me[x]!~u@h PRIVMSG #Room :hi \u{2}there\u{2}").unwrap();
    assert_eq!((said.platform_id.as_str(), said.chat.text.as_str()), ("#room", "hi there"));
    assert_eq!(said.chat.sender.as_deref(), Some("Me[x]"));
    assert_eq!(about(&said).sender_id.as_deref(), Some("account:Me"));
    assert_eq!((about(&said).group, about(&said).mentioned), (Some(true), false));
    assert_eq!(about(&said).sent_at, UnixMillis::parse("2026-11-30T00:00:00.500Z"));
    assert_eq!(said.id.unwrap().as_str(), "m1");

    let alone = hear(":Me[x]!~u@h PRIVMSG ADABOT_ :hi").unwrap();
    assert_eq!(alone.platform_id, "me{x}");
    assert_eq!(
        about(&alone).sender_id.as_deref(),
        Some("nick:Me[x]!~u@h"),
        "a nick is told apart from an account"
    );
    assert_eq!((about(&alone).group, alone.id), (Some(false), None));

    let to_ranks = hear(":me!u@h PRIVMSG @#room :hi").unwrap();
    assert_eq!(to_ranks.platform_id, "@#room", "the answer is for them alone as well");
    assert_eq!(about(&to_ranks).group, Some(true));

    let acts = hear(":me!u@h PRIVMSG #room :\u{1}ACTION waves\u{1}").unwrap();
    assert_eq!(acts.chat.text, "* me waves");
}

#[test]
fn what_no_person_says_is_passed_over() {
    for line in [
        ":me!u@h NOTICE #room :hi",
        ":me!u@h TAGMSG #room",
        ":irc.example PRIVMSG #room :hi",
        "PRIVMSG #room :hi",
        ":adabot_!u@h PRIVMSG #room :its own word",
        ":me!u@h PRIVMSG #room :",
        ":me!u@h PRIVMSG #room :\u{2} \u{f}",
        ":me!u@h PRIVMSG adabot_ :\u{1}VERSION\u{1}",
        ":me!u@h PRIVMSG adabot_ :\u{1}PING 1",
        "@bot :other!u@h PRIVMSG #room :hi",
        "@draft/bot= :other!u@h PRIVMSG #room :hi",
        ":me!u@h PRIVMSG $*.example :to everybody",
    ] {
        assert_eq!(hear(line), None, "{line}");
    }
}

#[test]
fn whoever_is_spoken_to_is_named_at_the_beginning_or_with_an_at() {
    let cases = [
        ("adabot: hi", true, "adabot: hi"),
        ("AdaBot_, hi", true, "AdaBot_, hi"),
        ("@adabot: hi", true, "@adabot: hi"),
        ("ask @adabot, please", true, "ask @adabot, please"),
        ("adabot is away", false, "adabot is away"),
        ("adabots: hi", false, "adabots: hi"),
        ("ada: hi", false, "ada: hi"),
        ("adabot: /stop", true, "/stop"),
        ("adabot_:/new", true, "/new"),
        ("/stop", false, "/stop"),
    ];
    for (text, mentioned, left) in cases {
        let said = hear(&format!(":me!u@h PRIVMSG #room :{text}")).unwrap();
        assert_eq!((about(&said).mentioned, said.chat.text.as_str()), (mentioned, left), "{text}");
    }
}

#[test]
fn what_is_told_again_is_the_same_and_what_is_said_twice_is_not() {
    let line = |time: &str| format!("@time={time} :me!u@h PRIVMSG #room :again");
    let one = "2026-11-30T00:00:00.000Z";
    let hear_all = || {
        let mut times = Times::default();
        let all = [line(one), line(one), line("2026-11-30T00:00:00.001Z")];
        all.map(|it| hear_with(&it, &mut times).unwrap().id.unwrap())
    };
    let (first, again) = (hear_all(), hear_all());
    assert_eq!(first, again, "by another life, of a server that repeats it");
    assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2], "{first:?}");
    let strange = hear("@msgid=a/b :me!u@h PRIVMSG #room :x").unwrap().id.unwrap();
    assert_eq!(strange.as_str(), digest16("a/b"));
}

#[test]
fn a_name_that_cannot_be_kept_is_not_heard() {
    let long = "x".repeat(300);
    assert_eq!(hear(&format!(":me!u@{long} PRIVMSG #room :hi")), None);
    assert_eq!(hear(&format!(":me!u@h PRIVMSG #{long} :hi")), None);
}
