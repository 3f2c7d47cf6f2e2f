//! `twobox chat`: lines in, letters out as they come. Works on a terminal and in a pipe.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use twobox_shared::ids::{IdSource, MessageId, SystemIds};
use twobox_shared::visible;

use super::conversation::{Conversation, News, Partner, Recipient, chat_command};
use super::output::{Failure, Output, json_line, note, print, reply};
use super::{Context, seconds, select};
use crate::channel::Letter;

/// How long a pipe waits for answers unless it is told.
const PIPE_WAIT: Duration = Duration::from_secs(60);

/// How long the last lines may take to be accepted, however short the wait for answers is.
const ACCEPT_PATIENCE: Duration = Duration::from_secs(5);

/// What `chat` is told.
#[derive(Debug, Args)]
pub(super) struct ChatArguments {
    /// The agent; without it the only one, or `assistant`.
    #[arg(long)]
    agent: Option<String>,
    /// The thread; without it the chat itself.
    #[arg(long)]
    thread: Option<String>,
    /// After the end of the input, wait this long for the answers: 0 on a terminal, 60 in a pipe.
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    wait: Option<Duration>,
}

pub(super) async fn run(context: &Context, arguments: ChatArguments) -> Result<ExitCode, Failure> {
    let (data, db) = context.look_db()?;
    let to_listen = chat_command(arguments.agent.as_deref(), arguments.thread.as_deref());
    let agent = select::agent(&db, arguments.agent.as_deref())?.name;
    drop(db);
    let at_terminal = std::io::stdin().is_terminal();
    let default = if at_terminal { Duration::ZERO } else { PIPE_WAIT };
    let wait = arguments.wait.unwrap_or(default);
    let partner = Partner {
        socket: data.socket(),
        to: Recipient::Agent(agent.clone()),
        thread: arguments.thread,
        sender: None,
        listen: true,
    };
    let mut conversation = Conversation::begin(partner).await?;
    if at_terminal {
        note(&format!("talking to {agent}; Ctrl-D leaves"));
    }
    let mut chat = Chat::new(context.output, to_listen);
    let result = chat.run(&mut conversation, wait).await;
    conversation.end().await;
    result.map(|()| ExitCode::SUCCESS)
}

struct Chat {
    output: Output,
    /// Said and not yet durable.
    unaccepted: Vec<MessageId>,
    /// Said and not yet answered.
    unanswered: Vec<MessageId>,
    refused: usize,
    /// Taken, and given up by the host.
    failed: usize,
    /// The command that shows what comes later.
    to_listen: String,
}

impl Chat {
    fn new(output: Output, to_listen: String) -> Self {
        let (unaccepted, unanswered) = (Vec::new(), Vec::new());
        Self { output, unaccepted, unanswered, refused: 0, failed: 0, to_listen }
    }

    async fn run(
        &mut self,
        conversation: &mut Conversation,
        wait: Duration,
    ) -> Result<(), Failure> {
        let mut input = read_lines();
        let mut ended: Option<Instant> = None;
        loop {
            if let Some(ended) = ended
                && self.unaccepted.is_empty()
                && (self.unanswered.is_empty() || wait.is_zero())
            {
                tracing::debug!(after = ?ended.elapsed(), "everything was answered");
                return match (self.refused, self.failed) {
                    (0, 0) => Ok(()),
                    (0, failed) => Err(Failure::new(format!(
                        "{} not answered, because they failed",
                        messages(failed)
                    ))),
                    (refused, _) => Err(Failure::new(format!("{} refused", messages(refused)))),
                };
            }
            let least = match self.unaccepted.is_empty() {
                true => Duration::ZERO,
                false => ACCEPT_PATIENCE,
            };
            let deadline = ended.map(|ended| ended + wait.max(least));
            tokio::select! {
                line = input.recv(), if ended.is_none() => match line {
                    None => ended = Some(Instant::now()),
                    Some(line) if line.trim().is_empty() => {}
                    Some(line) => {
                        let id = MessageId::from(SystemIds.uuid());
                        self.unaccepted.push(id.clone());
                        self.unanswered.push(id.clone());
                        conversation.say(id, line);
                    }
                },
                news = conversation.next() => self.take(news?, conversation),
                () = at(deadline), if deadline.is_some() => {
                    return Err(Failure::timed_out(self.overdue()));
                }
            }
        }
    }

    fn take(&mut self, news: News, conversation: &Conversation) {
        match news {
            News::Accepted { id, .. } => self.unaccepted.retain(|other| *other != id),
            News::Refused { id, reason } => {
                self.unaccepted.retain(|other| *other != id);
                self.unanswered.retain(|other| *other != id);
                self.refused += 1;
                self.output.complain(&reason);
            }
            News::Letter(Letter { key, in_reply_to, answers, text, files, failed }) => {
                self.answered(&answers);
                self.failed += usize::from(failed);
                if self.output.json {
                    let line = json!({
                        "in_reply_to": in_reply_to, "answers": answers, "text": text,
                        "files": files, "failed": failed,
                    });
                    json_line(&line);
                } else {
                    print(&reply(&text));
                    files.iter().for_each(|file| print(&format!("[file {}]", visible::line(file))));
                }
                conversation.shown(key);
            }
            News::Error { reason } => self.output.complain(&reason),
            News::Lost => note("(the host is gone, waiting for it)"),
            News::Back => note("(the host is back)"),
        }
    }

    fn answered(&mut self, answers: &[MessageId]) {
        self.unanswered.retain(|id| !answers.contains(id));
    }

    fn overdue(&self) -> String {
        match self.unaccepted.len() {
            0 => format!(
                "{} not answered in time: what is answered later, the next {} shows",
                messages(self.unanswered.len()),
                self.to_listen
            ),
            1 => "the host did not accept a message in time: send it again".to_owned(),
            count => format!("the host did not accept {count} messages in time: send them again"),
        }
    }
}

/// So many messages, as they begin a sentence about what was done with them.
fn messages(count: usize) -> String {
    match count {
        1 => "1 message was".to_owned(),
        count => format!("{count} messages were"),
    }
}

/// Standard input on a thread of its own, which a program that ends does not wait for.
fn read_lines() -> mpsc::Receiver<String> {
    let (lines, received) = mpsc::channel(64);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    received
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_answers_what_it_names_and_nothing_else() {
        let id = |text| MessageId::parse(text).unwrap();
        let said = || vec![id("1"), id("2"), id("3")];
        let cases = [
            ("a later one only", vec![id("2")], vec![id("1"), id("3")]),
            ("several", vec![id("1"), id("3")], vec![id("2")]),
            ("somebody else's", vec![id("elsewhere")], said()),
            ("nothing", vec![], said()),
        ];
        for (case, answers, left) in cases {
            let output = Output::new(false, None);
            let mut chat = Chat { unanswered: said(), ..Chat::new(output, String::new()) };
            chat.answered(&answers);
            assert_eq!(chat.unanswered, left, "{case}");
        }
    }
}
