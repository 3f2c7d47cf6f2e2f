//! Lines of bounded length, as JSON-RPC goes over pipes and sockets.

use std::io::{self, BufRead, Read};

/// What reading a line came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, without its end.
    Text(Vec<u8>),
    /// It was longer than it may be, and was passed over.
    TooLong,
    /// There is no more.
    End,
}

/// Reads a line of at most `max` bytes. What the last line lacks at its end is no matter.
///
/// # Errors
/// Whatever reading returns.
pub(crate) fn read_line(reader: &mut impl BufRead, max: usize) -> io::Result<Line> {
    let mut line = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(Line::End);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Line::Text(line));
    }
    if line.len() <= max {
        return Ok(Line::Text(line));
    }
    drop(line);
    pass_over(reader)?;
    Ok(Line::TooLong)
}

/// Reads to the end of a line, and keeps none of it.
fn pass_over(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let (length, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        reader.consume(length);
        if ended {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_costs_no_other() {
        let mut reader = io::BufReader::with_capacity(2, &b"one\n12345\n123456\nlast"[..]);
        let mut next = || read_line(&mut reader, 5).unwrap();
        assert_eq!(next(), Line::Text(b"one".to_vec()));
        assert_eq!(next(), Line::Text(b"12345".to_vec()));
        assert_eq!(next(), Line::TooLong);
        assert_eq!(next(), Line::Text(b"last".to_vec()));
        assert_eq!(next(), Line::End);
    }
}
