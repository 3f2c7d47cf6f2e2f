use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn secret(text: &str) -> Secret {
    Secret::of(text.as_bytes().to_vec()).unwrap()
}

fn secrets(root: &Path, environment: &[(&str, &str)]) -> Secrets {
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Secrets::new(root.join("secrets"), &environment)
}

fn text(found: Result<Option<(Secret, Origin)>, SecretError>) -> Option<String> {
    found.unwrap().map(|(secret, _)| secret.text().to_owned())
}

#[test]
fn a_secret_that_was_set_is_this_users_alone_and_shows_itself_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let all = secrets(dir.path(), &[]);
    assert_eq!(text(all.find("router.key")), None);
    assert_eq!(all.list(&BTreeSet::new()).unwrap(), []);
    let path = all.set("router.key", &secret("sk-hidden\r\n")).unwrap();
    all.set("router.key", &secret("sk-hidden-2\n")).unwrap();
    assert_eq!(text(all.find("router.key")).as_deref(), Some("sk-hidden-2"));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&path), mode(&all.folder)), (0o600, 0o700));
    assert_eq!(std::fs::read_dir(&all.folder).unwrap().count(), 1, "nothing is left over");
    assert_eq!(all.exposed().unwrap(), []);
    let known = all.list(&BTreeSet::new()).unwrap();
    assert_eq!((known.len(), &known[0].origin), (1, &Origin::File(path)));
    assert!(known[0].written_at.is_some());
    let shown = format!("{all:?} {known:?} {:?}", all.find("router.key").unwrap());
    assert!(!shown.contains("hidden"), "{shown}");
    assert!(all.remove("router.key").unwrap());
    assert!(!all.remove("router.key").unwrap());
    assert_eq!(text(all.find("router.key")), None);
}

#[test]
fn the_service_managers_file_comes_before_the_environment_and_that_before_our_own_file() {
    let dir = tempfile::tempdir().unwrap();
    let given = dir.path().join("given");
    std::fs::create_dir(&given).unwrap();
    let environment = [
        ("CREDENTIALS_DIRECTORY", given.to_str().unwrap()),
        ("TWOBOX_SECRET_A_KEY", "of-environment"),
        ("TWOBOX_SECRET_OTHER", "x"),
        ("PATH", "/bin"),
    ];
    let all = secrets(dir.path(), &environment);
    all.set("a-key", &secret("of-file")).unwrap();
    assert_eq!(text(all.find("a-key")).as_deref(), Some("of-environment"));
    std::fs::write(given.join("a-key"), "of-manager\n").unwrap();
    let (found, origin) = all.find("a-key").unwrap().unwrap();
    assert_eq!(found.text(), "of-manager");
    assert_eq!(origin, Origin::Credentials(given.join("a-key")));
    assert_eq!(text(secrets(dir.path(), &[]).find("a-key")).as_deref(), Some("of-file"));
    let used = ["A_KEY".to_owned(), "missing".to_owned()].into_iter().collect();
    let known = all.list(&used).unwrap();
    let names: Vec<_> = known.iter().map(|it| (it.name.as_str(), it.origin.to_string())).collect();
    assert_eq!(names[0], ("A_KEY", "TWOBOX_SECRET_A_KEY".to_owned()));
    assert_eq!((names[1].0, names[2].0, names.len()), ("a-key", "other", 3), "{names:?}");
}

#[test]
fn what_is_no_secret_is_refused_without_a_word_of_it() {
    let long = "a".repeat(VALUE_MAX + 1);
    for (value, reason) in [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("sk-1\nsk-2", "has more than one line"),
        ("sk-\u{7}", "has more than one line"),
        ("schlüssel", "what no key has"),
        (long.as_str(), "is longer than 64 KiB"),
    ] {
        let error = Secret::of(value.as_bytes().to_vec()).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(Secret::of(vec![0xff]).unwrap_err(), "is no text");
    let dir = tempfile::tempdir().unwrap();
    let all = secrets(dir.path(), &[("TWOBOX_SECRET_BAD", "a\nhidden")]);
    let error = all.find("bad").unwrap_err().to_string();
    assert!(error.contains("TWOBOX_SECRET_BAD has more than one line"), "{error}");
    assert!(!error.contains("hidden"), "{error}");
    for name in ["", ".", "..", ".x", "a/b", "../x", "a b", "ä", &"a".repeat(65)] {
        let refused = [
            all.find(name).map(drop),
            all.set(name, &secret("x")).map(drop),
            all.remove(name).map(drop),
        ];
        for refused in refused {
            assert!(matches!(refused, Err(SecretError::Name { .. })), "{name:?}: {refused:?}");
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn no_link_is_followed_and_no_pipe_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let all = secrets(dir.path(), &[]);
    all.set("there", &secret("x")).unwrap();
    let outside = dir.path().join("outside");
    std::fs::write(&outside, "hidden").unwrap();
    symlink(&outside, all.folder.join("link")).unwrap();
    let error = all.find("link").unwrap_err().to_string();
    assert!(error.contains("is a link"), "{error}");
    let pipe = all.folder.join("pipe");
    rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .unwrap();
    assert!(all.find("pipe").unwrap_err().to_string().contains("is no file"));
    all.set("link", &secret("own")).unwrap();
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "hidden", "the link is replaced");
    std::fs::set_permissions(all.folder.join("link"), PermissionsExt::from_mode(0o640)).unwrap();
    let exposed = all.exposed().unwrap();
    assert_eq!(exposed.len(), 2, "{exposed:?}");
    assert!(exposed[0].1.contains("0640") && exposed[1].1.contains("no file"), "{exposed:?}");
    let elsewhere = dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("there"), "hidden").unwrap();
    std::fs::remove_dir_all(&all.folder).unwrap();
    symlink(&elsewhere, &all.folder).unwrap();
    all.find("there").unwrap_err();
    all.set("there", &secret("y")).unwrap_err();
    assert_eq!(std::fs::read_to_string(elsewhere.join("there")).unwrap(), "hidden");
}
