//! What a claim has to be: each slot that came has one row, and none is dropped in silence.

use twobox_host::schedule::{missed, overlap};

use super::kept::Kept;
use super::rows::Row;

/// How late a slot may be without having been missed.
const ON_TIME: i64 = 60_000;

/// How many late slots are run at once.
const LIMIT: usize = 100;

/// Holds the new rows of a claim at `now` against the slots that came, and moves `kept` on. `before` are
/// the schedule's runs that were open before it, as they are now.
pub(super) fn judge(
    kept: &mut Kept,
    rows: &[&Row],
    before: &[&Row],
    now: i64,
) -> Result<(), String> {
    let Some(next) = kept.next.filter(|_| kept.enabled && !kept.removed) else {
        return Err("a slot was claimed of a schedule that is paused, over or gone".to_owned());
    };
    if next > now {
        return Err(format!("slot {next} was claimed at {now}, before its time"));
    }
    let runs: Vec<&Row> = rows.iter().filter(|row| row.is("queued")).copied().collect();
    check_missed(kept, rows, next, now)?;
    let grace = kept.due.unwrap_or(next) - next + ON_TIME;
    let late = runs.iter().filter(|row| row.slot.is_some_and(|slot| slot < now - grace)).count();
    check_overlap(kept.rule.overlap, (late, runs.len() - late), before)?;
    kept.fired += i64::try_from(runs.len()).expect("a handful");
    if kept.rule.max_runs.is_some_and(|most| kept.fired > most) {
        return Err(format!("it has fired {} times", kept.fired));
    }
    cover(kept, rows, next, now)?;
    kept.reckon_from(now);
    Ok(())
}

/// Holds the rows against the slots that came until `now` and that are not to be run any more.
pub(super) fn leave_out(kept: &mut Kept, rows: &[&Row], now: i64) -> Result<(), String> {
    match kept.next.filter(|next| kept.enabled && *next <= now) {
        Some(next) => cover(kept, rows, next, now),
        None if rows.is_empty() => Ok(()),
        None => Err(format!("no slot had come: {rows:?}")),
    }
}

/// The rows, in order, stand for all slots from `next` to `now` that have none yet, and for no others.
fn cover(kept: &mut Kept, rows: &[&Row], next: i64, now: i64) -> Result<(), String> {
    let slots = kept.rule.grid.between(next, now);
    let mut at = 0;
    while at < slots.len() {
        let Some(row) = rows.iter().find(|row| row.slot == Some(slots[at])) else {
            if !kept.covers(slots[at]) {
                if kept.is_over() {
                    break;
                }
                return Err(format!("slot {} was dropped in silence", slots[at]));
            }
            at += 1;
            continue;
        };
        let end = at + usize::try_from(row.count).expect("at least one") - 1;
        if slots.get(end) != row.span().map(|(_, last)| last).as_ref() {
            return Err(format!("it does not stand for {} slots: {row:?}", row.count));
        }
        at = end + 1;
    }
    for row in rows {
        let (first, last) = row.span().expect("a scheduled run has a slot");
        if !slots.contains(&first) {
            return Err(format!("there is no such slot, or it was not its turn: {row:?}"));
        }
        if kept.overlaps(first, last) {
            return Err(format!("another row stands for a slot of it already: {row:?}"));
        }
        kept.covered.insert(first, last);
    }
    Ok(())
}

/// Late slots are run as the policy says.
fn check_missed(kept: &Kept, rows: &[&Row], next: i64, now: i64) -> Result<(), String> {
    // What was put off is late by intent.
    let grace = kept.due.unwrap_or(next) - next + ON_TIME;
    let fired: Vec<&&Row> = rows.iter().filter(|row| !row.is("missed")).collect();
    let late = |row: &&&&Row| row.slot.is_some_and(|slot| slot < now - grace);
    let count = fired.iter().filter(late).count();
    let oldest = fired.iter().filter_map(|row| row.slot).min();
    let window = now - kept.rule.window_ms.max(grace);
    let most = match kept.rule.missed {
        missed::Policy::Skip => 0,
        missed::Policy::Latest => usize::from(fired.len() == count),
        missed::Policy::All => LIMIT,
    };
    match count <= most && fired.len() <= LIMIT && oldest.is_none_or(|slot| slot >= window) {
        true => Ok(()),
        false => Err(format!("{count} late slots were fired, the oldest of {oldest:?}")),
    }
}

/// What was open decides whether slots may run: any number of those that are `late`, which follow each
/// other, and one that is on time.
fn check_overlap(
    policy: overlap::Policy,
    (late, on_time): (usize, usize),
    before: &[&Row],
) -> Result<(), String> {
    let runs = late + on_time;
    let one_or_late = on_time <= usize::from(late == 0);
    let waits = before.iter().filter(|row| row.is("queued")).count();
    let let_go = |row: &&Row| row.is("cancelled") || row.cancel.is_some();
    let fine = match policy {
        overlap::Policy::Skip => runs == 0 || (before.is_empty() && one_or_late),
        overlap::Policy::Queue => runs == 0 || (waits == 0 && one_or_late),
        overlap::Policy::Replace => {
            let replaced = |row: &&Row| !row.is_scheduled() || let_go(row);
            runs <= 1 && (runs == 0 || before.iter().all(replaced))
        }
        overlap::Policy::Allow => true,
    };
    match fine {
        true => Ok(()),
        false => Err(format!("{runs} slots run beside {} runs", before.len())),
    }
}
