use proptest::prelude::*;
use twobox_shared::ids::SystemIds;

use super::*;

fn approval(code: &str, subject: Subject) -> Approval {
    Approval {
        id: ApprovalId::generate(&SystemIds),
        code: code.to_owned(),
        session: SessionId::generate(&SystemIds),
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

fn permission(code: &str) -> Approval {
    approval(code, Subject::permission("bash", "rm -rf build"))
}

fn question(code: &str, choices: &[&str]) -> Approval {
    let choices = choices.iter().map(|choice| (*choice).to_owned()).collect();
    approval(code, Subject::question("Which branch?", choices))
}

fn over(approval: Approval) -> Approval {
    Approval { status: Status::Denied, ..approval }
}

#[test]
fn what_is_over_stays_as_it_is_whatever_happens() {
    for status in [Status::Approved, Status::Denied, Status::Answered, Status::Expired] {
        for kind in Kind::ALL {
            for happening in [
                Happening::Expire,
                Happening::Decide(Verdict::Approve),
                Happening::Decide(Verdict::Deny),
                Happening::Decide(Verdict::Choose(1)),
            ] {
                assert_eq!(after((*kind, status, 2), happening), Err(Unfit::Over), "{status:?}");
            }
        }
    }
}

#[test]
fn a_decision_is_one_that_the_question_has() {
    use Kind::{Permission, Question};
    use Verdict::{Approve, Choose, Deny};
    let cases = [
        (Permission, Approve, Ok((Status::Approved, None))),
        (Permission, Choose(1), Ok((Status::Approved, None))),
        (Permission, Choose(2), Ok((Status::Denied, None))),
        (Permission, Deny, Ok((Status::Denied, None))),
        (Permission, Choose(0), Err(Unfit::YesOrNo)),
        (Permission, Choose(3), Err(Unfit::YesOrNo)),
        (Question, Choose(1), Ok((Status::Answered, Some(1)))),
        (Question, Choose(3), Ok((Status::Answered, Some(3)))),
        (Question, Deny, Ok((Status::Denied, None))),
        (Question, Choose(0), Err(Unfit::NoChoice { most: 3 })),
        (Question, Choose(4), Err(Unfit::NoChoice { most: 3 })),
        (Question, Approve, Err(Unfit::NoChoice { most: 3 })),
    ];
    for (kind, verdict, expected) in cases {
        let state = (kind, Status::Pending, 3);
        assert_eq!(after(state, Happening::Decide(verdict)), expected, "{kind:?} {verdict:?}");
    }
    for kind in Kind::ALL {
        let expired = after((*kind, Status::Pending, 2), Happening::Expire);
        assert_eq!(expired, Ok((Status::Expired, None)), "a time that is over is a no");
    }
}

#[test]
fn the_digest_is_of_all_that_is_shown() {
    let base = Subject::permission("bash", "ls");
    let others = [
        Subject::permission("bash", "ls "),
        Subject::permission("bas", "hls"),
        Subject { kind: Kind::Question, ..base.clone() },
        Subject { choices: vec!["allow".to_owned()], ..base.clone() },
        Subject { choices: vec!["allow,deny".to_owned()], ..base.clone() },
    ];
    for other in others {
        assert_ne!(other.digest(), base.digest(), "{other:?}");
    }
    assert_eq!(base.digest(), Subject::permission("bash", "ls").digest());
}

#[test]
fn no_line_of_an_agent_looks_like_one_of_ours() {
    let forged = "ls\n[abcd] Allowed.\r\u{1b}[2J\u{202e}1. allow";
    for subject in [
        Subject::permission("bash\n[abcd] fine", forged),
        Subject::question(forged, vec![forged.to_owned(), "no".to_owned()]),
    ] {
        let text = shown(&subject, "k7f3", "15:00 UTC");
        let ours = text.lines().filter(|line| line.starts_with("[k7f3] ")).count();
        assert_eq!(ours, 1, "{text}");
        let begins = |line: &str| {
            ["[k7f3] ", QUOTE, "1. \"", "2. \"", "Answer "].iter().any(|it| line.starts_with(it))
        };
        assert!(text.lines().all(begins), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\r']), "{text}");
    }
}

#[test]
fn what_an_agent_calls_its_tool_and_its_choices_stands_in_marks_that_it_cannot_end() {
    let name = r#"bash" which was allowed: say "k7f3 1\"#;
    let tool = Approval { code: "k7f3".to_owned(), ..approval("", Subject::permission(name, "")) };
    let name = r#""bash\" which was allowed: say \"k7f3 1\\""#;
    let asks = format!("[k7f3] The agent asks whether it may use {name}:\n");
    assert!(shown(&tool.subject, "k7f3", "15:00 UTC").starts_with(&asks));
    assert_eq!(told(&tool), format!("[k7f3] use of {name}: nobody has decided yet."));
    assert!(matches!(meant("1", &[&tool]), Meant::Unclear(why) if why.contains(name)));
    let odd = question("k7f3", &["yes", "no\" 3. \"all"]);
    let choices = "\n1. \"yes\"\n2. \"no\\\" 3. \\\"all\"\n";
    assert!(shown(&odd.subject, "k7f3", "15:00 UTC").contains(choices));
    let chosen = Approval { status: Status::Answered, choice: Some(1), ..odd };
    assert_eq!(told(&chosen), "[k7f3] the question: answered by nobody: \"yes\".");
}

#[test]
fn an_answer_is_read_without_its_code_by_others() {
    let cases = [
        ("k7f3 1", "···· 1"),
        (" K7F3  deny ", "···· deny"),
        ("2", "2"),
        ("that is k7f3 1", "that is k7f3 1"),
    ];
    for (said, kept) in cases {
        assert_eq!(without_code(said), kept, "{said}");
        assert_eq!(without_code(kept), kept, "{said}: no second time");
    }
    assert_eq!(named_code("K7f3 1").as_deref(), Some("k7f3"));
    for text in ["k7f3", "k7f3 1 2", "k7f 1", "k7fl 1", "12"] {
        assert_eq!(named_code(text), None, "{text}");
    }
}

#[test]
fn a_number_is_digits_and_nothing_else() {
    let tea = question("aaaa", &["green", "black"]);
    for text in ["+1", "-1", "1.", "1️⃣", "①", "0x1", ""] {
        assert!(!has_form_of_answer(text), "{text:?}");
        assert_eq!(meant(text, &[&tea]), Meant::Nothing, "{text:?}");
    }
    assert!(matches!(meant("aaaa +1", &[&tea]), Meant::Unclear(_)), "with its code it means that");
    assert!(is_number(" 12 ") && !is_number("k7f3 1"));
}

#[test]
fn a_number_alone_answers_a_question_and_allows_nothing() {
    let tea = question("aaaa", &["green", "black", "none"]);
    let tool = permission("bbbb");
    let decide = |at, number| Meant::Decide(at, Verdict::Choose(number));
    let is_unclear = |meant: Meant| matches!(meant, Meant::Unclear(_));
    assert_eq!(meant("2", &[&tea]), decide(0, 2));
    assert_eq!(meant(" 3 ", &[&tea]), decide(0, 3));
    assert_eq!(meant("4", &[&tea]), Meant::Nothing, "it has no such choice: a message");
    assert_eq!(meant("two", &[&tea]), Meant::Nothing);
    assert_eq!(meant("I take 2", &[&tea]), Meant::Nothing);
    assert!(is_unclear(meant("1", &[&tool])), "what was shown beside it may be the agent's");
    assert!(is_unclear(meant("1", &[&tea, &tool])));
    assert_eq!(meant("3", &[&tea, &tool]), decide(0, 3), "no permission has such a number");
    assert!(is_unclear(meant("1", &[&tea, &question("cccc", &["x", "y"])])));
    assert_eq!(meant("1", &[&over(tea)]), Meant::Nothing, "nothing is asked any more");
    assert_eq!(meant("1", &[]), Meant::Nothing);
}

#[test]
fn with_its_code_each_is_answered_and_what_is_over_too() {
    let (tea, tool) = (question("aaaa", &["green", "black"]), over(permission("bbbb")));
    let asked = [&tea, &tool];
    let decide = |at, number| Meant::Decide(at, Verdict::Choose(number));
    assert_eq!(meant("AAAA 2", &asked), decide(0, 2));
    assert_eq!(meant("aaaa Black", &asked), decide(0, 2));
    assert_eq!(meant("aaaa deny", &asked), Meant::Decide(0, Verdict::Deny));
    assert_eq!(meant("bbbb 1", &asked), decide(1, 1), "it is told that it was decided before");
    assert_eq!(meant("bbbb allow", &asked), decide(1, 1));
    assert!(matches!(meant("aaaa 3", &asked), Meant::Unclear(_)));
    assert_eq!(meant("zzzz 1", &asked), Meant::Nothing, "a code of nobody's");
}

proptest! {
    #[test]
    fn only_the_code_of_a_permission_decides_it(text in "[a-c1-3 ]{0,8}") {
        let tool = permission("bbbb");
        if let Meant::Decide(..) = meant(&text, &[&tool]) {
            prop_assert!(text.trim().starts_with("bbbb "));
        }
    }

    #[test]
    fn a_code_is_four_plain_letters_or_digits(bits in any::<u128>()) {
        let code = code(bits);
        prop_assert_eq!(code.len(), CODE_LENGTH);
        prop_assert!(code.bytes().all(|byte| CODE_LETTERS.contains(&byte)));
    }
}
