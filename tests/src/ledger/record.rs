//! One line of a ledger.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Something that happened. `at_us` is [`now_us`] of the writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Record {
    /// A message is about to be handed in, for the first time or again under the same id.
    Handed {
        /// When.
        at_us: u64,
        /// Its id.
        message: String,
        /// Where: an agent, and after a slash a thread.
        place: String,
        /// What it says.
        text: String,
        /// Whether the host made it, so that nobody said it anywhere.
        #[serde(default)]
        by_host: bool,
    },
    /// The host said that it is durable.
    Accepted {
        /// When.
        at_us: u64,
        /// Which.
        message: String,
    },
    /// The host said that nothing of this try was stored.
    Refused {
        /// When.
        at_us: u64,
        /// Which.
        message: String,
    },
    /// An agent begins a turn, or takes more messages into the one that it has begun.
    Started {
        /// When.
        at_us: u64,
        /// The turn: greater than that of every turn that began earlier on this machine.
        turn: u64,
        /// How often the messages were tried before.
        attempt: i64,
        /// The agent's process.
        pid: u32,
        /// What it is to answer.
        messages: Vec<Given>,
    },
    /// A channel was handed a message.
    Shown {
        /// When.
        at_us: u64,
        /// Its key.
        key: String,
        /// Where; `None` if whoever recorded it serves several places and cannot tell.
        place: Option<String>,
        /// Whether a message with a key that was there before is dropped.
        keyed: bool,
        /// The messages that it says it answers.
        answers: Vec<String>,
        /// What it says.
        text: String,
    },
    /// The tester did something to the installation.
    Injected {
        /// When it began.
        at_us: u64,
        /// When it was over: a killed process is started again, a stopped one goes on.
        until_us: u64,
        /// What.
        fault: String,
        /// The one place that it can be felt at; `None` for all.
        place: Option<String>,
    },
}

/// A message as an agent was given it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Its id.
    pub id: String,
    /// What it says.
    pub text: String,
}

impl Record {
    /// When it was written.
    pub fn at_us(&self) -> u64 {
        match self {
            Self::Handed { at_us, .. }
            | Self::Accepted { at_us, .. }
            | Self::Refused { at_us, .. }
            | Self::Started { at_us, .. }
            | Self::Shown { at_us, .. }
            | Self::Injected { at_us, .. } => *at_us,
        }
    }
}

/// Microseconds on the one clock that all processes and containers of this machine share and that
/// nobody sets.
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the kernel has this clock");
    u64::try_from(Duration::from(now).as_micros()).expect("less than 500,000 years of uptime")
}
