//! What a server says of itself: what it calls alike, how long names and lines may be, what it can do. Pure.
//!
//! Source: <https://modern.ircdocs.horse/#feature-advertisement>.

use std::collections::BTreeSet;

use super::wire::{LINE_MAX, Message};

/// The longest nick, user and host that a server is thought to have that does not say.
const NICK_MAX: usize = 30;
const USER_MAX: usize = 20;
const HOST_MAX: usize = 64;

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// What the network calls itself.
    pub(super) network: Option<String>,
    /// The longest nick, if it says so.
    pub(super) nick_max: Option<usize>,
    host_max: usize,
    user_max: usize,
    line_max: usize,
    /// What names of channels begin with.
    channel_marks: String,
    /// What may stand before the name of a channel, for those alone who have a rank there.
    rank_marks: String,
    folding: Folding,
    /// The mode that says that somebody is a program.
    pub(super) bot_mode: Option<char>,
    /// What was agreed on.
    pub(super) caps: BTreeSet<String>,
}

/// What a server calls alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Folding {
    Ascii,
    /// `{}|^` are small `[]\~`.
    Rfc1459,
    /// The same without `^`.
    Strict,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            network: None,
            nick_max: None,
            host_max: HOST_MAX,
            user_max: USER_MAX,
            line_max: LINE_MAX,
            channel_marks: "#&".to_owned(),
            rank_marks: String::new(),
            folding: Folding::Rfc1459,
            bot_mode: None,
            caps: BTreeSet::new(),
        }
    }
}

impl Server {
    /// Takes in a line with the number 005.
    pub(super) fn take_in(&mut self, message: &Message) {
        let words = message.params.len().saturating_sub(1);
        for word in message.params.iter().take(words).skip(1) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let number = || value.parse::<usize>().ok().filter(|it| (1..=4096).contains(it));
            match name {
                "NETWORK" => self.network = Some(value.to_owned()),
                "NICKLEN" => self.nick_max = number().or(self.nick_max),
                "HOSTLEN" => self.host_max = number().unwrap_or(self.host_max),
                "USERLEN" => self.user_max = number().unwrap_or(self.user_max),
                // A longer one would be taken, and is not needed.
                "LINELEN" => {
                    let most = number().unwrap_or(LINE_MAX + 2).saturating_sub(2);
                    self.line_max = most.clamp(LINE_MAX / 2, LINE_MAX);
                }
                "CHANTYPES" => value.clone_into(&mut self.channel_marks),
                "STATUSMSG" => value.clone_into(&mut self.rank_marks),
                "CASEMAPPING" => {
                    self.folding = match value {
                        "rfc1459" => Folding::Rfc1459,
                        "strict-rfc1459" | "rfc1459-strict" => Folding::Strict,
                        // Others fold more than these; what is told apart here is only in writing.
                        _ => Folding::Ascii,
                    };
                }
                "BOT" => self.bot_mode = value.chars().next().filter(char::is_ascii_alphabetic),
                _ => {}
            }
        }
    }

    /// Whether that was agreed on.
    pub(super) fn has(&self, cap: &str) -> bool {
        self.caps.contains(cap)
    }

    /// `name` as the server compares it.
    pub(super) fn folded(&self, name: &str) -> String {
        let fold = |c: char| match (c, self.folding) {
            ('[', Folding::Rfc1459 | Folding::Strict) => '{',
            (']', Folding::Rfc1459 | Folding::Strict) => '}',
            ('\\', Folding::Rfc1459 | Folding::Strict) => '|',
            ('~', Folding::Rfc1459) => '^',
            (c, _) => c.to_ascii_lowercase(),
        };
        name.chars().map(fold).collect()
    }

    /// Whether it calls both alike.
    pub(super) fn alike(&self, one: &str, other: &str) -> bool {
        self.folded(one) == self.folded(other)
    }

    /// The channel that `target` is, if it is one: without the marks of those who are meant there.
    pub(super) fn channel<'a>(&self, target: &'a str) -> Option<&'a str> {
        let name = target.trim_start_matches(|c| self.rank_marks.contains(c));
        let is_channel = |name: &str| name.starts_with(|c| self.channel_marks.contains(c));
        [target, name].into_iter().find(|it| is_channel(it))
    }

    /// How many bytes of text reach everybody at `target`, said with `command` by somebody called `nick`: the server
    /// puts who it is before it, which nobody knows for sure.
    pub(super) fn room(&self, nick: &str, command: &str, target: &str) -> usize {
        let who = 1 + nick.len().max(1) + 1 + self.user_max + 1 + self.host_max;
        let before = who + 1 + command.len() + 1 + target.len() + " :".len();
        self.line_max.saturating_sub(before).max(64)
    }
}

/// How many bytes of text any server shows to everybody at `target`: what a message is cut by, which has to be the same
/// at each attempt, wherever the host is connected by then.
pub(super) fn room_anywhere(target: &str) -> usize {
    let who = 1 + NICK_MAX + 1 + USER_MAX + 1 + HOST_MAX;
    (LINE_MAX - who - " PRIVMSG ".len() - " :".len()).saturating_sub(target.len()).max(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(features: &str) -> Server {
        let mut server = Server::default();
        let line = format!(":s 005 me {features} :are supported by this server");
        server.take_in(&Message::read(line.as_bytes()).unwrap());
        server
    }

    #[test]
    fn names_are_alike_as_the_server_has_it() {
        let cases = [
            ("CASEMAPPING=ascii", "Ada[x]", "ada[X]", true),
            ("CASEMAPPING=ascii", "ada[", "ada{", false),
            ("CASEMAPPING=rfc1459", "Ada[]\\~", "ada{}|^", true),
            ("CASEMAPPING=strict-rfc1459", "~", "^", false),
            ("NICKLEN=9", "a[", "a{", true),
        ];
        for (features, one, other, expected) in cases {
            assert_eq!(server(features).alike(one, other), expected, "{features} {one} {other}");
        }
    }

    #[test]
    fn a_channel_is_known_by_its_marks() {
        let server = server("CHANTYPES=#+ STATUSMSG=@+ NICKLEN=9 NETWORK=Net BOT=B");
        assert_eq!(
            (server.nick_max, server.network.as_deref(), server.bot_mode),
            (Some(9), Some("Net"), Some('B'))
        );
        let cases = [
            ("#a", Some("#a")),
            ("+a", Some("+a")),
            ("@#a", Some("#a")),
            ("ada", None),
            ("&a", None),
        ];
        for (target, expected) in cases {
            assert_eq!(server.channel(target), expected, "{target}");
        }
    }

    #[test]
    fn what_is_said_fits_with_who_says_it() {
        let said = server("HOSTLEN=64 USERLEN=10 LINELEN=512");
        // As it arrives: `:al!~user@host PRIVMSG #r :`.
        let whole = 1 + 2 + 1 + 10 + 1 + 64 + " PRIVMSG #r :".len();
        assert_eq!(said.room("al", "PRIVMSG", "#r") + whole, LINE_MAX);
        assert_eq!(
            server("LINELEN=2048").room("al", "PRIVMSG", "#r"),
            Server::default().room("al", "PRIVMSG", "#r")
        );
        for target in ["#r", "somebody-with-a-long-nick", &"#".repeat(64)] {
            let anywhere = room_anywhere(target);
            assert!(
                anywhere <= Server::default().room(&"n".repeat(30), "PRIVMSG", target),
                "{target}"
            );
            assert!(anywhere >= 300, "{target}: {anywhere}");
        }
        assert_eq!(room_anywhere(&"#".repeat(500)), 64);
    }
}
