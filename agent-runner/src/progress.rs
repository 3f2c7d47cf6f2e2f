//! What a turn is at, for whoever looks on: a small file beside the outbox that is replaced as a whole, now
//! and then. It is no message: it is not synced, nobody answers for it, and it goes with its turn.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use twobox_shared::clock::Monotonic;
use twobox_shared::ids::MessageId;
use twobox_shared::paths::SessionPaths;
use twobox_shared::progress::{Progress, State, TEXT_MAX};

/// How often it is written at most.
const PAUSE: Duration = Duration::from_millis(250);

/// The progress of one turn. Dropped, it leaves no file.
#[derive(Debug)]
pub(crate) struct Shown {
    file: PathBuf,
    /// A file that is there while somebody looks on.
    watched: PathBuf,
    progress: Progress,
    /// Whether what is written now is what a person gets to see.
    is_answer: bool,
    /// Not before this instant.
    next: Monotonic,
    changed: bool,
    is_there: bool,
}

impl Shown {
    /// Of a turn for `message` that begins at `now`.
    pub(crate) fn begin(
        paths: &SessionPaths,
        message: MessageId,
        attempt: i64,
        now: Monotonic,
    ) -> Self {
        Self {
            file: paths.progress(),
            watched: paths.watched(),
            progress: Progress::thinking(message, attempt),
            is_answer: true,
            next: now + PAUSE,
            changed: true,
            is_there: false,
        }
    }

    /// A model is asked, for an answer or for something that nobody is shown.
    pub(crate) fn asks(&mut self, is_answer: bool) {
        self.is_answer = is_answer;
        self.begin_anew();
    }

    /// What was written so far is void, or over.
    pub(crate) fn begin_anew(&mut self) {
        self.progress.text.clear();
        self.progress.cut = false;
        self.turn_to(State::Thinking, None);
    }

    /// Something was written.
    pub(crate) fn words(&mut self, words: &str) {
        if !self.is_answer || words.is_empty() {
            return;
        }
        let text = &mut self.progress.text;
        text.push_str(words);
        if text.len() > TEXT_MAX {
            let most = text.len() - TEXT_MAX;
            let from = (most..=text.len()).find(|at| text.is_char_boundary(*at));
            text.drain(..from.unwrap_or(text.len()));
            self.progress.cut = true;
        }
        self.turn_to(State::Writing, None);
    }

    /// A tool has begun, or has ended.
    pub(crate) fn tool(&mut self, name: Option<&str>) {
        match name {
            Some(name) => self.turn_to(State::Tool, Some(name.to_owned())),
            None => self.begin_anew(),
        }
    }

    fn turn_to(&mut self, state: State, tool: Option<String>) {
        (self.progress.state, self.progress.tool) = (state, tool);
        self.changed = true;
    }

    /// When to write it, if there is anything to write.
    pub(crate) fn due(&self) -> Option<Monotonic> {
        self.changed.then_some(self.next)
    }

    /// Writes it if it is due and somebody looks on. That it cannot be written is no trouble of the turn.
    pub(crate) fn write(&mut self, now: Monotonic) {
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        (self.changed, self.next) = (false, now + PAUSE);
        if !self.watched.exists() {
            return;
        }
        let fresh = self.file.with_extension("new");
        let written = fs::write(&fresh, self.progress.to_json());
        self.is_there |= written.and_then(|()| fs::rename(&fresh, &self.file)).is_ok();
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.is_there {
            drop(fs::remove_file(&self.file)); // the host knows all the same that the turn is over
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn shown(dir: &Path) -> Shown {
        let paths = SessionPaths::of_folder(dir);
        for half in [paths.in_dir(), paths.out_dir()] {
            fs::create_dir_all(half).unwrap();
        }
        Shown::begin(&paths, MessageId::parse("m").unwrap(), 1, Monotonic(0))
    }

    fn after(millis: u64) -> Monotonic {
        Monotonic(0) + Duration::from_millis(millis)
    }

    #[test]
    fn it_is_written_now_and_then_while_somebody_looks_on_and_goes_with_its_turn() {
        let dir = tempfile::tempdir().unwrap();
        let mut shown = shown(dir.path());
        let file = shown.file.clone();
        let read = || Progress::parse(&fs::read(&file).ok()?);
        shown.write(after(300));
        assert_eq!((read(), shown.due()), (None, None), "nobody looks on");
        fs::write(&shown.watched, "").unwrap();
        shown.words("It is ");
        shown.write(after(400));
        assert_eq!(read(), None, "that is too early");
        shown.words("late.");
        shown.write(after(600));
        let progress = read().unwrap();
        assert_eq!((progress.message.as_str(), progress.attempt), ("m", 1));
        assert_eq!((progress.state, &*progress.text), (State::Writing, "It is late."));
        shown.tool(Some("bash"));
        shown.write(after(900));
        let progress = read().unwrap();
        assert_eq!((progress.state, progress.tool.as_deref()), (State::Tool, Some("bash")));
        shown.asks(false);
        shown.words("a summary that nobody is shown");
        shown.write(after(1200));
        assert_eq!(read().unwrap().text, "");
        shown.asks(true);
        shown.words(&"é".repeat(TEXT_MAX));
        shown.write(after(1500));
        let progress = read().unwrap();
        assert!(progress.cut && progress.text.len() <= TEXT_MAX, "{}", progress.text.len());
        shown.begin_anew();
        shown.words("short");
        shown.write(after(1800));
        let progress = read().unwrap();
        assert_eq!((progress.cut, &*progress.text), (false, "short"), "it is another text");
        drop(shown);
        assert!(!file.exists());
    }
}
