use serde_json::json;

use super::tests::{ask, daily, live, now};
use super::*;

/// A request for `action` with what it needs, and whatever `change` does to it.
fn wellformed(action: &Action, change: impl FnOnce(&mut Map<String, Value>)) -> Response {
    let mut request = Map::from_iter([(action::ACTION.to_owned(), json!(action.name))]);
    for field in action.fields.iter().filter(|field| field.need == Need::Always) {
        request.insert(field.name.to_owned(), json!("task-a"));
    }
    change(&mut request);
    ask(&[live(daily())], Value::Object(request))
}

#[test]
fn every_action_refuses_what_it_does_not_list() {
    let refusal = |response: Response| response.refusal.unwrap_or_default();
    for action in &ACTIONS {
        let name = action.name;
        let unknown = refusal(wellformed(action, |it| drop(it.insert("filler".into(), json!(1)))));
        let expected = format!("unknown field `filler`: {name} takes {}", action.takes());
        assert_eq!(unknown, expected);
        let wake = refusal(wellformed(action, |it| drop(it.insert("wake".into(), Value::Null))));
        assert_eq!(wake, "`wake` is true or false", "{name}");
        for field in action.fields {
            let field_name = field.name;
            let with = |value: Option<Value>| {
                refusal(wellformed(action, |it| match value {
                    Some(value) => drop(it.insert(field_name.into(), value)),
                    None => drop(it.remove(field_name)),
                }))
            };
            let what = format!("{name}, {field_name}");
            assert_eq!(with(Some(json!(5))), format!("`{field_name}` is not a string"), "{what}");
            let missing = format!("`{field_name}` is missing");
            let needed = field.need == Need::Always;
            assert_eq!(with(None) == missing, needed, "{what}");
            assert_eq!(with(Some(Value::Null)) == missing, needed, "{what}");
            if let Some(most) = field.most {
                let long = with(Some(json!("x".repeat(most.most + 1))));
                let length = most.most + 1;
                assert!(
                    long.starts_with(&format!("`{field_name}` has {length}")),
                    "{what}: {long}"
                );
                let just = with(Some(json!(format!(" {} ", "x".repeat(most.most)))));
                assert!(!just.starts_with(&format!("`{field_name}` has")), "{what}: {just}");
            }
        }
    }
    let unknown = ask(&[], json!({"action": "rule_the_world"})).refusal.unwrap();
    assert!(ACTIONS.iter().all(|action| unknown.contains(action.name)), "{unknown}");
}

#[test]
fn the_protocol_says_what_every_action_takes_and_does() {
    let page = include_str!("../../../../schema/PROTOCOL.md");
    let rows: Vec<String> = ACTIONS
        .iter()
        .map(|it| match it.fields {
            [] => format!("| `{}` | | {} |", it.name, it.does),
            _ => format!("| `{}` | {} | {} |", it.name, it.takes(), it.does),
        })
        .collect();
    let table = format!("\n| `action` | fields | does |\n|---|---|---|\n{}\n\n", rows.join("\n"));
    assert!(page.contains(&table), "schema/PROTOCOL.md, §9.1, needs this table:\n{table}");
}

#[test]
fn an_operator_who_forbids_it_stops_what_would_put_more_off_and_nothing_else() {
    let origin = Origin::default();
    let tasks = [live(daily())];
    let view = RequestView {
        now: now(),
        min_interval: Duration::from_secs(60),
        may_make: false,
        series: "task-new",
        origin: &origin,
        refusal: None,
        tasks: &tasks,
        asked: None,
        at_work: &|_| false,
    };
    let id = MessageId::parse("r1").unwrap();
    let refused: Vec<&str> = ACTIONS
        .iter()
        .filter(|action| {
            let request = json!({ "action": action.name }).to_string();
            let refusal = respond(&view, &id, &request).refusal.unwrap_or_default();
            refusal.contains("schedule.agent_tasks")
        })
        .map(|action| action.name)
        .collect();
    assert_eq!(refused, ["schedule_task", "update_task", "resume_task"]);
}
