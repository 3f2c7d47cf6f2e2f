//! What agents had models do: requests that are open, what was used on each day, and whether there is
//! room for one more.
//!
//! A request is *open* from before it is sent. Its row reserves the most that it can use, so that requests
//! at once cannot exceed a limit together; the reservation is counted into the day at which it was made
//! when its end is known. Of a request whose end nobody will ever know, for its host died, the most that
//! it can have used is kept apart, and counts against the limits of its day.
//!
//! These commits do not wait for the disk: what was counted survives the death of the host, and the last
//! seconds of counting may be lost with the machine's power. Money is whole nano-USD. Which day it is, and
//! how much may be used, the caller says.
//!
//! Beside the days, what a conversation's present run costs is kept (`run`), where its agent has a budget for one.
//!
//! Not here: prices, and what an upstream said of a request (the gateway's).

mod days;
mod lightly;
mod limit;
mod report;
mod run;

use std::fmt;

use rusqlite::types::{ToSql, ToSqlOutput};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, named_params};
use serde::Serialize;
use twobox_shared::ids::{AgentGroupId, SessionId};
use twobox_shared::time::UnixMillis;
use twobox_slots::zone::Zone;

pub use self::days::Tokens;
use self::days::{Counts, add, fold};
use self::lightly::lightly;
pub use self::limit::{Limit, Limits, Over, Whose};
use self::limit::{judge, used};
pub use self::report::{By, Line, UnderWay, Used};
use crate::{Operation, Usage};

/// A day of the host's clock, `YYYY-MM-DD`, so that the later one is the greater one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Day(String);

impl Day {
    /// Reads one; `None` if it has not that form.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let form = |(at, byte): (usize, &u8)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        };
        let is_one = bytes.len() == 10
            && bytes.iter().enumerate().all(form)
            && ("01"..="12").contains(&&text[5..7])
            && ("01"..="31").contains(&&text[8..]);
        is_one.then(|| Self(text.to_owned()))
    }

    /// The day so many days before the one that `zone` has at `now`.
    pub fn before(zone: &Zone, now: UnixMillis, days: u32) -> Self {
        Self(zone.day_before(now, days))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ToSql for Day {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

/// A request that is about to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The day against whose limits it counts.
    pub day: Day,
    /// Whose it is,
    pub agent: AgentGroupId,
    /// and in which conversation.
    pub session: SessionId,
    /// Where it goes,
    pub upstream: String,
    /// and to which of its models.
    pub model: String,
    /// The most tokens that it can use.
    pub tokens: i64,
    /// The most that it can cost, in nano-USD; `None` if its price is not known. Then no limit of money
    /// is in its way.
    pub nano_usd: Option<i64>,
    /// When it is made.
    pub now: UnixMillis,
}

/// What became of the wish to send one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It may be sent, and is open under this id until something is said of its end.
    Admitted(OpenId),
    /// Nothing was reserved.
    Over(Over),
}

/// An open request. No other ever has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpenId(i64);

/// What a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// What it used.
    pub tokens: Tokens,
    /// What that costs, in nano-USD; `None` if its price is not known.
    pub nano_usd: Option<i64>,
    /// Whether it ended otherwise than well.
    pub failed: bool,
}

impl Usage<'_> {
    /// Reserves the most that `request` can use, if what is settled on its day, what is reserved on it and
    /// this stay within `limits` together. One transaction, so that of two at once one is refused where
    /// there is room for one.
    pub fn open(&self, request: Request, limits: Limits) -> Operation<Opened> {
        self.0.operation("reserve what a request can use", move |db| {
            lightly(db, |db| open(db, &request, &limits))
        })
    }

    /// Counts what an open request came to, and ends its reservation. Returns whether it was open: what is
    /// said again changes nothing.
    pub fn settle(&self, id: OpenId, settled: Settled) -> Operation<bool> {
        let Settled { tokens, nano_usd, failed } = settled;
        let counts = Counts {
            requests: 1,
            tokens,
            nano_usd: nano_usd.unwrap_or(0),
            unpriced: i64::from(nano_usd.is_none()),
            failed: i64::from(failed),
            ..Counts::default()
        };
        self.end(id, "count what a request used", move |_| counts)
    }

    /// Ends the reservation of a request of which nothing was bought, which failed. As [`Usage::settle`].
    pub fn abandon(&self, id: OpenId) -> Operation<bool> {
        let counts = Counts { requests: 1, failed: 1, ..Counts::default() };
        self.end(id, "give back what a request did not use", move |_| counts)
    }

    /// Ends the reservation of a request of which nobody knows what it used: the most that it can have used
    /// is kept apart. As [`Usage::settle`].
    pub fn lose(&self, id: OpenId) -> Operation<bool> {
        self.end(id, "keep what a request may have used", Open::unknown)
    }

    fn end(
        &self,
        id: OpenId,
        action: &'static str,
        counts: impl FnOnce(&Open) -> Counts + Send + 'static,
    ) -> Operation<bool> {
        self.0.operation(action, move |db| {
            lightly(db, |db| {
                let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let ended = match close(&tx, id)? {
                    Some(open) => {
                        count(&tx, &open, &counts(&open))?;
                        true
                    }
                    None => false,
                };
                tx.commit()?;
                Ok(ended)
            })
        })
    }

    /// Ends what an earlier life of the host left open, of which nobody knows what it used. Returns how many
    /// requests those were. For a host that has taken `host.db` over, before it sends any itself.
    pub fn take_over(&self) -> Operation<u64> {
        self.0.operation("keep what lost requests may have used", |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let lost: Vec<i64> = tx
                .prepare("SELECT id FROM usage_open ORDER BY id")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for id in &lost {
                if let Some(open) = close(&tx, OpenId(*id))? {
                    count(&tx, &open, &open.unknown())?;
                }
            }
            tx.commit()?;
            Ok(lost.len() as u64)
        })
    }

    /// Ends the run of `session`, so that its budget begins anew. Returns whether it had used anything.
    pub fn end_run(&self, session: SessionId) -> Operation<bool> {
        self.0.operation("end a run", move |db| lightly(db, |db| run::end(db, session)))
    }

    /// Adds up the conversations of the oldest day before `before` that still has them one by one, so that
    /// a day long past takes a few rows. Returns whether there was one.
    pub fn fold(&self, before: Day) -> Operation<bool> {
        self.0.operation("add up what conversations used long ago", move |db| {
            run::forget(db, &before)?;
            fold(db, &before)
        })
    }

    /// What is reserved for requests that are under way now.
    pub fn under_way(&self) -> Operation<UnderWay> {
        self.0.operation("add up what is reserved", |db| report::under_way(db))
    }

    /// What was used from the day `from` to the day `to`, both of them with it, in lines by `by`. Days in
    /// their order, everything else by what was used most.
    pub fn report(&self, by: By, from: Day, to: Day) -> Operation<Vec<Line>> {
        self.0.operation("add up what was used", move |db| report::report(db, by, &from, &to))
    }
}

fn open(db: &mut Connection, request: &Request, limits: &Limits) -> rusqlite::Result<Opened> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let used = used(&tx, request, limits)?;
    if let Some(over) = judge(request, limits, &used) {
        return Ok(Opened::Over(over)); // nothing was changed
    }
    let id = tx
        .prepare_cached(
            "INSERT INTO usage_open (day, agent_group_id, session_id, upstream, model, tokens,
               nano_usd, opened_at_ms, of_run)
             VALUES (:day, :agent, :session, :upstream, :model, :tokens, :nano_usd, :now, :of_run)
             RETURNING id",
        )?
        .query_row(
            named_params! {
                ":day": request.day, ":agent": request.agent, ":session": request.session,
                ":upstream": request.upstream, ":model": request.model,
                ":tokens": request.tokens, ":nano_usd": request.nano_usd, ":now": request.now,
                ":of_run": limits.run.is_some(),
            },
            |row| row.get(0).map(OpenId),
        )?;
    tx.commit()?;
    Ok(Opened::Admitted(id))
}

/// The reservation of a request.
struct Open {
    day: String,
    agent: String,
    session: String,
    upstream: String,
    model: String,
    tokens: i64,
    nano_usd: Option<i64>,
    of_run: bool,
}

impl Open {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            day: row.get("day")?,
            agent: row.get("agent_group_id")?,
            session: row.get("session_id")?,
            upstream: row.get("upstream")?,
            model: row.get("model")?,
            tokens: row.get("tokens")?,
            nano_usd: row.get("nano_usd")?,
            of_run: row.get("of_run")?,
        })
    }

    /// The counts of one that nobody knows the end of.
    fn unknown(&self) -> Counts {
        Counts {
            requests: 1,
            unpriced: i64::from(self.nano_usd.is_none()),
            unknown: 1,
            unknown_tokens: self.tokens,
            unknown_nano_usd: self.nano_usd.unwrap_or(0),
            ..Counts::default()
        }
    }
}

/// Ends the reservation and returns it; `None` if there is none any more.
fn close(db: &Connection, id: OpenId) -> rusqlite::Result<Option<Open>> {
    db.prepare_cached(
        "DELETE FROM usage_open WHERE id = :id
         RETURNING day, agent_group_id, session_id, upstream, model, tokens, nano_usd, of_run",
    )?
    .query_row(named_params! { ":id": id.0 }, Open::from_row)
    .optional()
}

/// Counts what a request that is open no more came to, on its day and in its run.
fn count(db: &Connection, open: &Open, counts: &Counts) -> rusqlite::Result<()> {
    run::add(db, open, counts.nano_usd.saturating_add(counts.unknown_nano_usd))?;
    add(db, open, counts)
}
