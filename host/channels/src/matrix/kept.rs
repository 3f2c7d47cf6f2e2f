//! What an instance keeps from one life to the next: who it is to the homeserver, and how far it has read.
//! It is the instance's [state](crate::state).
//!
//! A position is written when everything before it is durable elsewhere, and never before. What is kept of one
//! account is not overwritten with what is kept of another: it is put aside once the other is let in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use twobox_shared::time::UnixMillis;
use url::Url;

use super::enter::CAUTION;
use crate::state::{self, file};

pub(super) use crate::state::folder;

/// How many rooms are kept of each sort.
pub(super) const ROOMS_MAX: usize = 2_000;

/// How many messages are kept of which nobody knows whether they arrived.
pub(super) const UNSURE_MAX: usize = 10_000;

/// How long that is kept, if nobody says that they are over.
pub(super) const UNSURE_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long an instance is cautious. What was open when it became so is settled then: it was connected all that
/// time, or has become cautious again since.
pub(super) const CAUTIOUS_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// The account that the rest is about.
    pub(super) whose: String,
    /// The address of the homeserver that has let it in.
    pub(super) homeserver: String,
    /// The device. Whoever logs in as another may be shown twice what is sent again.
    pub(super) device_id: Option<String>,
    /// What it is let in with there.
    pub(super) token: Option<Token>,
    /// Up to where everything is durable that was said, but for the rooms that are behind.
    pub(super) since: Option<String>,
    /// When that was written, or any other word of this file.
    pub(super) alive_at: Option<UnixMillis>,
    /// Since when what is sent for the first time may have been sent by an earlier life, which nobody remembers.
    pub(super) cautious_since: Option<UnixMillis>,
    /// Rooms of which not everything could be taken in.
    pub(super) behind: BTreeMap<String, Behind>,
    /// The last event of each room that was taken in: from there on it is read if positions mean nothing more.
    pub(super) last: BTreeMap<String, String>,
    /// Rooms to which it was invited by somebody who may, and in which it is not yet.
    pub(super) invited: BTreeSet<String>,
    /// Encrypted rooms that were told that nothing is read there.
    pub(super) told: BTreeSet<String>,
    /// Keys of messages that were sent and not answered for, with the time of the first.
    pub(super) unsure: BTreeMap<String, UnixMillis>,
}

/// How far a room was read that is behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Behind {
    /// The position from which on it is read.
    pub(super) from: String,
    /// The event behind which that position is, as long as only that is known.
    pub(super) after: Option<String>,
    /// The position from which on it is read once more when its end is reached: something was said meanwhile, and
    /// pages are in an order in which that may stand before what was read already.
    pub(super) again: Option<String>,
}

/// A token. Its text is for the homeserver alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Token(pub(super) String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Kept {
    /// Reads the file in `folder`; one that is not there says nothing. Blocks.
    ///
    /// # Errors
    /// Why it cannot be read, for people.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        read(&file(folder))
    }

    /// What is kept in `folder` for the account `whose`, and whether the file there is another's and has to be
    /// [put aside](put_aside). Blocks.
    ///
    /// # Errors
    /// Why it cannot be read, for people.
    pub(super) fn of(folder: &Path, whose: &str) -> Result<(Self, bool), String> {
        let kept = Self::read(folder)?;
        if kept.whose == whose {
            return Ok((kept, false));
        }
        // What cannot be read of what was put aside is not needed to begin.
        let before = read(&aside(folder)).ok().filter(|before| before.whose == whose);
        let fresh = || Self { whose: whose.to_owned(), ..Self::default() };
        Ok((before.unwrap_or_else(fresh), !kept.whose.is_empty()))
    }

    /// The token, if it is that of the account `user` and came from the homeserver at this address. Nobody else is
    /// shown it.
    pub(super) fn token_of(&self, user: &str, homeserver: &Url) -> Option<&Token> {
        let is_theirs = self.whose == user && self.homeserver == homeserver.as_str();
        self.token.as_ref().filter(|_| is_theirs)
    }

    /// The homeserver at this address has let it in as this device, with `token` if that is to be kept. Returns
    /// whether messages may have been sent before of which the homeserver knows nothing more.
    pub(super) fn enter(
        &mut self,
        homeserver: &Url,
        device_id: Option<String>,
        token: Option<Token>,
        now: UnixMillis,
    ) -> bool {
        let is_other_device = self.device_id.is_some() && self.device_id != device_id;
        let is_elsewhere = self.homeserver != homeserver.as_str();
        let is_near = |at: UnixMillis| at <= now && now.since(at) <= CAUTION;
        let is_cautious = is_other_device || is_elsewhere || !self.alive_at.is_some_and(is_near);
        if is_cautious {
            self.cautious_since = Some(now);
        }
        homeserver.as_str().clone_into(&mut self.homeserver);
        (self.device_id, self.token) = (device_id, token);
        is_cautious
    }

    /// This life is here, at `now`.
    pub(super) fn live(&mut self, now: UnixMillis) {
        self.alive_at = Some(now);
        self.cautious_since.take_if(|since| now.since(*since) > CAUTIOUS_FOR);
    }

    /// The event `last` of `room`, and what was said before, was taken in.
    pub(super) fn hear(&mut self, room: &str, last: &str) {
        if self.last.len() < ROOMS_MAX || self.last.contains_key(room) {
            self.last.insert(room.to_owned(), last.to_owned());
        }
    }

    /// Positions mean nothing more: each room is read from the last event on that was taken in.
    pub(super) fn begin_anew(&mut self) {
        self.since = None;
        let behind = |(room, last): (&String, &String)| {
            (room.clone(), Behind { after: Some(last.clone()), ..Behind::default() })
        };
        self.behind.extend(self.last.iter().map(behind));
    }

    /// Writes the file in `folder`, which need not be there. Returns when it is on the disk. Blocks.
    ///
    /// # Errors
    /// The system's reason.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        state::write(folder, self)
    }
}

fn read(path: &Path) -> Result<Kept, String> {
    state::read(path, "then the host logs in anew, and does not hear what was said meanwhile")
}

/// Puts the file in `folder`, which is another account's, aside. If what lies there is that of the account `whose`,
/// the two change places. Returns where it is. Blocks.
///
/// # Errors
/// The system's reason.
pub(super) fn put_aside(folder: &Path, whose: &str) -> io::Result<PathBuf> {
    let (file, aside) = (file(folder), aside(folder));
    let is_back = read(&aside).is_ok_and(|before| before.whose == whose);
    let flags = if is_back { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
    renameat_with(CWD, &file, CWD, &aside, flags)?;
    File::open(folder)?.sync_all()?;
    Ok(aside)
}

/// Where what was kept of another account is put.
fn aside(folder: &Path) -> PathBuf {
    folder.join("state.json.before")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_kept_is_its_owners_alone_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), "m");
        assert_eq!(Kept::read(&folder), Ok(Kept::default()));
        let kept = Kept {
            whose: "@bot:x".to_owned(),
            token: Some(Token("s3cret".to_owned())),
            since: Some("s1".to_owned()),
            unsure: BTreeMap::from([("k".to_owned(), UnixMillis(1))]),
            ..Kept::default()
        };
        for _ in 0..2 {
            kept.write(&folder).unwrap();
        }
        assert_eq!(Kept::read(&folder), Ok(kept.clone()));
        for path in [folder.clone(), file(&folder)] {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
        assert!(!format!("{kept:?}").contains("s3cret"));
        std::fs::write(file(&folder), "{\"token\":\"s3cret\"").unwrap();
        let error = Kept::read(&folder).unwrap_err();
        assert!(error.contains("damaged") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn what_is_kept_of_another_account_is_put_aside_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), "m");
        let of = |whose: &str, since: &str| Kept {
            whose: whose.to_owned(),
            since: Some(since.to_owned()),
            ..Kept::default()
        };
        let (one, other) = (of("@one:x", "s1"), of("@two:x", "s2"));
        assert!(!Kept::of(&folder, "@one:x").unwrap().1, "there is no file");
        one.write(&folder).unwrap();
        assert_eq!(Kept::of(&folder, "@one:x"), Ok((one.clone(), false)));
        let fresh = Kept { whose: "@two:x".to_owned(), ..Kept::default() };
        assert_eq!(Kept::of(&folder, "@two:x"), Ok((fresh, true)));
        assert_eq!(Kept::read(&folder), Ok(one.clone()), "it was not let in yet");
        put_aside(&folder, "@two:x").unwrap();
        other.write(&folder).unwrap();
        assert_eq!(Kept::of(&folder, "@one:x"), Ok((one.clone(), true)));
        put_aside(&folder, "@one:x").unwrap();
        assert_eq!(Kept::of(&folder, "@one:x"), Ok((one, false)));
        assert_eq!(Kept::of(&folder, "@two:x"), Ok((other, true)));
    }

    #[test]
    fn it_is_cautious_for_a_day_when_something_may_have_been_forgotten() {
        let url = |text: &str| Url::parse(text).unwrap();
        let hour = CAUTION.as_millis() as i64;
        let now = UnixMillis(1000 * hour);
        let known = Kept {
            homeserver: url("https://x").to_string(),
            device_id: Some("D".to_owned()),
            alive_at: Some(UnixMillis(now.0 - hour)),
            ..Kept::default()
        };
        let away = |ms: Option<i64>| Kept { alive_at: ms.map(UnixMillis), ..known.clone() };
        let cases = [
            ("as it was", known.clone(), "https://x", "D", false),
            ("another device", known.clone(), "https://x", "E", true),
            ("another address", known.clone(), "https://y", "D", true),
            ("long away", away(Some(now.0 - hour - 1)), "https://x", "D", true),
            ("nobody knows how long", away(None), "https://x", "D", true),
            ("a clock set back", away(Some(now.0 + 1)), "https://x", "D", true),
        ];
        for (case, mut kept, address, device, expected) in cases {
            let cautious = kept.enter(&url(address), Some(device.to_owned()), None, now);
            assert_eq!((cautious, kept.cautious_since.is_some()), (expected, expected), "{case}");
            kept.live(now + CAUTIOUS_FOR);
            assert_eq!(kept.cautious_since.is_some(), expected, "{case}");
            assert!(!kept.enter(&url(address), Some(device.to_owned()), None, now + CAUTIOUS_FOR));
            assert_eq!(kept.cautious_since.is_some(), expected, "{case}: another life");
            kept.live(now + CAUTIOUS_FOR + Duration::from_millis(1));
            assert_eq!(kept.cautious_since, None, "{case}");
        }
    }

    #[test]
    fn a_token_is_shown_to_nobody_but_the_homeserver_that_has_given_it() {
        let mut kept = Kept { whose: "@a:x".to_owned(), ..Kept::default() };
        let (here, there) = (Url::parse("https://x/").unwrap(), Url::parse("https://y").unwrap());
        kept.enter(&here, Some("D".to_owned()), Some(Token("t".to_owned())), UnixMillis(1));
        assert!(kept.token_of("@a:x", &here).is_some());
        assert_eq!(kept.token_of("@a:x", &there), None);
        assert_eq!(kept.token_of("@b:x", &here), None);
    }
}
