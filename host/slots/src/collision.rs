//! Collisions: schedules of one agent group that come at the same time and together want many turns.
//! A person is warned when a schedule is saved.
//!
//! Nominal times count, without jitter: whether two schedules collide must not change with their ids.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use serde::Serialize;
use twobox_shared::time::UnixMillis;

use super::Slot;
use super::timetable::Timetable;

/// Slots meet if they are less than this apart.
pub const WINDOW: Duration = Duration::from_secs(5 * 60);

/// So many turns, on average, of the schedules that meet are worth a warning.
pub const TURNS: u64 = 3000;

/// How far ahead slots are looked at. A week shows what meets day by day and week by week, but not
/// each meeting of what comes once in a month or a year.
pub const HORIZON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Slots of one schedule in the same minute count once.
const GRAIN: Duration = Duration::from_secs(60);

/// So many slots are looked at, the earliest: where more come near, a part of [`HORIZON`] has to do.
const SLOTS_MAX: usize = 2_000_000;

const MILLI: Duration = Duration::from_millis(1);

/// A schedule of the agent group.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name, which no other of them has.
    pub name: String,
    /// Its slots.
    pub timetable: Timetable,
    /// How many turns its runs take on average.
    pub average_turns: u64,
}

/// What a person is warned of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Warning {
    /// These schedules meet the one that is warned, again and again or once.
    CronCollision {
        /// The names of the others, in order: not of the one that is warned.
        overlapping_schedules: Vec<String>,
        /// At which minutes of the hour, on the clock of the schedule that is warned.
        overlapping_minutes: BTreeSet<i8>,
        /// How many turns they take together on average.
        estimated_concurrent_steps: u64,
        /// When they meet first: RFC 3339, on the same clock.
        first_at: String,
    },
    /// A slot that is missed for longer than the window is not run, and the next comes much later.
    ShortMissedWindow {
        /// The shortest time between two slots.
        period_sec: u64,
        /// How late a missed slot may be.
        window_sec: u64,
    },
}

/// The collisions of `own` with `others` in the time of [`HORIZON`] from `from` on: one warning for
/// each group of schedules that meet and that are not all part of a larger one, in the order in which
/// they meet first. What takes no turns collides with nobody.
///
/// The work grows with the number of slots near those of `own`, whatever else there is.
pub fn warnings(own: &Entry, others: &[Entry], from: UnixMillis) -> Vec<Warning> {
    if own.average_turns == 0 {
        return Vec::new();
    }
    let others = others.iter().filter(|other| other.average_turns > 0);
    let entries: Vec<&Entry> = std::iter::once(own).chain(others).collect();
    // Most often all of them together do not want that many.
    let all: u128 = entries.iter().map(|entry| u128::from(entry.average_turns)).sum();
    if all < u128::from(TURNS) {
        return Vec::new();
    }
    let mut window = Window::new(&entries);
    for (slot, entry) in Near::new(&entries, from).take(SLOTS_MAX) {
        window.enter(slot, entry);
    }
    let groups = window.close();
    let is_part = |group: &Group| groups.keys().any(|other| other != group && other.holds(group));
    let mut whole: Vec<_> = groups.iter().filter(|(group, _)| !is_part(group)).collect();
    whole.sort_by_key(|(_, meetings)| meetings.first_at);
    whole.into_iter().map(|(group, meetings)| warning(&entries, group, meetings)).collect()
}

/// The schedule that is warned is the first of the entries.
const OWN: usize = 0;

/// The slots that are less than [`WINDOW`] from one of the first entry's own, these included, in order
/// of time, one for each minute of an entry, each with the index of its entry.
struct Near<'a> {
    entries: &'a [&'a Entry],
    /// From when, and up to but without when, slots are near; in order and apart.
    spans: VecDeque<(UnixMillis, UnixMillis)>,
    /// The next slot of each entry.
    next: BinaryHeap<Reverse<(Slot, usize)>>,
}

impl<'a> Near<'a> {
    fn new(entries: &'a [&'a Entry], from: UnixMillis) -> Self {
        let mut near = Self { entries, spans: VecDeque::new(), next: BinaryHeap::new() };
        let until = from + HORIZON;
        let mut own = entries[OWN].timetable.first_after(from);
        while let Some(slot) = own.filter(|slot| slot.0 < until) {
            let end = (slot.0 + WINDOW).min(until);
            let start = (slot.0 - WINDOW).max(from) + MILLI;
            match near.spans.back_mut() {
                Some((_, last)) if start <= *last => *last = end,
                Some(_) | None => near.spans.push_back((start, end)),
            }
            own = near.after_minute_of(slot, OWN);
        }
        if let Some(&(start, _)) = near.spans.front() {
            (0..entries.len()).for_each(|entry| near.follow(start, entry));
        }
        near
    }

    fn after_minute_of(&self, slot: Slot, entry: usize) -> Option<Slot> {
        self.entries[entry].timetable.first_after(slot.0 + GRAIN - MILLI)
    }

    /// Lets an entry go on with its first slot from `start` on.
    fn follow(&mut self, start: UnixMillis, entry: usize) {
        let slot = self.entries[entry].timetable.first_after(start - MILLI);
        self.next.extend(slot.map(|slot| Reverse((slot, entry))));
    }
}

impl Iterator for Near<'_> {
    type Item = (Slot, usize);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Reverse((slot, entry)) = self.next.pop()?;
            while self.spans.front().is_some_and(|(_, end)| *end <= slot.0) {
                self.spans.pop_front();
            }
            let &(start, _) = self.spans.front()?;
            if slot.0 < start {
                self.follow(start, entry);
                continue;
            }
            let following = self.after_minute_of(slot, entry);
            self.next.extend(following.map(|slot| Reverse((slot, entry))));
            return Some((slot, entry));
        }
    }
}

/// Some of the entries: a bit for each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group(Vec<u64>);

impl Group {
    fn none_of(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn flip(&mut self, entry: usize) {
        self.0[entry / 64] ^= 1 << (entry % 64);
    }

    fn holds(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(ours, theirs)| ours & theirs == *theirs)
    }

    fn entries(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len() * 64).filter(|entry| self.0[entry / 64] >> (entry % 64) & 1 == 1)
    }
}

#[derive(Debug)]
struct Meetings {
    first_at: UnixMillis,
    minutes: BTreeSet<i8>,
}

/// The slots from one on that are less than [`WINDOW`] after it, and which groups met so far.
struct Window<'a> {
    entries: &'a [&'a Entry],
    slots: VecDeque<(Slot, usize)>,
    /// How many of the slots each entry has.
    counts: Vec<usize>,
    /// Which entries have any, how many these are, and how many turns they want together.
    group: Group,
    size: usize,
    turns: u128,
    /// Whether the group is only a part of one that was looked at.
    is_part: bool,
    met: BTreeMap<Group, Meetings>,
}

impl<'a> Window<'a> {
    fn new(entries: &'a [&'a Entry]) -> Self {
        Self {
            entries,
            slots: VecDeque::new(),
            counts: vec![0; entries.len()],
            group: Group::none_of(entries.len()),
            size: 0,
            turns: 0,
            is_part: true,
            met: BTreeMap::new(),
        }
    }

    /// Moves the window on until `slot`, which comes after all others, is part of it.
    fn enter(&mut self, slot: Slot, entry: usize) {
        while self.slots.front().is_some_and(|(first, _)| slot.0.since(first.0) >= WINDOW) {
            self.leave();
        }
        self.slots.push_back((slot, entry));
        self.counts[entry] += 1;
        if self.counts[entry] == 1 {
            self.group.flip(entry);
            self.size += 1;
            self.turns += u128::from(self.entries[entry].average_turns);
            self.is_part = false;
        }
    }

    /// Looks who meets, and moves the window beyond its first slot.
    fn leave(&mut self) {
        let Some((slot, entry)) = self.slots.pop_front() else { return };
        let is_many = self.size > 1 && self.turns >= u128::from(TURNS);
        if is_many && self.counts[OWN] > 0 && !self.is_part {
            let minute = self.entries[OWN].timetable.minute_of_hour(slot);
            match self.met.get_mut(&self.group) {
                Some(meetings) => {
                    meetings.minutes.insert(minute);
                }
                None => {
                    let meetings = Meetings { first_at: slot.0, minutes: [minute].into() };
                    self.met.insert(self.group.clone(), meetings);
                }
            }
        }
        self.counts[entry] -= 1;
        if self.counts[entry] == 0 {
            self.group.flip(entry);
            self.size -= 1;
            self.turns -= u128::from(self.entries[entry].average_turns);
            self.is_part = true;
        }
    }

    /// The groups that met, after the last slot.
    fn close(mut self) -> BTreeMap<Group, Meetings> {
        while !self.slots.is_empty() {
            self.leave();
        }
        self.met
    }
}

fn warning(entries: &[&Entry], group: &Group, meetings: &Meetings) -> Warning {
    let others = group.entries().filter(|at| *at != OWN);
    let mut names: Vec<String> = others.map(|at| entries[at].name.clone()).collect();
    names.sort_unstable();
    let turns = group.entries().map(|at| entries[at].average_turns);
    Warning::CronCollision {
        overlapping_schedules: names,
        overlapping_minutes: meetings.minutes.clone(),
        estimated_concurrent_steps: turns.fold(0, u64::saturating_add),
        first_at: entries[OWN].timetable.zone().rfc3339(meetings.first_at),
    }
}

#[cfg(test)]
#[path = "collision_tests.rs"]
mod tests;
