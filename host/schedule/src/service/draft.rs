//! What a person says about a schedule: everything is optional, nothing is checked.

use serde::{Deserialize, Deserializer};

/// What becomes of an optional field. In JSON a field that is absent is kept, and `null` resets it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Change<T> {
    /// It stays as it is, which is the default for a new schedule.
    #[default]
    Keep,
    /// It goes back to the default.
    Reset,
    /// It becomes this.
    Set(T),
}

impl<T> From<Option<T>> for Change<T> {
    /// `None` keeps.
    fn from(said: Option<T>) -> Self {
        said.map_or(Self::Keep, Self::Set)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Reset, Self::Set))
    }
}

/// A cadence as it is written, such as `daily` and `23:30`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenCadence {
    /// `cron`, `daily`, `weekdays`, `weekly`, `hourly`, `every` or `once`.
    pub kind: String,
    /// What makes it different from others of its kind.
    pub value: String,
}

/// A chat, in the words of `twobox send` and `twobox wire`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenChat {
    /// What the agent calls it, or its id on its channel.
    pub chat: String,
    /// The channel's id; needed where several channels have a chat of this id.
    #[serde(default)]
    pub channel: Option<String>,
    /// The thread; without it the chat itself.
    #[serde(default)]
    pub thread: Option<String>,
}

/// Everything that may be said when a schedule is added or edited. To add one, `name`, `agent`,
/// `prompt` and `cadence` are needed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Draft {
    /// What people call it.
    #[serde(deserialize_with = "said")]
    pub name: Option<String>,
    /// Whose it is: the name or id of an agent group. It stays with that one.
    #[serde(deserialize_with = "said")]
    pub agent: Option<String>,
    /// What the agent is told.
    #[serde(deserialize_with = "said")]
    pub prompt: Option<String>,
    /// How often it fires.
    #[serde(deserialize_with = "said")]
    pub cadence: Option<WrittenCadence>,
    /// An IANA name. Default: `UTC`.
    pub time_zone: Change<String>,
    /// The id of a session of the agent, or its beginning or end. Default: a new one for each run.
    pub session: Change<String>,
    /// The chat to which the answers of runs go, if each has a session of its own. Default: they are
    /// only kept.
    pub to: Change<WrittenChat>,
    /// How many turns a run may take. Default: what the agent's configuration says.
    pub max_turns: Change<i64>,
    /// How many seconds a run may go on. Default: the setting `schedule.max_run`.
    pub max_run_sec: Change<i64>,
    /// `skip`, `latest` or `all`. Default: `latest`.
    pub missed: Change<String>,
    /// How many seconds late a missed slot may be and still be run. Default: a day.
    pub missed_window_sec: Change<i64>,
    /// `skip`, `queue`, `replace` or `allow`. Default: `skip`.
    pub overlap: Change<String>,
    /// By how many seconds at most a run may be later than its slot. Default: 0.
    pub jitter_sec: Change<i64>,
    /// No slot before this: RFC 3339 with an offset. Default: no such bound.
    pub not_before: Change<String>,
    /// No slot after this: RFC 3339 with an offset. Default: no such bound.
    pub not_after: Change<String>,
    /// After so many firings it is over. Default: it goes on.
    pub max_runs: Change<i64>,
}

/// What cannot be reset: `null` is none of its values.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(given: D) -> Result<Option<T>, D::Error> {
    T::deserialize(given).map(Some)
}
impl Draft {
    /// The same, in which a zone that is not said of a new schedule, or taken back, is `zone`.
    #[must_use]
    pub fn in_zone(mut self, zone: &str, is_new: bool) -> Self {
        if self.time_zone == Change::Reset || (is_new && self.time_zone == Change::Keep) {
            self.time_zone = Change::Set(zone.to_owned());
        }
        self
    }
}
