use std::collections::BTreeSet;

use super::*;
use crate::people::Role;

const TEXT: Said<'_> = Said { sender: Some("7"), group: false, mentioned: false, form: Form::Text };

fn listed() -> Senders {
    Senders::Listed(BTreeSet::from(["7".to_owned()]))
}

fn heard(senders: Senders, standing: Standing, said: Said<'_>) -> Heard {
    let manner = Manner { senders, engage: Engage::Mention };
    hear(&manner, standing, None, &said)
}

#[test]
fn who_is_heard_follows_from_the_channel_and_from_roles() {
    use Heard::{Trigger, Unheard};
    let member = Standing::Has(Role::Member);
    let (other, group, nobody) = (
        Said { sender: Some("8"), ..TEXT },
        Said { group: true, mentioned: true, ..TEXT },
        Said { sender: None, ..TEXT },
    );
    let cases = [
        ("open, a stranger", Senders::Open, Standing::Stranger, TEXT, Trigger),
        ("open, no name", Senders::Open, Standing::Stranger, nobody, Trigger),
        ("open, blocked", Senders::Open, Standing::Blocked, TEXT, Unheard(Why::Blocked)),
        ("known, a member", Senders::Known, member, TEXT, Trigger),
        ("known, a member in a group", Senders::Known, member, group, Trigger),
        ("known, a stranger", Senders::Known, Standing::Stranger, TEXT, Unheard(Why::MayPair)),
        ("known, in a group", Senders::Known, Standing::Stranger, group, Unheard(Why::Stranger)),
        ("known, no name", Senders::Known, Standing::Stranger, nobody, Unheard(Why::Nameless)),
        ("known, blocked", Senders::Known, Standing::Blocked, TEXT, Unheard(Why::Blocked)),
        ("members, a member", Senders::Members, member, TEXT, Trigger),
        ("members, a stranger", Senders::Members, Standing::Stranger, TEXT, Unheard(Why::Stranger)),
        ("a list, on it", listed(), Standing::Stranger, TEXT, Trigger),
        ("a list, not on it", listed(), Standing::Stranger, other, Unheard(Why::Stranger)),
        ("a list, with a role", listed(), member, other, Trigger),
        ("a list, blocked", listed(), Standing::Blocked, TEXT, Unheard(Why::Blocked)),
        ("the operator", Senders::Members, Standing::Operator, nobody, Trigger),
    ];
    for (case, senders, standing, said, expected) in cases {
        assert_eq!(heard(senders, standing, said), expected, "{case}");
    }
}

#[test]
fn no_stranger_is_ever_heard_but_where_it_is_open_or_they_are_listed() {
    let flags = [false, true];
    let forms = [Form::Text, Form::Word, Form::Answer, Form::Number];
    let engages = [None, Some(Engage::Mention), Some(Engage::Always), Some(Engage::Context)];
    for senders in [Senders::Known, Senders::Members, listed()] {
        for standing in [Standing::Stranger, Standing::Blocked] {
            for (group, mentioned) in flags.iter().flat_map(|a| flags.map(|b| (*a, b))) {
                for form in forms {
                    for engage in engages {
                        for sender in [None, Some("8")] {
                            let said = Said { sender, group, mentioned, form };
                            let manner =
                                Manner { senders: senders.clone(), engage: Engage::Always };
                            let heard = hear(&manner, standing, engage, &said);
                            assert!(matches!(heard, Heard::Unheard(_)), "{said:?} {heard:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn what_engages_an_agent_follows_from_the_chat_and_the_wiring() {
    use Heard::{Context, Trigger};
    let said = |group, mentioned, form| Said { sender: Some("7"), group, mentioned, form };
    let (mention, always, context) =
        (Some(Engage::Mention), Some(Engage::Always), Some(Engage::Context));
    let cases = [
        ("alone", mention, said(false, false, Form::Text), Trigger),
        (
            "alone, with an agent that listens only",
            context,
            said(false, false, Form::Text),
            Trigger,
        ),
        ("not named", mention, said(true, false, Form::Text), Context),
        ("named", mention, said(true, true, Form::Text), Trigger),
        ("the channel's own default", None, said(true, false, Form::Text), Context),
        ("always", always, said(true, false, Form::Text), Trigger),
        ("context, although named", context, said(true, true, Form::Text), Context),
        ("a word", mention, said(true, false, Form::Word), Trigger),
        ("a word to one that only listens", context, said(true, false, Form::Word), Trigger),
        ("a number", mention, said(true, false, Form::Number), Context),
        ("an answer with its code", mention, said(true, false, Form::Answer), Context),
    ];
    for (case, engage, said, expected) in cases {
        let manner = Manner { senders: Senders::Open, engage: Engage::Mention };
        assert_eq!(hear(&manner, Standing::Stranger, engage, &said), expected, "{case}");
    }
}

#[test]
fn a_text_has_one_form() {
    let cases = [
        ("hello", Form::Text),
        ("/stop", Form::Word),
        ("/new", Form::Word),
        ("/pair abcd-efgh", Form::Word),
        ("/claim x", Form::Word),
        ("/weather", Form::Text),
        ("2", Form::Number),
        ("k7f3 1", Form::Answer),
        ("k7f3 1 please", Form::Text),
    ];
    for (text, expected) in cases {
        assert_eq!(form(text), expected, "{text}");
    }
}
