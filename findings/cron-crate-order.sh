#!/usr/bin/env bash
# The instants of the crate `cron` go back and forth when the clocks go back.
#
# One would guess: an iterator of "upcoming" instants ascends; a time of day that comes twice is given twice
#   or once, but in order.
# What happens: the iterator gives each local time at both its instants before the next local time: 00:00,
#   01:00, 00:30, 01:30 UTC. Whoever sleeps until each of its items fires the third half an hour late, out of
#   order. Whoever asks `after(now)` anew each time gets 00:00 and 00:30, and nothing of the second hour. So
#   what is done in that night depends on how one asks. In spring a daily 02:30 is left out for a day.
# Seen with: cron 0.17.0, chrono 0.4.45, chrono-tz 0.10.4, crates.io.
# Why it matters to a host of agents: "the next slot is later than this one" is what catching up, counting of
#   missed slots and the primary key of a slot rest upon. Sort by instant, and test a schedule over both
#   nights against a minute-by-minute oracle.
# Rule: the crate's documentation promises "upcoming" times and no order; cron(8) of Debian runs a job that is
#   left out in spring at once.
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT
mkdir "$dir/src"

cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
chrono = { version = "=0.4.45", default-features = false, features = ["alloc"] }
chrono-tz = { version = "=0.10.4", default-features = false }
cron = "=0.17.0"
TOML

cat >"$dir/src/main.rs" <<'RUST'
use chrono::{DateTime, TimeZone, Utc};
use chrono_tz::{Europe::Berlin, Tz};
use std::str::FromStr;

fn utc(time: &DateTime<Tz>) -> String {
    time.with_timezone(&Utc).format("%d %H:%M").to_string()
}

fn main() {
    let half_hours = cron::Schedule::from_str("0 */30 2 * * *").unwrap();
    let daily = cron::Schedule::from_str("0 30 2 * * *").unwrap();
    let autumn = Berlin.with_ymd_and_hms(2026, 10, 24, 12, 0, 0).unwrap();
    let spring = Berlin.with_ymd_and_hms(2026, 3, 28, 12, 0, 0).unwrap();

    let iterated: Vec<String> = half_hours.after(&autumn).take(5).map(|t| utc(&t)).collect();
    println!("*/30 2, the iterator:       {}", iterated.join(", "));

    let mut now = autumn;
    let mut asked = Vec::new();
    for _ in 0..4 {
        now = half_hours.after(&now).next().unwrap();
        asked.push(utc(&now));
    }
    println!("*/30 2, asked after each:   {}", asked.join(", "));

    let days: Vec<String> = daily.after(&spring).take(2).map(|t| utc(&t)).collect();
    println!("30 2 in spring:             {}", days.join(", "));
}
RUST

expected="*/30 2, the iterator:       25 00:00, 25 01:00, 25 00:30, 25 01:30, 26 01:00
*/30 2, asked after each:   25 00:00, 25 00:30, 26 01:00, 26 01:30
30 2 in spring:             30 00:30, 31 00:30"

export CARGO_TARGET_DIR="$dir/target"
cargo build --quiet --manifest-path "$dir/Cargo.toml"
seen=$("$dir/target/debug/finding")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
