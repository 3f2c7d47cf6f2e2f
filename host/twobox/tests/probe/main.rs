//! What runs in the containers of `docker_runtime.rs`: a static program that does what the lines of
//! `/workspace/agent/plan` say. It is compiled by that test with plain `rustc`.

use std::fs;
use std::time::Duration;

fn main() {
    let plan = fs::read_to_string("/workspace/agent/plan").expect("a plan");
    for line in plan.lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("sleep", ms) => std::thread::sleep(Duration::from_millis(ms.parse().expect("ms"))),
            ("exit", code) => std::process::exit(code.parse().expect("code")),
            ("print", text) => println!("{text}"),
            ("write", path) => match fs::write(path, "x") {
                Ok(()) => println!("{path}: written"),
                Err(error) => println!("{path}: {:?}", error.kind()),
            },
            ("read", path) => println!("{path}: {:?}", fs::read_to_string(path)),
            ("env", name) => println!("{name}={}", std::env::var(name).unwrap_or_default()),
            ("list", path) => {
                let names = fs::read_dir(path).expect("a directory").map(|entry| {
                    entry.expect("an entry").file_name().to_string_lossy().into_owned()
                });
                println!("{path}: {}", names.collect::<Vec<_>>().join(" "));
            }
            ("status", field) => {
                let status = fs::read_to_string("/proc/self/status").expect("status");
                let line = status.lines().find(|line| line.starts_with(field)).expect("field");
                println!("{}", line.split_whitespace().collect::<Vec<_>>().join(" "));
            }
            other => panic!("no such step: {other:?}"),
        }
    }
}
