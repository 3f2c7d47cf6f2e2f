use super::*;
use crate::service::{WrittenCadence, WrittenChat};
use twobox_model::channel::TERMINAL;
use twobox_shared::ids::{SessionId, SystemIds};
use twobox_store::Store;
use twobox_store::messaging::{NewWiring, SessionMode};

/// 2026-11-01T00:00:00Z
const NOW: UnixMillis = UnixMillis(1_793_491_200_000);
const MINUTE: Duration = Duration::from_secs(60);

struct World {
    _dir: tempfile::TempDir,
    store: Store,
    ann: AgentGroupId,
    /// A session of ann, and one of bob.
    sessions: [SessionId; 2],
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("host.db")).unwrap();
    let add = |name| {
        let agent =
            store.agents().add(name, SessionMode::Shared, &SystemIds, NOW).wait().unwrap().id;
        let chat =
            store.wirings().listening(TERMINAL, name).wait().unwrap().remove(0).messaging_group;
        (
            agent,
            store
                .sessions()
                .resolve(agent, chat, "", SessionId::generate(&SystemIds), NOW)
                .wait()
                .unwrap(),
        )
    };
    let (ann, of_ann) = add("ann");
    let (_, of_bob) = add("bob");
    World { _dir: dir, store, ann, sessions: [of_ann, of_bob] }
}

fn cadence(kind: &str, value: &str) -> Option<WrittenCadence> {
    Some(WrittenCadence { kind: kind.to_owned(), value: value.to_owned() })
}

fn set(text: &str) -> Change<String> {
    Change::Set(text.to_owned())
}

fn draft() -> Draft {
    Draft {
        name: Some("report".to_owned()),
        prompt: Some("Report.".to_owned()),
        cadence: cadence("daily", "23:30"),
        ..Draft::default()
    }
}

fn checked(world: &World, draft: &Draft) -> Result<Checked, Mistake> {
    match new(&world.store, world.ann, draft, MINUTE, NOW) {
        Ok(checked) => Ok(checked),
        Err(ServiceError::Mistake(mistake)) => Err(mistake),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_is_not_said_has_its_default_and_what_is_said_is_kept_in_its_unit() {
    let world = world();
    let definition = checked(&world, &draft()).unwrap().definition;
    let expected = Definition {
        name: "report".to_owned(),
        prompt: "Report.".to_owned(),
        cadence_kind: "daily".to_owned(),
        cadence_value: "23:30".to_owned(),
        missed: missed::Policy::Latest,
        missed_window_ms: 86_400_000,
        overlap: overlap::Policy::Skip,
        ..blank(NOW)
    };
    assert_eq!(definition, expected);
    let full = Draft {
        cadence: cadence("weekly", " sun@9:05"),
        time_zone: set("europe/berlin"),
        session: set(&world.sessions[0].to_string()),
        max_turns: Change::Set(7),
        max_run_sec: Change::Set(90),
        missed: set("all"),
        missed_window_sec: Change::Set(60),
        overlap: set("queue"),
        jitter_sec: Change::Set(30),
        not_before: set("2026-11-02T00:00:00+01:00"),
        not_after: set("2027-11-02T00:00:00+01:00"),
        max_runs: Change::Set(3),
        ..draft()
    };
    let definition = checked(&world, &full).unwrap().definition;
    let expected = Definition {
        cadence_kind: "weekly".to_owned(),
        cadence_value: "sunday@09:05".to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
        session: Some(world.sessions[0]),
        max_turns: Some(7),
        max_run_ms: Some(90_000),
        missed: missed::Policy::All,
        missed_window_ms: 60_000,
        overlap: overlap::Policy::Queue,
        jitter_ms: 30_000,
        not_before: Some(UnixMillis(1_793_574_000_000)),
        not_after: Some(UnixMillis(1_825_110_000_000)),
        max_runs: Some(3),
        ..expected
    };
    assert_eq!(definition, expected);
}

#[test]
fn each_mistake_names_its_field_and_says_what_is_allowed() {
    let world = world();
    let long_name = "x".repeat(65);
    let long_prompt = "x".repeat(PROMPT_MAX + 1);
    let other = world.sessions[1].to_string();
    let name = |name: &str| Draft { name: Some(name.to_owned()), ..draft() };
    let prompt = |prompt: &str| Draft { prompt: Some(prompt.to_owned()), ..draft() };
    let fires = |kind, value| Draft { cadence: cadence(kind, value), ..draft() };
    let cases = [
        (Draft { name: None, ..draft() }, "name", "say what to call"),
        (name(""), "name", "is empty"),
        (name(&long_name), "name", "is too long"),
        (name("a b"), "name", "other characters"),
        (name("-a"), "name", "beginning with a letter"),
        (name("01890000-0000-7000-8000-00000000aaaa"), "name", "looks like an id"),
        (Draft { prompt: None, ..draft() }, "prompt", "say what the agent"),
        (prompt(" \n"), "prompt", "is empty"),
        (prompt(&long_prompt), "prompt", "is 65537 bytes long"),
        (prompt("a\0b"), "prompt", "NUL"),
        (Draft { cadence: None, ..draft() }, "cadence", "say how often"),
        (fires("monthly", "1"), "cadence", "use one of cron, daily, weekdays"),
        (fires("daily", "24:00"), "cadence", "write HH:MM"),
        (fires("cron", "0 0 30 2 *"), "cadence", "it never fires"),
        (fires("cron", "61 * * * *"), "cadence", "minute"),
        (fires("every", "59s"), "cadence", "at least 1m are required"),
        (fires("once", "2026-10-31T00:00:00Z"), "cadence", "has no slot after 2026-11-01T00:00"),
        (fires("once", "2026-12-01"), "cadence", "with its offset"),
        (Draft { time_zone: set("Berlin"), ..draft() }, "time_zone", "is it Europe/Berlin?"),
        (Draft { session: set("ffff"), ..draft() }, "session", "twobox sessions list"),
        (Draft { session: set(""), ..draft() }, "session", "there is no session"),
        (Draft { session: set(&other), ..draft() }, "session", "belongs to the agent \"bob\""),
        (Draft { max_turns: Change::Set(0), ..draft() }, "max_turns", "use 1 to 1000000"),
        (Draft { max_run_sec: Change::Set(-1), ..draft() }, "max_run_sec", "use 1 to 604800"),
        (Draft { missed: set("none"), ..draft() }, "missed", "use one of skip, latest, all"),
        (
            Draft { missed_window_sec: Change::Set(-1), ..draft() },
            "missed_window_sec",
            "use 0 to 31622400",
        ),
        (
            Draft { overlap: set("never"), ..draft() },
            "overlap",
            "use one of skip, queue, replace, allow",
        ),
        (Draft { jitter_sec: Change::Set(86_401), ..draft() }, "jitter_sec", "use 0 to 86400"),
        (
            Draft { jitter_sec: Change::Set(3600), ..fires("hourly", "5") },
            "jitter_sec",
            "1h is not less than the 1h",
        ),
        (Draft { not_before: set("tomorrow"), ..draft() }, "not_before", "write it like"),
        (
            Draft {
                not_before: set("2027-01-01T00:00:00Z"),
                not_after: set("2027-01-01T00:00:00Z"),
                ..draft()
            },
            "not_after",
            "is not before the last one",
        ),
        (
            Draft { not_after: set("2026-11-01T23:29:59Z"), ..draft() },
            "not_after",
            "within not_before and not_after",
        ),
        (
            Draft {
                not_before: set("2027-01-01T00:00:00Z"),
                ..fires("once", "2026-12-01T00:00:00Z")
            },
            "not_before",
            "it would never fire",
        ),
        (
            Draft {
                not_after: set("2027-01-01T00:00:00Z"),
                ..fires("once", "2026-10-31T00:00:00Z")
            },
            "cadence",
            "has no slot after 2026-11-01T00:00",
        ),
        (Draft { max_runs: Change::Set(0), ..draft() }, "max_runs", "use 1 to"),
    ];
    for (draft, field, problem) in cases {
        let Err(mistake) = checked(&world, &draft) else { panic!("accepted {draft:?}") };
        assert_eq!(mistake.field, field, "{mistake}");
        assert!(mistake.problem.contains(problem), "{mistake}");
        assert!(mistake.to_string().len() < 400, "{mistake}");
    }
}

#[test]
fn what_an_edit_does_not_touch_is_not_held_against_it() {
    let world = world();
    let old = Definition {
        cadence_kind: "every".to_owned(),
        cadence_value: "1s".to_owned(),
        anchor: UnixMillis(0),
        not_after: Some(NOW),
        ..checked(&world, &draft()).unwrap().definition
    };
    let edit = |draft: &Draft| {
        edited(&world.store, world.ann, draft, (&old, 5), MINUTE, NOW)
            .map(|checked| (checked.definition, checked.has_new_slots))
            .map_err(|error| error.to_string())
    };
    let prompt = Draft { prompt: Some("Other.".to_owned()), ..Draft::default() };
    let expected = Definition { prompt: "Other.".to_owned(), ..old.clone() };
    assert_eq!(edit(&prompt), Ok((expected, false)), "it is over, and too often by now");
    let same = Draft { cadence: cadence("every", "1s"), ..Draft::default() };
    assert!(edit(&same).unwrap_err().contains("too often"));
    let open = Draft { not_after: Change::Reset, cadence: cadence("every", "2m"), ..same };
    let (definition, has_new_slots) = edit(&open).unwrap();
    assert_eq!((definition.anchor, definition.not_after, has_new_slots), (NOW, None, true));
    let cadence_only = Draft { cadence: cadence("every", "2m"), ..Draft::default() };
    assert!(edit(&cadence_only).unwrap_err().starts_with("cadence: "), "its bound is an old one");
    assert!(edit(&Draft::default()).unwrap_err().contains("say what to change"));
    let fewer = Draft { max_runs: Change::Set(5), ..Draft::default() };
    assert!(edit(&fewer).unwrap_err().contains("fired 5 times already"));
    let reset = Draft {
        time_zone: Change::Reset,
        max_turns: Change::Reset,
        missed: Change::Reset,
        missed_window_sec: Change::Reset,
        jitter_sec: Change::Reset,
        ..Draft::default()
    };
    assert_eq!(edit(&reset), Ok((old.clone(), false)), "the defaults are what it had");
}

#[test]
fn in_json_null_resets_and_what_is_unknown_is_refused() {
    let read = |text| serde_json::from_str::<Draft>(text);
    let draft =
        read(r#"{"cadence": {"kind": "every", "value": "1h"}, "max_turns": null}"#).unwrap();
    let expected =
        Draft { cadence: cadence("every", "1h"), max_turns: Change::Reset, ..Draft::default() };
    assert_eq!(draft, expected);
    assert_eq!(read(r#"{"max_turns": 3}"#).unwrap().max_turns, Change::Set(3));
    for field in ["name", "agent", "prompt", "cadence"] {
        let bad = format!("{{\"{field}\": null}}");
        assert!(
            serde_json::from_str::<Draft>(&bad).unwrap_err().to_string().contains("null"),
            "{bad}"
        );
    }
    for bad in [r#"{"timezone": "UTC"}"#, r#"{"max_turns": "3"}"#, r#"{"cadence": "daily"}"#] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

fn to(chat: &str, channel: Option<&str>) -> Draft {
    let channel = channel.map(str::to_owned);
    let chat = WrittenChat { chat: chat.to_owned(), channel, thread: None };
    Draft { to: Change::Set(chat), ..draft() }
}

#[test]
fn a_chat_is_found_by_its_name_and_by_its_id_and_a_mistake_says_what_helps() {
    let world = world();
    let wire = |agent: &str, channel_type: &str, platform_id: &str, name: Option<&str>| {
        let agent = world.store.agents().find(agent).wait().unwrap();
        let new = NewWiring {
            channel_type: channel_type.to_owned(),
            platform_id: platform_id.to_owned(),
            name: name.map(str::to_owned),
            mode: SessionMode::Shared,
            engage: None,
        };
        world.store.wirings().wire(&agent, new, &[], &SystemIds, NOW).wait().unwrap();
    };
    wire("ann", "command", "42", Some("family"));
    wire("ann", "command", "ann", Some("other"));
    wire("bob", "command", "43", Some("work"));
    let found = |draft: &Draft| {
        let to = checked(&world, draft).unwrap().definition.to;
        (to.channel_type.unwrap(), to.platform_id.unwrap())
    };
    let place = |channel: &str, chat: &str| (channel.to_owned(), chat.to_owned());
    assert_eq!(found(&to("family", None)), place("command", "42"));
    assert_eq!(found(&to("42", None)), place("command", "42"));
    assert_eq!(found(&to("terminal", None)), place("terminal", "ann"));
    assert_eq!(found(&to("ann", Some("command"))), place("command", "ann"));
    let cases = [
        (
            to("ann", None),
            "several channels: say what the agent calls the one that you mean: terminal, other",
        ),
        (to("43", None), "ann does not listen to command \"43\", as bob does"),
        (to("work", None), "`twobox wire add ann command 43` lets it"),
        (to("42", Some("terminal")), "ann knows no chat \"42\""),
        (to("44", None), "`twobox wire add ann command CHAT` has it listen"),
        (to("", None), "chat \"\" is empty"),
        (
            Draft { session: set(&world.sessions[0].to_string()), ..to("42", None) },
            "goes into that conversation",
        ),
    ];
    for (draft, part) in cases {
        let mistake = checked(&world, &draft).err().unwrap();
        assert_eq!(mistake.field, "to", "{mistake}");
        assert!(mistake.problem.contains(part), "{}", mistake.problem);
    }
    let old = checked(&world, &to("42", None)).unwrap().definition;
    let edit = |draft: Draft| edited(&world.store, world.ann, &draft, (&old, 0), MINUTE, NOW);
    let kept = edit(Draft { max_turns: Change::Set(3), ..Draft::default() }).unwrap().definition;
    assert_eq!(kept.to, old.to, "what is not said stays");
    let cleared = edit(Draft { to: Change::Reset, ..Draft::default() }).unwrap().definition;
    assert_eq!(cleared.to, Origin::default());
    let session = set(&world.sessions[0].to_string());
    match edit(Draft { session, ..Draft::default() }) {
        Err(ServiceError::Mistake(mistake)) => assert_eq!(mistake.field, "session"),
        _ => panic!("a run in a conversation answers there"),
    }
}
