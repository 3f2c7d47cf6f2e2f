use twobox_model::approval::{Status, Subject};
use twobox_shared::ids::{ApprovalId, MessageId, SystemIds};
use twobox_shared::inbox::Origin;
use twobox_shared::time::UnixMillis;
use twobox_store::approvals::AskedThere;

use super::*;

fn approval(code: &str, session: SessionId, subject: Subject) -> Approval {
    Approval {
        id: ApprovalId::generate(&SystemIds),
        code: code.to_owned(),
        session,
        request: "row".to_owned(),
        digest: subject.digest(),
        subject,
        channel: "terminal".to_owned(),
        chat: "ada".to_owned(),
        thread: None,
        wake: false,
        status: Status::Pending,
        choice: None,
        created_at: UnixMillis(1),
        due_at: UnixMillis(2),
        decided_at: None,
        decided_by: None,
    }
}

fn tea(code: &str, session: SessionId) -> Approval {
    let choices = ["green", "black"].map(str::to_owned).to_vec();
    approval(code, session, Subject::question("Which tea?", choices))
}

fn tool(code: &str, session: SessionId) -> Approval {
    approval(code, session, Subject::permission("bash", "ls"))
}

fn there(asked: Vec<(Approval, &str)>) -> There {
    let asked = asked.into_iter().map(|(approval, prompt)| AskedThere::of(approval, prompt));
    There { asked: asked.collect(), elsewhere: None, hear: Vec::new(), told: false }
}

fn judged(text: &str, there: &There, own: SessionId) -> Judged {
    judge(text, there, own, &HashSet::new())
}

#[test]
fn of_two_agents_in_a_chat_the_one_that_asked_is_answered_and_the_other_reads_nothing() {
    let [ada, bob] = [0; 2].map(|_| SessionId::generate(&SystemIds));
    let asked = there(vec![(tea("aaaa", ada), "delivered")]);
    for said in ["2", "aaaa black"] {
        assert!(matches!(judged(said, &asked, ada), Judged::Decides(_, Verdict::Choose(2))));
        assert_eq!(judged(said, &asked, bob), Judged::Others, "{said}");
    }
    for said in ["3", "bbbb 2"] {
        assert_eq!(judged(said, &asked, ada), Judged::Message, "{said}");
        assert_eq!(judged(said, &asked, bob), Judged::Message, "{said}");
    }
}

#[test]
fn what_may_answer_either_of_two_agents_decides_nothing_and_one_of_them_says_so() {
    let [ada, bob, eve] = [0; 3].map(|_| SessionId::generate(&SystemIds));
    let asked = there(vec![(tea("aaaa", ada), "delivered"), (tea("bbbb", bob), "delivered")]);
    assert!(matches!(judged("1", &asked, ada), Judged::Tell(_)));
    assert!(matches!(judged("1", &asked, bob), Judged::Tell(_)), "the store lets one of them");
    assert_eq!(judged("1", &asked, eve), Judged::Others);
    assert!(matches!(judged("bbbb 1", &asked, bob), Judged::Decides(..)));
    assert_eq!(judged("bbbb 1", &asked, ada), Judged::Others);
    let asked = there(vec![(tool("aaaa", ada), "delivered")]);
    assert!(matches!(judged("1", &asked, ada), Judged::Tell(why) if why.contains("`aaaa 1`")));
    assert_eq!(judged("1", &asked, bob), Judged::Others, "it was meant for neither agent");
}

#[test]
fn what_a_session_asks_that_does_not_hear_the_chat_is_decided_by_whoever_does() {
    let [run, ada, bob] = [0; 3].map(|_| SessionId::generate(&SystemIds));
    let unheard = |asked: Vec<(Approval, &str)>| {
        let mut there = there(asked);
        for asked in &mut there.asked {
            asked.hears = asked.approval.session != run;
        }
        there
    };
    let asked = unheard(vec![(tea("aaaa", run), "delivered")]);
    for own in [ada, bob] {
        for said in ["2", "aaaa black"] {
            let judged = judged(said, &asked, own);
            let Judged::Decides(approval, Verdict::Choose(2)) = judged else {
                panic!("{judged:?}")
            };
            assert_eq!(approval.session, run, "{said}");
        }
        assert!(matches!(judged("aaaa 9", &asked, own), Judged::Tell(_)));
        assert_eq!(judged("3", &asked, own), Judged::Message);
    }
    let asked = unheard(vec![(tea("aaaa", run), "held")]);
    assert_eq!(judged("1", &asked, ada), Judged::Message, "nobody was asked yet");
    assert!(matches!(judged("aaaa 1", &asked, ada), Judged::Decides(..)), "who knows it saw it");
    let asked = unheard(vec![(tea("aaaa", run), "delivered"), (tea("bbbb", bob), "delivered")]);
    assert!(matches!(judged("1", &asked, ada), Judged::Tell(_)));
    assert_eq!(judged("bbbb 1", &asked, ada), Judged::Others, "bob hears that");
}

#[test]
fn what_a_channel_has_in_hand_all_who_hear_the_chat_have_seen_alike() {
    let [run, ada, bob, eve] = [0; 4].map(|_| SessionId::generate(&SystemIds));
    let mut asked = there(vec![(tea("aaaa", ada), "held")]);
    let in_hand = HashSet::from([asked.asked[0].approval.id]);
    let judged = |asked: &There, own| judge("1", asked, own, &in_hand);
    assert!(matches!(judged(&asked, ada), Judged::Decides(..)));
    assert_eq!(judged(&asked, bob), Judged::Others, "it is an answer, and no message to bob");
    asked.asked.push(AskedThere::of(tea("bbbb", bob), "delivered"));
    for own in [ada, bob] {
        assert!(matches!(judged(&asked, own), Judged::Tell(_)), "it may mean either");
    }
    assert_eq!(judged(&asked, eve), Judged::Others);
    asked.asked.truncate(1);
    asked.asked[0].approval.session = run;
    asked.asked[0].hears = false;
    for own in [ada, bob] {
        assert!(matches!(judged(&asked, own), Judged::Decides(..)), "whoever is first");
    }
}

#[test]
fn what_waits_for_a_channel_keeps_no_number_from_what_was_shown() {
    let [ada, bob, eve] = [0; 3].map(|_| SessionId::generate(&SystemIds));
    for prompt in ["held", "failed"] {
        let asked = there(vec![(tea("aaaa", ada), prompt), (tea("bbbb", bob), "delivered")]);
        let Judged::Decides(approval, Verdict::Choose(1)) = judged("1", &asked, bob) else {
            panic!("{prompt}")
        };
        assert_eq!(approval.code, "bbbb", "{prompt}");
        assert_eq!(judged("1", &asked, ada), Judged::Others, "{prompt}: nobody saw hers");
        assert_eq!(judged("1", &asked, eve), Judged::Others, "{prompt}");
        assert!(matches!(judged("aaaa 1", &asked, ada), Judged::Decides(..)), "{prompt}");
    }
}

#[test]
fn a_number_answers_what_was_shown_and_its_own_delivery_alone_shows_it() {
    let [ada, bob] = [0; 2].map(|_| SessionId::generate(&SystemIds));
    let asked = there(vec![(tea("aaaa", ada), "held")]);
    let other = HashSet::from([ApprovalId::generate(&SystemIds)]);
    for own in [ada, bob] {
        assert_eq!(judged("1", &asked, own), Judged::Message, "nobody was asked yet");
        assert_eq!(judge("1", &asked, own, &other), Judged::Message, "another is on its way");
    }
    assert!(matches!(judged("aaaa 1", &asked, ada), Judged::Decides(..)), "who knows it saw it");
    for prompt in ["sending", "uncertain"] {
        let asked = there(vec![(tea("aaaa", ada), prompt)]);
        assert!(matches!(judged("1", &asked, ada), Judged::Decides(..)), "{prompt}");
    }
}

#[test]
fn a_code_that_was_shown_elsewhere_is_read_by_no_agent() {
    let [ada, bob] = [0; 2].map(|_| SessionId::generate(&SystemIds));
    let elsewhere = Some(tool("aaaa", ada));
    let asked = There { elsewhere, ..there(Vec::new()) };
    for own in [ada, bob] {
        assert!(matches!(judged("aaaa 1", &asked, own), Judged::Tell(why) if why.contains("aaaa")));
    }
}

#[test]
fn a_word_says_who_said_it_and_not_with_which_code() {
    let chat = Chat { sender: Some("ada".to_owned()), ..Chat::text("k7f3 1") };
    let message = NewMessage {
        id: MessageId::parse("m").unwrap(),
        kind: KIND_CHAT.to_owned(),
        content: chat.to_json(),
        origin: Origin::default(),
        trigger: true,
        process_after: None,
        source_session: None,
        run_id: None,
    };
    let word = as_word(&message);
    assert_eq!((word.kind.as_str(), word.trigger), (KIND_WORD, false));
    assert_eq!(Chat::from_content(&word.content), Chat { text: "···· 1".to_owned(), ..chat });
    let number = NewMessage { content: r#"{"text": "1"}"#.to_owned(), ..message };
    assert_eq!(as_word(&number).content, number.content, "as it came");
}
