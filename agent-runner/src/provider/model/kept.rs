//! What an agent keeps beside its work, in a folder of the conversation's own workspace: transcripts,
//! pictures and documents that were shown to it, and what was too long to be shown.
//!
//! The agent itself can change all of it, as everything in its container: what is read here is
//! checked, and what is missing is told.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::conversation::{Item, Part};

/// The folder's name.
const FOLDER: &str = ".twobox";

/// The largest picture or document that is shown to a model, in bytes. APIs take no larger pictures.
pub(super) const MEDIA_MAX: u64 = 5 << 20;

/// How many texts that were too long to be shown are kept.
const OUTPUTS_MAX: usize = 50;

/// Before the digest by which a picture is kept: no base64 begins with it.
const MARK: char = '@';

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// That of the workspace `work`.
    pub(super) fn of(work: &Path) -> Self {
        Self { folder: work.join(FOLDER) }
    }

    /// The folder itself, made if it is not there.
    pub(super) fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.folder.join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(folder)
    }

    /// A new file for a text that is too long to be shown. The oldest of many are removed.
    pub(super) fn output(&self, name: &str) -> io::Result<(File, PathBuf)> {
        let folder = self.folder("output")?;
        let mut files: Vec<_> = fs::read_dir(&folder)?
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort_unstable_by(|one, other| other.cmp(one));
        for (_, old) in files.drain(..).skip(OUTPUTS_MAX - 1) {
            drop(fs::remove_file(old)); // it costs room and nothing else
        }
        let path = folder.join(format!("{name}.txt"));
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        Ok((file, path))
    }

    /// Keeps the file at `path` as something that can be shown, called `name`. In the conversation it
    /// stands by its digest: neither a transcript nor this process is as large as its pictures, and
    /// what is sent is the same for as long as the conversation lasts, whatever becomes of the file.
    ///
    /// # Errors
    /// A sentence about the file.
    pub(super) fn show(&self, path: &Path, name: &str) -> Result<Part, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let bytes = read_bounded(&file).map_err(|error| error.to_string())?;
        let media_type = sniffed(&bytes).ok_or("it is no picture or document that can be shown")?;
        let digest: String =
            Sha256::digest(&bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.folder("media")
            .and_then(|folder| {
                let copy = folder.join(&digest);
                match copy.exists() {
                    true => Ok(()),
                    false => write_whole(&copy, &bytes),
                }
            })
            .map_err(|error| format!("it could not be kept: {error}"))?;
        Ok(Part::Media {
            media_type: media_type.to_owned(),
            name: name.to_owned(),
            data: format!("{MARK}{digest}"),
        })
    }

    /// Whether `item` shows something.
    pub(super) fn shows(item: &Item) -> bool {
        let shown = |parts: &[Part]| parts.iter().any(|it| matches!(it, Part::Media { .. }));
        match item {
            Item::User { parts } => shown(parts),
            Item::Assistant { .. } => false,
            Item::Results { results } => results.iter().any(|result| shown(&result.parts)),
        }
    }

    /// `item` with the bytes of what it shows.
    pub(super) fn filled(&self, item: &Item) -> Item {
        let mut item = item.clone();
        let fill = |parts: &mut Vec<Part>| parts.iter_mut().for_each(|it| *it = self.part(it));
        match &mut item {
            Item::User { parts } => fill(parts),
            Item::Assistant { .. } => {}
            Item::Results { results } => {
                results.iter_mut().for_each(|result| fill(&mut result.parts));
            }
        }
        item
    }

    fn part(&self, part: &Part) -> Part {
        let Part::Media { media_type, name, data } = part else { return part.clone() };
        match self.bytes(data) {
            Some(bytes) => Part::Media {
                media_type: media_type.clone(),
                name: name.clone(),
                data: STANDARD.encode(bytes),
            },
            None => Part::text(format!("({name} was shown here, and is not there any more.)")),
        }
    }

    fn bytes(&self, reference: &str) -> Option<Vec<u8>> {
        let digest = reference.strip_prefix(MARK)?;
        let plain = !digest.is_empty() && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let path = self.folder.join("media").join(digest);
        let file = plain.then(|| File::open(&path).ok()).flatten()?;
        let bytes = read_bounded(&file).ok()?;
        sniffed(&bytes).map(|_| bytes)
    }
}

fn read_bounded(file: &File) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(MEDIA_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MEDIA_MAX {
        true => Err(io::Error::other(format!("it is larger than {MEDIA_MAX} bytes"))),
        false => Ok(bytes),
    }
}

/// Under its name the file is there as a whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let half = path.with_extension("half");
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    file.write_all(bytes)?;
    fs::rename(half, path)
}

/// What `bytes` are, if it is something that a model may be shown: by how they begin, for names lie.
pub(super) fn sniffed(bytes: &[u8]) -> Option<&'static str> {
    let [png, jpeg, gif, webp, pdf] = Part::MEDIA;
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(png),
        [0xff, 0xd8, 0xff, ..] => Some(jpeg),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(webp),
        [b'%', b'P', b'D', b'F', b'-', ..] => Some(pdf),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_kept_by_its_digest_and_shown_with_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::of(dir.path());
        let picture = dir.path().join("a.txt");
        fs::write(&picture, b"\x89PNG\r\n\x1a\nrest").unwrap();
        let part = kept.show(&picture, "a.png").unwrap();
        fs::remove_file(&picture).unwrap();
        let Part::Media { media_type, data, .. } = &part else { panic!("{part:?}") };
        assert_eq!((media_type.as_str(), data.len()), ("image/png", 33), "{data}");
        let item = Item::User { parts: vec![Part::text("see"), part] };
        assert!(Kept::shows(&item) && !Kept::shows(&Item::User { parts: Vec::new() }));
        let Item::User { parts } = kept.filled(&item) else { panic!("another item") };
        let Part::Media { data, .. } = &parts[1] else { panic!("{parts:?}") };
        assert_eq!(STANDARD.decode(data).unwrap(), b"\x89PNG\r\n\x1a\nrest");
        fs::remove_dir_all(dir.path().join(".twobox/media")).unwrap();
        let Item::User { parts } = kept.filled(&item) else { panic!("another item") };
        let gone = Part::text("(a.png was shown here, and is not there any more.)");
        assert_eq!(parts[1], gone);
    }

    #[test]
    fn what_cannot_be_shown_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::of(dir.path());
        let text = dir.path().join("a.png");
        fs::write(&text, "a text").unwrap();
        assert!(kept.show(&text, "a").unwrap_err().contains("no picture"));
        File::create(&text).unwrap().set_len(MEDIA_MAX + 1).unwrap();
        assert!(kept.show(&text, "a").unwrap_err().contains("larger than 5242880 bytes"));
        assert!(kept.show(dir.path(), "a").unwrap_err().contains("not a file"));
    }

    #[test]
    fn of_many_outputs_the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::of(dir.path());
        for number in 0..OUTPUTS_MAX + 5 {
            kept.output(&number.to_string()).unwrap();
        }
        let there = fs::read_dir(dir.path().join(".twobox/output")).unwrap().count();
        assert_eq!(there, OUTPUTS_MAX);
    }
}
