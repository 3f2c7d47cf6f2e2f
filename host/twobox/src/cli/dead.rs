//! `twobox dead`: what ended without success: messages without an answer, answers and notices that
//! were not delivered, or of which nobody knows.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use twobox_shared::content::Chat;
use twobox_shared::dead_letter::{DeadDelivery, DeadMessage, Payload};
use twobox_shared::ids::{AgentGroupId, SessionId};
use twobox_shared::inbox::InboxReader;
use twobox_shared::outbox::{self, Source};
use twobox_shared::visible;

use super::client::Client;
use super::output::{Failure, table};
use super::sessions::PATIENCE;
use super::{Context, output, select};
use twobox_channels::socket::{Chosen, Event, Request};
use twobox_model::dead_letter::{DeadLetterOutcome, Handled, Kind, Verb, notice_id};
use twobox_store::Store;
use twobox_store::examined::DeadNotice;
use twobox_store::refused::Refused;
use twobox_system::data::DataDir;

/// How many of each kind are listed for one session, the newest.
const LIMIT: u32 = 1000;

/// What can be done with what ended without success. A SESSION may be given by its beginning or end.
#[derive(Debug, Subcommand)]
pub(super) enum DeadCommand {
    /// List it.
    List {
        /// Only that of this session.
        session: Option<String>,
        /// A line for each, also for those that ended alike.
        #[arg(long)]
        each: bool,
    },
    /// Show one message, delivery or notice, with what it says.
    Show {
        /// The session's id, or its beginning or end.
        session: String,
        /// The id, as `list` shows it.
        id: String,
    },
    /// Give messages new attempts, and send deliveries and notices once more. The host must run.
    /// Twice does no more than once.
    Redrive {
        /// The session's id, or its beginning or end.
        session: String,
        /// The ids, as `list` shows them.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<String>,
        /// Only what is of this kind: a container may choose an id that a message has.
        #[arg(long)]
        kind: Option<Kind>,
        /// Everything in this session.
        #[arg(long)]
        all: bool,
    },
    /// Give it up: it is not listed any more, and cannot be redriven. The host must run.
    Drop {
        /// The session's id, or its beginning or end.
        session: String,
        /// The ids, as `list` shows them.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Only what is of this kind: a container may choose an id that a message has.
        #[arg(long)]
        kind: Option<Kind>,
    },
}

/// What an order is about.
#[derive(Debug)]
pub(super) struct Which {
    /// Only things of this kind.
    pub(super) kind: Option<Kind>,
    /// Which; all without it.
    pub(super) ids: Option<Vec<String>>,
}

/// One thing that ended without success.
#[derive(Debug, Serialize)]
struct Dead {
    session: SessionId,
    id: String,
    status: String,
    reason: String,
    text: String,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum What {
    Message { message: DeadMessage },
    Delivery { delivery: DeadDelivery, row: Option<Payload> },
    Notice { notice: DeadNotice },
}

impl What {
    const fn kind(&self) -> Kind {
        match self {
            Self::Message { .. } => Kind::Message,
            Self::Delivery { .. } => Kind::Delivery,
            Self::Notice { .. } => Kind::Notice,
        }
    }
}

/// What was refused and only counted, of one session.
#[derive(Debug, Serialize)]
struct Counted {
    session: SessionId,
    #[serde(flatten)]
    refused: Refused,
}

pub(super) fn list(context: &Context, part: Option<&str>, each: bool) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let store = Store::look(&data.host_db())?;
    context.warn_elsewhere(&store, &data);
    let sessions = match part {
        Some(part) => {
            let session = select::session(&store, part)?;
            vec![(session.agent_id, session.id)]
        }
        None => store.sessions().folders().wait()?,
    };
    let (mut all, mut counted, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for session in sessions {
        let refused = store.refusals().of_session(session.1).wait()?.into_iter();
        counted.extend(refused.map(|refused| Counted { session: session.1, refused }));
        match of_session(&data, &store, session) {
            Ok(dead) => all.extend(dead),
            // One damaged session does not hide the others.
            Err(failure) => unread.push(json!({
                "session": session.1, "error": failure.reason(),
            })),
        }
    }
    let answer = json!({ "dead": all, "counted": counted, "unread": unread });
    context.output.show(&answer, |_| readable(&all, &counted, &unread, each));
    Ok(if unread.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn show(context: &Context, part: &str, id: &str) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let store = Store::look(&data.host_db())?;
    context.warn_elsewhere(&store, &data);
    let session = select::session(&store, part)?;
    let found: Vec<Dead> = of_session(&data, &store, (session.agent_id, session.id))?
        .into_iter()
        .filter(|dead| dead.id == id)
        .collect();
    if found.is_empty() {
        return Err(Failure::new(format!(
            "nothing with the id {id:?} ended without success in session {}: `twobox dead list` \
             shows what did",
            session.id
        )));
    }
    context.output.show(&json!({ "dead": found }), |_| {
        let told: Vec<String> = found
            .iter()
            .map(|dead| serde_json::to_string_pretty(dead).expect("what we print serialises"))
            .map(|pretty| visible::json(&pretty))
            .collect();
        told.join("\n")
    });
    Ok(ExitCode::SUCCESS)
}

fn of_session(
    data: &DataDir,
    store: &Store,
    (group, session): (AgentGroupId, SessionId),
) -> Result<Vec<Dead>, Failure> {
    let paths = data.session_paths(group, session);
    let (messages, deliveries) = match paths.inbound_db().exists() {
        true => {
            let inbox = InboxReader::open(&paths.inbound_db())?;
            (inbox.dead_messages(LIMIT)?, inbox.dead_deliveries(LIMIT)?)
        }
        false => (Vec::new(), Vec::new()),
    };
    // The inbox tells what happened; what a row said is worth showing if it can still be read.
    let ids = || deliveries.iter().map(|delivery| &delivery.id);
    let mut payloads = match deliveries.is_empty() {
        true => Default::default(),
        false => outbox::read_untrusted(&paths.outbound_db(), Source::Live, PATIENCE, |outbox| {
            outbox.payloads(ids())
        })
        .ok()
        .flatten()
        .unwrap_or_default(),
    };
    let mut dead: Vec<Dead> =
        messages.into_iter().map(|message| from_message(session, message)).collect();
    for delivery in deliveries {
        let row = payloads.remove(&delivery.id);
        dead.push(from_delivery(session, delivery, row));
    }
    dead.extend(store.notices().dead(session).wait()?.into_iter().map(|notice| Dead {
        session,
        id: notice_id(&notice.cause),
        status: notice.status.clone(),
        reason: notice.error.clone().unwrap_or_default(),
        text: notice.text.clone(),
        what: What::Notice { notice },
    }));
    Ok(dead)
}

fn from_message(session: SessionId, message: DeadMessage) -> Dead {
    let reason = message
        .failure
        .as_ref()
        .map(|failure| format!("{} {}", failure.reason, failure.detail).trim().to_owned());
    Dead {
        session,
        id: message.id.to_string(),
        status: "failed".to_owned(),
        reason: reason.unwrap_or_default(),
        text: Chat::from_content(&message.content).text,
        what: What::Message { message },
    }
}

fn from_delivery(session: SessionId, delivery: DeadDelivery, row: Option<Payload>) -> Dead {
    let content = row.as_ref().and_then(|row| row.content.as_deref());
    Dead {
        session,
        id: delivery.id.to_string(),
        status: delivery.status.clone(),
        reason: delivery.error.clone().unwrap_or_default(),
        text: content.map(|content| Chat::from_content(content).text).unwrap_or_default(),
        what: What::Delivery { delivery, row },
    }
}

/// So many that ended alike, one after the other, are one line.
const ALIKE: usize = 4;

fn readable(all: &[Dead], counted: &[Counted], unread: &[serde_json::Value], each: bool) -> String {
    let alike = |one: &Dead, other: &Dead| {
        (one.session, one.what.kind(), &one.status, &one.reason)
            == (other.session, other.what.kind(), &other.status, &other.reason)
    };
    let row = |dead: &Dead, times: usize| {
        let status = match times {
            1 => dead.status.clone(),
            times => format!("{} ×{times}", dead.status),
        };
        [
            dead.session.to_string(),
            dead.what.kind().word().to_owned(),
            status,
            one_line(&dead.id),
            one_line(&dead.reason),
            one_line(&dead.text),
        ]
    };
    let mut rows = Vec::new();
    for group in all.chunk_by(alike) {
        match group.last() {
            Some(last) if !each && group.len() >= ALIKE => rows.push(row(last, group.len())),
            _ => rows.extend(group.iter().map(|dead| row(dead, 1))),
        }
    }
    let folded = rows.len() < all.len();
    let mut text = match rows.is_empty() {
        true if counted.is_empty() => "nothing ended without success".to_owned(),
        true => String::new(),
        false => table(["SESSION", "KIND", "STATUS", "ID", "REASON", "TEXT"], &rows),
    };
    if folded {
        text.push_str(
            "\n× stands for several that ended alike, with the last one's id; --each lists them",
        );
    }
    for Counted { session, refused } in counted {
        let Refused { count, first_at, last_at, error, .. } = refused;
        let line = format!(
            "refused and only counted: {session} ×{count} from {first_at} to {last_at}, the last: {}",
            one_line(error)
        );
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&line);
    }
    for session in unread {
        text.push_str(&format!("\nnot read: {} {}", session["session"], session["error"])); // JSON: one line
    }
    text
}

/// The beginning of a text, for a table.
fn one_line(text: &str) -> String {
    const MAX: usize = 60;
    let line: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    match line.chars().count() > MAX {
        true => format!("{}…", line.chars().take(MAX - 1).collect::<String>()),
        false => line,
    }
}

/// Has the host carry out an order about things of one session: it alone writes what they lie in.
pub(super) async fn order(
    context: &Context,
    verb: Verb,
    part: &str,
    which: Which,
) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let store = Store::look(&data.host_db())?;
    context.warn_elsewhere(&store, &data);
    let session = select::session(&store, part)?.id;
    drop(store);
    let chosen = Chosen { session, kind: which.kind, ids: which.ids };
    let request = match verb {
        Verb::Redrive => Request::Redrive(chosen),
        Verb::Drop => Request::Drop(chosen),
    };
    let mut client = Client::reach(&data.socket()).await?;
    let results = match client.answer(&request).await? {
        Event::Handled { results, .. } => results,
        other => {
            return Err(Failure::new(format!("the host answered something else: {other:?}")));
        }
    };
    let refused = results.iter().any(|handled| handled.outcome == DeadLetterOutcome::Refused);
    context.output.show(&json!({ "session": session, "results": results }), |_| {
        let lines: Vec<String> = results.iter().map(sentence).collect();
        match lines.is_empty() {
            true => "nothing ended without success".to_owned(),
            false => output::lines(&lines),
        }
    });
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn sentence(handled: &Handled) -> String {
    let what = handled.kind.map(|kind| format!("{} ", kind.word())).unwrap_or_default();
    let outcome = match (handled.outcome, handled.kind) {
        (DeadLetterOutcome::Redriven, Some(Kind::Message)) => "will be tried once more",
        (DeadLetterOutcome::Redriven, _) => "will be sent once more",
        (DeadLetterOutcome::Dropped, _) => "dropped",
        (DeadLetterOutcome::Unchanged, _) => "nothing to do",
        (DeadLetterOutcome::Refused, _) => "refused",
    };
    let note = handled.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
    format!("{what}{}: {outcome}{note}", handled.id)
}
