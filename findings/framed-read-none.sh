#!/usr/bin/env bash
# tokio-util's reader of lines says "the end" after a line that was too long, and then goes on.
#
# One would guess: a line over the limit of LinesCodec is an error in its place, and the next line follows;
#   or the reader is broken for good. And None from a stream is its end.
# What happens: the long line is an Err, then comes None, and if one asks again, the next line. `while let
#   Some(line) = lines.next().await` therefore stops one item after the error although the program at the
#   other end is alive and has said more; it looks just as if that had closed its output.
# Seen with: tokio-util 0.7.20 (tokio 1.54.1, tokio-stream 0.1), crates.io.
# Why it matters to a host of agents: agents' programs speak JSON lines, some of a hundred kilobytes and more,
#   and a host limits them. A loop like that takes one long line for the program's exit: it waits for a
#   process that waits for it, or starts a second one. Leave the loop at the Err, and kill; or count None
#   as the end only if no error came right before it.
# Rule: LinesCodec::new_with_max_length is documented to work as normal after the long line; that FramedRead
#   gives a None after any error is said only by a test of it, return_none_after_error.
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
tokio = { version = "=1.54.1", features = ["macros", "rt"] }
tokio-stream = { version = "0.1", default-features = false }
tokio-util = { version = "=0.7.20", features = ["codec"] }
TOML

cat >"$dir/src/main.rs" <<'RUST'
use tokio_stream::StreamExt;
use tokio_util::codec::{FramedRead, LinesCodec};

const OUTPUT: &[u8] = b"one\nthis line is longer than the limit\ntwo\nthree\n";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut lines = FramedRead::new(OUTPUT, LinesCodec::new_with_max_length(10));
    for _ in 0..6 {
        println!("{:?}", lines.next().await);
    }
}
RUST

expected='Some(Ok("one"))
Some(Err(MaxLineLengthExceeded))
None
Some(Ok("two"))
Some(Ok("three"))
None'

export CARGO_TARGET_DIR="$dir/target"
cargo build --quiet --manifest-path "$dir/Cargo.toml"
seen=$("$dir/target/debug/finding")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
