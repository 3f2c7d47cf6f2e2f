//! Whether there is room for one more request: what may be used in a day, and what was.

use rusqlite::{Connection, Row, named_params};
use serde::Serialize;
use twobox_shared::ids::AgentGroupId;

use super::{Day, Request, run};

/// What may be used in a day. `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// Money, in nano-USD.
    pub nano_usd: Option<i64>,
    /// Tokens, of whatever kind.
    pub tokens: Option<i64>,
}

/// The limits that a request has to stay within.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// That of all agents together,
    pub all: Limit,
    /// that of its own,
    pub agent: Limit,
    /// and what the run of its conversation may cost, in nano-USD. `None` is no limit, and then the run is not
    /// followed.
    pub run: Option<i64>,
}

/// Whose limit is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// That of all agents together.
    All,
    /// That of this agent.
    Agent,
    /// That of the run which goes on in the conversation.
    Run,
}

/// The limit that is in the way of a request. The numbers are of what the limit is of: nano-USD or tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// Whose limit,
    pub whose: Whose,
    /// and whether it is one of money; otherwise it is one of tokens.
    pub money: bool,
    /// What is used of it and reserved, before this request,
    pub used: i64,
    /// the most that this one can use,
    pub asked: i64,
    /// and how much there is.
    pub limit: i64,
}

/// What counts against a limit: what was used, what is reserved, and what may have been used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) nano_usd: i64,
    pub(super) tokens: i64,
}

/// What counts against each limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    all: Sum,
    agent: Sum,
    run: i64,
}

/// The first limit that `request` would exceed, or that is none at all: those of its run and of its agent before
/// that of all. Pure.
pub(super) fn judge(request: &Request, limits: &Limits, used: &Sums) -> Option<Over> {
    let money = |whose, limit: Option<i64>, used: i64| {
        // A request without a price is bounded by no amount of money, but by none at all.
        let asked = request.nano_usd.or((limit == Some(0)).then_some(0));
        let (limit, asked) = limit.zip(asked)?;
        Some(Over { whose, money: true, used, asked, limit })
    };
    let tokens = |whose, limit: Option<i64>, used: i64| {
        Some(Over { whose, money: false, used, asked: request.tokens, limit: limit? })
    };
    let Limits { all, agent, run } = limits;
    let limits = [
        money(Whose::Run, *run, used.run),
        money(Whose::Agent, agent.nano_usd, used.agent.nano_usd),
        tokens(Whose::Agent, agent.tokens, used.agent.tokens),
        money(Whose::All, all.nano_usd, used.all.nano_usd),
        tokens(Whose::All, all.tokens, used.all.tokens),
    ];
    // Where nothing may be used, nothing is asked, whatever it costs.
    let is_over = |it: &Over| it.limit == 0 || it.used.saturating_add(it.asked) > it.limit;
    limits.into_iter().flatten().find(is_over)
}

/// What counts against the limits that `request` has to stay within. What no limit is about is not added up.
pub(super) fn used(db: &Connection, request: &Request, limits: &Limits) -> rusqlite::Result<Sums> {
    let all = match limits.all == Limit::default() {
        true => Sum::default(),
        false => sum(db, ALL, &request.day, None)?,
    };
    let agent = match limits.agent == Limit::default() {
        true => Sum::default(),
        false => sum(db, AGENT, &request.day, Some(request.agent))?,
    };
    let run = match limits.run {
        None => 0,
        Some(_) => run::used(db, request.session)?,
    };
    Ok(Sums { all, agent, run })
}

/// `total` adds as floating-point numbers: a sum beyond the range is the largest number then, and no error.
const ALL: &str = "
    SELECT CAST(total(nano_usd) AS INTEGER) AS nano_usd, CAST(total(tokens) AS INTEGER) AS tokens FROM (
      SELECT nano_usd + unknown_nano_usd AS nano_usd,
             input + cache_read + cache_write + output + unknown_tokens AS tokens
      FROM usage_days WHERE day = :day
      UNION ALL SELECT nano_usd, tokens FROM usage_open WHERE day = :day)";

const AGENT: &str = "
    SELECT CAST(total(nano_usd) AS INTEGER) AS nano_usd, CAST(total(tokens) AS INTEGER) AS tokens FROM (
      SELECT nano_usd + unknown_nano_usd AS nano_usd,
             input + cache_read + cache_write + output + unknown_tokens AS tokens
      FROM usage_days WHERE day = :day AND agent_group_id = :agent
      UNION ALL
      SELECT nano_usd, tokens FROM usage_open WHERE day = :day AND agent_group_id = :agent)";

fn sum(
    db: &Connection,
    select: &str,
    day: &Day,
    agent: Option<AgentGroupId>,
) -> rusqlite::Result<Sum> {
    let mut select = db.prepare_cached(select)?;
    let read =
        |row: &Row<'_>| Ok(Sum { nano_usd: row.get("nano_usd")?, tokens: row.get("tokens")? });
    match agent {
        Some(agent) => select.query_row(named_params! { ":day": day, ":agent": agent }, read),
        None => select.query_row(named_params! { ":day": day }, read),
    }
}
