//! `agent-runner`: the loop inside a container.

fn main() {}
