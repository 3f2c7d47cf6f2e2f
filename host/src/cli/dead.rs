//! `twobox dead`: what ended without success: messages without an answer, answers and notices that
//! were not delivered, or of which nobody knows.

use std::process::ExitCode;

use clap::Subcommand;
use rusqlite::Connection;
use serde::Serialize;
use serde_json::json;
use twobox_shared::content::Chat;
use twobox_shared::dead::{DeadDelivery, DeadMessage, Payload};
use twobox_shared::ids::{AgentGroupId, MessageId, SessionId};
use twobox_shared::inbox::InboxReader;
use twobox_shared::outbox::{self, Source};

use super::output::{Failure, printable, table};
use super::sessions::PATIENCE;
use super::{Context, select};
use crate::data::DataDir;
use crate::db::audit::{self, DeadNotice};

/// How many of each kind are listed for one session, the newest.
const LIMIT: u32 = 1000;

/// What can be done with what ended without success. A SESSION may be given by its beginning or end.
#[derive(Debug, Subcommand)]
pub(super) enum DeadCommand {
    /// List it.
    List {
        /// Only that of this session.
        session: Option<String>,
    },
    /// Show one message, delivery or notice, with what it says.
    Show {
        /// The session's id, or its beginning or end.
        session: String,
        /// The id, as `list` shows it.
        id: String,
    },
    /// Give a failed message new attempts. The host must run. Twice does no more than once.
    Redrive {
        /// The session's id, or its beginning or end.
        session: String,
        /// The message's id, as `list` shows it.
        id: MessageId,
    },
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
    const fn word(&self) -> &'static str {
        match self {
            Self::Message { .. } => "message",
            Self::Delivery { .. } => "delivery",
            Self::Notice { .. } => "notice",
        }
    }
}

pub(super) fn list(context: &Context, part: Option<&str>) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let db = audit::open(&data.host_db())?;
    let sessions = match part {
        Some(part) => {
            let session = select::session(&db, part)?;
            vec![(session.agent_id, session.id)]
        }
        None => audit::folders(&db)?,
    };
    let (mut all, mut unread) = (Vec::new(), Vec::new());
    for session in sessions {
        match of_session(&data, &db, session) {
            Ok(dead) => all.extend(dead),
            // One damaged session does not hide the others.
            Err(failure) => unread.push(json!({
                "session": session.1, "error": failure.reason(),
            })),
        }
    }
    let answer = json!({ "dead": all, "unread": unread });
    context.output.show(&answer, |_| printable(&readable(&all, &unread)));
    Ok(if unread.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn show(context: &Context, part: &str, id: &str) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let db = audit::open(&data.host_db())?;
    let session = select::session(&db, part)?;
    let found: Vec<Dead> = of_session(&data, &db, (session.agent_id, session.id))?
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
    context.output.show(&found, |found| {
        let told: Vec<String> = found
            .iter()
            .map(|dead| serde_json::to_string_pretty(dead).expect("what we print serialises"))
            .collect();
        printable(&told.join("\n"))
    });
    Ok(ExitCode::SUCCESS)
}

fn of_session(
    data: &DataDir,
    db: &Connection,
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
    dead.extend(audit::dead_notices(db, session)?.into_iter().map(|notice| Dead {
        session,
        id: format!("notice:{}", notice.cause),
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

fn readable(all: &[Dead], unread: &[serde_json::Value]) -> String {
    let rows: Vec<_> = all
        .iter()
        .map(|dead| {
            [
                dead.session.to_string(),
                dead.what.word().to_owned(),
                dead.status.clone(),
                one_line(&dead.id),
                one_line(&dead.reason),
                one_line(&dead.text),
            ]
        })
        .collect();
    let mut text = match rows.is_empty() {
        true => "nothing ended without success".to_owned(),
        false => table(["SESSION", "KIND", "STATUS", "ID", "REASON", "TEXT"], &rows),
    };
    for session in unread {
        text.push_str(&format!("\nnot read: {} {}", session["session"], session["error"]));
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

/// The existing retry, for one message.
pub(super) async fn redrive(
    context: &Context,
    part: &str,
    id: MessageId,
) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let db = audit::open(&data.host_db())?;
    let session = select::session(&db, part)?;
    let dead = of_session(&data, &db, (session.agent_id, session.id))?;
    drop(db);
    let named = |dead: &&Dead| dead.id == id.as_str();
    match dead.iter().find(named).map(|dead| &dead.what) {
        Some(What::Delivery { .. } | What::Notice { .. }) => Err(Failure::new(format!(
            "{id} is something that the host could not deliver, and only messages can be tried \
             again: its text is in `twobox dead show`, and `twobox send` can say it anew"
        ))),
        Some(What::Message { .. }) | None => {
            super::sessions::retry(context, &session.id.to_string(), Some(id)).await
        }
    }
}
