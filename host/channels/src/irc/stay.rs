//! Being on a server: one loop that hears what comes, says one line after the other at a pace that the server bears, and
//! looks after where it is and what it is called. It ends when the connection does, or with a word of goodbye.

mod rooms;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::{IdSource, MessageId, SystemIds};
use twobox_shared::visible;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use self::rooms::JOIN_ERRORS;
use super::connection::{Connection, Lines, Writer};
use super::enter::{Entered, Stop, closed, pong, words};
use super::flight::{Flight, Next};
use super::hear::{Ears, Times};
use super::kept::Waiting;
use super::pace::Pacer;
use super::send::Turn;
use super::server::Server;
use super::wire::Message;
use super::{IrcChannel, Seat};
use crate::instance::Surroundings;
use crate::parts::Sent;

/// After how long without a word the server is asked for one, and after how long it is taken for gone.
const QUIET: Duration = Duration::from_secs(90);
const DEAD: Duration = Duration::from_secs(150);

/// After how long it is asked whether a line was taken of which nothing is heard, and after how long the connection is
/// taken for broken.
const ASK: Duration = Duration::from_secs(10);
const UNANSWERED: Duration = Duration::from_secs(60);

/// How often it tries to be called as it should be.
const RETAKE: Duration = Duration::from_secs(30);

/// How often it writes down that it listens.
const ALIVE: Duration = Duration::from_secs(60);

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// A line that is to be said.
pub(super) struct Order {
    pub(super) target: String,
    /// `PRIVMSG` or `NOTICE`.
    pub(super) command: &'static str,
    pub(super) text: String,
    /// Who is told what became of it.
    pub(super) done: oneshot::Sender<Sent>,
}

/// Somebody on a server.
pub(super) struct Stay<'a> {
    channel: &'a IrcChannel,
    surroundings: &'a Surroundings,
    heard: &'a mpsc::Sender<Waiting>,
    orders: mpsc::Receiver<Order>,
    lines: Lines,
    writer: Writer,
    server: Server,
    nick: String,
    times: Times,
    turn: Turn,
    /// When the next piece may be said of what is being said.
    speak_at: Instant,
    flight: Option<(Flight, oneshot::Sender<Sent>)>,
    /// When the piece was said that flies.
    said_at: Instant,
    asked: bool,
    /// How many lines were said whose answer is known by a number.
    number: u64,
    heard_at: Instant,
    pinged: bool,
    retake_at: Option<Instant>,
    alive_at: Instant,
    /// Where it should be and is not, with when it goes there.
    outside: BTreeMap<String, Instant>,
    /// By when it is gone, once it says goodbye.
    leaves_at: Option<Instant>,
    /// Whether it is to leave as soon as nothing is on its way.
    stopping: bool,
    /// What the server said last of why it ends this.
    last_words: Option<Stop>,
}

impl IrcChannel {
    /// Stays until it is told to stop.
    ///
    /// # Errors
    /// Why it is there no more.
    pub(super) async fn stay(
        &self,
        surroundings: &Surroundings,
        heard: &mpsc::Sender<Waiting>,
        connection: Connection,
        entered: Entered,
    ) -> Result<(), Stop> {
        let (sender, orders) = mpsc::channel(1);
        let Entered { nick, server, .. } = entered;
        let now = Instant::now();
        let turn = Turn::new(Pacer::new(self.settings.pace, now.into_std()));
        *lock(&self.seat) = Some(Seat {
            orders: sender,
            turn: turn.clone(),
            server: server.clone(),
            inside: BTreeSet::new(),
        });
        let settings = &self.settings;
        lock(&self.kept).outside.retain(|name, _| settings.channels.contains(name));
        let wanted = &settings.nick;
        let fits = server.nick_max.is_none_or(|most| wanted.len() <= most);
        let outside = self.settings.channels.iter().map(|it| (it.clone(), now)).collect();
        let mut stay = Stay {
            retake_at: (fits && nick != *wanted).then_some(now + RETAKE),
            channel: self,
            surroundings,
            heard,
            orders,
            lines: connection.lines,
            writer: connection.writer,
            server,
            nick,
            times: Times::default(),
            turn,
            speak_at: now,
            flight: None,
            said_at: now,
            asked: false,
            number: 0,
            heard_at: now,
            pinged: false,
            alive_at: now + ALIVE,
            outside,
            leaves_at: None,
            stopping: false,
            last_words: None,
        };
        surroundings.up();
        let ended = stay.live().await;
        *lock(&self.seat) = None;
        // Whoever is told that it has ended finds it so.
        if let Err(Stop::Trouble(why) | Stop::Refused(why)) = &ended {
            surroundings.down(why.clone());
        }
        stay.end(&ended);
        self.listened_until(SystemClock.now()).await;
        ended
    }
}

impl Stay<'_> {
    async fn live(&mut self) -> Result<(), Stop> {
        if let Some(mode) = self.server.bot_mode {
            self.say(&format!("MODE {} +{mode}", self.nick)).await?;
        }
        let mut told = self.surroundings.clone();
        loop {
            if self.leaves_at.is_some_and(|at| Instant::now() >= at) {
                return Ok(());
            }
            self.on_time().await?;
            if self.stopping && self.leaves_at.is_none() && !self.is_flying() {
                self.leaves_at = Some(Instant::now() + GOODBYE);
                self.say("QUIT :the host stops").await?;
            }
            let (speak_at, look_at) = (self.speak_at(), self.look_at());
            tokio::select! {
                line = self.lines.next() => {
                    self.heard_at = Instant::now();
                    self.pinged = false;
                    match line {
                        Ok(Some(message)) => self.take(message).await?,
                        // What the server does not answer before it closes is never told.
                        Ok(None) if self.leaves_at.is_some() => return Ok(()),
                        Err(_) if self.leaves_at.is_some() => return Ok(()),
                        Ok(None) => return Err(self.closed("the server has closed the connection")),
                        Err(error) => return Err(self.closed(&format!("the connection broke: {error}"))),
                    }
                }
                order = self.orders.recv(), if self.flight.is_none() && !self.stopping => {
                    if let Some(Order { target, command, text, done }) = order {
                        self.flight = Some((Flight::new(target, command, text), done));
                        self.speak_at = Instant::now(); // its turn has come
                    }
                }
                () = sleep_until(speak_at.unwrap_or(look_at)), if speak_at.is_some() => self.speak().await?,
                () = sleep_until(look_at) => {}
                () = told.stopped(), if !self.stopping => {
                    self.stopping = true;
                    self.orders.close();
                }
            }
        }
    }

    fn is_flying(&self) -> bool {
        self.flight.as_ref().is_some_and(|(flight, _)| flight.is_flying())
    }

    /// When the next line may be said, if there is one.
    fn speak_at(&self) -> Option<Instant> {
        let waits = self.flight.as_ref().is_some_and(|(flight, _)| !flight.is_flying());
        (waits && !self.stopping).then_some(self.speak_at)
    }

    /// When something has to be looked after at the latest.
    fn look_at(&self) -> Instant {
        let quiet = self.heard_at + if self.pinged { DEAD } else { QUIET };
        let flight =
            self.is_flying().then(|| self.said_at + if self.asked { UNANSWERED } else { ASK });
        let join = self.outside.values().min().copied().filter(|_| !self.stopping);
        let retake = self.retake_at.filter(|_| !self.stopping);
        let others = [flight, join, retake, self.leaves_at];
        others.into_iter().flatten().fold(quiet.min(self.alive_at), Instant::min)
    }

    /// Does what has its time now.
    async fn on_time(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        if now >= self.heard_at + DEAD {
            return Err(self.closed("the server says nothing any more"));
        }
        if now >= self.heard_at + QUIET && !self.pinged {
            self.pinged = true;
            self.say("PING twobox").await?;
        }
        if self.is_flying() && now >= self.said_at + UNANSWERED {
            return Err(self.closed("the server does not answer for what was said"));
        }
        if self.is_flying() && !self.asked && now >= self.said_at + ASK {
            self.asked = true;
            if let Some(line) = self.flight.as_ref().and_then(|(flight, _)| flight.ask()) {
                self.say(&line).await?;
            }
        }
        if now >= self.alive_at {
            self.alive_at = now + ALIVE;
            self.channel.listened_until(SystemClock.now()).await;
        }
        if self.stopping {
            return Ok(());
        }
        if self.retake_at.is_some_and(|at| now >= at) {
            self.retake_at = Some(now + RETAKE);
            self.say(&format!("NICK {}", self.channel.settings.nick)).await?;
        }
        self.join(now).await
    }

    /// Says a line that nobody waits for.
    async fn say(&mut self, line: &str) -> Result<(), Stop> {
        let said = self.writer.say(line).await;
        said.map_err(|error| self.closed(&format!("the connection broke: {error}")))
    }

    /// Says what of a message is to be said next.
    async fn speak(&mut self) -> Result<(), Stop> {
        let Some((mut flight, done)) = self.flight.take() else { return Ok(()) };
        self.number += 1;
        match flight.say(&self.server, &self.nick, format!("t{}", self.number)) {
            Err(sent) => {
                tell(done, sent);
                Ok(())
            }
            Ok(lines) => {
                let now = Instant::now();
                (self.said_at, self.asked) = (now, false);
                self.flight = Some((flight, done));
                for line in lines {
                    self.say(&line).await?;
                }
                Ok(())
            }
        }
    }

    /// Takes in a line of the server.
    async fn take(&mut self, message: Message) -> Result<(), Stop> {
        if let Some((flight, done)) = &mut self.flight
            && flight.is_flying()
        {
            match flight.take(&message, &self.server, &self.nick) {
                Next::Waits => {}
                Next::Says => {
                    let now = Instant::now().into_std();
                    self.speak_at = lock(&self.turn.pacer).reserve(now).into();
                }
                Next::Over(sent) => {
                    let done = std::mem::replace(done, oneshot::channel().0);
                    self.flight = None;
                    tell(done, sent);
                }
            }
        }
        let is_me = self.server.alike(message.nick(), &self.nick);
        match message.command.as_str() {
            "PING" => {
                for line in pong(&message) {
                    self.say(&line).await?;
                }
            }
            "ERROR" => self.last_words = Some(closed(message.last())),
            "NICK" if is_me => {
                message.param(0).clone_into(&mut self.nick);
                let is_it = self.nick == self.channel.settings.nick;
                self.retake_at = (!is_it).then(|| Instant::now() + RETAKE);
                tracing::info!(
                    channel = self.channel.id,
                    nick = visible::line(&self.nick),
                    "it has another nick"
                );
            }
            "JOIN" if is_me => self.come_in(message.param(0)),
            "PART" if is_me => self.go_out(message.param(0), "it has left"),
            "KICK" if self.server.alike(message.param(1), &self.nick) => {
                let why = format!(
                    "{} has kicked it out: {}",
                    words(message.nick()),
                    words(message.last())
                );
                self.go_out(message.param(0), &why);
            }
            "INVITE" => self.be_invited(message.last()),
            "PRIVMSG" => self.hear(&message),
            _ => {
                if let Some(number) = message.numeric()
                    && JOIN_ERRORS.contains(&number)
                {
                    self.go_out(message.param(1), &words(message.last()));
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, message: &Message) {
        let ears =
            Ears { server: &self.server, nick: &self.nick, wanted: &self.channel.settings.nick };
        let Some(said) = ears.hear(message, &mut self.times) else { return };
        let id = said.id.unwrap_or_else(|| MessageId::from(SystemIds.uuid()));
        let waiting =
            Waiting { platform_id: said.platform_id, id: id.as_str().to_owned(), chat: said.chat };
        if self.heard.try_send(waiting).is_err()
            && let Some(before) = warned("too much was said on irc", &self.channel.id)
        {
            let channel = &self.channel.id;
            tracing::warn!(
                channel,
                before,
                "more is said than can be taken; what is too much is not heard"
            );
        }
    }

    /// Why it ends: what the server itself has said, if it has.
    fn closed(&mut self, why: &str) -> Stop {
        self.last_words.take().unwrap_or_else(|| Stop::Trouble(why.to_owned()))
    }

    /// Tells those who wait what became of what they had to say.
    fn end(&mut self, ended: &Result<(), Stop>) {
        let why = match ended {
            Ok(()) => "the host stops",
            Err(Stop::Trouble(why) | Stop::Refused(why)) => why,
        };
        if let Some((flight, done)) = self.flight.take() {
            tell(done, flight.cut(why));
        }
        self.orders.close();
        while let Ok(order) = self.orders.try_recv() {
            tell(order.done, Sent::NotSent { error: why.to_owned(), retry_after: None });
        }
    }
}

/// Whoever does not wait any more needs not to be told.
fn tell(done: oneshot::Sender<Sent>, sent: Sent) {
    drop(done.send(sent));
}
