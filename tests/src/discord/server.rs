//! The stand-in in a thread of its own.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::sync::oneshot;

use super::options::Options;
use super::rest::{direct, handle};
use super::state::{Counts, State, Told};
use crate::wait::PATIENCE;

/// What becomes of the next message that a bot has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before it is made.
    Unsent,
    /// It is made, and the connection ends without an answer.
    Silent,
    /// Something in front of it breaks, and it is not made.
    Broken,
}

impl Fault {
    pub(super) fn of(word: &str) -> Option<Self> {
        match word {
            "unsent" => Some(Self::Unsent),
            "silent" => Some(Self::Silent),
            "broken" => Some(Self::Broken),
            _ => None,
        }
    }
}

/// What connections and the test have in common.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state())
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state());
        self.changed.notify_all();
        done
    }
}

/// A stand-in that runs until it is dropped. Its methods block; they wait for conditions.
pub struct Discord {
    shared: Arc<Shared>,
    address: SocketAddr,
    gateway: SocketAddr,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Discord {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts one that is so.
    ///
    /// # Panics
    /// If no port can be had.
    pub fn start_with(options: Options) -> Self {
        Self::open(options).expect("two ports")
    }

    /// The same, for a program that can say what is wrong.
    ///
    /// # Errors
    /// No port can be had.
    pub fn open(options: Options) -> io::Result<Self> {
        let rest = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        let gateway = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addresses = (rest.local_addr()?, gateway.local_addr()?);
        let state = State::new(options, format!("ws://{}", addresses.1));
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let running = Mutex::new(Some(Running::begin(rest, gateway, &shared)?));
        Ok(Self { shared, address: addresses.0, gateway: addresses.1, running })
    }

    /// Where its API is.
    pub fn url(&self) -> String {
        format!("http://{}/api", self.address)
    }

    /// The bot's token.
    pub fn token(&self) -> String {
        self.shared.look(|state| state.options.token.clone())
    }

    /// Nobody is there any more. What was said stays, and sessions do not.
    pub fn go_down(&self) {
        self.running.lock().unwrap().take().expect("it runs").end();
        self.shared.change(|state| state.sessions.clear());
    }

    /// Somebody is there again.
    pub fn come_back(&self) {
        let bind = |address: SocketAddr| TcpListener::bind(address).unwrap();
        let fresh = Running::begin(bind(self.address), bind(self.gateway), &self.shared).unwrap();
        *self.running.lock().unwrap() = Some(fresh);
    }

    // What is there.

    /// The id of the bot.
    pub fn bot(&self) -> String {
        self.shared.look(|state| state.bot.to_string())
    }

    /// The id of the person who says things.
    pub fn me(&self) -> String {
        self.shared.look(|state| state.me.to_string())
    }

    /// Another bot.
    pub fn other_bot(&self) -> String {
        self.shared.look(|state| state.other_bot.to_string())
    }

    /// The role that is the bot's own.
    pub fn role(&self) -> String {
        self.shared.look(|state| state.role.to_string())
    }

    /// The first channel of the server.
    pub fn channel(&self) -> String {
        self.shared.look(|state| {
            let is_text = |channel: &&u64| state.channels[*channel].kind == 0;
            state.channels.keys().find(is_text).unwrap().to_string()
        })
    }

    /// Another channel of the server.
    pub fn make_channel(&self, name: &str) -> String {
        self.shared.change(|state| {
            let guild = state.guild;
            state.add_channel(0, name, Some(guild), None, None).to_string()
        })
    }

    /// A thread in a channel.
    pub fn make_thread(&self, channel: &str) -> String {
        self.shared.change(|state| {
            let (guild, parent) = (state.guild, channel.parse().unwrap());
            state.add_channel(11, "a thread", Some(guild), Some(parent), None).to_string()
        })
    }

    /// The direct chat with the person.
    pub fn direct(&self) -> String {
        self.shared.change(|state| {
            let me = state.me;
            direct(state, me).to_string()
        })
    }

    /// The bot is refused in a channel, by this number.
    pub fn close(&self, channel: &str, code: Option<u64>) {
        let id = channel.parse().unwrap();
        self.shared.change(|state| state.channels.get_mut(&id).unwrap().closed = code);
    }

    // What people do.

    /// The person says something.
    pub fn say(&self, channel: &str, text: &str) -> String {
        self.say_as(&self.me(), channel, text)
    }

    /// Somebody says something.
    pub fn say_as(&self, by: &str, channel: &str, text: &str) -> String {
        let (by, channel) = (by.parse().unwrap(), channel.parse().unwrap());
        self.shared.change(|state| state.say(by, channel, text, None)).to_string()
    }

    /// The person presses a button; `None` if it is not to be pressed. The answer is the interaction.
    pub fn press(&self, message: &str, custom_id: &str) -> Option<String> {
        let message = message.parse().unwrap();
        self.shared.change(|state| {
            let me = state.me;
            state.press(me, message, custom_id).map(|id| id.to_string())
        })
    }

    /// Waits until an interaction was answered, and says how.
    #[track_caller]
    pub fn wait_answered(&self, interaction: &str) -> Value {
        let id = interaction.parse().unwrap();
        self.wait("an answer to an interaction", |state| state.interactions[&id].answer.clone())
    }

    // What goes wrong.

    /// What becomes of the next message that the bot has made.
    pub fn fail(&self, fault: Fault) {
        self.shared.change(|state| state.faults.push_back(fault));
    }

    /// Cuts all connections of the gateway off.
    pub fn drop_connections(&self) {
        self.shared.change(|state| state.to_all(|| Told::Drop));
    }

    /// Closes all connections of the gateway with a code.
    pub fn close_connections(&self, code: u16) {
        self.shared.change(|state| state.to_all(|| Told::Close(code)));
    }

    /// No session goes on any more.
    pub fn invalidate(&self) {
        self.shared.change(State::invalidate);
    }

    /// Nobody remembers a nonce any more, as after some minutes.
    pub fn forget_nonces(&self) {
        self.shared.change(|state| state.nonces.clear());
    }

    /// The bot may read what people say, or may no more.
    pub fn let_read(&self, may_read: bool) {
        self.shared.change(|state| state.options.may_read = may_read);
    }

    // What was seen.

    /// What was said in a channel, oldest first.
    pub fn messages(&self, channel: &str) -> Vec<Value> {
        let id: u64 = channel.parse().unwrap();
        self.shared.look(|state| state.channels[&id].messages.clone())
    }

    /// What the bot said in a channel, oldest first.
    pub fn answers(&self, channel: &str) -> Vec<String> {
        let bot = self.bot();
        let ours = |message: &Value| message["author"]["id"] == bot;
        let said = self.messages(channel).into_iter().filter(ours);
        said.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
    }

    /// How often the bot said each thing.
    pub fn count(&self, channel: &str) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for text in self.answers(channel) {
            *count.entry(text).or_default() += 1;
        }
        count
    }

    /// Waits until the bot has said this, and says how.
    #[track_caller]
    pub fn wait_said(&self, channel: &str, text: &str) -> Value {
        let id: u64 = channel.parse().unwrap();
        self.wait(&format!("the bot to say {text:?}"), |state| {
            let bot = state.bot.to_string();
            let is_it = |it: &&Value| it["author"]["id"] == bot && it["content"] == text;
            state.channels[&id].messages.iter().find(is_it).cloned()
        })
    }

    /// What is in the files that came with a message.
    pub fn files(&self, message: &Value) -> Vec<Vec<u8>> {
        let all = message["attachments"].as_array().unwrap();
        let ids = all.iter().map(|file| file["id"].as_str().unwrap().parse::<u64>().unwrap());
        ids.map(|id| self.shared.look(|state| state.files[&id].clone())).collect()
    }

    /// How often somebody introduced themselves, and how often went on.
    pub fn sessions(&self) -> (u64, u64) {
        let Counts { identified, resumed, .. } = self.shared.look(|state| state.counts);
        (identified, resumed)
    }

    /// How often it was asked too much.
    pub fn limited(&self) -> u64 {
        self.shared.look(|state| state.counts.limited)
    }

    /// What was asked so far: method, path, and the status of the answer; 0 is none.
    pub fn asked(&self) -> Vec<(String, String, u16)> {
        self.shared.look(|state| state.asked.clone())
    }

    /// Waits until somebody is connected who has introduced themselves or went on.
    #[track_caller]
    pub fn wait_connected(&self) {
        self.wait("somebody at the gateway", |state| {
            state.sessions.values().any(|session| session.line.is_ok()).then_some(())
        });
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut state = self.shared.state();
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {PATIENCE:?} for {what}");
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

impl Drop for Discord {
    fn drop(&mut self) {
        if let Some(running) = self.running.lock().unwrap().take() {
            running.end();
        }
    }
}

impl Running {
    fn begin(rest: TcpListener, gateway: TcpListener, shared: &Arc<Shared>) -> io::Result<Self> {
        rest.set_nonblocking(true)?;
        gateway.set_nonblocking(true)?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = serve(rest, gateway, Arc::clone(shared), stopped);
        // With the runtime all connections go.
        let thread = std::thread::spawn(move || runtime.block_on(serving).unwrap());
        Ok(Self { stop, thread })
    }

    fn end(self) {
        drop(self.stop);
        // What went wrong there was seen by whoever was answered.
        drop(self.thread.join());
    }
}

async fn serve(
    rest: TcpListener,
    gateway: TcpListener,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let rest = tokio::net::TcpListener::from_std(rest)?;
    let gateway = tokio::net::TcpListener::from_std(gateway)?;
    loop {
        tokio::select! {
            // It is only ever dropped.
            _ = &mut stopped => return Ok(()),
            accepted = rest.accept() => {
                let (stream, _) = accepted?;
                let shared = Arc::clone(&shared);
                let answer = service_fn(move |request| handle(Arc::clone(&shared), request));
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60));
                tokio::spawn(server.serve_connection(TokioIo::new(stream), answer));
            }
            accepted = gateway.accept() => {
                tokio::spawn(super::gateway::converse(accepted?.0, Arc::clone(&shared)));
            }
        }
    }
}
