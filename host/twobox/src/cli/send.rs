//! `twobox send`: one message, and with `--wait` its answer.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::{Instant, timeout_at};
use twobox_shared::content::About;
use twobox_shared::ids::{IdSource, MessageId, SystemIds};

use twobox_shared::time::UnixMillis;

use super::conversation::{Conversation, News, Partner, Recipient, chat_command};
use super::output::{Failure, json_line, json_text, note, print, printable};
use super::{Context, seconds, select};
use twobox_model::channel::Outbound;

/// How long the host may take to accept a message.
const ACCEPT_PATIENCE: Duration = Duration::from_secs(10);

/// What `send` is told.
#[derive(Debug, Args)]
pub(super) struct SendArguments {
    /// The agent; without it the only one, or `assistant`.
    #[arg(long)]
    agent: Option<String>,
    /// The channel of the chat in which the message was said, such as `command`. The answer goes
    /// there.
    #[arg(long, requires = "chat", conflicts_with_all = ["agent", "wait"])]
    channel: Option<String>,
    /// The chat on that channel.
    #[arg(long, requires = "channel", allow_negative_numbers = true)]
    chat: Option<String>,
    /// The thread; without it the chat itself.
    #[arg(long, allow_negative_numbers = true)]
    thread: Option<String>,
    /// Who says it, as the channel names them. The agent is told, and no sender takes all places.
    #[arg(long, requires = "channel", allow_negative_numbers = true)]
    sender: Option<String>,
    #[command(flatten)]
    about: AboutArguments,
    /// The message's own id: the same message again under the same id changes nothing.
    #[arg(long, value_parser = message_id, allow_hyphen_values = true)]
    id: Option<MessageId>,
    /// Wait this long for the answer, and print it.
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    wait: Option<Duration>,
    /// The message; "-" reads it from standard input.
    #[arg(allow_hyphen_values = true)]
    text: String,
    /// Further words, which belong into the quotes of the message.
    #[arg(hide = true)]
    more: Vec<String>,
}

/// What the platform says of the message besides, of which the agent is told.
#[derive(Debug, Args)]
struct AboutArguments {
    /// The platform's id of who says it.
    #[arg(long, requires = "channel", allow_negative_numbers = true)]
    sender_id: Option<String>,
    /// It was said among several.
    #[arg(long, requires = "channel", conflicts_with = "direct")]
    group: bool,
    /// It was said to the agent alone.
    #[arg(long, requires = "channel")]
    direct: bool,
    /// It names the agent.
    #[arg(long, requires = "channel")]
    mentioned: bool,
    /// The id of the message that it answers.
    #[arg(long, requires = "channel", allow_hyphen_values = true)]
    reply_to: Option<String>,
    /// When it was said, by the platform's clock, such as 2027-01-15T08:00:00Z.
    #[arg(long, value_name = "TIME", requires = "channel", value_parser = instant)]
    sent_at: Option<UnixMillis>,
}

impl AboutArguments {
    fn about(self) -> Option<About> {
        let Self { sender_id, group, direct, mentioned, reply_to, sent_at } = self;
        let group = (group || direct).then_some(group);
        let about = About { sender_id, group, mentioned, reply_to, sent_at };
        (about != About::default()).then_some(about)
    }
}

fn instant(text: &str) -> Result<UnixMillis, String> {
    UnixMillis::parse(text).ok_or_else(|| "use a time such as 2027-01-15T08:00:00Z".to_owned())
}

fn message_id(text: &str) -> Result<MessageId, String> {
    MessageId::parse(text).map_err(|error| error.to_string())
}

pub(super) async fn run(context: &Context, arguments: SendArguments) -> Result<ExitCode, Failure> {
    if !arguments.more.is_empty() {
        return Err(Failure::usage(
            "the message is more than one word for the shell: put it in quotes, or say \"-\" and give \
             it on standard input",
        ));
    }
    let (data, to) = match (arguments.channel, arguments.chat) {
        (Some(channel), Some(chat)) => (context.open_data()?, Recipient::Chat { channel, chat }),
        _ => {
            let (data, store) = context.look_store()?;
            (data, Recipient::Agent(select::agent(&store, arguments.agent.as_deref())?.name))
        }
    };
    let text = match arguments.text.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| {
                Failure::new(format!("could not read the message from standard input: {error}"))
            })?;
            text.strip_suffix('\n').map(str::to_owned).unwrap_or(text)
        }
        _ => arguments.text,
    };
    if text.trim().is_empty() {
        return Err(Failure::usage("the message is empty: say something"));
    }
    let to_listen = chat_command(arguments.agent.as_deref(), arguments.thread.as_deref());
    let id = arguments.id.unwrap_or_else(|| MessageId::from(SystemIds.uuid()));
    let partner = Partner {
        socket: data.socket(),
        to,
        thread: arguments.thread,
        sender: arguments.sender,
        about: arguments.about.about(),
        listen: arguments.wait.is_some(),
        progress: false,
    };
    let mut conversation = Conversation::begin(partner).await?;
    conversation.say(id.clone(), text);
    let said = Said { id, wait: arguments.wait, to_listen };
    let result = wait_for(context, &mut conversation, &said).await;
    conversation.end().await;
    result.map(|()| ExitCode::SUCCESS)
}

/// What was said, and what is wanted of the answer.
struct Said {
    id: MessageId,
    wait: Option<Duration>,
    /// The command that shows what comes later.
    to_listen: String,
}

async fn wait_for(
    context: &Context,
    conversation: &mut Conversation,
    said: &Said,
) -> Result<(), Failure> {
    let Said { id, wait, to_listen } = said;
    let mut deadline = Instant::now() + ACCEPT_PATIENCE;
    // Under which ids it is stored: its own, unless that was taken by another message.
    let mut ids = vec![id.clone()];
    let mut accepted = false;
    loop {
        let Ok(news) = timeout_at(deadline, conversation.next()).await else {
            let reason = match accepted {
                true => format!("no answer came in time: if one comes later, {to_listen} shows it"),
                false => "the host did not accept the message in time: send it again".to_owned(),
            };
            return Err(Failure::timed_out(reason));
        };
        match news? {
            News::Accepted { id: which, receipts } if which == *id => {
                let Some(wait) = wait else {
                    context.output.show(&json!({ "id": id, "receipts": receipts }), |_| {
                        "accepted".to_owned()
                    });
                    return Ok(());
                };
                ids.extend(receipts.into_iter().map(|receipt| receipt.id));
                accepted = true;
                deadline = Instant::now() + *wait;
            }
            News::Refused { reason, .. } | News::Error { reason } => {
                return Err(Failure::new(reason));
            }
            News::Outbound(outbound) => {
                let ours = outbound.answers.iter().any(|answered| ids.contains(answered));
                let by_host = outbound.is_notice();
                let Outbound { key, in_reply_to, answers, text, files, failed, .. } = outbound;
                let line = json!({
                    "in_reply_to": in_reply_to, "answers": answers, "text": text, "files": files,
                    "failed": failed,
                });
                // Whoever takes a message has to show it: an older one that waited for somebody to
                // listen goes to standard error.
                match (ours, context.output.json) {
                    (true, true) => json_line(&line),
                    (true, false) if failed => {} // told as the reason, below
                    (true, false) => print(&printable(&text)), // nothing else is there
                    (false, true) => note(&json_text(&line)),
                    (false, false) if by_host => note(&format!("(the host says) {text}")),
                    (false, false) => note(&format!("(another message) {text}")),
                }
                conversation.shown(key);
                match (ours, failed) {
                    (true, true) => return Err(Failure::new(text)),
                    (true, false) => return Ok(()),
                    (false, _) => {}
                }
            }
            News::Accepted { .. }
            | News::Progress(_)
            | News::Stopped { .. }
            | News::Lost
            | News::Back => {}
        }
    }
}
