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

impl Limits {
    /// Nothing may be used: whatever holds otherwise is more.
    pub const NOTHING: Self = {
        let nothing = Limit { nano_usd: Some(0), tokens: Some(0) };
        Self { all: nothing, agent: nothing, run: None }
    };

    /// What is allowed by both, bound by bound: whatever is more than one of them is more than that.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let less = |one: Option<i64>, other: Option<i64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let both = |one: Limit, other: Limit| Limit {
            nano_usd: less(one.nano_usd, other.nano_usd),
            tokens: less(one.tokens, other.tokens),
        };
        Self {
            all: both(self.all, other.all),
            agent: both(self.agent, other.agent),
            run: less(self.run, other.run),
        }
    }

    /// Whether something may be used now for which there was no room while `before` held.
    pub fn exceed(&self, before: &Self) -> bool {
        let more = |now: Option<i64>, before: Option<i64>| match (now, before) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(now), Some(before)) => now > before,
        };
        self.bounds().into_iter().zip(before.bounds()).any(|(now, before)| more(now, before))
    }

    /// They in one word, from which [`Limits::parse`] reads them.
    pub fn word(&self) -> String {
        let word = |bound: Option<i64>| bound.map_or_else(|| "-".to_owned(), |it| it.to_string());
        self.bounds().map(word).join(",")
    }

    /// What a word says. `None` if it is none.
    pub fn parse(word: &str) -> Option<Self> {
        let bound = |part: &str| match part {
            "-" => Some(None),
            number => number.parse().ok().map(Some),
        };
        let bounds = word.split(',').map(bound).collect::<Option<Vec<Option<i64>>>>()?;
        let [all_money, all_tokens, money, tokens] = bounds.try_into().ok()?;
        Some(Self {
            all: Limit { nano_usd: all_money, tokens: all_tokens },
            agent: Limit { nano_usd: money, tokens },
            run: None,
        })
    }

    fn bounds(&self) -> [Option<i64>; 4] {
        let Self { all, agent, run: _ } = self; // which puts nothing off until another day
        [all.nano_usd, all.tokens, agent.nano_usd, agent.tokens]
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_compared_bound_by_bound_and_read_as_they_were_written() {
        let limits = |bounds: [Option<i64>; 4]| {
            let [all_money, all_tokens, money, tokens] = bounds;
            let all = Limit { nano_usd: all_money, tokens: all_tokens };
            Limits { all, agent: Limit { nano_usd: money, tokens }, run: None }
        };
        let before = limits([None, Some(10), Some(5), None]);
        let cases = [
            ([None, Some(10), Some(5), None], false),
            ([None, Some(11), Some(5), None], true),
            ([None, None, Some(5), None], true),
            ([None, Some(9), Some(4), None], false),
            ([Some(1), Some(10), Some(5), Some(1)], false),
            ([None, Some(9), Some(6), None], true),
        ];
        for (now, expected) in cases {
            assert_eq!(limits(now).exceed(&before), expected, "{now:?}");
            assert_eq!(Limits::parse(&limits(now).word()), Some(limits(now)));
        }
        let both =
            limits([Some(3), Some(10), None, None]).and(limits([None, Some(9), Some(5), None]));
        assert_eq!(both, limits([Some(3), Some(9), Some(5), None]));
        for wrong in ["", "1", "1,2,3", "1,2,3,4,5", "1,2,3,x"] {
            assert_eq!(Limits::parse(wrong), None, "{wrong}");
        }
    }
}
