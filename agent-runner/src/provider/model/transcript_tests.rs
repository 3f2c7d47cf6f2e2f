use twobox_shared::ids::SystemIds;

use super::*;
use crate::provider::model::conversation::{Block, Input, Part, ToolResult};

fn said(text: &str) -> Item {
    Item::User { parts: vec![Part::text(text)] }
}

fn answer(text: &str) -> Item {
    Item::Assistant { blocks: vec![Block::Text { text: text.to_owned() }] }
}

fn call(name: &str) -> ToolCall {
    ToolCall { id: name.to_owned(), name: name.to_owned(), input: Input::Unreadable(String::new()) }
}

const USAGE: Usage = Usage { input: 5, cache_read: 6, cache_write: 0, output: 7 };

/// One committed turn; its transcript and its continuation.
fn one_turn(folder: &Path) -> (Transcript, Continuation) {
    let mut transcript = Transcript::begin(folder, &SystemIds).unwrap();
    transcript.turn(vec!["m1".to_owned()], 0, &[]).unwrap();
    transcript.add(said("a")).unwrap();
    transcript.answered(answer("b"), "x/y".to_owned(), USAGE).unwrap();
    let continuation = Continuation::parse(&transcript.commit().unwrap()).unwrap();
    (transcript, continuation)
}

#[test]
fn what_was_committed_is_read_again_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (mut transcript, continuation) = one_turn(dir.path());
    assert!(transcript.is_at(continuation));
    transcript.add(said("not committed")).unwrap();
    assert!(!transcript.is_at(continuation), "it has more");
    let mut again = Transcript::resume(dir.path(), continuation).unwrap();
    assert_eq!(again.items(), [said("a"), answer("b")]);
    assert_eq!(again.known(), Known::after(USAGE, 2));
    assert!(!transcript.is_at(continuation), "somebody else has cut it");
    again.add(said("c")).unwrap();
    let next = Continuation::parse(&again.commit().unwrap()).unwrap();
    assert_eq!(Transcript::resume(dir.path(), next).unwrap().items().len(), 3);
}

#[test]
fn a_compaction_is_read_as_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let (mut transcript, _) = one_turn(dir.path());
    transcript.add(said("c")).unwrap();
    transcript.compact(Compaction { summary: Some("s".to_owned()), keeps: 1 }).unwrap();
    let continuation = Continuation::parse(&transcript.commit().unwrap()).unwrap();
    let again = Transcript::resume(dir.path(), continuation).unwrap();
    assert_eq!((again.items().len(), again.items()), (2, transcript.items()));
    assert_eq!(again.known(), None, "nobody knows how long it is now");
}

#[test]
fn what_is_not_what_was_committed_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let (_, continuation) = one_turn(dir.path());
    let file = path(dir.path(), continuation.id);
    let whole = fs::read(&file).unwrap();
    let refused = || match Transcript::resume(dir.path(), continuation) {
        Err(Unusable::Broken(why)) => why,
        other => panic!("{other:?}"),
    };
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    assert!(refused().contains("were committed"));
    fs::write(&file, "x".repeat(whole.len())).unwrap();
    assert!(refused().contains("line 1: it has no end"));
    fs::write(&file, format!("{}\n", "x".repeat(whole.len() - 1))).unwrap();
    assert!(refused().contains("line 1"));
    fs::remove_file(&file).unwrap();
    assert!(refused().contains("it is not there"));
    std::os::unix::fs::symlink(&file, &file).unwrap();
    assert!(refused().contains("symbolic links"));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(refused().contains("directory"));
}

#[test]
fn a_file_that_is_removed_meanwhile_is_written_anew() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join(".twobox");
    let replaced = |folder: &Path| {
        for file in listed(folder).unwrap() {
            fs::remove_file(&file).unwrap();
            fs::write(file, "of somebody else\n".repeat(99)).unwrap();
        }
    };
    let removed = |folder: &Path| fs::remove_dir_all(folder).unwrap();
    for lose in [&removed as &dyn Fn(&Path), &replaced] {
        fs::create_dir_all(&folder).unwrap();
        let (mut transcript, continuation) = one_turn(&folder);
        lose(&folder);
        assert!(transcript.is_at(continuation), "it has it in memory");
        transcript.add(said("c")).unwrap();
        let next = Continuation::parse(&transcript.commit().unwrap()).unwrap();
        assert!(transcript.is_at(next));
        let again = Transcript::resume(&folder, next).unwrap();
        assert_eq!(again.items(), [said("a"), answer("b"), said("c")]);
    }
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut transcript, continuation) = one_turn(dir.path());
    let deep = (0..125).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
    let serde_json::Value::Object(fields) = serde_json::json!({ "a": deep }) else { panic!() };
    let blocks = vec![Block::Call(ToolCall { input: Input::Fields(fields), ..call("bash") })];
    let length = usize::try_from(LINE_MAX).unwrap();
    for item in [Item::Assistant { blocks }, said(&"x".repeat(length))] {
        assert!(transcript.add(item).is_err());
    }
    assert!(transcript.is_at(continuation));
}

#[test]
fn a_continuation_of_anybody_else_is_none() {
    let id = Uuid::nil();
    assert_eq!(
        Continuation::parse(&format!("model:1:{id}:7")),
        Some(Continuation { id, length: 7 })
    );
    for other in ["", "7", "model:2:x:7", "model:1:x:7", &format!("model:1:{id}:-1")] {
        assert_eq!(Continuation::parse(other), None, "{other}");
    }
}

#[test]
fn what_earlier_attempts_did_is_known_however_many_there_were() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(earlier(&dir.path().join("none"), "m2"), [""; 0]);
    let (mut transcript, continuation) = one_turn(dir.path());
    transcript.turn(vec!["m2".to_owned()], 0, &[]).unwrap();
    let fields = serde_json::json!({"command": "git push\n"});
    let push = ToolCall { input: serde_json::from_value(fields).unwrap(), ..call("bash") };
    transcript.begun(&[push, call("skill")]).unwrap();
    let result = |failed| ToolResult { call: String::new(), parts: Vec::new(), failed };
    transcript.add(Item::Results { results: vec![result(false), result(true)] }).unwrap();
    let mut known = vec![r#"bash {"command":"git push\n"}: done"#, "skill: failed"];
    assert_eq!(earlier(dir.path(), "m2"), known);
    transcript.begun(&[call("grep")]).unwrap();
    transcript.file.write_all(b"{\"item").unwrap();
    known.push("grep: outcome unknown");
    assert_eq!(earlier(dir.path(), "m2"), known);
    assert_eq!(earlier(dir.path(), "m1"), [""; 0], "another message");
    // The second attempt cuts off what the first one wrote, and fails too.
    let told = earlier(dir.path(), "m2");
    let mut again = Transcript::resume(dir.path(), continuation).unwrap();
    again.turn(vec!["m2".to_owned()], 1, &told).unwrap();
    again.begun(&[call("glob")]).unwrap();
    known.push("glob: outcome unknown");
    assert_eq!(earlier(dir.path(), "m2"), known);
}

#[test]
fn of_many_transcripts_the_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let made = (0..FILES_MAX + 2).map(|_| path(dir.path(), one_turn(dir.path()).1.id));
    let made: Vec<_> = made.collect();
    assert_eq!(listed(dir.path()).unwrap(), made[2..]);
}
