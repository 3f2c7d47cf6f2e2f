//! A conversation with an agent that outlives the host: what was not accepted is sent again under
//! the same id after each reconnection, and a message that was shown is not shown again.
//!
//! A task of its own holds the connection, so that no line is ever cut in half by somebody who
//! stops waiting. The owner says things and confirms messages; the task reports [`News`].

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use twobox_shared::content::About;
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::progress::Progress;

use super::client::Client;
use super::output::{Failure, flag};
use twobox_channels::socket::{Event, Request};
use twobox_model::backoff::Backoff;
use twobox_model::channel::{Outbound, Receipt, Stopped};

/// How many messages may be under way: few enough that their answers fit into the socket's buffer,
/// or both ends could wait for each other.
const WINDOW: usize = 64;

/// How long a message waits that the host could not take just now.
const RETRY: Duration = Duration::from_millis(500);

/// The pauses between attempts to reach the host.
const PAUSE: Backoff = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(2) };

/// What happened.
#[derive(Debug)]
pub(super) enum News {
    /// A message is durable.
    Accepted { id: MessageId, receipts: Vec<Receipt> },
    /// A message will never be taken.
    Refused { id: MessageId, reason: String },
    /// A message, to be confirmed with [`Conversation::shown`].
    Outbound(Outbound),
    /// What became of the wish that a message be worked on no longer.
    Stopped { message: MessageId, outcome: Stopped },
    /// What the agent is at; `None` if at nothing any more.
    Progress(Option<Progress>),
    /// The host complained.
    Error { reason: String },
    /// The host is gone; the task tries to reach it.
    Lost,
    /// The host is back.
    Back,
}

enum Order {
    Say { id: MessageId, text: String },
    Shown { key: String },
    Stop { session: SessionId, message: MessageId, force: bool },
}

/// Whom a conversation is with.
#[derive(Debug, Clone)]
pub(super) struct Partner {
    pub(super) socket: PathBuf,
    pub(super) to: Recipient,
    pub(super) thread: Option<String>,
    /// Who says it, if the channel says so.
    pub(super) sender: Option<String>,
    /// What it says of each message besides.
    pub(super) about: Option<About>,
    /// Whether messages are wanted, which only the terminal can have.
    pub(super) listen: bool,
    /// Whether to be shown what the agent is at, too.
    pub(super) progress: bool,
}

/// Who is told what is said.
#[derive(Debug, Clone)]
pub(super) enum Recipient {
    /// An agent, at its terminal.
    Agent(String),
    /// Whoever listens to a chat.
    Chat { channel: String, chat: String },
}

impl Recipient {
    fn agent_channel_chat(self) -> (Option<String>, Option<String>, Option<String>) {
        match self {
            Self::Agent(agent) => (Some(agent), None, None),
            Self::Chat { channel, chat } => (None, Some(channel), Some(chat)),
        }
    }
}

/// The command that shows what comes later: a chat with the agent that was named, if one was, and in
/// the same thread.
pub(super) fn chat_command(agent: Option<&str>, thread: Option<&str>) -> String {
    let named = [("agent", agent), ("thread", thread)];
    let flags = named.into_iter().filter_map(|(name, value)| Some(flag(name, value?)));
    let words: Vec<String> = ["`twobox chat".to_owned()].into_iter().chain(flags).collect();
    words.join(" ") + "`"
}

/// The owner's end.
pub(super) struct Conversation {
    orders: mpsc::UnboundedSender<Order>,
    news: mpsc::UnboundedReceiver<News>,
    task: JoinHandle<()>,
}

impl Conversation {
    /// Begins, if a host is there now.
    pub(super) async fn begin(partner: Partner) -> Result<Self, Failure> {
        let client = Client::reach(&partner.socket).await?;
        let (orders, receive_orders) = mpsc::unbounded_channel();
        let (report, news) = mpsc::unbounded_channel();
        let task = Task {
            partner,
            orders: receive_orders,
            report,
            unaccepted: VecDeque::new(),
            shown: HashSet::new(),
            not_before: None,
        };
        Ok(Self { orders, news, task: tokio::spawn(task.run(client)) })
    }

    /// Says something. The task lives as long as this end, so the order always arrives.
    pub(super) fn say(&self, id: MessageId, text: String) {
        drop(self.orders.send(Order::Say { id, text }));
    }

    /// A message has been shown: it may be forgotten.
    pub(super) fn shown(&self, key: String) {
        drop(self.orders.send(Order::Shown { key }));
    }

    /// Has a message stopped; with `force` its container too. Forgotten if the host is gone.
    pub(super) fn stop(&self, session: SessionId, message: MessageId, force: bool) {
        drop(self.orders.send(Order::Stop { session, message, force }));
    }

    /// The next news. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<News, Failure> {
        self.news.recv().await.ok_or_else(|| Failure::new("the conversation ended unexpectedly"))
    }

    /// Ends it, after the confirmations have left.
    pub(super) async fn end(self) {
        drop(self.orders);
        let mut task = self.task;
        if timeout(Duration::from_secs(1), &mut task).await.is_err() {
            task.abort(); // the host is gone; it will show these messages again
        }
    }
}

struct Task {
    partner: Partner,
    orders: mpsc::UnboundedReceiver<Order>,
    report: mpsc::UnboundedSender<News>,
    unaccepted: VecDeque<Unaccepted>,
    shown: HashSet<String>,
    not_before: Option<Instant>,
}

struct Unaccepted {
    id: MessageId,
    text: String,
    sent: bool,
}

/// The owner has ended the conversation.
struct Ended;

impl Task {
    async fn run(mut self, mut client: Client) {
        loop {
            // The lost connection is closed before the next is tried: a host that goes down waits
            // for it.
            match self.talk(client).await {
                Ok(Ended) => return,
                // Gone, or not to be understood: a fresh connection is the cure for both.
                Err(_lost) => self.tell(News::Lost),
            }
            let mut failures = 1; // the loss
            client = loop {
                // The owner may end it, or say something, meanwhile.
                tokio::select! {
                    () = sleep(PAUSE.after(failures)) => {}
                    order = self.orders.recv() => match order {
                        None => return,
                        Some(order) => { drop(self.note(order)); continue; }
                    },
                }
                match Client::connect(&self.partner.socket).await {
                    Ok(client) => break client,
                    Err(_) => failures += 1,
                }
            };
            self.tell(News::Back);
        }
    }

    /// Talks until the owner ends it or the connection is lost.
    async fn talk(&mut self, mut client: Client) -> io::Result<Ended> {
        self.unaccepted.iter_mut().for_each(|message| message.sent = false);
        if let Partner { to: Recipient::Agent(agent), thread, listen: true, progress, .. } =
            &self.partner
        {
            let (agent, thread, progress) = (agent.clone(), thread.clone(), *progress);
            client.ask(&Request::Listen { agent, thread, progress }).await?;
        }
        loop {
            self.send_waiting(&mut client).await?;
            tokio::select! {
                order = self.orders.recv() => match order {
                    None => return Ok(Ended),
                    Some(order) => if let Some(request) = self.note(order) {
                        client.ask(&request).await?;
                    },
                },
                event = client.next() => match event? {
                    None | Some(Event::Closing) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Some(event) => self.take(event, &mut client).await?,
                },
                () = until(self.not_before), if self.not_before.is_some() => self.not_before = None,
            }
        }
    }

    /// Keeps what the owner ordered; returns what the host is to be told now.
    fn note(&mut self, order: Order) -> Option<Request> {
        match order {
            Order::Say { id, text } => {
                self.unaccepted.push_back(Unaccepted { id, text, sent: false });
                None
            }
            Order::Shown { key } => {
                self.shown.insert(key.clone());
                Some(Request::Ack { key })
            }
            Order::Stop { session, message, force } => {
                Some(Request::Stop { session, message, force })
            }
        }
    }

    async fn send_waiting(&mut self, client: &mut Client) -> io::Result<()> {
        if self.not_before.is_some() {
            return Ok(());
        }
        for message in self.unaccepted.iter_mut().take(WINDOW).filter(|message| !message.sent) {
            message.sent = true;
            let Partner { to, thread, sender, about, .. } = self.partner.clone();
            let (agent, channel, chat) = to.agent_channel_chat();
            let (id, text) = (message.id.clone(), message.text.clone());
            let message =
                Request::Message { agent, channel, chat, thread, sender, about, id, text };
            client.ask(&message).await?;
        }
        Ok(())
    }

    async fn take(&mut self, event: Event, client: &mut Client) -> io::Result<()> {
        match event {
            Event::Accepted { id, receipts } => {
                self.unaccepted.retain(|message| message.id != id);
                self.tell(News::Accepted { id, receipts });
            }
            Event::Refused { id, retry: true, .. } => {
                let refused = self.unaccepted.iter_mut().find(|message| message.id == id);
                if let Some(message) = refused {
                    message.sent = false;
                    self.not_before = Some(Instant::now() + RETRY);
                }
            }
            Event::Refused { id, retry: false, reason, .. } => {
                self.unaccepted.retain(|message| message.id != id);
                self.tell(News::Refused { id, reason });
            }
            Event::Message { key, .. } if self.shown.contains(&key) => {
                client.ask(&Request::Ack { key }).await?;
            }
            Event::Message { key, in_reply_to, answers, text, files, failed, prompt } => {
                let shelf = None; // its files do not come along
                self.tell(News::Outbound(Outbound {
                    key,
                    in_reply_to,
                    answers,
                    text,
                    files,
                    shelf,
                    failed,
                    prompt,
                }));
            }
            Event::Stopped { message, outcome, .. } => {
                self.tell(News::Stopped { message, outcome });
            }
            Event::Progress { progress, .. } => self.tell(News::Progress(progress)),
            Event::Error { reason } => self.tell(News::Error { reason }),
            Event::Listening { .. }
            | Event::Bridging { .. }
            | Event::Deliver(_)
            | Event::Forget { .. }
            | Event::Activity { .. }
            | Event::Status { .. }
            | Event::Retried { .. }
            | Event::Restarted { .. }
            | Event::Handled { .. }
            | Event::Decided { .. }
            | Event::Schedules { .. }
            | Event::Closing => {}
        }
        Ok(())
    }

    /// An owner that no longer listens ends the task at its next order.
    fn tell(&self, news: News) {
        drop(self.report.send(news));
    }
}

async fn until(instant: Option<Instant>) {
    if let Some(instant) = instant {
        sleep_until(instant).await;
    }
}
