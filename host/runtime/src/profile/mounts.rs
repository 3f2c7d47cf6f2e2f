//! Folders of the machine that an agent is given besides its own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use twobox_shared::bounds;

/// A folder of the machine, in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraMount {
    /// Where it is on the machine, absolute.
    pub source: PathBuf,
    /// Where it is inside: `/mnt/NAME`.
    pub target: String,
    /// Whether nothing in it may be changed.
    #[serde(default = "yes")]
    pub read_only: bool,
}

fn yes() -> bool {
    true
}

/// Where all of them are inside.
const PLACE: &str = "/mnt/";

/// Places of the machine that no folder may lie in or hold: what is there is the machine itself, or
/// leads to those who run it.
const CLOSED: [&str; 6] = ["/proc", "/sys", "/dev", "/run", "/boot", "/etc"];

impl fmt::Display for ExtraMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = if self.read_only { "read-only" } else { "read-write" };
        write!(f, "{} at {} ({access})", self.source.display(), self.target)
    }
}

/// Checks what a file says, as far as it shows without a look at the machine.
pub(super) fn check(mounts: &[ExtraMount]) -> Result<(), String> {
    bounds::AGENT_MOUNTS.check("mounts", mounts.len()).map_err(|error| error.to_string())?;
    let mut targets = BTreeSet::new();
    for ExtraMount { source, target, .. } in mounts {
        let name = target.strip_prefix(PLACE).unwrap_or_default();
        let letters = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(letters) {
            return Err(format!(
                "mounts: target {target:?}: write {PLACE} and one name of letters, digits, '.', '_' \
                 and '-', as \"{PLACE}docs\""
            ));
        }
        if !targets.insert(target) {
            return Err(format!("mounts: target {target:?} is there twice: give each its own"));
        }
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        if !source.is_absolute() || !source.components().all(plain) {
            return Err(format!(
                "mounts: source {source:?}: write an absolute path without \"..\", as \"/srv/docs\""
            ));
        }
        refuse(source, source, None)?;
    }
    Ok(())
}

/// Refuses the folder at `place`, which is written as `source`, if it lies in something that is closed
/// or holds it.
fn refuse(source: &Path, place: &Path, data: Option<&Path>) -> Result<(), String> {
    let closed = CLOSED.iter().map(Path::new).chain(data);
    let meets = |closed: &&Path| place.starts_with(closed) || closed.starts_with(place);
    match closed.into_iter().find(|closed| meets(closed)) {
        None => Ok(()),
        Some(closed) => Err(format!(
            "mounts: source {source:?} lies in {} or holds it, which no agent is given: name a folder \
             that has only what the agent is to see",
            closed.display()
        )),
    }
}

impl ExtraMount {
    /// Makes its source canonical. See [`super::Profile::with_folders`].
    pub(super) fn settle(&mut self, data: &Path) -> Result<(), String> {
        let place = self.source.canonicalize().map_err(|error| {
            let advice = match error.kind() {
                ErrorKind::NotFound => "make it",
                _ => "name a folder that the host's user can reach",
            };
            format!("mounts: source {:?}: {error}: {advice}", self.source)
        })?;
        refuse(&self.source, &place, Some(data))?;
        if !place.is_dir() {
            return Err(format!(
                "mounts: source {:?} is no folder: name the one that it lies in",
                self.source
            ));
        }
        let mounted = std::fs::read("/proc/self/mountinfo")
            .map_err(|error| format!("mounts: /proc/self/mountinfo: {error}"))?;
        if let Some(other) = mounted_below(&mounted, &place) {
            return Err(format!(
                "mounts: another file system is mounted in source {:?}, at {}, and no runtime can \
                 promise what an agent may do there: name folders that have none in them",
                self.source,
                other.display()
            ));
        }
        self.source = place;
        Ok(())
    }
}

/// Where a file system is mounted below `place`, by the text of `/proc/self/mountinfo`. A read-only
/// mount of an engine need not hold for those.
///
/// Source: proc_pid_mountinfo(5). The fifth field is the mount point; space, tab, newline and backslash
/// are written in octal.
pub(super) fn mounted_below(mountinfo: &[u8], place: &Path) -> Option<PathBuf> {
    let point = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescaped);
    let points = mountinfo.split(|byte| *byte == b'\n').filter_map(point);
    points.map(PathBuf::from).find(|point| point.starts_with(place) && point != place)
}

fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let byte = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes)
}
