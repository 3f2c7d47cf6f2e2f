//! The files that came with a message, in its folder in `in/`, which a container can read and cannot write.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use twobox_model::incoming::NamedFile;
use twobox_shared::durability::Durability;
use twobox_shared::ids::MessageId;
use twobox_shared::open::BoxError;

use super::{Boxes, create_folder, io_error};

impl Boxes {
    /// Copies `files` into the folder of the message with this id. It comes into being whole: what a death leaves of
    /// an attempt goes with the next one.
    pub(super) fn put_files(&self, id: &MessageId, files: &[NamedFile]) -> Result<(), BoxError> {
        let all = self.paths.inbox_files();
        create_folder(&all, 0o755)?;
        // A message that had this id would lose its files to the next one. No platform has such an id.
        let (begun, whole) = (all.join(".begun"), all.join(id.as_str()));
        for folder in [&begun, &whole] {
            clear(folder).map_err(|error| io_error("clear", folder, error))?;
        }
        create_folder(&begun, 0o755)?;
        for file in files {
            copy(&file.at, &begun.join(&file.name))
                .map_err(|error| io_error("copy a file of a message to", &begun, error))?;
        }
        sync(&begun)
            .and_then(|()| fs::rename(&begun, &whole))
            .and_then(|()| sync(&all))
            .map_err(|error| io_error("put the files of a message into", &whole, error))
    }
}

fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A copy that a container's user can read.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o644).open(to)?;
    io::copy(&mut source, &mut copy)?;
    match Durability::chosen() {
        Durability::PowerLoss => copy.sync_all(),
        Durability::ProcessCrash => Ok(()),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    match Durability::chosen() {
        Durability::PowerLoss => File::open(folder)?.sync_all(),
        Durability::ProcessCrash => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::content::{Chat, KIND_CHAT};
    use twobox_shared::ids::{IdSource, SessionId, SystemIds};
    use twobox_shared::inbox::{NewMessage, Origin};
    use twobox_shared::seq::Seq;
    use twobox_shared::time::UnixMillis;

    fn message(id: &str, text: &str, files: &[&str]) -> NewMessage {
        let chat =
            Chat { files: files.iter().map(|it| (*it).to_owned()).collect(), ..Chat::text(text) };
        NewMessage {
            id: MessageId::parse(id).unwrap(),
            kind: KIND_CHAT.to_owned(),
            content: chat.to_json(),
            origin: Origin::default(),
            trigger: true,
            process_after: None,
            source_session: None,
            run_id: None,
        }
    }

    #[test]
    fn files_lie_beside_their_message_before_it_counts_and_go_where_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let session = SessionId::generate(&SystemIds);
        let boxes = Boxes::new(session, &dir.path().join("s"), &dir.path().join("x"), 1 << 20);
        let staged = dir.path().join(SystemIds.uuid().to_string());
        fs::write(&staged, "the plan").unwrap();
        let file = |name: &str| NamedFile { name: name.to_owned(), at: staged.clone() };
        let accept = |message: NewMessage, files: Vec<NamedFile>| {
            boxes.accept_with(&[message], &[files], Seq(0), UnixMillis(1)).unwrap().remove(0)
        };
        // What a death left of another attempt.
        fs::create_dir_all(boxes.paths().inbox_files().join(".begun/old")).unwrap();
        let first = accept(message("m", "look", &["plan.txt"]), vec![file("plan.txt")]);
        let read = |id: &MessageId, name: &str| {
            fs::read_to_string(boxes.paths().inbox_files().join(id.as_str()).join(name))
        };
        assert_eq!(read(&first.id, "plan.txt").unwrap(), "the plan");
        fs::write(&staged, "another").unwrap();
        let again = accept(message("m", "look", &["plan.txt"]), vec![file("plan.txt")]);
        assert!(again.duplicate);
        assert_eq!(read(&first.id, "plan.txt").unwrap(), "the plan", "it was there already");
        let other = accept(message("m", "no, this", &["a.txt"]), vec![file("a.txt")]);
        assert_ne!(other.id, first.id);
        assert_eq!(read(&other.id, "a.txt").unwrap(), "another");
        fs::remove_file(&staged).unwrap();
        let lost = message("n", "look", &["plan.txt"]);
        let error = boxes.accept_with(&[lost], &[vec![file("plan.txt")]], Seq(0), UnixMillis(1));
        assert!(matches!(error, Err(BoxError::Io { .. })), "{error:?}");
        assert!(read(&MessageId::parse("n").unwrap(), "plan.txt").is_err(), "nothing by halves");
    }
}
