//! What an agent keeps beside its work, in a folder of the conversation's own workspace: transcripts,
//! pictures and documents that were shown to it, and what was too long to be shown.
//!
//! The agent itself can change all of it, as everything in its container: what is read here is
//! checked, and what is missing is told.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use twobox_shared::ids::{IdSource, SystemIds};

use super::conversation::{Item, Part};
use super::plain;
use super::shown::{self, Shown};

/// The folder's name.
const FOLDER: &str = ".twobox";

/// The largest picture or document that is shown to a model, in bytes. APIs take none of which the base64
/// has more than 5 MB.
pub(super) const MEDIA_MAX: u64 = 3_750_000;

/// How many texts that were too long to be shown are kept.
const OUTPUTS_MAX: usize = 50;

/// Before the digest by which a picture is kept, after which its length follows: no base64 begins with it.
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
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = plain::open_as(&path, &mut options)?;
        Ok((file, path))
    }

    /// Keeps the file at `path` as something that can be shown, called `name`. In the conversation it
    /// stands by its digest: neither a transcript nor this process is as large as its pictures, and
    /// what is sent is the same for as long as the conversation lasts, whatever becomes of the file.
    ///
    /// # Errors
    /// A sentence about the file.
    pub(super) fn show(&self, path: &Path, name: &str) -> Result<Part, String> {
        let file = plain::open(path).map_err(|error| error.to_string())?;
        let bytes = read_bounded(&file).map_err(|error| error.to_string())?;
        let media_type = sniffed(&bytes).ok_or("it is no picture or document that can be shown")?;
        let digest: String =
            Sha256::digest(&bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.folder("media")
            .and_then(|folder| {
                let copy = folder.join(&digest);
                let whole = |about: fs::Metadata| about.len() == bytes.len() as u64;
                match fs::metadata(&copy).is_ok_and(whole) {
                    true => Ok(()),
                    false => write_whole(&copy, &bytes),
                }
            })
            .map_err(|error| format!("it could not be kept: {error}"))?;
        Ok(Part::Media {
            media_type: media_type.to_owned(),
            name: name.to_owned(),
            data: format!("{MARK}{digest}:{}", bytes.len()),
        })
    }

    /// Removes what nothing in `items` shows any more.
    pub(super) fn prune(&self, items: &[Item]) {
        let Ok(files) = fs::read_dir(self.folder.join("media")) else { return };
        let places = shown::places(items, Shown::Newest(u32::MAX));
        let named: HashSet<&str> = (items.iter().flat_map(shown::media).enumerate())
            .filter(|(place, _)| places.contains(place))
            .filter_map(|(_, data)| reference(data).map(|(digest, _)| digest))
            .collect();
        for file in files.flatten() {
            if !file.file_name().to_str().is_some_and(|name| named.contains(name)) {
                drop(fs::remove_file(file.path())); // it costs room and nothing else
            }
        }
    }

    /// `items` with the bytes of what is shown of them. Where nothing is, nothing is copied.
    pub(super) fn filled<'i>(&self, items: &'i [Item], shown: Shown) -> Cow<'i, [Item]> {
        if !shows(items) {
            return Cow::Borrowed(items);
        }
        let places = shown::places(items, shown);
        let mut items = items.to_vec();
        let mut place = 0;
        for part in items.iter_mut().flat_map(parts) {
            if let Part::Media { media_type, name, data } = part {
                match places.contains(&place).then(|| self.bytes(data)).flatten() {
                    Some(bytes) => *data = STANDARD.encode(bytes),
                    None => *part = Part::text(not_shown(name, media_type)),
                }
                place += 1;
            }
        }
        Cow::Owned(items)
    }

    fn bytes(&self, data: &str) -> Option<Vec<u8>> {
        let (digest, length) = reference(data)?;
        let file = plain::open(&self.folder.join("media").join(digest)).ok()?;
        let bytes = read_bounded(&file).ok()?;
        (bytes.len() as u64 == length && sniffed(&bytes).is_some()).then_some(bytes)
    }
}

/// What stands where something was shown once. It is the same whatever became of the file, for else what
/// is cached would be another text.
fn not_shown(name: &str, media_type: &str) -> String {
    format!(
        "[{name} ({media_type}) is not shown here: newer ones have its place, its file is gone, or the \
         model does not take it.]"
    )
}

/// Whether `items` show something.
pub(super) fn shows(items: &[Item]) -> bool {
    items.iter().any(|item| shown::media(item).next().is_some())
}

/// How many bytes what is kept as `data` has.
pub(super) fn bytes_of(data: &str) -> Option<u64> {
    reference(data).map(|(_, length)| length)
}

/// The digest and the length that `data` has instead of bytes.
fn reference(data: &str) -> Option<(&str, u64)> {
    let (digest, length) = data.strip_prefix(MARK)?.split_once(':')?;
    let plain = !digest.is_empty() && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let length = length.parse().ok().filter(|length| *length <= MEDIA_MAX)?;
    plain.then_some((digest, length))
}

fn parts(item: &mut Item) -> Vec<&mut Part> {
    match item {
        Item::User { parts } => parts.iter_mut().collect(),
        Item::Assistant { .. } => Vec::new(),
        Item::Results { results } => results.iter_mut().flat_map(|it| &mut it.parts).collect(),
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

/// Under its name the file is there as a whole or not at all. Two tools may show the same at once.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let half = path.with_extension(SystemIds.uuid().simple().to_string());
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&half)?;
    file.write_all(bytes)?;
    file.sync_data()?; // or the name may be durable and the bytes not
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

    const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\nrest";

    #[test]
    fn a_picture_is_kept_by_its_digest_and_shown_with_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::of(dir.path());
        let picture = dir.path().join("a.txt");
        fs::write(&picture, PICTURE).unwrap();
        let part = kept.show(&picture, "a.png").unwrap();
        fs::remove_file(&picture).unwrap();
        let Part::Media { media_type, data, .. } = &part else { panic!("{part:?}") };
        assert_eq!(media_type, "image/png");
        assert!(data.starts_with('@') && data.ends_with(":12"), "{data}");
        let items = [Item::User { parts: vec![Part::text("see"), part] }];
        assert!(shows(&items) && !shows(&[Item::User { parts: Vec::new() }]));
        let second = |shown: Shown| {
            let items = kept.filled(&items, shown);
            let Item::User { parts } = &items[0] else { panic!("another item") };
            parts[1].clone()
        };
        let all = Shown::Newest(200_000);
        let Part::Media { data, .. } = second(all) else { panic!("no picture") };
        assert_eq!(STANDARD.decode(data).unwrap(), PICTURE);
        let gone = second(Shown::None);
        assert!(
            matches!(&gone, Part::Text { text } if text.starts_with("[a.png (image/png) is not shown"))
        );
        fs::remove_dir_all(dir.path().join(".twobox/media")).unwrap();
        assert_eq!(second(all), gone);
    }

    #[test]
    fn a_picture_of_which_a_part_alone_was_kept_is_kept_again() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::of(dir.path());
        let picture = dir.path().join("a.png");
        fs::write(&picture, PICTURE).unwrap();
        let part = kept.show(&picture, "a.png").unwrap();
        let media = dir.path().join(".twobox/media");
        let copy = fs::read_dir(&media).unwrap().next().unwrap().unwrap().path();
        fs::write(&copy, &PICTURE[..9]).unwrap();
        let items = [Item::User { parts: vec![part] }];
        let text = kept.filled(&items, Shown::Newest(200_000));
        assert!(matches!(&text[0], Item::User { parts } if matches!(parts[0], Part::Text { .. })));
        kept.show(&picture, "a.png").unwrap();
        assert_eq!(fs::read(&copy).unwrap(), PICTURE);
        kept.prune(&items);
        assert!(copy.exists());
        kept.prune(&[]);
        assert!(!copy.exists(), "nothing shows it any more");
    }

    #[test]
    fn what_is_shown_is_taken_in_base64() {
        assert!(MEDIA_MAX.div_ceil(3) * 4 <= 5_000_000);
    }

    #[test]
    fn what_cannot_be_shown_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::of(dir.path());
        let text = dir.path().join("a.png");
        fs::write(&text, "a text").unwrap();
        assert!(kept.show(&text, "a").unwrap_err().contains("no picture"));
        File::create(&text).unwrap().set_len(MEDIA_MAX + 1).unwrap();
        assert!(kept.show(&text, "a").unwrap_err().contains("larger than 3750000 bytes"));
        assert!(kept.show(dir.path(), "a").unwrap_err().contains("no plain file"));
    }

    #[test]
    fn of_many_outputs_the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::of(dir.path());
        for number in 0..OUTPUTS_MAX + 5 {
            let (file, _) = kept.output(&number.to_string()).unwrap();
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
            file.set_modified(at).unwrap();
        }
        let there = fs::read_dir(dir.path().join(".twobox/output")).unwrap().flatten();
        let mut numbers: Vec<usize> = there
            .map(|it| it.path().file_stem().unwrap().to_str().unwrap().parse().unwrap())
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (5..OUTPUTS_MAX + 5).collect::<Vec<_>>());
    }
}
