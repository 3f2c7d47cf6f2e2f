//! Server-sent events, as far as the APIs of models and MCP use them: the data of each event, and where a stream
//! is to go on that broke off. (What an event is called stands in its data as well.)
//!
//! Source: <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>.

use std::time::Duration;

/// The longest event, in bytes.
const EVENT_MAX: usize = 8 << 20;

/// The longest name of an event, in bytes.
const ID_MAX: usize = 1 << 10;

/// A stream as far as it was read.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The line that is not whole yet.
    line: Vec<u8>,
    /// The data of the event that is not whole yet; `None` if it has no line of data.
    data: Option<String>,
    /// Whether the last byte was a carriage return: a line feed after it ends no other line.
    returned: bool,
    /// Whether a line was read: before the first there may be a byte order mark.
    begun: bool,
    /// What the event is called that is not whole yet, and the last one that was.
    next_id: Option<String>,
    last_id: Option<String>,
    /// How long whoever reads on is to wait first, if the stream says so.
    retry: Option<Duration>,
}

/// An event is longer than [`EVENT_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Events {
    /// Reads on, and returns the data of the events that are whole by now.
    ///
    /// # Errors
    /// If an event is too long to be one. Nothing can be read after that.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Result<Vec<String>, TooLong> {
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

    /// The stream that goes on where `before` broke off.
    pub(crate) fn of(before: &Self) -> Self {
        Self { last_id: before.last_id.clone(), retry: before.retry, ..Self::default() }
    }

    /// Behind which event the stream is to go on, if it says so.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// After which time it may be asked to.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Takes the line in. An empty one ends an event, which is returned if it has data.
    fn end_line(&mut self) -> Option<String> {
        let line = String::from_utf8_lossy(&self.line);
        let line = match std::mem::replace(&mut self.begun, true) {
            false => line.strip_prefix('\u{feff}').unwrap_or(&line),
            true => &line,
        };
        let whole = match line.is_empty() {
            true => {
                if let Some(id) = self.next_id.take() {
                    self.last_id = Some(id).filter(|id| !id.is_empty());
                }
                self.data.take()
            }
            false => {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "data" => match &mut self.data {
                        Some(data) => data.extend(["\n", value]),
                        none => *none = Some(value.to_owned()),
                    },
                    "id" if value.len() <= ID_MAX && !value.contains('\0') => {
                        self.next_id = Some(value.to_owned());
                    }
                    "retry" => {
                        let millis = value.parse().map(Duration::from_millis);
                        self.retry = millis.ok().or(self.retry);
                    }
                    _ => {} // comments, and the fields that say nothing to us
                }
                None
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
    fn a_stream_says_where_it_goes_on_by_its_last_whole_event() {
        let stream = "id: 1\nretry: 20\ndata:\n\nid: 2\n\nid: b\0d\n\nretry: x\n\nid: 3\ndata: cut";
        for cut in 0..=stream.len() {
            let (before, after) = stream.as_bytes().split_at(cut);
            let mut events = Events::default();
            events.read(before).unwrap();
            events.read(after).unwrap();
            assert_eq!(events.last_id(), Some("2"), "cut at {cut}");
            assert_eq!(events.retry(), Some(Duration::from_millis(20)), "cut at {cut}");
        }
        let mut events = Events::default();
        events.read(b"id: 1\n\nid:\n\n").unwrap();
        assert_eq!(events.last_id(), None, "it has taken it back");
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
