//! Lines with a limit: what is longer is dropped up to its end, and never held in memory.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The longest line in either direction, in bytes, without its end.
pub const LINE_MAX: usize = twobox_shared::bounds::SOCKET_LINE.most;

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line, without its end.
    Text(Vec<u8>),
    /// A line of more than [`LINE_MAX`] bytes, which was dropped.
    TooLong,
}

/// Reads lines. [`LineReader::next`] may be dropped and called again without losing a byte.
#[derive(Debug)]
pub struct LineReader<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    too_long: bool,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self { input: BufReader::new(input), line: Vec::new(), too_long: false }
    }

    /// The next line; `None` at the end. An unfinished last line is nobody's and is dropped.
    ///
    /// # Errors
    /// Those of the input.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let bytes = self.input.fill_buf().await?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(bytes.len());
            if self.line.len() + taken > LINE_MAX {
                self.too_long = true;
                self.line = Vec::new();
            }
            if !self.too_long {
                self.line.extend_from_slice(&bytes[..taken]);
            }
            self.input.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                return Ok(Some(match std::mem::take(&mut self.too_long) {
                    true => Line::TooLong,
                    false => Line::Text(line),
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_line_is_dropped_and_the_next_one_is_whole() {
        let exact = vec![b'x'; LINE_MAX];
        let mut input = exact.clone();
        input.extend_from_slice(b"\n");
        input.extend(vec![b'y'; LINE_MAX + 1]);
        input.extend_from_slice(b"\nshort\n\nunfinished");
        let mut lines = LineReader::new(input.as_slice());
        let expected =
            [Line::Text(exact), Line::TooLong, Line::Text(b"short".to_vec()), Line::Text(vec![])];
        for line in expected {
            assert!(lines.next().await.unwrap() == Some(line));
        }
        assert!(lines.next().await.unwrap().is_none());
    }
}
