//! `twobox approvals`: what agents ask of people, and what a person says to it. Looking works with and
//! without a host; deciding is the running host's, so that whoever asked hears of it.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;
use twobox_shared::content::shorten;

use super::client::Client;
use super::output::{Failure, printable, table};
use super::{Context, in_tokio};
use twobox_channels::socket::{Event, Request};
use twobox_model::approval::{self, Approval, ApprovalOrder, Kind, Status, Verdict};
use twobox_store::Store;
use twobox_store::approvals::Listed;

/// How many characters of a line a table shows.
const TEXT_SHOWN: usize = 60;

/// What can be done with what agents ask.
#[derive(Debug, Subcommand)]
pub(super) enum ApprovalsCommand {
    /// List what waits for a decision.
    List {
        /// With what is over.
        #[arg(long)]
        all: bool,
    },
    /// Show all of what is asked: what a decision is about.
    Show {
        /// Its code, or its id or the end of it.
        id: String,
    },
    /// Allow what an agent asks for. The host must run.
    Approve {
        /// Its code, or its id or the end of it.
        id: String,
        /// Only if what is asked has this digest, as `show` says it.
        #[arg(long)]
        digest: Option<String>,
    },
    /// Deny what an agent asks for, or do not answer its question. The host must run.
    Deny {
        /// Its code, or its id or the end of it.
        id: String,
        /// Only if what is asked has this digest, as `show` says it.
        #[arg(long)]
        digest: Option<String>,
    },
    /// Answer an agent's question. The host must run.
    Answer {
        /// Its code, or its id or the end of it.
        id: String,
        /// The number of the choice.
        choice: usize,
        /// Only if what is asked has this digest, as `show` says it.
        #[arg(long)]
        digest: Option<String>,
    },
}

pub(super) fn run(context: &Context, command: ApprovalsCommand) -> Result<ExitCode, Failure> {
    match command {
        ApprovalsCommand::List { all } => {
            let (_, store) = context.look_store()?;
            let listed = store.approvals().list(all).wait()?;
            context
                .output
                .show(&json!({ "approvals": listed }), |_| printable(&lines(&listed, all)));
            Ok(ExitCode::SUCCESS)
        }
        ApprovalsCommand::Show { id } => {
            let (_, store) = context.look_store()?;
            let listed = find(&store, &id)?;
            context.output.show(&json!({ "approval": listed }), |_| readable(&listed));
            Ok(ExitCode::SUCCESS)
        }
        ApprovalsCommand::Approve { id, digest } => decide(context, &id, digest, Verdict::Approve),
        ApprovalsCommand::Deny { id, digest } => decide(context, &id, digest, Verdict::Deny),
        ApprovalsCommand::Answer { id, choice, digest } => {
            decide(context, &id, digest, Verdict::Choose(choice))
        }
    }
}

/// The one that a person means: a code is that of what is pending, if anything has it.
fn find(store: &Store, id: &str) -> Result<Listed, Failure> {
    let mut named = store.approvals().named(id).wait()?;
    let pending = |it: &Listed| it.approval.status == Status::Pending;
    if named.iter().any(pending) {
        named.retain(pending);
    }
    let several = named.len() > 1;
    match named.pop() {
        Some(listed) if !several => Ok(listed),
        Some(listed) => {
            named.push(listed);
            Err(Failure::new(printable(&which(id, &named))))
        }
        None => Err(Failure::new(format!(
            "there is no approval {id:?}: `twobox approvals list` shows what waits, and --all the rest"
        ))),
    }
}

/// Asks which of those is meant that `id` names.
fn which(id: &str, named: &[Listed]) -> String {
    let row = |it: &Listed| {
        let Approval { id, subject, status, .. } = &it.approval;
        [id.to_string(), it.agent.clone(), status.as_str().to_owned(), one_line(&subject.what)]
    };
    let rows: Vec<_> = named.iter().map(row).collect();
    format!(
        "{id:?} may be any of these: say its id, or more of the end of it\n{}",
        table(["ID", "AGENT", "STATUS", "ASKS"], &rows)
    )
}

/// Has the host carry out a decision about what stands in its database now, or has this digest.
fn decide(
    context: &Context,
    id: &str,
    digest: Option<String>,
    verdict: Verdict,
) -> Result<ExitCode, Failure> {
    let (data, store) = context.look_store()?;
    let Approval { id, digest: shown, .. } = find(&store, id)?.approval;
    drop(store);
    let order = ApprovalOrder { approval: id, digest: digest.unwrap_or(shown), say: verdict };
    let decided = in_tokio(async {
        let mut client = Client::reach(&data.socket()).await?;
        match client.answer(&Request::Decide(order)).await? {
            Event::Decided { approval } => Ok(approval),
            other => Err(Failure::new(format!("the host answered something else: {other:?}"))),
        }
    })?;
    let answer = json!({ "approval": decided });
    context.output.show(&answer, |_| printable(&approval::told(&decided)));
    Ok(ExitCode::SUCCESS)
}

fn lines(listed: &[Listed], all: bool) -> String {
    if listed.is_empty() {
        return match all {
            true => "nothing was asked".to_owned(),
            false => "nothing waits for a decision".to_owned(),
        };
    }
    let row = |it: &Listed| {
        let Approval { code, subject, status, due_at, decided_by, .. } = &it.approval;
        let what = match subject.kind {
            Kind::Permission => format!("{}: {}", subject.what, subject.detail),
            Kind::Question => subject.what.clone(),
        };
        let seen = match (status, it.prompt.as_deref()) {
            (Status::Pending, Some("delivered")) => "shown",
            (Status::Pending, Some("failed")) => "not shown: it could not be delivered",
            (Status::Pending, _) => "not shown yet",
            (Status::Expired, _) => "nobody in time",
            _ => decided_by.as_deref().unwrap_or_default(),
        };
        [
            code.clone(),
            it.agent.clone(),
            subject.kind.as_str().to_owned(),
            status.as_str().to_owned(),
            due_at.to_string(),
            one_line(seen),
            one_line(&what),
        ]
    };
    let rows: Vec<_> = listed.iter().map(row).collect();
    table(["CODE", "AGENT", "KIND", "STATUS", "UNTIL", "BY", "ASKS"], &rows)
}

fn readable(listed: &Listed) -> String {
    let approval = &listed.approval;
    let Approval { id, code, session, digest, due_at, .. } = approval;
    let mut lines = vec![
        approval::shown(&approval.subject, code, &due_at.to_string()),
        String::new(),
        approval::told(approval),
        format!("agent    {}", listed.agent),
        format!("session  {session}"),
        format!("chat     {}", one_line(&format!("{} {:?}", approval.channel, approval.chat))),
        format!("id       {id}"),
        format!("digest   {digest}"),
    ];
    if approval.status == Status::Pending {
        lines.push(match approval.subject.kind {
            Kind::Permission => {
                format!("\ndecide with `twobox approvals approve {code}` or `… deny {code}`")
            }
            Kind::Question => format!("\nanswer with `twobox approvals answer {code} NUMBER`"),
        });
    }
    printable(&lines.join("\n"))
}

fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    shorten(&line, TEXT_SHOWN)
}
