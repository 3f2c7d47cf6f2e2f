use super::*;

#[test]
fn a_machine_has_an_id_only_if_its_file_holds_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("machine-id");
    let id = "0123456789abcdef0123456789ABCDEF";
    for (text, is_one) in [(id, true), ("", false), ("uninitialized\n", false), ("1234", false)] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(machine(&path).is_some(), is_one, "{text:?}");
    }
    std::fs::write(&path, format!("{}\n", id.to_lowercase())).unwrap();
    let digest = machine(&path).unwrap();
    assert!(!id.to_lowercase().contains(&digest), "the id itself is not kept");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(machine(&path), None);
}

#[test]
fn a_directory_is_itself_when_it_was_renamed_and_not_when_it_was_copied() {
    let dir = tempfile::tempdir().unwrap();
    let [first, renamed, copied] = ["a", "b", "c"].map(|name| dir.path().join(name));
    let data = DataDir::create(&first).unwrap();
    let store = Store::create(&data.host_db()).unwrap();
    confirm(&store, &data).unwrap(); // nobody has said yet where it is
    settle(&store, &data, UnixMillis(1)).unwrap();
    confirm(&store, &data).unwrap();
    drop(store);

    std::fs::rename(&first, &renamed).unwrap();
    let data = DataDir::open(&renamed).unwrap();
    let store = Store::create(&data.host_db()).unwrap();
    settle(&store, &data, UnixMillis(2)).unwrap();
    assert_eq!(store.installation().place().wait().unwrap().unwrap().path, data.root());
    drop(store);

    let copy = std::process::Command::new("cp").arg("-a").args([&renamed, &copied]).status();
    assert!(copy.unwrap().success());
    let data = DataDir::open(&copied).unwrap();
    let store = Store::create(&data.host_db()).unwrap();
    let refusal = settle(&store, &data, UnixMillis(3)).unwrap_err().to_string();
    for word in ["init --moved", "init --copy", copied.to_str().unwrap()] {
        assert!(refusal.contains(word), "{word}: {refusal}");
    }
}
