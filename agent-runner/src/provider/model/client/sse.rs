//! Server-sent events, as far as the APIs of models use them: the data of each event. (What an event is
//! called stands in its data as well.)
//!
//! Source: <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>.

/// The longest event, in bytes.
const EVENT_MAX: usize = 8 << 20;

/// A stream as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The line that is not whole yet.
    line: Vec<u8>,
    /// The data of the event that is not whole yet; `None` if it has no line of data.
    data: Option<String>,
    /// Whether the last byte was a carriage return: a line feed after it ends no other line.
    returned: bool,
    /// Whether a line was read: before the first there may be a byte order mark.
    begun: bool,
}

/// An event is longer than [`EVENT_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Events {
    /// Reads on, and returns the data of the events that are whole by now.
    ///
    /// # Errors
    /// If an event is too long to be one. Nothing can be read after that.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<Vec<String>, TooLong> {
        let mut events = Vec::new();
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.returned) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            self.line.extend_from_slice(piece);
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > EVENT_MAX {
                return Err(TooLong);
            }
            let Some(end) = end else { break };
            self.returned = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            events.extend(self.end_line());
        }
        Ok(events)
    }

    /// Takes the line in. An empty one ends an event, which is returned if it has data.
    fn end_line(&mut self) -> Option<String> {
        let line = String::from_utf8_lossy(&self.line);
        let line = match std::mem::replace(&mut self.begun, true) {
            false => line.strip_prefix('\u{feff}').unwrap_or(&line),
            true => &line,
        };
        let whole = match line.is_empty() {
            true => self.data.take(),
            false => {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                if field == "data" {
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    match &mut self.data {
                        Some(data) => data.extend(["\n", value]),
                        none => *none = Some(value.to_owned()),
                    }
                }
                None // comments, and the fields that say nothing to us
            }
        };
        self.line.clear();
        self.line.shrink_to(16 << 10);
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: [(&str, &[&str]); 9] = [
        ("data: a\n\n", &["a"]),
        ("data:a\r\n\r\ndata:  b\r\rdata: c\n\n", &["a", " b", "c"]),
        ("\u{feff}data: a\n\n\u{feff}data: lost\n\n", &["a"]),
        (": ping\n\nevent: x\nid: 1\nretry: 5\ndata: a\n: more\ndata: b\n\n", &["a\nb"]),
        ("event: no data\n\ndata\n\ndata: \n\n", &["", ""]),
        ("data: cut off", &[]),
        ("data: cut off\n", &[]),
        ("\n\n\r\n\r\r", &[]),
        ("data: ä€𝄞\n\n", &["ä€𝄞"]),
    ];

    #[test]
    fn events_are_the_same_however_a_stream_is_cut() {
        for (stream, expected) in CASES {
            for cut in 0..=stream.len() {
                let (before, after) = stream.as_bytes().split_at(cut);
                let mut events = Events::default();
                let mut read = events.read(before).unwrap();
                read.extend(events.read(after).unwrap());
                assert_eq!(read, expected, "{stream:?} cut at {cut}");
            }
            let mut events = Events::default();
            let bytes = stream.as_bytes().chunks(1);
            let read: Vec<_> = bytes.flat_map(|byte| events.read(byte).unwrap()).collect();
            assert_eq!(read, expected, "{stream:?} byte by byte");
        }
    }

    #[test]
    fn an_event_without_an_end_is_not_kept() {
        let line = vec![b'x'; EVENT_MAX + 1];
        assert_eq!(Events::default().read(&line), Err(TooLong));
        let mut events = Events::default();
        let lines = [b"data: ", &*vec![b'y'; 1 << 20], b"\n"].concat();
        let last = (0..20).map(|_| events.read(&lines)).find(Result::is_err);
        assert_eq!(last, Some(Err(TooLong)));
    }
}
