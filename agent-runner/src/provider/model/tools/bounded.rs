//! A text that may be of any length, bounded while it comes: its beginning and its end are kept, and all
//! of it goes into a file once it is too long.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use crate::provider::model::kept::Kept;

/// How much of the beginning is kept, and as much of the end, in bytes.
const HALF: usize = 15_000;

/// How much of a text goes into its file, in bytes: enough to look at, and a disk is not filled.
const FILE_MAX: u64 = 64 << 20;

/// The most that a result of a tool has, in bytes.
pub(super) const RESULT_MAX: usize = 2 * HALF;

/// A text that comes.
pub(super) struct Bounded {
    kept: Kept,
    name: String,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
    file: Option<(File, PathBuf)>,
    closed: bool,
}

impl Bounded {
    /// One that has not begun. The file, should it be needed, is called `name`.
    pub(super) fn new(kept: &Kept, name: String) -> Self {
        Self {
            kept: kept.clone(),
            name,
            head: Vec::new(),
            tail: VecDeque::new(),
            total: 0,
            file: None,
            closed: false,
        }
    }

    /// Takes in more. After [`Bounded::end`] it is of no interest any more.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        let before = self.total;
        self.total += bytes.len() as u64;
        if self.total > RESULT_MAX as u64 && before <= RESULT_MAX as u64 {
            self.open();
        }
        if let Some((file, _)) = &mut self.file
            && before < FILE_MAX
            && file.write_all(bytes).is_err()
        {
            self.file = None; // a full disk: what is shown has to do
        }
        let fits = bytes.len().min(HALF - self.head.len());
        let (first, rest) = bytes.split_at(fits);
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(HALF);
        self.tail.drain(..surplus);
    }

    fn open(&mut self) {
        let Ok((mut file, path)) = self.kept.output(&self.name) else { return };
        let (one, two) = self.tail.as_slices();
        let so_far = [self.head.as_slice(), one, two];
        if so_far.iter().all(|part| file.write_all(part).is_ok()) {
            self.file = Some((file, path));
        }
    }

    /// The text, with a remark where something is left out.
    pub(super) fn end(&mut self) -> String {
        self.closed = true;
        let mut text = String::from_utf8_lossy(&self.head).into_owned();
        let left_out = self.total - (self.head.len() + self.tail.len()) as u64;
        if left_out > 0 {
            let place = match &self.file {
                Some((_, path)) if self.total <= FILE_MAX => {
                    format!("; all of it is in {}", path.display())
                }
                Some((_, path)) => {
                    format!("; the first {FILE_MAX} bytes are in {}", path.display())
                }
                None => String::new(),
            };
            write!(text, "\n[… {left_out} bytes are left out here{place} …]\n")
                .expect("a String takes everything");
        }
        text.push_str(&String::from_utf8_lossy(self.tail.make_contiguous()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_as_it_came() {
        let dir = tempfile::tempdir().unwrap();
        let mut text = Bounded::new(&Kept::of(dir.path()), "1".to_owned());
        let whole = "0123456789".repeat(RESULT_MAX / 10);
        for chunk in whole.as_bytes().chunks(7_001) {
            text.push(chunk);
        }
        assert_eq!(text.end(), whole);
        text.push(b"later");
        assert_eq!(text.end(), whole);
        assert!(!dir.path().join(".twobox").exists());
    }

    #[test]
    fn of_a_long_one_the_middle_is_in_a_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut text = Bounded::new(&Kept::of(dir.path()), "1".to_owned());
        let whole = (0..20_000).map(|it| format!("{it}\n")).collect::<String>();
        for chunk in whole.as_bytes().chunks(7_001) {
            text.push(chunk);
        }
        let shown = text.end();
        assert!(shown.len() < RESULT_MAX + 300, "{}", shown.len());
        assert!(shown.starts_with("0\n1\n") && shown.ends_with("\n19999\n"));
        let left_out = format!("{} bytes are left out", whole.len() - RESULT_MAX);
        assert!(shown.contains(&left_out), "{shown}");
        let file = dir.path().join(".twobox/output/1.txt");
        assert!(shown.contains(&file.display().to_string()));
        assert_eq!(std::fs::read_to_string(file).unwrap(), whole);
    }
}
