use super::*;

fn server(caps: &str) -> Server {
    let mut server = Server::default();
    server.caps.extend(caps.split(' ').filter(|it| !it.is_empty()).map(str::to_owned));
    server
}

const LABELS: &str = "labeled-response echo-message batch message-tags";

struct Play {
    flight: Flight,
    server: Server,
}

impl Play {
    fn new(caps: &str, text: &str) -> Self {
        let flight = Flight::new("#r".to_owned(), "PRIVMSG", text.to_owned());
        Self { flight, server: server(caps) }
    }

    fn say(&mut self) -> Vec<String> {
        self.flight.say(&self.server, "ada", "t1".to_owned()).unwrap()
    }

    fn take(&mut self, line: &str) -> Next {
        self.flight.take(&Message::read(line.as_bytes()).unwrap(), &self.server, "ada")
    }
}

fn taken(id: Option<&str>) -> Next {
    Next::Over(Sent::Taken(id.map(str::to_owned)))
}

#[test]
fn a_line_is_taken_when_the_ping_behind_it_is_answered() {
    let mut play = Play::new("", "hello");
    assert!(!play.flight.is_flying());
    assert_eq!(play.say(), ["PRIVMSG #r hello", "PING t1"]);
    assert!(play.flight.is_flying());
    for other in [
        ":s PONG s :t0",
        ":s PONG s :twobox",
        ":eve!e@h PRIVMSG #r :hello",
        ":s 401 ada eve :No such nick",
    ] {
        assert_eq!(play.take(other), Next::Waits, "{other}");
    }
    assert_eq!(play.take(":s PONG s :t1"), taken(None));
}

#[test]
fn a_line_is_taken_when_it_comes_back_with_its_label() {
    let mut play = Play::new(LABELS, "hello you");
    assert_eq!(play.say(), ["@label=t1 PRIVMSG #r :hello you"]);
    assert_eq!(play.take("@msgid=x :ada!a@h PRIVMSG #r :hello you"), Next::Waits, "another one's");
    assert_eq!(play.take("@label=t1;msgid=m1 :ada!a@h PRIVMSG #r :hello you"), taken(Some("m1")));
    let mut play = Play::new(LABELS, "hello you");
    play.say();
    assert_eq!(play.take("@label=t1 :s BATCH +b labeled-response"), Next::Waits);
    assert_eq!(play.take("@batch=b :s 301 ada ada :is away"), Next::Waits);
    assert_eq!(play.take("@batch=b;msgid=m2 :ada!a@h PRIVMSG #r :hello you"), Next::Waits);
    assert_eq!(play.take(":s BATCH -c"), Next::Waits);
    assert_eq!(play.take(":s BATCH -b"), taken(Some("m2")));
    let mut play = Play::new(LABELS, "hello you");
    play.say();
    assert_eq!(play.take("@label=t1 :s ACK"), taken(None));
}

#[test]
fn where_no_label_comes_back_it_is_asked() {
    let mut play = Play::new(LABELS, "hello");
    assert_eq!(play.flight.ask(), None, "nothing was said yet");
    play.say();
    assert_eq!(play.flight.ask().as_deref(), Some("PING t1"));
    assert_eq!(play.take(":s PONG s :t1"), taken(None));
    let mut play = Play::new("", "hello");
    play.say();
    assert_eq!(play.flight.ask(), None, "that was asked at once");
}

#[test]
fn what_a_server_refuses_is_told_apart_from_what_it_wants_later() {
    let cases = [
        (
            "",
            ":s 404 ada #r :Cannot send to channel",
            Sent::Refused("Cannot send to channel (404)".to_owned()),
        ),
        (
            LABELS,
            "@label=t1 :s 404 ada #R :Cannot send to channel",
            Sent::Refused("Cannot send to channel (404)".to_owned()),
        ),
        (
            "",
            ":s 439 ada #r :Target change too fast. Please wait 7 seconds.",
            Sent::NotSent {
                error: "Target change too fast. Please wait 7 seconds. (439)".to_owned(),
                retry_after: Some(Duration::from_secs(7)),
            },
        ),
    ];
    for (caps, line, expected) in cases {
        let mut play = Play::new(caps, "hello");
        play.say();
        let said = match play.take(line) {
            Next::Waits => play.take(":s PONG s :t1"),
            said => said,
        };
        assert_eq!(said, Next::Over(expected), "{line}");
    }
}

#[test]
fn what_was_cut_off_is_said_once_more() {
    let mut play = Play::new(LABELS, "one two thr€e");
    play.say();
    let cut = b"@label=t1;msgid=m1 :ada!a@h PRIVMSG #r :one two thr\xe2\x82";
    let message = Message::read(cut).unwrap();
    assert_eq!(play.flight.take(&message, &play.server, "ada"), Next::Says);
    assert_eq!(play.say(), ["@label=t1 PRIVMSG #r €e"]);
    assert_eq!(play.take("@label=t1;msgid=m2 :ada!a@h PRIVMSG #r :€e"), taken(Some("m1")));
    let mut play = Play::new(LABELS, "one \u{2}two");
    play.say();
    assert_eq!(
        play.take("@label=t1 :ada!a@h PRIVMSG #r :one two"),
        taken(None),
        "colours were taken out"
    );
    let mut play = Play::new("echo-message", "one two");
    play.say();
    assert_eq!(play.take("@msgid=m1 :ada!a@h PRIVMSG #r :one"), Next::Waits);
    assert_eq!(play.take(":s PONG s :t1"), Next::Says);
    assert_eq!(play.say(), ["PRIVMSG #r : two", "PING t1"]);
}

#[test]
fn a_line_that_is_too_long_for_this_server_is_said_in_pieces() {
    let text = "€".repeat(200);
    let mut play = Play::new("", &text);
    let mut said = String::new();
    loop {
        let lines = play.say();
        assert!(lines[0].len() <= wire::LINE_MAX);
        said.push_str(lines[0].trim_start_matches("PRIVMSG #r "));
        match play.take(":s PONG s :t1") {
            Next::Says => {}
            over => break assert_eq!(over, taken(None)),
        }
    }
    assert_eq!(said, text);
}

#[test]
fn where_marks_are_not_allowed_it_is_said_without() {
    let refusal = ":s 404 ada #r :Can't send colors to channel (+c is set)";
    let mut play = Play::new("", "a \u{2}bold\u{2} word");
    play.say();
    assert_eq!(play.take(refusal), Next::Waits);
    assert_eq!(play.take(":s PONG s :t1"), Next::Says);
    assert_eq!(play.say(), ["PRIVMSG #r :a bold word", "PING t1"]);
    play.take(refusal);
    assert!(matches!(play.take(":s PONG s :t1"), Next::Over(Sent::Refused(_))), "it is not that");
}

#[test]
fn what_a_connection_leaves_open_is_unknown_and_what_was_not_said_is_not_sent() {
    let play = Play::new("", "hello");
    assert!(matches!(play.flight.cut("gone"), Sent::NotSent { .. }));
    let mut play = Play::new("", "hello");
    play.say();
    assert!(matches!(play.flight.cut("gone"), Sent::Unknown(_)));
    let mut play = Play::new(LABELS, "one two");
    play.say();
    assert_eq!(play.take("@label=t1 :ada!a@h PRIVMSG #r :one"), Next::Says);
    assert!(matches!(play.flight.cut("gone"), Sent::Unknown(_)), "its beginning was shown");
    let mut play = Play::new(LABELS, "one two");
    play.say();
    play.take("@label=t1 :ada!a@h PRIVMSG #r :one");
    play.say();
    let refused = play.take("@label=t1 :s 404 ada #r :Cannot send to channel");
    assert!(matches!(refused, Next::Over(Sent::Unknown(_))), "{refused:?}");
}
