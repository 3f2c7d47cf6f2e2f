//! What was used, added up for people.

use rusqlite::{Connection, Row, named_params};
use serde::Serialize;

use super::{Day, Tokens};

/// By what it is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// By agent.
    Agent,
    /// By upstream and model.
    Model,
    /// By day.
    Day,
    /// By conversation.
    Session,
}

/// A line of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Of what: the agent's id, `UPSTREAM/MODEL`, the day, or the session's id, which is
    /// empty for those of days long past.
    pub key: String,
    /// The agent's name, of an agent or a session; its id where the agent is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What was used.
    #[serde(flatten)]
    pub used: Used,
}

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Used {
    /// Requests that have ended.
    pub requests: u64,
    /// Their tokens.
    #[serde(flatten)]
    pub tokens: Tokens,
    /// What those with a price cost, in nano-USD.
    pub nano_usd: i64,
    /// How many have no price.
    pub unpriced: u64,
    /// How many ended otherwise than well.
    pub failed: u64,
    /// Of how many nobody knows what they used.
    pub unknown: u64,
    /// The most tokens that those can have used,
    pub unknown_tokens: u64,
    /// and the most that they can have cost, in nano-USD.
    pub unknown_nano_usd: i64,
}

impl Used {
    /// All tokens that were read, however.
    pub fn read(&self) -> u64 {
        let Tokens { input, cache_read, cache_write, output: _ } = self.tokens;
        input.saturating_add(cache_read).saturating_add(cache_write)
    }

    /// This and that together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let tokens = |of: fn(&Tokens) -> u64| of(&self.tokens).saturating_add(of(&other.tokens));
        Self {
            requests: self.requests + other.requests,
            tokens: Tokens {
                input: tokens(|it| it.input),
                cache_read: tokens(|it| it.cache_read),
                cache_write: tokens(|it| it.cache_write),
                output: tokens(|it| it.output),
            },
            nano_usd: self.nano_usd.saturating_add(other.nano_usd),
            unpriced: self.unpriced + other.unpriced,
            failed: self.failed + other.failed,
            unknown: self.unknown + other.unknown,
            unknown_tokens: self.unknown_tokens.saturating_add(other.unknown_tokens),
            unknown_nano_usd: self.unknown_nano_usd.saturating_add(other.unknown_nano_usd),
        }
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let count = |name: &str| row.get::<_, i64>(name).map(i64::cast_unsigned);
        Ok(Self {
            requests: count("requests")?,
            tokens: Tokens {
                input: count("input")?,
                cache_read: count("cache_read")?,
                cache_write: count("cache_write")?,
                output: count("output")?,
            },
            nano_usd: row.get("nano_usd")?,
            unpriced: count("unpriced")?,
            failed: count("failed")?,
            unknown: count("unknown")?,
            unknown_tokens: count("unknown_tokens")?,
            unknown_nano_usd: row.get("unknown_nano_usd")?,
        })
    }
}

/// What is reserved for requests that are under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UnderWay {
    /// How many there are.
    pub requests: u64,
    /// The most tokens that they can use together,
    pub tokens: i64,
    /// and the most that those with a price can cost, in nano-USD.
    pub nano_usd: i64,
}

/// What is reserved now, of whatever day. `total` never leaves the range of a number.
pub(super) fn under_way(db: &Connection) -> rusqlite::Result<UnderWay> {
    let select = "SELECT count(*) AS requests, CAST(total(tokens) AS INTEGER) AS tokens,
        CAST(total(nano_usd) AS INTEGER) AS nano_usd FROM usage_open";
    db.query_row(select, [], |row| {
        Ok(UnderWay {
            requests: row.get::<_, i64>("requests")?.cast_unsigned(),
            tokens: row.get("tokens")?,
            nano_usd: row.get("nano_usd")?,
        })
    })
}

/// Its sums, in the columns that [`Used::from_row`] reads.
const SUMS: &str = "sum(requests) AS requests, sum(input) AS input, sum(cache_read) AS cache_read,
    sum(cache_write) AS cache_write, sum(output) AS output, sum(nano_usd) AS nano_usd,
    sum(unpriced) AS unpriced, sum(failed) AS failed, sum(unknown) AS unknown,
    sum(unknown_tokens) AS unknown_tokens, sum(unknown_nano_usd) AS unknown_nano_usd";

impl By {
    /// The columns that say of what a line is, and its agent; and the order of lines.
    fn columns(self) -> [&'static str; 3] {
        let name = "coalesce(agent_groups.name, agent_group_id)";
        let of_session = "CASE session_id WHEN '' THEN NULL ELSE coalesce(agent_groups.name, agent_group_id) END";
        let most = "sum(nano_usd) DESC, sum(input + cache_read + cache_write + output) DESC, 1";
        match self {
            Self::Agent => ["agent_group_id", name, most],
            Self::Session => ["session_id", of_session, most],
            Self::Model => ["upstream || '/' || model", "NULL", most],
            Self::Day => ["day", "NULL", "1"],
        }
    }
}

pub(super) fn report(db: &Connection, by: By, from: &Day, to: &Day) -> rusqlite::Result<Vec<Line>> {
    let [key, agent, order] = by.columns();
    let select = format!(
        "SELECT {key} AS key, {agent} AS agent, {SUMS} FROM usage_days
         LEFT JOIN agent_groups ON agent_groups.id = usage_days.agent_group_id
         WHERE day BETWEEN :from AND :to GROUP BY 1 ORDER BY {order}"
    );
    db.prepare(&select)?
        .query_map(named_params! { ":from": from, ":to": to }, |row| {
            Ok(Line { key: row.get("key")?, agent: row.get("agent")?, used: Used::from_row(row)? })
        })?
        .collect()
}
