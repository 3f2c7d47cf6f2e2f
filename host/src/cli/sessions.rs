//! `twobox sessions`: list, show, retry. `tail`, `tasks` and `fsck` have modules of their own.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use twobox_shared::history::StoredMessage;
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::InboxReader;
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{self, Source, ToolState};
use twobox_shared::paths::SessionPaths;

use super::client::Client;
use super::output::{Failure, chain, table};
use super::{Context, output, select};
use crate::channel::socket::{Event, Request};
use crate::db::{agents, overview};

/// How long a look at a container's outbox may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What can be done with sessions. An ID may be given by its beginning or end.
#[derive(Debug, Subcommand)]
pub(super) enum SessionsCommand {
    /// List sessions, the one active last first.
    List {
        /// Only those of this agent.
        #[arg(long)]
        agent: Option<String>,
    },
    /// Show one session and what is open in it.
    Show {
        /// The session's id, or its beginning or end.
        id: String,
    },
    /// Show the last messages of a session, in both directions.
    Tail {
        /// The session's id, or its beginning or end.
        id: String,
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20)]
        number: u32,
        /// Go on as messages come.
        #[arg(long)]
        follow: bool,
    },
    /// Show what the agent has put off for later, when it is due, and what became of the last.
    Tasks {
        /// The session's id, or its beginning or end.
        id: String,
    },
    /// Give failed messages new attempts and lift a quarantine. The host must run.
    Retry {
        /// The session's id, or its beginning or end.
        id: String,
        /// Only this message.
        #[arg(long)]
        message: Option<MessageId>,
    },
    /// Let a session's container go, so that its next turn has a fresh one. A turn that is under way is
    /// begun again. The host must run.
    Restart {
        /// The session's id, or its beginning or end.
        id: String,
    },
    /// Check what lies in the session folders. Changes nothing without --repair.
    Fsck {
        /// The session's id, or its beginning or end; all sessions without it.
        id: Option<String>,
        /// Mend what can be mended safely. The host must be stopped.
        #[arg(long)]
        repair: bool,
    },
}

pub(super) fn list(context: &Context, agent: Option<&str>) -> Result<ExitCode, Failure> {
    let (_, db) = context.look_db()?;
    let agent = agent.map(|name| agents::find(&db, name)).transpose()?;
    let sessions = overview::sessions(&db, agent.map(|agent| agent.id))?;
    context.output.show(&sessions, |sessions| {
        let rows: Vec<_> = sessions
            .iter()
            .map(|session| {
                [
                    session.id.to_string(),
                    session.agent.clone(),
                    session.thread.as_deref().unwrap_or("-").to_owned(),
                    session.status.clone(),
                    if session.running { "running" } else { "-" }.to_owned(),
                    session.last_active.to_string(),
                ]
            })
            .collect();
        match rows.is_empty() {
            true => "no sessions yet: a first message makes one".to_owned(),
            false => table(["ID", "AGENT", "THREAD", "STATUS", "CONTAINER", "LAST ACTIVE"], &rows),
        }
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn show(context: &Context, part: &str) -> Result<ExitCode, Failure> {
    let (data, db) = context.look_db()?;
    let session = select::session(&db, part)?;
    drop(db);
    let folder = data.session_folder(session.agent_id, session.id);
    let paths = SessionPaths::of_folder(&folder);
    let mut inbox = read_inbox(&paths);
    let outbox = outbox::read_untrusted(&paths.outbound_db(), Source::Live, PATIENCE, |outbox| {
        let open = inbox.iter().flat_map(|inbox| &inbox.open).map(|message| &message.id);
        Ok((outbox.tool()?, outbox.acks(open)?))
    })
    .map(Option::unwrap_or_default);
    let (tool, acks) = match outbox {
        Ok((tool, acks)) => (Ok(tool), acks),
        Err(error) => (Err(error), HashMap::new()),
    };
    if let Ok(inbox) = &mut inbox {
        for message in &mut inbox.open {
            let last = acks.get(&message.id).and_then(|ack| ack.failure.clone());
            message.failure = message.failure.take().or(last);
        }
    }
    let told = |error: &BoxError| chain(error);
    let answer = json!({
        "session": session,
        "folder": folder,
        "messages": inbox.as_ref().ok().map(|inbox| {
            inbox.counts.iter().cloned().collect::<std::collections::BTreeMap<_, _>>()
        }),
        "open": inbox.as_ref().ok().map(|inbox| &inbox.open),
        "inbox_error": inbox.as_ref().err().map(told),
        "tool": tool.as_ref().ok().and_then(|tool| tool.current.clone()),
        "outbox_error": tool.as_ref().err().map(told),
    });
    context.output.show(&answer, |_| {
        let mut lines = vec![
            format!("session    {}", session.id),
            format!("agent      {}", session.agent),
            format!("place      {} {}", session.channel_type, session.platform_id),
            format!("thread     {}", session.thread.as_deref().unwrap_or("-")),
            format!("status     {}", session.status),
            format!("container  {}", if session.running { "running" } else { "none" }),
            format!("made       {}", session.created_at),
            format!("active     {}", session.last_active),
            format!("folder     {}", folder.display()),
        ];
        lines.extend(session.quarantine_reason.iter().map(|why| format!("reason     {why}")));
        lines.extend(
            session
                .start_error
                .iter()
                .map(|why| format!("start      failed {} times: {why}", session.failed_starts)),
        );
        describe_inbox(&inbox, &mut lines);
        match &tool {
            Ok(ToolState { current: Some(tool), .. }) => lines.push(format!("tool       {tool}")),
            Ok(_) => {}
            Err(error) => lines.push(format!("outbox     {}", chain(error))),
        }
        output::lines(&lines)
    });
    Ok(ExitCode::SUCCESS)
}

struct InboxView {
    counts: Vec<(String, i64)>,
    /// Pending and failed among the newest rows.
    open: Vec<StoredMessage>,
}

fn read_inbox(paths: &SessionPaths) -> Result<InboxView, BoxError> {
    if !paths.inbound_db().exists() {
        return Ok(InboxView { counts: Vec::new(), open: Vec::new() });
    }
    let inbox = InboxReader::open(&paths.inbound_db())?;
    let mut open = inbox.newest(Default::default(), 1000)?;
    open.retain(|message| message.status != "completed" && message.status != "cancelled");
    Ok(InboxView { counts: inbox.count_by_status()?, open })
}

fn describe_inbox(inbox: &Result<InboxView, BoxError>, lines: &mut Vec<String>) {
    let inbox = match inbox {
        Ok(inbox) => inbox,
        Err(error) => return lines.push(format!("inbox      {}", chain(error))),
    };
    let counts: Vec<String> =
        inbox.counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
    lines.push(format!("messages   {counts}"));
    for message in &inbox.open {
        let why = message.failure.as_ref();
        let why = why.map(|failure| format!(": {} {}", failure.reason, failure.detail));
        lines.push(format!(
            "{:<9}  {} after {} tries{}",
            message.status,
            message.id,
            message.tries,
            why.unwrap_or_default()
        ));
    }
}

pub(super) async fn retry(
    context: &Context,
    part: &str,
    message: Option<MessageId>,
) -> Result<ExitCode, Failure> {
    let (data, db) = context.look_db()?;
    let session = select::session(&db, part)?.id;
    drop(db);
    let mut client = Client::reach(&data.socket()).await?;
    match client.answer(&Request::Retry { session, message }).await? {
        Event::Retried { count, .. } => {
            context.output.show(&json!({ "session": session, "retried": count }), |_| {
                format!("{count} messages will be tried again")
            });
            Ok(ExitCode::SUCCESS)
        }
        other => Err(Failure::new(format!("the host answered something else: {other:?}"))),
    }
}

pub(super) async fn restart(context: &Context, part: &str) -> Result<ExitCode, Failure> {
    let (data, db) = context.look_db()?;
    let session = select::session(&db, part)?.id;
    drop(db);
    let mut client = Client::reach(&data.socket()).await?;
    match client.answer(&Request::Restart { session }).await? {
        Event::Restarted { stopped, .. } => {
            context.output.show(&json!({ "session": session, "stopped": stopped }), |_| {
                match stopped {
                    true => "its container is gone; the next turn has a fresh one".to_owned(),
                    false => "it had no container; the next turn has a fresh one".to_owned(),
                }
            });
            Ok(ExitCode::SUCCESS)
        }
        other => Err(Failure::new(format!("the host answered something else: {other:?}"))),
    }
}
