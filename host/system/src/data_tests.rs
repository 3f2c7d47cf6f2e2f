use super::*;

#[test]
fn the_second_host_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::create(&dir.path().join("data")).unwrap();
    let lock = data.lock().unwrap();
    let refusal = data.lock().unwrap_err().to_string();
    assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
    drop(lock);
    data.lock().unwrap();
}

#[test]
fn a_look_names_the_holder_and_only_delays_a_host_that_starts() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::create(&dir.path().join("data")).unwrap();
    assert_eq!(data.holder().unwrap(), None, "nobody ever");
    let lock = data.lock().unwrap();
    let us = format!("process {}", std::process::id());
    assert!(data.holder().unwrap().is_some_and(|holder| holder.starts_with(&us)));
    drop(lock);
    assert_eq!(data.holder().unwrap(), None, "nobody any more");

    let file = File::open(data.lock_file()).unwrap();
    let look = Flock::lock(file, FlockArg::LockSharedNonblock).unwrap();
    data.lock().unwrap_err();
    let end = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(look);
    });
    data.lock_patiently().unwrap();
    end.join().unwrap();
}

#[test]
fn a_directory_without_a_database_names_the_command_that_makes_one() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = DataDir::open(dir.path()).unwrap_err().to_string();
    assert!(refusal.contains("init"), "{refusal}");
}
