//! `twobox sessions`: list, show, retry. `tail`, `tasks` and `fsck` have modules of their own.

use std::cmp::Reverse;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::content::KIND_SYSTEM;
use twobox_shared::errors::chain;
use twobox_shared::history::StoredMessage;
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Delivery, InboxReader};
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{self, Source, ToolState};
use twobox_shared::paths::SessionPaths;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::client::Client;
use super::output::{Failure, count, count_of, table};
use super::{Context, output, select};
use twobox_channels::socket::{Event, Request};
use twobox_store::overview::{SessionKind, SessionOverview};

/// How long a look at a container's outbox may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What can be done with sessions. An ID may be given by its beginning or end.
#[derive(Debug, Subcommand)]
pub(super) enum SessionsCommand {
    /// List the sessions of chats, the one with the last message first.
    List {
        /// Only those of this agent.
        #[arg(long)]
        agent: Option<String>,
        /// Those that were made for a scheduled run too.
        #[arg(long)]
        runs: bool,
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
        /// Where host.db is lost: make a new one of what the sessions' folders tell. The host must be
        /// stopped.
        #[arg(long, conflicts_with_all = ["id", "repair"])]
        rebuild: bool,
    },
}

/// A session in a list.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    session: SessionOverview,
    /// When the last message went in or out, of a chat or a task.
    last_message: Option<UnixMillis>,
}

pub(super) fn list(
    context: &Context,
    agent: Option<&str>,
    runs: bool,
) -> Result<ExitCode, Failure> {
    let (data, store) = context.look_store()?;
    let agent = agent.map(|name| store.agents().find(name).wait()).transpose()?;
    let all = store.sessions().list(agent.map(|agent| agent.id)).wait()?;
    drop(store);
    let (shown, hidden): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|session| runs || session.kind == SessionKind::Chat);
    let now = SystemClock.now();
    let mut sessions: Vec<Listed> = shown
        .into_iter()
        .map(|session| {
            let paths = data.session_paths(session.agent_id, session.id);
            Listed { last_message: last_message(&paths, now), session }
        })
        .collect();
    sessions.sort_by_key(|listed| {
        let Listed { session, last_message } = listed;
        (Reverse(last_message.unwrap_or(session.created_at)), session.id)
    });
    let answer = json!({ "sessions": sessions, "runs_left_out": hidden.len() });
    context.output.show(&answer, |_| readable(&sessions, hidden.len()));
    Ok(ExitCode::SUCCESS)
}

fn readable(sessions: &[Listed], hidden: usize) -> String {
    let row = |listed: &Listed| {
        let Listed { session, last_message } = listed;
        let chat = match session.kind {
            SessionKind::Chat => format!("{} {}", session.channel_type, session.platform_id),
            SessionKind::Run => session.chat_name.clone().unwrap_or_else(|| "-".to_owned()),
        };
        [
            session.id.to_string(),
            session.agent.clone(),
            session.kind.word().to_owned(),
            chat,
            session.thread.as_deref().unwrap_or("-").to_owned(),
            session.status.clone(),
            if session.running { "running" } else { "-" }.to_owned(),
            last_message.map_or_else(|| "-".to_owned(), |time| time.to_string()),
        ]
    };
    let rows: Vec<_> = sessions.iter().map(row).collect();
    let heads = ["ID", "AGENT", "KIND", "CHAT", "THREAD", "STATUS", "CONTAINER", "LAST MESSAGE"];
    let mut text = match (rows.is_empty(), hidden) {
        (true, 0) => return "no sessions yet: a first message makes one".to_owned(),
        (true, _) => "no sessions of chats yet: a first message makes one".to_owned(),
        (false, _) => table(heads, &rows),
    };
    if hidden > 0 {
        let made = count_of(hidden, "session was made", "sessions were made");
        text.push_str(&format!("\n{made} for scheduled runs: --runs shows them too"));
    }
    text
}

/// When the last message went in or out that people or the agent have written. What cannot be read
/// just now counts for nothing here.
fn last_message(paths: &SessionPaths, now: UnixMillis) -> Option<UnixMillis> {
    /// Notes of the host are no messages, and rarely many in a row.
    const LOOK_AT: u32 = 50;
    let inward = match paths.inbound_db().exists() {
        true => InboxReader::open(&paths.inbound_db())
            .and_then(|inbox| inbox.newest(Default::default(), LOOK_AT))
            .unwrap_or_default(),
        false => Vec::new(),
    };
    let inward = inward.iter().rfind(|message| message.kind != KIND_SYSTEM);
    let outward = outbox::read_untrusted(&paths.outbound_db(), Source::Live, PATIENCE, |outbox| {
        let newest = outbox.newest()?;
        outbox.rows(Seq(newest.0 - 1), newest, 1)
    });
    let outward = outward.ok().flatten().and_then(|page| page.rows.into_iter().next());
    // The container says when it wrote, so that can be any time.
    let outward = outward.and_then(|row| row.timestamp).map(|time| time.min(now));
    inward.and_then(|message| message.timestamp).max(outward)
}

/// What its outbox says: which tool runs, and, into `inbox`, why attempts failed that are not charged yet.
fn read_tool(
    paths: &SessionPaths,
    inbox: &mut Result<InboxView, BoxError>,
) -> Result<ToolState, BoxError> {
    let (tool, acks) =
        outbox::read_untrusted(&paths.outbound_db(), Source::Live, PATIENCE, |outbox| {
            let open = inbox.iter().flat_map(|inbox| &inbox.open).map(|message| &message.id);
            Ok((outbox.tool()?, outbox.acks(open)?))
        })?
        .unwrap_or_default();
    for message in inbox.iter_mut().flat_map(|inbox| &mut inbox.open) {
        let last = acks.get(&message.id).and_then(|ack| ack.failure.clone());
        message.failure = message.failure.take().or(last);
    }
    Ok(tool)
}

pub(super) fn show(context: &Context, part: &str) -> Result<ExitCode, Failure> {
    let (data, store) = context.look_store()?;
    let session = select::session(&store, part)?;
    drop(store);
    let folder = data.session_folder(session.agent_id, session.id);
    let paths = SessionPaths::of_folder(&folder);
    let mut inbox = read_inbox(&paths);
    let tool = read_tool(&paths, &mut inbox);
    let told = |error: &BoxError| chain(error);
    let last = last_message(&paths, SystemClock.now());
    let answer = json!({
        "session": session,
        "last_message": last,
        "folder": folder,
        "messages": inbox.as_ref().ok().map(|inbox| {
            inbox.counts.iter().cloned().collect::<std::collections::BTreeMap<_, _>>()
        }),
        "open": inbox.as_ref().ok().map(|inbox| &inbox.open),
        "undelivered": inbox.as_ref().ok().map(|inbox| &inbox.waiting),
        "inbox_error": inbox.as_ref().err().map(told),
        "tool": tool.as_ref().ok().and_then(|tool| tool.current.clone()),
        "outbox_error": tool.as_ref().err().map(told),
    });
    context.output.show(&answer, |_| {
        let mut lines = vec![
            format!("session    {}", session.id),
            format!("agent      {}", session.agent),
            match session.kind {
                SessionKind::Chat => {
                    format!("chat       {} {}", session.channel_type, session.platform_id)
                }
                SessionKind::Run => format!(
                    "run        of schedule {}",
                    session.chat_name.as_deref().unwrap_or(&session.platform_id)
                ),
            },
            format!("thread     {}", session.thread.as_deref().unwrap_or("-")),
            format!("status     {}", session.status),
            format!("container  {}", if session.running { "running" } else { "none" }),
            format!("made       {}", session.created_at),
            format!(
                "last       {}",
                last.map_or_else(|| "no message".to_owned(), |time| format!("message {time}"))
            ),
            format!("folder     {}", folder.display()),
        ];
        lines.extend(session.quarantine_reason.iter().map(|why| format!("reason     {why}")));
        lines.extend(session.start_error.iter().map(|why| {
            let times = count(session.failed_starts, "time", "times");
            format!("start      failed {times}: {why}")
        }));
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

/// How many answers that wait are shown.
const WAITING_MAX: u32 = 20;

/// An answer that waits for its channel.
#[derive(Debug, Serialize)]
struct Waiting {
    id: MessageId,
    attempts: i64,
    since: UnixMillis,
    next_attempt: Option<UnixMillis>,
    error: Option<String>,
}

impl Waiting {
    fn of((id, record): (MessageId, Delivery)) -> Self {
        let Delivery { attempts, next_attempt_at: next_attempt, changed_at: since, error, .. } =
            record;
        Self { id, attempts, since, next_attempt, error }
    }

    fn line(&self) -> String {
        let next = self.next_attempt.map(|at| format!(", next at {at}")).unwrap_or_default();
        let why = self.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let tries = count(self.attempts, "try", "tries");
        format!("undelivered {} since {} after {tries}{next}{why}", self.id, self.since)
    }
}

struct InboxView {
    counts: Vec<(String, i64)>,
    /// Pending and failed among the newest rows.
    open: Vec<StoredMessage>,
    /// Answers that wait for their channel.
    waiting: Vec<Waiting>,
}

fn read_inbox(paths: &SessionPaths) -> Result<InboxView, BoxError> {
    if !paths.inbound_db().exists() {
        return Ok(InboxView { counts: Vec::new(), open: Vec::new(), waiting: Vec::new() });
    }
    let inbox = InboxReader::open(&paths.inbound_db())?;
    let mut open = inbox.newest(Default::default(), 1000)?;
    open.retain(|message| message.status != "completed" && message.status != "cancelled");
    let counts = inbox.count_by_status()?;
    let waiting = inbox.waiting_deliveries(WAITING_MAX)?;
    Ok(InboxView { counts, open, waiting: waiting.into_iter().map(Waiting::of).collect() })
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
            "{:<9}  {} after {}{}",
            message.status,
            message.id,
            count(message.tries, "try", "tries"),
            why.unwrap_or_default()
        ));
    }
    lines.extend(inbox.waiting.iter().map(Waiting::line));
}

pub(super) async fn retry(
    context: &Context,
    part: &str,
    message: Option<MessageId>,
) -> Result<ExitCode, Failure> {
    let (data, store) = context.look_store()?;
    let session = select::session(&store, part)?.id;
    drop(store);
    let mut client = Client::reach(&data.socket()).await?;
    match client.answer(&Request::Retry { session, message }).await? {
        Event::Retried { count, .. } => {
            context.output.show(&json!({ "session": session, "retried": count }), |_| {
                let messages = count_of(count, "message", "messages");
                format!("{messages} will be tried again")
            });
            Ok(ExitCode::SUCCESS)
        }
        other => Err(Failure::new(format!("the host answered something else: {other:?}"))),
    }
}

pub(super) async fn restart(context: &Context, part: &str) -> Result<ExitCode, Failure> {
    let (data, store) = context.look_store()?;
    let session = select::session(&store, part)?.id;
    drop(store);
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
