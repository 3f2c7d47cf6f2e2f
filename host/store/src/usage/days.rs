//! What was used on a day, in one conversation, of one model.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};
use serde::Serialize;

use super::{Day, Open};

/// Tokens of one request, as its upstream counted them. What was read from a cache or written to one is
/// not counted as input besides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Read, at the full price.
    pub input: u64,
    /// Read from the upstream's cache.
    pub cache_read: u64,
    /// Read, and put into its cache.
    pub cache_write: u64,
    /// Written by the model.
    pub output: u64,
}

/// What one request adds to its day.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) requests: i64,
    pub(super) tokens: Tokens,
    pub(super) nano_usd: i64,
    pub(super) unpriced: i64,
    pub(super) failed: i64,
    pub(super) unknown: i64,
    pub(super) unknown_tokens: i64,
    pub(super) unknown_nano_usd: i64,
}

/// The most that one request adds to a sum. What an upstream says is not believed beyond it, so that no sum
/// leaves the range of a number: a million requests of a day stay within it.
pub(super) const MOST: i64 = i64::MAX >> 20;

const ROW: &str =
    "INSERT INTO usage_days (day, agent_group_id, session_id, upstream, model, requests,
    input, cache_read, cache_write, output, nano_usd, unpriced, failed, unknown, unknown_tokens,
    unknown_nano_usd)";

const ADD: &str = "ON CONFLICT (day, agent_group_id, session_id, upstream, model) DO UPDATE SET
    requests = requests + excluded.requests, input = input + excluded.input,
    cache_read = cache_read + excluded.cache_read, cache_write = cache_write + excluded.cache_write,
    output = output + excluded.output, nano_usd = nano_usd + excluded.nano_usd,
    unpriced = unpriced + excluded.unpriced, failed = failed + excluded.failed,
    unknown = unknown + excluded.unknown, unknown_tokens = unknown_tokens + excluded.unknown_tokens,
    unknown_nano_usd = unknown_nano_usd + excluded.unknown_nano_usd";

/// Adds to the row of the request's day.
pub(super) fn add(db: &Connection, open: &Open, counts: &Counts) -> rusqlite::Result<()> {
    let tokens = |count: u64| i64::try_from(count).unwrap_or(MOST).min(MOST);
    let insert = format!("{ROW} VALUES (:day, :agent, :session, :upstream, :model, :requests, :input,
        :cache_read, :cache_write, :output, :nano_usd, :unpriced, :failed, :unknown, :unknown_tokens,
        :unknown_nano_usd) {ADD}");
    let changed = db.prepare_cached(&insert)?.execute(named_params! {
        ":day": open.day, ":agent": open.agent, ":session": open.session,
        ":upstream": open.upstream, ":model": open.model, ":requests": counts.requests,
        ":input": tokens(counts.tokens.input), ":cache_read": tokens(counts.tokens.cache_read),
        ":cache_write": tokens(counts.tokens.cache_write),
        ":output": tokens(counts.tokens.output), ":nano_usd": counts.nano_usd.min(MOST),
        ":unpriced": counts.unpriced, ":failed": counts.failed, ":unknown": counts.unknown,
        ":unknown_tokens": counts.unknown_tokens.min(MOST),
        ":unknown_nano_usd": counts.unknown_nano_usd.min(MOST),
    })?;
    debug_assert_eq!(changed, 1, "a row is there or is made");
    Ok(())
}

/// Adds up the conversations of the oldest day before `before` that still has them one by one, in a row
/// without a conversation. Returns whether there was such a day.
pub(super) fn fold(db: &mut Connection, before: &Day) -> rusqlite::Result<bool> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let day: Option<String> = tx
        .query_row(
            "SELECT day FROM usage_days WHERE day < :before AND session_id <> ''
             ORDER BY day LIMIT 1",
            named_params! { ":before": before },
            |row| row.get(0),
        )
        .optional()?;
    let Some(day) = day else { return Ok(false) };
    let one_by_one = "FROM usage_days WHERE day = :day AND session_id <> ''";
    let sums = format!(
        "{ROW} SELECT day, agent_group_id, '', upstream, model, sum(requests), sum(input),
           sum(cache_read), sum(cache_write), sum(output), sum(nano_usd), sum(unpriced), sum(failed),
           sum(unknown), sum(unknown_tokens), sum(unknown_nano_usd)
         {one_by_one} GROUP BY agent_group_id, upstream, model {ADD}"
    );
    tx.execute(&sums, named_params! { ":day": day })?;
    tx.execute(&format!("DELETE {one_by_one}"), named_params! { ":day": day })?;
    tx.commit()?;
    Ok(true)
}
