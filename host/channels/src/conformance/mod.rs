//! What every channel has to keep, whatever it can do: one suite, played with each kind of channel and a
//! platform behind it that does what a text says. A new kind gets a module here: its
//! bench, and a test that plays the suite with it.
//!
//! Not here: how an instance lives (`instance_tests`), and what a kind promises beyond this.

mod bridge;
mod command;
mod discord;
mod email;
mod fake;
mod irc;
mod matrix;
mod slack;
mod telegram;
mod terminal;
mod webhook;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use twobox_model::channel::{Address, Outbound, Outcome, Shelf};

use crate::Channel;

/// What the platform does with a message whose text begins with such a word, until it is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// It takes none for now, and says for how long.
    Busy,
    /// It never takes it.
    Never,
    /// It shows it and does not say so.
    Silent,
}

/// For how long a busy platform wants to be left alone.
const BUSY: Duration = Duration::from_secs(7);

impl Weather {
    const ALL: [Self; 3] = [Self::Busy, Self::Never, Self::Silent];

    const fn word(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Never => "never",
            Self::Silent => "silent",
        }
    }

    /// What a platform does with `text`.
    fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|weather| text.starts_with(weather.word()))
    }
}

/// A kind of channel, with a platform that outlives each of its instances.
trait Bench {
    /// A new life of the channel on the same platform.
    fn begin(&mut self) -> Arc<dyn Channel>;

    /// The chat in which all is said.
    fn address(&self) -> Address {
        address()
    }

    /// What people see, in order.
    fn shown(&self) -> Vec<String>;

    /// What is in the files that people got.
    fn files(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether the platform can do that.
    fn knows(&self, weather: Weather) -> bool;

    /// From now on the platform takes everything.
    fn mend(&mut self);

    /// Nobody is there, or somebody is again.
    fn cut(&mut self, cut: bool);
}

fn address() -> Address {
    let thread_id = Some("t".to_owned());
    Address { channel_type: "c".to_owned(), platform_id: "ada".to_owned(), thread_id }
}

/// Each text under a key that it has for ever.
fn outbounds(texts: &[&str]) -> Vec<Outbound> {
    let one = |text: &&str| Outbound {
        key: format!("install:session:{}", text.replace(' ', "-")),
        in_reply_to: None,
        answers: Vec::new(),
        text: (*text).to_owned(),
        files: Vec::new(),
        shelf: None,
        failed: false,
        prompt: None,
    };
    texts.iter().map(one).collect()
}

async fn deliver(bench: &impl Bench, channel: &Arc<dyn Channel>, texts: &[&str]) -> Vec<Outcome> {
    channel.deliver(&bench.address(), outbounds(texts)).await
}

fn is_delivered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Delivered { .. })
}

/// Plays everything with one bench after the other.
async fn conforms<B: Bench>(fresh: impl Fn() -> B) {
    order(fresh()).await;
    keys(fresh()).await;
    restart(fresh()).await;
    for weather in Weather::ALL {
        let bench = fresh();
        if bench.knows(weather) {
            in_bad_weather(bench, weather).await;
        }
    }
    outage(fresh()).await;
    files(fresh()).await;
}

/// A batch arrives in its order, and another one behind it.
async fn order(mut bench: impl Bench) {
    let channel = bench.begin();
    for batch in [&["one", "two", "three"][..], &["four"], &[]] {
        let outcomes = deliver(&bench, &channel, batch).await;
        assert_eq!(outcomes.len(), batch.len(), "an outcome for each: {outcomes:?}");
        assert!(outcomes.iter().all(is_delivered), "{outcomes:?}");
    }
    assert_eq!(bench.shown(), ["one", "two", "three", "four"]);
}

/// A resend shows once where the channel honours keys, also among others and by another life.
async fn keys(mut bench: impl Bench) {
    let channel = bench.begin();
    if !channel.capabilities().keys {
        return; // the host never sends twice there what may have arrived
    }
    deliver(&bench, &channel, &["one"]).await;
    for texts in [&["one"][..], &["one", "two"], &["two", "one"]] {
        let outcomes = deliver(&bench, &channel, texts).await;
        assert!(outcomes.len() == texts.len() && outcomes.iter().all(is_delivered), "{outcomes:?}");
    }
    assert_eq!(bench.shown(), ["one", "two"]);
}

/// A channel that is begun anew goes on where the other was.
async fn restart(mut bench: impl Bench) {
    let first = bench.begin();
    deliver(&bench, &first, &["one"]).await;
    drop(first);
    let second = bench.begin();
    let again = second.capabilities().keys.then_some("one");
    let texts: Vec<&str> = again.into_iter().chain(["two"]).collect();
    let outcomes = deliver(&bench, &second, &texts).await;
    assert!(outcomes.len() == texts.len() && outcomes.iter().all(is_delivered), "{outcomes:?}");
    assert_eq!(bench.shown(), ["one", "two"]);
}

/// The first that is not taken ends its batch, and what becomes of it is what the platform said.
async fn in_bad_weather(mut bench: impl Bench, weather: Weather) {
    let bad = format!("{} weather", weather.word());
    let texts = ["one", bad.as_str(), "three"];
    let channel = bench.begin();
    let outcomes = deliver(&bench, &channel, &texts).await;
    let [taken, refused] = &outcomes[..] else { panic!("it ends the batch: {outcomes:?}") };
    assert!(is_delivered(taken), "{outcomes:?}");
    let keys = channel.capabilities().keys;
    let tried_again = match (weather, refused) {
        (Weather::Busy, Outcome::Transient { retry_after, .. }) => {
            assert_eq!(*retry_after, Some(BUSY), "as the platform said");
            true
        }
        (Weather::Never, Outcome::Permanent { .. }) => false,
        (Weather::Silent, Outcome::Transient { .. }) if keys => true,
        // Whoever keeps records of a platform without keys may not know it either.
        (Weather::Silent, Outcome::Uncertain { .. }) => false,
        (_, said) => panic!("{weather:?}, keys {keys}: {said:?}"),
    };
    assert!(!bench.shown().contains(&"three".to_owned()), "nothing overtakes");
    bench.mend();
    // As `delivery` goes on: with what is tried again, or behind what is over.
    let rest = if tried_again { &texts[1..] } else { &texts[2..] };
    let outcomes = deliver(&bench, &channel, rest).await;
    assert!(outcomes.len() == rest.len() && outcomes.iter().all(is_delivered), "{outcomes:?}");
    let expected: &[&str] = match weather {
        Weather::Busy | Weather::Silent => &texts,
        Weather::Never => &["one", "three"],
    };
    assert_eq!(bench.shown(), expected);
}

/// Nobody is there: nothing is lost or given up, and afterwards it arrives, once and in order.
async fn outage(mut bench: impl Bench) {
    let channel = bench.begin();
    deliver(&bench, &channel, &["one"]).await;
    bench.cut(true);
    let outcomes = deliver(&bench, &channel, &["two", "three"]).await;
    assert!(
        matches!(outcomes[..], [Outcome::Unavailable | Outcome::Transient { .. }]),
        "it waits: {outcomes:?}"
    );
    assert_eq!(bench.shown(), ["one"]);
    bench.cut(false);
    let outcomes = deliver(&bench, &channel, &["two", "three"]).await;
    assert!(outcomes.len() == 2 && outcomes.iter().all(is_delivered), "{outcomes:?}");
    assert_eq!(bench.shown(), ["one", "two", "three"]);
}

/// Files arrive where they can leave; elsewhere the message does, which names them. One that is missing
/// keeps no message.
async fn files(mut bench: impl Bench) {
    let lies = tempfile::tempdir().unwrap();
    std::fs::create_dir(lies.path().join("row")).unwrap();
    std::fs::write(lies.path().join("row/plan.txt"), "the plan").unwrap();
    let channel = bench.begin();
    let shelf = Shelf { base: lies.path().to_owned(), within: Path::new("row").to_owned() };
    let mut messages = outbounds(&["with files"]);
    messages[0].files = ["plan.txt", "missing.txt"].map(str::to_owned).to_vec();
    messages[0].shelf = Some(shelf);
    let outcomes = channel.deliver(&bench.address(), messages).await;
    assert!(is_delivered(&outcomes[0]), "{outcomes:?}");
    assert_eq!(bench.shown(), ["with files"]);
    let expected: &[&str] = if channel.capabilities().files_out { &["the plan"] } else { &[] };
    assert_eq!(bench.files(), expected);
}
