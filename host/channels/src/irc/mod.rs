//! The `irc` channel: channels of a server, and what people say to it alone, by one connection over TLS.
//! `docs/channels/irc.md` is the description for people.
//!
//! In (`hear`, `take`): a server says everything once and keeps nothing. What was said while nobody was connected is not
//! heard, and that is said; what was heard and could not be taken is kept, and handed in again.
//!
//! Out (`flight`, `stay`): no server honours keys, so each line is a part with a record of its own. A line counts as taken
//! when the server says so: by sending it back, or by answering a PING behind it. What was said and not answered before a
//! connection ended is unknown, and is not said again.
//!
//! Decisions, and pure, are `wire`, `server`, `enter`, `flight`, `trouble`, `pace`, `hear` and what `format` does.

mod connection;
mod enter;
mod flight;
mod hear;
mod kept;
mod pace;
mod probe;
mod send;
mod server;
mod settings;
mod stay;
mod take;
mod trouble;
mod wire;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::time::{sleep, timeout};
use twobox_model::backoff::Backoff;
use twobox_model::channel::{Address, Capabilities, Formatting, Outbound, Outcome};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::time::UnixMillis;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use self::connection::Connection;
use self::enter::{Entered, Entering, Passwords, Stop};
use self::kept::{Kept, Waiting};
use self::send::Turn;
use self::server::Server;
use self::settings::{Settings, Tls};
use self::stay::Order;
use crate::hears::Hears;
use crate::instance::Surroundings;
use crate::kinds::{Kind, SecretOf, Setup};
use crate::parts::Journal;
use crate::{Channel, in_order, state};

/// The name of the kind.
pub const IRC: &str = "irc";

/// The kind.
pub const KIND: Kind = Kind {
    name: IRC,
    build: |setup| Ok(Arc::new(IrcChannel::new(setup)?)),
    usable: |setup| {
        let settings = Settings::of(setup)?;
        let missing = settings.secrets().find_map(|(name, what)| match (setup.secrets)(name) {
            Ok(Some(_)) => None,
            Ok(None) => Some(missing(name, &what)),
            Err(error) => Some(error),
        });
        Ok(missing.map_or_else(|| Ok(described(&settings)), Err))
    },
    secrets: |setup| {
        let settings = Settings::of(setup)?;
        Ok(settings.secrets().map(|(name, _)| name.to_owned()).collect())
    },
    probe: Some(probe::begin),
    hears: Hears::CHAT,
};

/// The pauses after trouble with the server.
const PAUSE: Backoff = Backoff { first: Duration::from_secs(2), most: Duration::from_secs(5 * 60) };

/// How long a connection has to last before trouble is trouble of its own.
const STEADY: Duration = Duration::from_secs(60);

/// How long it may take to be let in.
const ENTER: Duration = Duration::from_secs(60);

/// How many messages wait between the server and the host.
const HEARD_MAX: usize = 256;

/// What follows if what is kept is removed.
const REMEDY: &str = "then what was heard and nobody has taken yet is lost";

/// What it is and where, in a few words.
fn described(settings: &Settings) -> String {
    let rooms = match settings.channels.len() {
        0 => "in no channel".to_owned(),
        1 => format!("in {}", settings.channels[0]),
        many => format!("in {many} channels"),
    };
    let tls = if settings.tls == Tls::Off { ", without TLS" } else { "" };
    format!("{} at {}{tls}, {rooms}", settings.nick, settings.place())
}

/// That nobody has given a secret.
fn missing(name: &str, what: &str) -> String {
    format!("{what} is missing: give it with `twobox secrets set {name}`")
}

/// The channel.
pub struct IrcChannel {
    id: String,
    settings: Settings,
    secrets: SecretOf,
    journal: Arc<dyn Journal>,
    /// Where what is kept lies.
    folder: PathBuf,
    kept: Mutex<Kept>,
    /// Held by whoever writes that down.
    writing: AsyncMutex<()>,
    /// While it is on a server.
    seat: Mutex<Option<Seat>>,
}

/// A place on a server.
struct Seat {
    /// Takes what is to be said.
    orders: mpsc::Sender<Order>,
    turn: Turn,
    server: Server,
    /// The channels that it is in, as the server compares them.
    inside: BTreeSet<String>,
}

impl IrcChannel {
    /// The channel that is set so. It does nothing before it lives.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong.
    pub fn new(setup: &Setup<'_>) -> Result<Self, String> {
        Ok(Self {
            id: setup.id.to_owned(),
            settings: Settings::of(setup)?,
            secrets: Arc::clone(&setup.secrets),
            journal: Arc::clone(&setup.journal),
            folder: state::folder(setup.folder, setup.id),
            kept: Mutex::default(),
            writing: AsyncMutex::default(),
            seat: Mutex::default(),
        })
    }

    /// Writes down what is kept.
    async fn write_down(&self) {
        let _one_after_the_other = self.writing.lock().await;
        let (folder, kept) = (self.folder.clone(), lock(&self.kept).clone());
        if let Err(error) = blocking(move || state::write(&folder, &kept)).await {
            let folder = self.folder.display();
            tracing::warn!(channel = self.id, %folder, %error, "what is known of IRC is not written down");
        }
    }

    /// It has listened until `now`.
    async fn listened_until(&self, now: UnixMillis) {
        lock(&self.kept).heard_until = Some(now);
        self.write_down().await;
    }

    /// Is let in, and stays, again and again, until it is told to stop or a person has to mend something.
    async fn live(
        &self,
        surroundings: &Surroundings,
        heard: mpsc::Sender<Waiting>,
    ) -> Result<(), String> {
        let mut failures = 0;
        let mut told = surroundings.clone();
        loop {
            let began = Instant::now();
            let entered = tokio::select! {
                entered = enter(&self.settings, &self.secrets) => entered,
                () = told.stopped() => return Ok(()),
            };
            let ended = match entered {
                Ok((connection, entered)) => {
                    self.tell_how(&entered).await;
                    self.stay(surroundings, &heard, connection, entered).await
                }
                Err(stop) => Err(stop),
            };
            let why = match ended {
                Ok(()) => return Ok(()),
                Err(Stop::Refused(why)) => return Err(why),
                Err(Stop::Trouble(why)) => why,
            };
            if began.elapsed() > STEADY {
                failures = 0;
            }
            failures += 1;
            surroundings.down(why);
            tokio::select! {
                () = sleep(PAUSE.after(failures)) => {}
                () = told.stopped() => return Ok(()),
            }
        }
    }

    /// Says to the operator how it is there, and how long it was not.
    async fn tell_how(&self, entered: &Entered) {
        let away = lock(&self.kept).listen(SystemClock.now());
        let Entered { nick, account, nick_trouble, .. } = entered;
        let account = account.as_deref().unwrap_or("none");
        tracing::info!(channel = self.id, nick, account, "it is on IRC");
        if let Some(why) = nick_trouble {
            let wanted = &self.settings.nick;
            tracing::warn!(
                channel = self.id,
                wanted,
                nick,
                why,
                "it has another nick than it should have"
            );
        }
        if let Some(away) = away {
            tracing::warn!(
                channel = self.id,
                from = %away.from,
                to = %away.to,
                "nobody listened on IRC meanwhile, and what was said then is not known"
            );
        }
        self.write_down().await;
    }
}

/// Opens a connection and is let in.
async fn enter(settings: &Settings, secrets: &SecretOf) -> Result<(Connection, Entered), Stop> {
    let passwords = passwords(settings, secrets).await?;
    let mut connection = Connection::open(settings).await.map_err(Stop::Trouble)?;
    let let_in = async {
        let (mut entering, mut says) = Entering::begin(settings, &passwords);
        loop {
            for line in says {
                let said = connection.writer.say(&line).await;
                said.map_err(|error| Stop::Trouble(error.to_string()))?;
            }
            let line = connection.lines.next().await;
            let line =
                line.map_err(|error| Stop::Trouble(format!("the connection broke: {error}")))?;
            let Some(message) = line else {
                let why = format!("{} has closed the connection without a word", settings.place());
                return Err(Stop::Trouble(why));
            };
            says = entering.take(&message)?;
            if let Some(entered) = entering.entered(&message) {
                return Ok(entered);
            }
        }
    };
    let late =
        |_| Stop::Trouble(format!("{} does not let it in, and does not say why", settings.place()));
    let entered = timeout(ENTER, let_in).await.map_err(late)??;
    Ok((connection, entered))
}

/// The secrets that are set, as they are now.
async fn passwords(settings: &Settings, secrets: &SecretOf) -> Result<Passwords, Stop> {
    let (settings, secrets) = (settings.clone(), Arc::clone(secrets));
    let found = blocking(move || {
        for (name, what) in settings.secrets() {
            if secrets(name)?.is_none() {
                return Err(missing(name, &what));
            }
        }
        let find =
            |name: Option<&String>| name.map(|it| secrets(it)).transpose().map(Option::flatten);
        Ok(Passwords {
            account: find(settings.login.as_ref().map(|it| &it.secret))?,
            server: find(settings.server_secret.as_ref())?,
        })
    });
    found.await.map_err(Stop::Refused)
}

impl Channel for IrcChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities { keys: true, formatting: Formatting::Markdown, ..Capabilities::TEXT }
    }

    fn run(&self, surroundings: Surroundings) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let file = state::file(&self.folder);
            *lock(&self.kept) = blocking(move || state::read(&file, REMEDY)).await?;
            let (heard, taken) = mpsc::channel(HEARD_MAX);
            let live = self.live(&surroundings, heard);
            let (ended, ()) = join(live, self.take_all(&surroundings, taken)).await;
            self.write_down().await;
            ended
        })
    }

    fn deliver<'a>(
        &'a self,
        address: &'a Address,
        outbounds: Vec<Outbound>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move { in_order(&outbounds, |outbound| self.send(address, outbound)).await })
    }

    fn forget(&self, key: &str) {
        let (journal, key) = (Arc::clone(&self.journal), key.to_owned());
        tokio::spawn(async move {
            if let Err(error) = journal.forget(&key).await {
                tracing::debug!(key, error, "what was recorded of a message stays");
            }
        });
    }
}
