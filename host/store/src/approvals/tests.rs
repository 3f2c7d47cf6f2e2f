use std::path::Path;
use std::sync::Barrier;

use rusqlite::params;
use tempfile::TempDir;
use twobox_model::approval::Status;
use twobox_model::channel::Asked;
use twobox_shared::ids::SystemIds;
use twobox_shared::inbox::{Delivery, DeliveryStatus};

use super::*;
use crate::Store;

const SESSION: &str = "01a2297c-98df-74b6-bbfb-f9077b2f25c4";
const OTHER: &str = "01a2297c-98df-74b6-bbfb-f9077b2f25c5";
const AGENT: &str = "01a2297c-98df-74b6-bbfb-f9077b2f25c6";
const SECOND_AGENT: &str = "01a2297c-98df-74b6-bbfb-f9077b2f25c8";
const CHAT: &str = "01a2297c-98df-74b6-bbfb-f9077b2f25c7";
const NOW: UnixMillis = UnixMillis(1_000);
const BOUNDS: Bounds = Bounds { pending: 8, day: 100 };
const DUE: UnixMillis = UnixMillis(5_000);

fn session() -> SessionId {
    SESSION.parse().unwrap()
}

fn made(folder: &Path) -> Store {
    let store = Store::create(&folder.join("host.db")).unwrap();
    {
        let db = store.raw();
        db.execute("INSERT INTO agent_groups VALUES (?, 'ada', 'ada', 0, NULL)", [AGENT]).unwrap();
        db.execute("INSERT INTO messaging_groups VALUES (?, 'terminal', 'ada', 'ada', 0)", [CHAT])
            .unwrap();
        for (session, thread) in [(SESSION, ""), (OTHER, "t")] {
            db.execute(
                "INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id,
                   created_at_ms, last_active_at_ms) VALUES (?, ?, ?, ?, 0, 0)",
                params![session, AGENT, CHAT, thread],
            )
            .unwrap();
        }
    }
    store
}

fn fresh() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = made(folder.path());
    (folder, store)
}

fn new(request: &str) -> NewApproval {
    NewApproval {
        session: session(),
        request: MessageId::parse(request).unwrap(),
        subject: Subject::permission("bash", "rm -rf build"),
        address: Address {
            channel_type: "terminal".to_owned(),
            platform_id: "ada".to_owned(),
            thread_id: None,
        },
        wake: false,
        due_at: DUE,
        until: "15:00 UTC".to_owned(),
        behind: Seq(7),
    }
}

fn asked(store: &Store, request: &str) -> Approval {
    match store.approvals().ask(new(request), BOUNDS, &SystemIds, NOW).wait().unwrap() {
        Asking::New(approval) => approval,
        other => panic!("{other:?}"),
    }
}

fn decision(approval: &Approval, verdict: Verdict) -> Decide {
    Decide {
        session: approval.session,
        id: approval.id,
        digest: approval.digest.clone(),
        verdict,
        by: "the operator".to_owned(),
        speaker: Speaker::Operator,
        said_in: None,
    }
}

fn decide(store: &Store, order: Decide) -> Result<Approval, Undecided> {
    store.approvals().decide(order, UnixMillis(2_000)).wait().unwrap()
}

fn causes(store: &Store) -> Vec<String> {
    let notices = store.notices().open(session(), Seq(9)).wait().unwrap();
    notices.into_iter().map(|notice| notice.cause).collect()
}

#[test]
fn a_row_that_asks_again_changes_nothing_and_so_many_may_be_open() {
    let (_folder, store) = fresh();
    let first = asked(&store, "r0");
    let again =
        store.approvals().ask(new("r0"), BOUNDS, &SystemIds, UnixMillis(4_000)).wait().unwrap();
    assert_eq!(again, Asking::Known(first.clone()), "the same row is the same question");
    let notice = &store.notices().open(session(), Seq(9)).wait().unwrap()[0];
    assert_eq!(asked_by(&notice.cause), Some(first.id));
    assert_eq!(notice.behind, Some(Seq(7)));
    assert!(notice.text.contains(&first.code) && notice.text.contains("rm -rf build"));
    for at in 1..8 {
        asked(&store, &format!("r{at}"));
    }
    let ninth = || store.approvals().ask(new("r8"), BOUNDS, &SystemIds, NOW).wait().unwrap();
    assert_eq!(ninth(), Asking::TooMany(Bound::Pending));
    decide(&store, decision(&first, Verdict::Deny)).unwrap();
    assert!(matches!(ninth(), Asking::New(_)), "what is over makes room");
}

#[test]
fn only_the_first_decision_counts_and_each_other_hears_why() {
    let (_folder, store) = fresh();
    let approval = asked(&store, "r");
    let altered = Decide { digest: "0".repeat(64), ..decision(&approval, Verdict::Approve) };
    assert!(matches!(decide(&store, altered), Err(Undecided::Altered { .. })));
    let foreign =
        Decide { session: OTHER.parse().unwrap(), ..decision(&approval, Verdict::Approve) };
    assert_eq!(decide(&store, foreign), Err(Undecided::Unknown));
    let unfit = decide(&store, decision(&approval, Verdict::Choose(3)));
    assert!(matches!(unfit, Err(Undecided::Unfit { why: Unfit::YesOrNo, .. })));
    assert_eq!(store.approvals().find(approval.id).wait().unwrap().unwrap(), approval);

    let done = decide(&store, decision(&approval, Verdict::Deny)).unwrap();
    assert_eq!((done.status, done.decided_by.as_deref()), (Status::Denied, Some("the operator")));
    let second = decide(&store, decision(&approval, Verdict::Approve)).unwrap_err();
    assert!(matches!(second, Undecided::Unfit { why: Unfit::Over, .. }));
    assert!(second.to_string().contains("denied by the operator"), "{second}");
    assert_eq!(store.approvals().find(approval.id).wait().unwrap().unwrap(), done);
    assert_eq!(causes(&store).len(), 2, "it was asked, and told once");
}

#[test]
fn a_hundred_decisions_at_once_have_one_effect() {
    let (folder, store) = fresh();
    let approval = asked(&store, "r");
    let barrier = Barrier::new(100);
    let results: Vec<_> = std::thread::scope(|scope| {
        let one = |number: usize| {
            let (barrier, approval, path) = (&barrier, &approval, folder.path().join("host.db"));
            move || {
                // Each by itself, as so many processes would.
                let store = Store::open(&path).unwrap();
                let verdict =
                    if number.is_multiple_of(2) { Verdict::Approve } else { Verdict::Deny };
                let by = format!("person {number}");
                barrier.wait();
                decide(&store, Decide { by, ..decision(approval, verdict) })
            }
        };
        let threads: Vec<_> = (0..100).map(|number| scope.spawn(one(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (done, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (1, 99));
    let winner = done.into_iter().next().unwrap().unwrap();
    for other in refused {
        let other = other.unwrap_err();
        let Undecided::Unfit { why: Unfit::Over, approval } = &other else { panic!("{other}") };
        assert_eq!(**approval, winner, "each hears what was decided, and by whom");
    }
    assert_eq!(store.approvals().find(approval.id).wait().unwrap().unwrap(), winner);
    let audits: i64 = store
        .raw()
        .query_row("SELECT count(*) FROM audit WHERE subject LIKE 'approval %'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!((audits, causes(&store).len()), (1, 2));
}

#[test]
fn whoever_asked_is_marked_with_the_decision_and_by_nothing_else() {
    let (_folder, store) = fresh();
    let approval = asked(&store, "r");
    let due =
        |session: SessionId| store.sessions().find(session).wait().unwrap().unwrap().next_due_at;
    let altered = Decide { digest: "0".repeat(64), ..decision(&approval, Verdict::Approve) };
    decide(&store, altered).unwrap_err();
    assert_eq!(due(session()), None, "nothing was decided");
    let order = Decide { said_in: Some(said_in("m")), ..decision(&approval, Verdict::Approve) };
    decide(&store, order.clone()).unwrap();
    assert_eq!(due(session()), Some(DUE_NOW));
    assert_eq!(due(OTHER.parse().unwrap()), None, "that one asked nothing");
    store.sessions().mark(session(), None).wait().unwrap();
    decide(&store, order).unwrap_err();
    assert_eq!(due(session()), None, "it was decided before");
}

#[test]
fn what_nobody_decides_in_time_is_a_no_and_stays_one() {
    let (_folder, store) = fresh();
    let approval = asked(&store, "r");
    let expire = |now| store.approvals().expire(session(), now).wait().unwrap();
    assert_eq!(expire(UnixMillis(4_999)), [], "its time has not come");
    let late = store.approvals().decide(decision(&approval, Verdict::Approve), DUE).wait().unwrap();
    assert!(matches!(late, Err(Undecided::Late { .. })), "it is late although nobody ended it yet");
    let ended = expire(DUE);
    assert_eq!(ended.iter().map(|it| it.status).collect::<Vec<_>>(), [Status::Expired]);
    assert_eq!(expire(DUE), [], "once");
    // The clock is set back: what is over stays over.
    let late = decide(&store, decision(&approval, Verdict::Approve));
    assert!(matches!(late, Err(Undecided::Unfit { why: Unfit::Over, .. })));
    assert_eq!(causes(&store).len(), 2);
}

#[test]
fn what_comes_of_a_decision_is_claimed_before_and_recorded_once() {
    let (_folder, store) = fresh();
    let approval = asked(&store, "r");
    let claim = || store.approvals().claim(approval.id, NOW).wait().unwrap();
    let told = || store.approvals().record_told(approval.id, NOW).wait().unwrap();
    assert!(!claim() && !told(), "nobody has decided");
    decide(&store, decision(&approval, Verdict::Approve)).unwrap();
    assert!(!told(), "it was not claimed");
    assert!(claim());
    assert!(claim(), "whoever claimed it may have died: it is carried out once more");
    assert!(told());
    assert!(!told() && !claim(), "once");
    assert_eq!(store.approvals().open(session()).wait().unwrap(), []);
}

fn there(store: &Store, hears: SessionId, message: &str, code: Option<&str>) -> There {
    let said = Said {
        session: hears,
        address: new("x").address,
        said_in: said_in(message),
        code: code.map(str::to_owned),
    };
    store.approvals().asked_at(said).wait().unwrap()
}

fn said_in(message: &str) -> SaidIn {
    SaidIn { message: MessageId::parse(message).unwrap(), digest: "d".to_owned() }
}

#[test]
fn so_much_is_asked_in_a_day_and_what_is_over_goes_with_its_notices() {
    const HOUR: i64 = 60 * 60 * 1000;
    let (_folder, store) = fresh();
    let bounds = Bounds { pending: 2, day: 3 };
    let ask = |request: &str, now: i64| {
        let (now, due_at) = (UnixMillis(now), UnixMillis(now + 10));
        let new = NewApproval { due_at, ..new(request) };
        match store.approvals().ask(new, bounds, &SystemIds, now).wait().unwrap() {
            Asking::New(approval) => Ok(approval.id),
            Asking::TooMany(bound) => Err(bound),
            Asking::Known(known) => panic!("{known:?}"),
        }
    };
    let finish = |now: i64| {
        for it in store.approvals().expire(session(), UnixMillis(now)).wait().unwrap() {
            assert!(store.approvals().claim(it.id, UnixMillis(now)).wait().unwrap());
            assert!(store.approvals().record_told(it.id, UnixMillis(now)).wait().unwrap());
        }
    };
    ask("r0", 0).unwrap();
    ask("r1", 1).unwrap();
    assert_eq!(ask("r2", 2), Err(Bound::Pending));
    finish(HOUR);
    ask("r2", HOUR).unwrap();
    finish(2 * HOUR);
    assert_eq!(ask("r3", 2 * HOUR), Err(Bound::Day), "nothing is pending, and much was asked");
    assert_eq!(ask("r3", 24 * HOUR - 1), Err(Bound::Day));
    let forget = |horizon: i64, now: i64| {
        let (horizon, now) = (UnixMillis(horizon), UnixMillis(now));
        store.approvals().forget(session(), horizon, now).wait().unwrap()
    };
    assert_eq!(forget(24 * HOUR, 24 * HOUR + 1), 0, "people have not heard of it yet");
    let delivered = Delivery { status: DeliveryStatus::Delivered, ..held() };
    for cause in causes(&store) {
        assert!(store.notices().record(session(), &cause, &delivered).wait().unwrap());
    }
    assert_eq!(forget(HOUR, 24 * HOUR + 1), 0, "it was told then, and not before");
    assert_eq!(forget(24 * HOUR, 24 * HOUR - 1), 0, "it counts for a day, however little is kept");
    assert_eq!(forget(24 * HOUR, 24 * HOUR + 1), 2);
    let left = store.notices().told(session()).wait().unwrap();
    assert_eq!(left.len(), 2, "those of the one that is there: {left:?}");
    let unclear = Notice::unclear(&said_in("m"), new("x").address, "which?".to_owned(), NOW);
    assert!(store.notices().add(session(), &unclear).wait().unwrap());
    assert_eq!(forget(HOUR, 25 * HOUR), 0);
    assert_eq!(store.notices().told(session()).wait().unwrap().len(), 3, "nobody has read it");
    assert!(store.notices().record(session(), &unclear.cause, &delivered).wait().unwrap());
    assert_eq!(forget(HOUR, 25 * HOUR), 0);
    assert_eq!(store.notices().told(session()).wait().unwrap().len(), 2);
    ask("r3", 24 * HOUR + 1).unwrap();
}

fn held() -> Delivery {
    Delivery {
        status: DeliveryStatus::Held,
        attempts: 0,
        next_attempt_at: None,
        changed_at: NOW,
        error: None,
        platform_message_id: None,
    }
}

#[test]
fn what_one_agent_asks_the_others_in_the_chat_know_of_while_it_listens_there() {
    let (_folder, store) = fresh();
    let other: SessionId = OTHER.parse().unwrap();
    let wire = |agent: &str, mode: &str| {
        let params = [CHAT, agent, mode];
        store.raw().execute("INSERT INTO wirings VALUES (?, ?, ?, 0, NULL)", params).unwrap();
    };
    // Another agent's, which hears the chat too.
    {
        let db = store.raw();
        let added = "INSERT INTO agent_groups VALUES (?, 'bob', 'bob', 0, NULL)";
        db.execute(added, [SECOND_AGENT]).unwrap();
        let moved = "UPDATE sessions SET agent_group_id = ?, thread_id = '' WHERE id = ?";
        db.execute(moved, [SECOND_AGENT, OTHER]).unwrap();
    }
    wire(SECOND_AGENT, "shared");
    let approval = asked(&store, "r");
    let own = there(&store, session(), "m", None);
    assert!(own.asked.len() == 1 && own.asked[0].hears, "its own");
    assert_eq!(there(&store, other, "m", None).asked.len(), 0, "its agent listens nowhere");
    wire(AGENT, "per-thread");
    let found = there(&store, other, "m", None);
    assert!(found.asked.len() == 1 && found.asked[0].hears, "it hears it itself");
    assert!(found.hear.contains(&other) && found.hear.contains(&session()));
    store.raw().execute("UPDATE sessions SET thread_id = 'u' WHERE id = ?", [SESSION]).unwrap();
    let found = there(&store, other, "m", None);
    assert!(found.asked.len() == 1 && !found.asked[0].hears, "it was asked in another's place");
    assert!(there(&store, session(), "m", None).asked[0].hears, "whoever hears it hears it");
    let order = Decide { said_in: Some(said_in("m")), ..decision(&approval, Verdict::Approve) };
    decide(&store, order).unwrap();
    let found = there(&store, other, "m", None);
    assert!(found.asked[0].was_decided_in(&said_in("m")) && !found.told);
    let again = Decide { said_in: Some(said_in("m")), ..decision(&approval, Verdict::Approve) };
    let again = decide(&store, again);
    assert!(matches!(again, Err(Undecided::Already { .. })), "whoever else heard it: {again:?}");
    let edited = SaidIn { digest: "e".to_owned(), ..said_in("m") };
    assert!(!found.asked[0].was_decided_in(&edited), "the same id with other words");
    let told = store.notices().told(session()).wait().unwrap();
    assert!(told.iter().any(|told| told.cause == format!("{TELLS}{}", approval.id)), "{told:?}");
}

#[test]
fn what_became_of_a_question_is_known_by_its_code_and_by_what_was_said_to_it() {
    let (_folder, store) = fresh();
    let asked = store.approvals().ask(new("r"), BOUNDS, &SystemIds, NOW).wait().unwrap();
    let Asking::New(approval) = asked else { panic!("{asked:?}") };
    let said_to = |message: &str| {
        let id = MessageId::parse(message).unwrap();
        store.approvals().said_to(&approval.address(), &approval.code, &id).wait().unwrap()
    };
    assert_eq!(said_to("m"), Asked::Open);
    let order = Decide { said_in: Some(said_in("m")), ..decision(&approval, Verdict::Approve) };
    decide(&store, order).unwrap();
    assert_eq!((said_to("m"), said_to("n")), (Asked::DecidedByIt, Asked::Over));
    let elsewhere = Address { platform_id: "elsewhere".to_owned(), ..approval.address() };
    let id = MessageId::parse("m").unwrap();
    let other = store.approvals().said_to(&elsewhere, &approval.code, &id).wait().unwrap();
    assert_eq!(other, Asked::Over, "it was not asked there");
}

#[test]
fn a_code_is_known_where_it_was_not_asked_while_it_is_pending() {
    let (_folder, store) = fresh();
    let mut elsewhere = new("r");
    elsewhere.address.platform_id = "bob".to_owned();
    let asked = store.approvals().ask(elsewhere, BOUNDS, &SystemIds, NOW).wait().unwrap();
    let Asking::New(approval) = asked else { panic!("{asked:?}") };
    let at = |code: &str| there(&store, session(), "m", Some(code)).elsewhere;
    assert_eq!(at(&approval.code).map(|it| it.id), Some(approval.id));
    assert_eq!(at("zzzz"), None);
    decide(&store, decision(&approval, Verdict::Deny)).unwrap();
    assert_eq!(at(&approval.code), None, "it says nothing any more");
}

#[test]
fn one_of_those_who_hear_a_message_says_that_it_is_no_answer() {
    let (_folder, store) = fresh();
    let other: SessionId = OTHER.parse().unwrap();
    let unclear =
        |address: Address| Notice::unclear(&said_in("m"), address, "which?".to_owned(), NOW);
    let address = new("x").address;
    let add = |session, others: &[SessionId], notice: &Notice| {
        store.notices().add_for_all(session, others.to_vec(), notice).wait().unwrap()
    };
    assert!(!there(&store, session(), "m", None).told);
    assert!(add(session(), &[other], &unclear(address.clone())));
    assert!(there(&store, session(), "m", None).told);
    assert!(!add(session(), &[other], &unclear(address.clone())), "once");
    assert!(!add(other, &[session()], &unclear(address.clone())), "by one of them");
    let elsewhere = Address { platform_id: "bob".to_owned(), ..address };
    assert!(add(session(), &[other], &unclear(elsewhere)), "the same id, said in another chat");
}

#[test]
fn a_name_means_what_is_pending_before_what_is_over() {
    let (_folder, store) = fresh();
    let (old, new) = (asked(&store, "r0"), asked(&store, "r1"));
    decide(&store, decision(&old, Verdict::Deny)).unwrap();
    let code = |id: ApprovalId, code: &str| {
        let params = params![code, id];
        store.raw().execute("UPDATE approvals SET code = ?1 WHERE id = ?2", params).unwrap();
    };
    code(old.id, &new.code);
    let named = |name: &str| -> Vec<ApprovalId> {
        let named = store.approvals().named(name).wait().unwrap();
        named.into_iter().map(|it| it.approval.id).collect()
    };
    assert_eq!(named(&new.code.to_uppercase()), [new.id, old.id]);
    assert_eq!(named(&old.id.to_string()), [old.id]);
    assert_eq!(named(&old.id.to_string()[24..]), [old.id]);
    for nothing in ["", "%", "zzzz", &old.id.to_string()[33..]] {
        assert_eq!(named(nothing), [], "{nothing:?}");
    }
}

#[test]
fn people_see_what_is_pending_and_what_has_reached_nobody() {
    let (_folder, store) = fresh();
    let (first, second) = (asked(&store, "r0"), asked(&store, "r1"));
    let delivered = Delivery { status: DeliveryStatus::Delivered, ..held() };
    let cause = format!("{ASKS}{}", first.id);
    assert!(store.notices().record(session(), &cause, &delivered).wait().unwrap());
    let pending = store.approvals().pending().wait().unwrap();
    assert_eq!(pending, Pending { pending: 2, unseen: 1 });
    decide(&store, decision(&second, Verdict::Approve)).unwrap();
    let listed = |all| store.approvals().list(all).wait().unwrap();
    assert_eq!((listed(false).len(), listed(true).len()), (1, 2));
    let shown = &listed(false)[0];
    assert_eq!((shown.agent.as_str(), shown.prompt.as_deref()), ("ada", Some("delivered")));
    let at = there(&store, session(), "m", None).asked;
    let ids: Vec<_> = at.iter().map(|it| it.approval.id).collect();
    assert_eq!(ids, [first.id, second.id], "what is pending comes first");
    assert_eq!(at.iter().map(AskedThere::was_sent).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn only_who_may_decides_and_the_audit_has_their_id() {
    let (_folder, store) = fresh();
    let approval = asked(&store, "r0");
    let by = |sender: &str, lax| Decide {
        by: "ann".to_owned(),
        speaker: Speaker::Person { channel: "m".to_owned(), sender: Some(sender.to_owned()), lax },
        ..decision(&approval, Verdict::Approve)
    };
    let refused = decide(&store, by("7", false)).unwrap_err();
    assert!(matches!(refused, Undecided::NotAllowed { .. }), "{refused}");
    assert!(refused.to_string().contains("only an admin of this agent or an owner"), "{refused}");
    let who = people::Who::Identity { channel: "m".to_owned(), sender: "8".to_owned() };
    let owner = people::Granting { role: twobox_model::people::Role::Owner, agent: None };
    store.people().grant(who, owner, &SystemIds, NOW).wait().unwrap();
    let lax = decide(&store, by("7", true)).unwrap_err();
    assert!(matches!(lax, Undecided::NotAllowed { .. }), "there is an owner: {lax}");
    assert_eq!(decide(&store, by("8", false)).unwrap().status, Status::Approved);
    let actor: String = store
        .raw()
        .query_row("SELECT actor FROM audit WHERE action = 'approved'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(actor, "ann (m:8)");
}
