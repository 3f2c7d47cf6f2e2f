use proptest::prelude::*;

use super::*;

fn home() -> Place {
    Place {
        path: "/var/lib/twobox".into(),
        device: 0x801,
        folder: FileIdentity { inode: 12, born: Some(1_000) },
        database: FileIdentity { inode: 13, born: Some(2_000) },
        machine: Some("m".to_owned()),
    }
}

fn mark(inode: u64, born: impl Into<Option<i64>>) -> FileIdentity {
    FileIdentity { inode, born: born.into() }
}

#[test]
fn what_changes_by_itself_refuses_nothing_and_a_copy_is_always_told() {
    use Verdict::{Elsewhere, Same};
    let path = || PathBuf::from("/elsewhere");
    let other = || Some("other".to_owned());
    let cases = [
        ("nothing has changed", home(), Same),
        ("the machine was started anew", Place { device: 0x811, ..home() }, Same),
        ("it was renamed", Place { path: path(), ..home() }, Same),
        ("a machine without an id", Place { machine: None, ..home() }, Same),
        (
            "a file system that does not say when things were made",
            Place { folder: mark(12, None), database: mark(13, None), ..home() },
            Same,
        ),
        (
            "cp -a",
            Place { path: path(), folder: mark(40, 9_000), database: mark(41, 9_001), ..home() },
            Elsewhere(Why::Folder),
        ),
        (
            "rsync to another machine, where all numbers happen to be the same",
            Place { machine: other(), ..home() },
            Elsewhere(Why::Machine),
        ),
        (
            "restored in place: rm -rf and tar",
            Place { folder: mark(12, 9_000), database: mark(13, 9_001), ..home() },
            Elsewhere(Why::Folder),
        ),
        (
            "restored into the directory that was there",
            Place { database: mark(99, 9_001), ..home() },
            Elsewhere(Why::Database),
        ),
        (
            "the root of another disk at the same place: its number is always the same",
            Place { device: 0x811, folder: mark(12, 9_000), database: mark(13, 9_000), ..home() },
            Elsewhere(Why::Folder),
        ),
        (
            "a snapshot of the disk, mounted beside it",
            Place { path: path(), device: 0xfd03, ..home() },
            Elsewhere(Why::Disk),
        ),
    ];
    for (case, seen, expected) in cases {
        assert_eq!(judge(&home(), &seen), expected, "{case}");
    }
}

proptest! {
    #[test]
    fn renumbered_devices_never_refuse_a_start_and_another_folder_always_does(
        device in any::<u64>(),
        inode in any::<u64>(),
        known in any::<bool>(),
    ) {
        let remembered = Place { machine: known.then(|| "m".to_owned()), ..home() };
        let rebooted = Place { device, ..home() };
        prop_assert_eq!(judge(&remembered, &rebooted), Verdict::Same);
        prop_assume!(inode != home().folder.inode);
        let copied = Place { device, folder: mark(inode, None), ..home() };
        prop_assert!(judge(&remembered, &copied) != Verdict::Same);
    }
}
