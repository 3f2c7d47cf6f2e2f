//! How a person sets up a channel of each kind, for whoever walks them through: what to do on the platform, what is
//! asked for, and which secrets it wants. Data alone; what is set wrongly says the kind ([`crate::kinds`]).

use crate::{bridge, discord, email, irc, matrix, telegram, webhook};

/// How an instance is set up.
#[derive(Debug)]
pub struct Guide {
    /// The kind.
    pub kind: &'static str,
    /// What it connects, in a few words.
    pub what: &'static str,
    /// What to do first, and where, a line each.
    pub steps: &'static [&'static str],
    /// What is asked for, in order.
    pub questions: &'static [Question],
    /// What a chat is there, as `twobox wire add` wants it.
    pub chat: &'static str,
    /// The page that has it all.
    pub page: &'static str,
}

/// One thing that is asked for.
#[derive(Debug)]
pub struct Question {
    /// The setting.
    pub setting: &'static str,
    /// What is asked.
    pub ask: &'static str,
    /// What is taken if nothing is typed: `Some("")` leaves the setting out; without it something has to be typed.
    pub usual: Option<&'static str>,
    /// What is typed.
    pub form: Form,
}

/// What a person types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Some text.
    Text,
    /// Yes or no.
    YesNo,
    /// Several words, with commas between them.
    List,
    /// A secret, which is kept under the id of the channel, and not shown as it is typed. `made`: one of 32 random
    /// bytes is made if nothing is typed.
    Secret {
        /// Whether one can be made up.
        made: bool,
    },
}

/// Every guide.
pub const GUIDES: &[Guide] = &[
    Guide {
        kind: bridge::BRIDGE,
        what: "a program of yours that stays connected to the host and carries messages both ways",
        steps: &["docs/examples/bridge.py is such a program, for a folder of text files"],
        questions: &[Question {
            setting: "keys",
            ask: "does it drop a message whose key it has taken before?",
            usual: Some("no"),
            form: Form::YesNo,
        }],
        chat: "whatever your program calls it",
        page: "docs/channels/bridge.md",
    },
    Guide {
        kind: twobox_model::channel::COMMAND,
        what: "a program of yours that is run once for each message",
        steps: &["docs/examples/hook.sh is such a program, for a web hook"],
        questions: &[
            Question {
                setting: "program",
                ask: "the whole path of your program:",
                usual: None,
                form: Form::Text,
            },
            Question {
                setting: "keys",
                ask: "does it drop a message whose key it has taken before?",
                usual: Some("no"),
                form: Form::YesNo,
            },
        ],
        chat: "whatever your program calls it",
        page: "docs/channels.md",
    },
    Guide {
        kind: discord::DISCORD,
        what: "a bot in servers of Discord and in direct messages",
        steps: &[
            "at https://discord.com/developers/applications make a New Application",
            "on its page Bot, switch on Message Content Intent, save, and Reset Token: it is shown once",
            "on its page OAuth2, tick the scope bot and what it may (docs/channels/discord.md), and open the address that \
             it shows",
        ],
        questions: &[Question {
            setting: "token_secret",
            ask: "the bot's token",
            usual: None,
            form: Form::Secret { made: false },
        }],
        chat: "the number of a channel, which the log says when somebody speaks there",
        page: "docs/channels/discord.md",
    },
    Guide {
        kind: email::EMAIL,
        what: "a mailbox of its own, read by IMAP and sent from by SMTP",
        steps: &[
            "make a mailbox for the host alone, and a password for it (an app password, where the provider wants one)",
            "open a mail in it, look at its source, and find the first word of the uppermost Authentication-Results",
        ],
        questions: &[
            Question {
                setting: "address",
                ask: "the mailbox's address, such as assistant@example.org:",
                usual: None,
                form: Form::Text,
            },
            Question {
                setting: "imap",
                ask: "the server for reading, such as imaps://imap.example.org:",
                usual: None,
                form: Form::Text,
            },
            Question {
                setting: "smtp",
                ask: "the server for sending, such as smtps://smtp.example.org:",
                usual: None,
                form: Form::Text,
            },
            Question {
                setting: "authserv_id",
                ask: "the first word of the uppermost Authentication-Results, such as mx.example.org:",
                usual: None,
                form: Form::Text,
            },
            Question {
                setting: "password_secret",
                ask: "the password of the mailbox",
                usual: None,
                form: Form::Secret { made: false },
            },
        ],
        chat: "a correspondent, by their address in small letters; `--session-mode per-thread` suits mail",
        page: "docs/channels/email.md",
    },
    Guide {
        kind: irc::IRC,
        what: "channels of an IRC server, and people who talk to it alone",
        steps: &[
            "where the network has accounts, register one for the host's nick: a nick alone is anybody's",
        ],
        questions: &[
            Question {
                setting: "server",
                ask: "the server, such as irc.example.org:",
                usual: None,
                form: Form::Text,
            },
            Question { setting: "nick", ask: "its nick:", usual: None, form: Form::Text },
            Question {
                setting: "channels",
                ask: "the channels that it goes to, with commas between them, such as #room:",
                usual: Some(""),
                form: Form::List,
            },
        ],
        chat: "the name of a channel, in quotes, or somebody's nick",
        page: "docs/channels/irc.md",
    },
    Guide {
        kind: matrix::MATRIX,
        what: "rooms of a Matrix homeserver, by an account of its own",
        steps: &[
            "make an account for the host on your homeserver, as for a person: nobody else should use it",
            "give it a password, and have both at hand",
        ],
        questions: &[
            Question {
                setting: "homeserver",
                ask: "the address of the homeserver, such as https://matrix.example.org:",
                usual: None,
                form: Form::Text,
            },
            Question {
                setting: "user",
                ask: "the whole id of the account, such as @assistant:example.org:",
                usual: None,
                form: Form::Text,
            },
            Question {
                setting: "password_secret",
                ask: "the password of the account",
                usual: None,
                form: Form::Secret { made: false },
            },
            Question {
                setting: "senders",
                ask: "who is heard, by their whole ids with commas between them, such as @me:example.org; nobody but \
                      whom you let in, if you name none:",
                usual: Some(""),
                form: Form::List,
            },
        ],
        chat: "the id of a room, in single quotes: invite the account, say something there, and the host's log has it",
        page: "docs/channels/matrix.md",
    },
    Guide {
        kind: telegram::TELEGRAM,
        what: "a bot in chats, groups and topics of Telegram",
        steps: &[
            "say /newbot to @BotFather in Telegram: it asks for a name, and gives the token",
            "for groups, say /setprivacy to it and Disable, if the bot is to hear more than what names it",
        ],
        questions: &[Question {
            setting: "token_secret",
            ask: "the bot's token",
            usual: None,
            form: Form::Secret { made: false },
        }],
        chat: "the number of a chat, which the log says when somebody speaks there",
        page: "docs/channels/telegram.md",
    },
    Guide {
        kind: webhook::WEBHOOK,
        what: "signed messages over HTTP: posted to the host, and by it",
        steps: &[
            "have something that takes a POST, and can check the signatures of Standard Webhooks",
        ],
        questions: &[
            Question {
                setting: "url",
                ask: "where messages are posted to, such as https://example.org/in:",
                usual: None,
                form: Form::Text,
            },
            Question {
                setting: "signing_secret",
                ask: "the secret with which both sides sign",
                usual: None,
                form: Form::Secret { made: true },
            },
            Question {
                setting: "keys",
                ask: "does the receiver drop a message whose Idempotency-Key it has taken before?",
                usual: Some("no"),
                form: Form::YesNo,
            },
        ],
        chat: "any word of yours: it stands in what is posted",
        page: "docs/channels/webhook.md",
    },
];

/// The guide of a kind, if it has one.
pub fn of(kind: &str) -> Option<&'static Guide> {
    GUIDES.iter().find(|guide| guide.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::KINDS;

    #[test]
    fn every_guide_is_of_a_kind_and_its_page_is_there() {
        for guide in GUIDES {
            assert!(KINDS.iter().any(|kind| kind.name == guide.kind), "{}", guide.kind);
            let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../").to_owned() + guide.page;
            let text = std::fs::read_to_string(&page).unwrap();
            for question in guide.questions {
                assert!(text.contains(question.setting), "{page} has {}", question.setting);
            }
        }
    }
}
