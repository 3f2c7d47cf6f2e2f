use std::path::Path;
use std::sync::Barrier;

use rusqlite::params;
use tempfile::TempDir;
use twobox_shared::ids::SystemIds;
use twobox_shared::inbox::{Delivery, DeliveryStatus};

use super::*;
use crate::Store;

const SESSION: &str = "01a2297c-98df-74b6-bbfb-f9077b2f25c4";
const OTHER: &str = "01a2297c-98df-74b6-bbfb-f9077b2f25c5";
const NOW: UnixMillis = UnixMillis(1_000);
const DUE: UnixMillis = UnixMillis(5_000);

fn session() -> SessionId {
    SESSION.parse().unwrap()
}

fn made(folder: &Path) -> Store {
    let store = Store::create(&folder.join("host.db")).unwrap();
    {
        let db = store.raw();
        db.execute("INSERT INTO agent_groups VALUES ('g', 'ada', 'ada', 0, NULL)", []).unwrap();
        db.execute("INSERT INTO messaging_groups VALUES ('m', 'terminal', 'ada', 'ada', 0)", [])
            .unwrap();
        for (session, thread) in [(SESSION, ""), (OTHER, "t")] {
            db.execute(
                "INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id,
                   created_at_ms, last_active_at_ms) VALUES (?, 'g', 'm', ?, 0, 0)",
                params![session, thread],
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
    match store.approvals().ask(new(request), 8, &SystemIds, NOW).wait().unwrap() {
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
    let again = store.approvals().ask(new("r0"), 8, &SystemIds, UnixMillis(4_000)).wait().unwrap();
    assert_eq!(again, Asking::Known(first.clone()), "the same row is the same question");
    let notice = &store.notices().open(session(), Seq(9)).wait().unwrap()[0];
    assert_eq!(asked_by(&notice.cause), Some(first.id));
    assert_eq!(notice.behind, Some(Seq(7)));
    assert!(notice.text.contains(&first.code) && notice.text.contains("rm -rf build"));
    for at in 1..8 {
        asked(&store, &format!("r{at}"));
    }
    let ninth = || store.approvals().ask(new("r8"), 8, &SystemIds, NOW).wait().unwrap();
    assert_eq!(ninth(), Asking::TooMany);
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
    assert_eq!(store.approvals().forget(session(), NOW).wait().unwrap(), 0);
    assert_eq!(store.approvals().forget(session(), UnixMillis(1_001)).wait().unwrap(), 1);
}

#[test]
fn people_see_what_is_pending_and_what_has_reached_nobody() {
    let (_folder, store) = fresh();
    let (first, second) = (asked(&store, "r0"), asked(&store, "r1"));
    let delivered = Delivery {
        status: DeliveryStatus::Delivered,
        attempts: 0,
        next_attempt_at: None,
        changed_at: NOW,
        error: None,
        platform_message_id: None,
    };
    let cause = format!("{ASKS}{}", first.id);
    assert!(store.notices().record(session(), &cause, &delivered).wait().unwrap());
    let pending = store.approvals().pending().wait().unwrap();
    assert_eq!(pending, Pending { pending: 2, unseen: 1 });
    decide(&store, decision(&second, Verdict::Approve)).unwrap();
    let listed = |all| store.approvals().list(all).wait().unwrap();
    assert_eq!((listed(false).len(), listed(true).len()), (1, 2));
    let shown = &listed(false)[0];
    assert_eq!((shown.agent.as_str(), shown.prompt.as_deref()), ("ada", Some("delivered")));
    let at = store.approvals().asked_at(session(), new("x").address).wait().unwrap();
    let ids: Vec<_> = at.iter().map(|it| it.approval.id).collect();
    assert_eq!(ids, [first.id, second.id], "what is pending comes first");
    assert_eq!(at.iter().map(AskedThere::was_sent).collect::<Vec<_>>(), [true, false]);
}
