//! Examining one session of a data directory, beside a host or without one.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use twobox_shared::clock::Clock;
use twobox_shared::ids::{AgentGroupId, SessionId};

use super::evidence::{self, Place};
use super::finding::{Finding, Name};
use twobox_store::{DbError, Store};
use twobox_system::data::DataDir;

/// While a host works the two boxes are read at slightly different times. What is wrong stays
/// wrong: a finding counts when each of so many looks shows it.
const LOOKS: u32 = 3;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// How many findings of one name are told for one session.
const SAME_NAME_MAX: usize = 10;

/// What is wrong with `session`, which lies in the folder of `group`.
///
/// # Errors
/// [`DbError`] if `host.db` cannot be read.
pub fn session(
    data: &DataDir,
    store: &Store,
    (group, session): (AgentGroupId, SessionId),
    host_runs: bool,
    clock: &dyn Clock,
) -> Result<Vec<Finding>, DbError> {
    let folder = data.session_folder(group, session);
    let owner = data.root().symlink_metadata().map_or(0, |meta| meta.uid());
    let place = Place { folder: &folder, owner, host_runs };
    let look = || -> Result<Vec<Finding>, DbError> {
        let evidence = evidence::gather(store, session, place, clock.now())?;
        Ok(evidence.as_ref().map(super::check).unwrap_or_default())
    };
    let looks = if host_runs { LOOKS } else { 1 };
    Ok(shorten(steady(looks, look, || std::thread::sleep(PAUSE))?))
}

/// What each of so many looks shows.
fn steady<E>(
    looks: u32,
    mut look: impl FnMut() -> Result<Vec<Finding>, E>,
    pause: impl Fn(),
) -> Result<Vec<Finding>, E> {
    let mut findings = look()?;
    for _ in 1..looks {
        if findings.iter().all(|finding| finding.name == Name::Quarantined) {
            break;
        }
        pause();
        let again = look()?;
        findings.retain(|finding| {
            again.iter().any(|other| (other.name, &other.object) == (finding.name, &finding.object))
        });
    }
    Ok(findings)
}

/// Folders below `sessions/` that belong to no session.
///
/// # Errors
/// [`DbError`] if `host.db` cannot be read.
pub fn foreign_folders(data: &DataDir, store: &Store) -> Result<Vec<Finding>, DbError> {
    let names = |folder: &std::path::Path| -> Vec<std::path::PathBuf> {
        let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<_> = listed.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let found: Vec<_> = names(&data.sessions())
        .into_iter()
        .flat_map(|group| match group.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            true => names(&group),
            false => vec![group],
        })
        .collect();
    // A session is in host.db before it has a folder, so host.db is read after the folders.
    let known: Vec<_> = store
        .sessions()
        .folders()
        .wait()?
        .into_iter()
        .map(|(group, session)| data.session_folder(group, session))
        .collect();
    let foreign = found.into_iter().filter(|path| !known.contains(path)).map(|path| {
        let shown = path.strip_prefix(data.root()).unwrap_or(&path).display().to_string();
        Finding::new(
            Name::FolderWithoutSession,
            shown,
            "host.db knows no such session, so nobody works on it. If host.db was restored from an \
             older copy, this is a conversation that it forgot; otherwise move it away",
        )
    });
    Ok(foreign.collect())
}

/// Leaves out what only repeats, and says how much that is. What can be repaired stays.
fn shorten(findings: Vec<Finding>) -> Vec<Finding> {
    let mut counts: HashMap<Name, usize> = HashMap::new();
    let mut kept = Vec::new();
    for finding in findings {
        let count = counts.entry(finding.name).or_default();
        *count += 1;
        if *count <= SAME_NAME_MAX || finding.repair.is_some() {
            kept.push(finding);
        }
    }
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > SAME_NAME_MAX) {
        let last = kept.iter_mut().rev().find(|finding| finding.name == name);
        if let Some(last) = last.filter(|last| last.repair.is_none()) {
            let more = count - SAME_NAME_MAX;
            last.meaning = format!("{} (and {more} more of this kind)", last.meaning);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_look_does_not_show_was_only_on_its_way() {
        let one = |object: &str| Finding::new(Name::CursorBeyondEnd, object, "x");
        let mut shown = [vec![one("7"), one("9")], vec![one("9"), one("11")], vec![one("9")]]
            .into_iter()
            .map(Ok::<_, DbError>);
        let found = steady(3, || shown.next().unwrap(), || ()).unwrap();
        assert_eq!(found, [one("9")]);
    }

    #[test]
    fn what_repeats_is_counted_and_not_listed() {
        let one = |n: usize| Finding::new(Name::AckWithoutMessage, n, "x");
        let kept = shorten((0..25).map(one).collect());
        assert_eq!(kept.len(), SAME_NAME_MAX);
        assert_eq!(kept.last().unwrap().meaning, "x (and 15 more of this kind)");
    }
}
