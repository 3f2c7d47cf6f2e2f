//! `twobox chat`: lines in, messages out as they come. At a terminal the line is edited, and what comes
//! meanwhile stands above it; in a pipe a line is a message, and there is nothing else.

mod editor;
mod paper;
mod words;

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use twobox_shared::ids::{IdSource, MessageId, SystemIds};
use twobox_shared::progress::Progress;
use twobox_shared::visible;

use super::conversation::{Conversation, News, Partner, Recipient, chat_command};
use super::output::{Failure, json_text, note};
use super::{Context, seconds, select};
use editor::{Editor, Input};
use paper::{Paper, read_lines};
use twobox_model::channel::{Outbound, Receipt, Stopped};
use words::{HELP, Typed};

/// How long a pipe waits for answers unless it is told.
const PIPE_WAIT: Duration = Duration::from_secs(60);

/// How long the last lines may take to be accepted, however short the wait for answers is.
const ACCEPT_PATIENCE: Duration = Duration::from_secs(5);

/// After which time it is said that the agent is working, and how often it is said again.
const WORK_TOLD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// After which time the host is asked again whether an agent has stopped that was told to.
const ASK_AGAIN: Duration = Duration::from_secs(1);

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
    let (data, store) = context.look_store()?;
    let to_listen = chat_command(arguments.agent.as_deref(), arguments.thread.as_deref());
    let agent = select::agent(&store, arguments.agent.as_deref())?.name;
    drop(store);
    let at_terminal = std::io::stdin().is_terminal();
    let default = if at_terminal { Duration::ZERO } else { PIPE_WAIT };
    let wait = arguments.wait.unwrap_or(default);
    let partner = Partner {
        socket: data.socket(),
        to: Recipient::Agent(agent.clone()),
        thread: arguments.thread,
        sender: None,
        about: None,
        listen: true,
        // Looked on is where it can be seen.
        progress: context.output.json || (at_terminal && std::io::stdout().is_terminal()),
    };
    let mut conversation = Conversation::begin(partner).await?;
    if at_terminal {
        note(&format!("talking to {agent}; /help shows what can be typed, Ctrl-D leaves"));
    }
    let (screen, input) = match Editor::begin() {
        Some((editor, input)) => (Some(editor), input),
        None => (None, read_lines(at_terminal)),
    };
    let paper = Paper { output: context.output, screen };
    let mut chat = Chat::new(paper, agent, to_listen);
    let result = chat.run(&mut conversation, input, wait).await;
    drop(chat); // the terminal is as it was before anything else is said
    conversation.end().await;
    result.map(|()| ExitCode::SUCCESS)
}

/// A message that was said and not answered yet.
struct Unanswered {
    id: MessageId,
    /// Where it is stored, and under which ids.
    receipts: Vec<Receipt>,
    /// Whether a person has had it stopped: an answer is not waited for any more.
    stopping: bool,
}

struct Chat {
    paper: Paper,
    agent: String,
    /// Said and not yet durable.
    unaccepted: Vec<MessageId>,
    /// Said and not yet answered.
    unanswered: Vec<Unanswered>,
    refused: usize,
    /// Taken, and given up by the host.
    failed: usize,
    /// The command that shows what comes later.
    to_listen: String,
    /// What it is at, as it was told last.
    progress: Option<Progress>,
    /// Since when the agent is at what it was told, as far as is seen from here, and when that is
    /// said next.
    at_work: Option<(Instant, Instant)>,
    /// When the host is asked again about what is being stopped.
    ask_again: Option<Instant>,
    /// Whether it was said that the agent was told, since a person last wanted it to stop.
    told: bool,
    /// What a person did last was Ctrl-C.
    interrupted: bool,
}

impl Chat {
    fn new(paper: Paper, agent: String, to_listen: String) -> Self {
        Self {
            paper,
            agent,
            unaccepted: Vec::new(),
            unanswered: Vec::new(),
            refused: 0,
            failed: 0,
            to_listen,
            progress: None,
            at_work: None,
            ask_again: None,
            told: false,
            interrupted: false,
        }
    }

    async fn run(
        &mut self,
        conversation: &mut Conversation,
        mut input: mpsc::UnboundedReceiver<Input>,
        wait: Duration,
    ) -> Result<(), Failure> {
        // Who is told to end gives the terminal back first. In a pipe there is nothing to give back.
        let edits = self.paper.screen.is_some();
        let mut terminated = edits.then(|| signal(SignalKind::terminate())).transpose()?;
        let mut ended: Option<Instant> = None;
        loop {
            if let Some(ended) = ended
                && self.unaccepted.is_empty()
                && (self.unanswered.is_empty() || wait.is_zero())
            {
                tracing::debug!(after = ?ended.elapsed(), "everything was answered");
                return self.outcome();
            }
            let least = match self.unaccepted.is_empty() {
                true => Duration::ZERO,
                false => ACCEPT_PATIENCE,
            };
            let deadline = ended.map(|ended| ended + wait.max(least));
            let tell = self.at_work.map(|(_, tell)| tell).filter(|_| self.paper.screen.is_some());
            tokio::select! {
                done = input.recv(), if ended.is_none() => {
                    if self.hear(done.unwrap_or(Input::End), conversation).is_break() {
                        ended = Some(Instant::now());
                    }
                }
                news = conversation.next() => self.take(news?, conversation),
                () = at(tell), if tell.is_some() => self.tell_work(),
                () = at(self.ask_again), if self.ask_again.is_some() => self.ask_again(conversation),
                () = received(&mut terminated), if terminated.is_some() => return Ok(()),
                () = at(deadline), if deadline.is_some() => {
                    return Err(Failure::timed_out(self.overdue()));
                }
            }
        }
    }

    /// How it went, when it is over. Whoever sat before it has seen it.
    fn outcome(&self) -> Result<(), Failure> {
        if self.paper.screen.is_some() {
            return Ok(());
        }
        match (self.refused, self.failed) {
            (0, 0) => Ok(()),
            (0, failed) => {
                Err(Failure::new(format!("{} not answered, because they failed", messages(failed))))
            }
            (refused, _) => Err(Failure::new(format!("{} refused", messages(refused)))),
        }
    }

    /// Does what a person wants. Breaks when that is to leave.
    fn hear(&mut self, input: Input, conversation: &Conversation) -> ControlFlow<()> {
        let before = std::mem::replace(&mut self.interrupted, input == Input::Interrupted);
        let typed = match input {
            Input::End => return ControlFlow::Break(()),
            Input::Interrupted if before => return ControlFlow::Break(()),
            Input::Interrupted => {
                self.paper.note("(Ctrl-C once more leaves; /stop stops the agent)");
                return ControlFlow::Continue(());
            }
            // In a pipe every line is something to say.
            Input::Line(line) if self.paper.screen.is_some() => words::read(&line),
            Input::Line(line) if line.trim().is_empty() => Typed::Nothing,
            Input::Line(line) => Typed::Say(line),
        };
        match typed {
            Typed::Nothing => {}
            Typed::Quit => return ControlFlow::Break(()),
            Typed::Help => self.paper.note(HELP),
            Typed::Unknown(word) => self.paper.note(&words::explain(&word)),
            Typed::Stop => self.stop(conversation),
            Typed::Say(text) => self.say(text, conversation),
        }
        ControlFlow::Continue(())
    }

    fn say(&mut self, text: String, conversation: &Conversation) {
        let id = MessageId::from(SystemIds.uuid());
        self.unaccepted.push(id.clone());
        self.unanswered.push(Unanswered { id: id.clone(), receipts: Vec::new(), stopping: false });
        conversation.say(id, text);
    }

    /// Has everything stopped that was said here and not answered; what was to stop before, with its
    /// container. What the host has not taken yet is stopped when it has.
    fn stop(&mut self, conversation: &Conversation) {
        if self.unanswered.is_empty() {
            // Others may have said what it is at: the host knows.
            return self.say("/stop".to_owned(), conversation);
        }
        (self.at_work, self.ask_again, self.told) = (None, None, false);
        for message in &mut self.unanswered {
            let force = std::mem::replace(&mut message.stopping, true);
            for receipt in &message.receipts {
                conversation.stop(receipt.session, receipt.id.clone(), force);
            }
        }
    }

    /// Asks whether what is being stopped has ended.
    fn ask_again(&mut self, conversation: &Conversation) {
        self.ask_again = None;
        let stopping = self.unanswered.iter().filter(|message| message.stopping);
        for receipt in stopping.flat_map(|message| &message.receipts) {
            conversation.stop(receipt.session, receipt.id.clone(), false);
        }
    }

    fn take(&mut self, news: News, conversation: &Conversation) {
        match news {
            News::Accepted { id, receipts } => {
                self.unaccepted.retain(|other| *other != id);
                let mut said = self.unanswered.iter_mut();
                if let Some(message) = said.find(|message| message.id == id) {
                    if message.stopping {
                        for receipt in &receipts {
                            conversation.stop(receipt.session, receipt.id.clone(), false);
                        }
                    } else {
                        let now = Instant::now();
                        self.at_work.get_or_insert((now, now + WORK_TOLD.0));
                    }
                    message.receipts = receipts;
                }
            }
            News::Refused { id, reason } => {
                self.unaccepted.retain(|other| *other != id);
                self.answered(&[id]);
                self.refused += 1;
                self.paper.complain(&reason);
            }
            News::Outbound(Outbound {
                key,
                in_reply_to,
                answers,
                text,
                files,
                failed,
                prompt,
                ..
            }) => {
                self.answered(&answers);
                self.failed += usize::from(failed);
                if self.paper.output.json {
                    let line = json!({
                        "in_reply_to": in_reply_to, "answers": answers, "text": text,
                        "files": files, "failed": failed,
                    });
                    self.paper.text(&json_text(&line));
                } else {
                    self.paper.text(&words::said(&text, prompt.is_some()));
                    for file in files {
                        self.paper.text(&format!("[file {}]", visible::line(&file)));
                    }
                }
                conversation.shown(key);
            }
            News::Progress(progress) => {
                self.show(progress.as_ref());
                self.progress = progress;
            }
            News::Stopped { message, outcome } => self.stopped(&message, outcome),
            News::Error { reason } => self.paper.complain(&reason),
            News::Lost => {
                self.progress = None;
                self.paper.note("(the host is gone, waiting for it)");
            }
            News::Back => {
                self.paper.note("(the host is back)");
                // What it was asked before may be lost.
                self.ask_again = self.is_stopping().then(Instant::now);
            }
        }
    }

    /// Shows what the agent is at, where a person sees it or a program wants it.
    fn show(&mut self, progress: Option<&Progress>) {
        if self.paper.screen.is_none() {
            if self.paper.output.json {
                self.paper.text(&json_text(&json!({ "progress": progress })));
            }
            return;
        }
        let Some(progress) = progress else { return self.paper.show_no_more() };
        self.paper.show(&words::at_it(&self.agent, progress));
        // That it works need not be said besides.
        let later = Instant::now() + WORK_TOLD.1;
        self.at_work = self.at_work.map(|(since, _)| (since, later));
    }

    fn stopped(&mut self, message: &MessageId, outcome: Stopped) {
        match outcome {
            Stopped::Stopped => {
                self.answered(std::slice::from_ref(message));
                // Of several it is said once, of the last.
                if !self.is_stopping() {
                    self.paper.note("(stopped: what you said last is not answered)");
                }
            }
            Stopped::Told => {
                self.ask_again = Some(Instant::now() + ASK_AGAIN);
                if !std::mem::replace(&mut self.told, true) {
                    self.paper
                        .note("(the agent was told to stop; /stop once more stops its container)");
                }
            }
            Stopped::Over => {
                self.answered(std::slice::from_ref(message));
                if !self.is_stopping() {
                    self.paper.note("(there is nothing to stop: it is over already)");
                }
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.unanswered.iter().any(|message| message.stopping)
    }

    /// Says that the agent is at it, and for how long.
    fn tell_work(&mut self) {
        let Some((since, _)) = self.at_work else { return };
        let now = Instant::now();
        let agent = visible::line(&self.agent);
        let minutes = now.duration_since(since).as_secs() / 60;
        // What it is at had given way to something that was said.
        if minutes == 0 && self.progress.is_some() {
            let progress = self.progress.take();
            self.show(progress.as_ref());
            self.progress = progress;
            return;
        }
        self.paper.note(&match minutes {
            0 => format!("({agent} is working …)"),
            minutes => format!("({agent} is still working, after {minutes} min …)"),
        });
        self.at_work = Some((since, now + WORK_TOLD.1));
    }

    fn answered(&mut self, answers: &[MessageId]) {
        self.unanswered.retain(|message| {
            let stored = message.receipts.iter().map(|receipt| &receipt.id);
            !stored.chain([&message.id]).any(|id| answers.contains(id))
        });
        // What is still open is worked on from here on.
        let waited_for = self.unanswered.iter().any(|message| !message.stopping);
        self.at_work = waited_for.then(|| (Instant::now(), Instant::now() + WORK_TOLD.0));
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

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
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
    use crate::cli::output::Output;

    #[test]
    fn an_outbound_answers_what_it_names_and_nothing_else() {
        let id = |text| MessageId::parse(text).unwrap();
        let said = || vec![id("1"), id("2"), id("3")];
        let cases = [
            ("a later one only", vec![id("2")], vec![id("1"), id("3")]),
            ("several", vec![id("1"), id("3")], vec![id("2")]),
            ("somebody else's", vec![id("elsewhere")], said()),
            ("nothing", vec![], said()),
        ];
        for (case, answers, left) in cases {
            let paper = Paper { output: Output::new(false, None), screen: None };
            let mut chat = Chat::new(paper, "ann".to_owned(), String::new());
            let open = |id| Unanswered { id, receipts: Vec::new(), stopping: false };
            chat.unanswered = said().into_iter().map(open).collect();
            chat.answered(&answers);
            let open: Vec<_> = chat.unanswered.into_iter().map(|message| message.id).collect();
            assert_eq!(open, left, "{case}");
        }
    }
}
