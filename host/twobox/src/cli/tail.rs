//! `twobox sessions tail`: both boxes of a session as one conversation, in the order of `seq`.
//!
//! A look opens each box for one read and closes it: a reader that stays would keep the host from
//! committing.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use twobox_shared::content::Chat;
use twobox_shared::inbox::InboxReader;
use twobox_shared::open::{BoxError, Remedy};
use twobox_shared::outbox::{self, Source};
use twobox_shared::paths::SessionPaths;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;
use twobox_shared::visible;

use super::output::Failure;
use super::sessions::PATIENCE;
use super::{Context, select};

/// How often `--follow` looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// How many rows of the outbox one read takes.
const PAGE: u32 = 1000;

/// One message, in either direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Entry {
    seq: Seq,
    direction: &'static str,
    id: String,
    timestamp: Option<UnixMillis>,
    kind: String,
    /// Of an incoming message; an outgoing one has none of its own.
    status: Option<String>,
    text: String,
}

pub(super) fn run(
    context: &Context,
    part: &str,
    number: u32,
    follow: bool,
) -> Result<ExitCode, Failure> {
    let (data, store) = context.look_store()?;
    let session = select::session(&store, part)?;
    drop(store);
    let paths = data.session_paths(session.agent_id, session.id);
    let mut after = (Seq(0), Seq(0));
    let mut entries = look(&paths, after, number)?;
    let surplus = entries.len().saturating_sub(number as usize);
    after = newest(&entries, after);
    entries.drain(..surplus);
    loop {
        for entry in &entries {
            context.output.show(entry, line);
        }
        if !follow {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(INTERVAL);
        entries = match look(&paths, after, PAGE) {
            // Somebody writes just now.
            Err(error) if matches!(error.remedy(), Remedy::TryAgain | Remedy::Repair) => Vec::new(),
            looked => looked?,
        };
        after = newest(&entries, after);
    }
}

/// How far both boxes have been shown. A number of one box says nothing about the other: the two
/// sides write concurrently.
fn newest(entries: &[Entry], before: (Seq, Seq)) -> (Seq, Seq) {
    entries.iter().fold(before, |(inward, outward), entry| match entry.direction {
        "in" => (inward.max(entry.seq), outward),
        _ => (inward, outward.max(entry.seq)),
    })
}

/// Rows above `after`, the newest `number` of the inbox at most and all of the outbox.
fn look(paths: &SessionPaths, after: (Seq, Seq), number: u32) -> Result<Vec<Entry>, BoxError> {
    let mut entries = Vec::new();
    let mut high_water = Seq(0);
    if paths.inbound_db().exists() {
        let inbox = InboxReader::open(&paths.inbound_db())?;
        high_water = inbox.high_water()?;
        entries.extend(inbox.newest(after.0, number)?.into_iter().map(|message| Entry {
            seq: message.seq,
            direction: "in",
            id: message.id.to_string(),
            timestamp: message.timestamp,
            kind: message.kind,
            status: Some(message.status),
            text: Chat::from_content(&message.content).text,
        }));
    }
    // Of a first look only the end is wanted; seqs grow by about two for each row.
    let window = i64::from(number.max(100)) * 8;
    let mut from = after.1.max(Seq(high_water.0 - window));
    loop {
        let read = |outbox: &outbox::UntrustedOutbox<'_>| outbox.rows(from, high_water, PAGE);
        let page = outbox::read_untrusted(&paths.outbound_db(), Source::Live, PATIENCE, read)?;
        let page = page.unwrap_or_default();
        from = page.rows.last().map_or(from, |row| row.seq);
        high_water = high_water.max(from);
        entries.extend(page.rows.into_iter().map(|row| Entry {
            text: row.chat().text,
            seq: row.seq,
            direction: "out",
            id: row.id.to_string(),
            timestamp: row.timestamp,
            kind: row.kind,
            status: None,
        }));
        if !page.more {
            break;
        }
    }
    entries.sort_by_key(|entry| entry.seq);
    Ok(entries)
}

fn line(entry: &Entry) -> String {
    let time = entry.timestamp.map_or_else(|| "-".to_owned(), |time| time.to_string());
    let arrow = if entry.direction == "in" { ">" } else { "<" };
    let status = match entry.status.as_deref() {
        None | Some("completed") => String::new(),
        Some(status) => format!(" [{status}]"),
    };
    let kind = if entry.kind == "chat" { String::new() } else { format!(" ({})", entry.kind) };
    // A line begins with a number, and what is said has no line of its own.
    let text = visible::marked(&entry.text, "       | ");
    let head = format!("{:>6} {time} {arrow}{status}{kind}", entry.seq.0);
    format!("{} {text}", visible::line(&head))
}
