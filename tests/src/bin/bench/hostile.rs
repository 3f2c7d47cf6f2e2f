//! What one healthy session notices of ten others that pester their host without end.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twobox_tests::{attack, image_with};

use crate::host::{Client, Host};
use crate::sample::Sample;

type Error = Box<dyn std::error::Error>;

/// How long all attackers may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures the round trip alone, beside the attackers, and reports both with their ratio.
pub(crate) fn measure(runtime: &str, rounds: usize) -> Result<Value, Error> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let program = std::env::current_exe()?.with_file_name("attacker");
    let command = match runtime {
        "docker" => "/attacker".to_owned(),
        _ => program.display().to_string(),
    };
    let host = Host::start_with(&data, runtime, |twobox| {
        if runtime == "docker" {
            let image = format!("containers.image = {:?}\n", image_with(&program));
            let settings = data.join("twobox.toml");
            std::fs::write(&settings, image + &std::fs::read_to_string(&settings)?)?;
        }
        for attack in attack::PESTER {
            twobox(&["agents", "add", attack.name, "--provider", "echo"])?;
            let config =
                json!({ "provider": "command", "command": [command], "lifetime": "runner" });
            let path = data.join("agents").join(attack.name).with_extension("json");
            std::fs::write(path, config.to_string())?;
        }
        Ok(())
    })?;
    let mut client = host.client()?;
    rounds_of(&mut client, 20)?;
    let alone = rounds_of(&mut client, rounds)?;
    let mut attackers = Vec::new();
    for attack in attack::PESTER {
        let mut attacker = host.client_of(attack.name)?;
        attacker.say(attack.name)?;
        attackers.push(attacker);
    }
    let end = Instant::now() + PATIENCE;
    for attack in attack::PESTER {
        while !has_begun(&data, attack.name) {
            if Instant::now() > end {
                return Err(format!("{} did not begin", attack.name).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let pestered = rounds_of(&mut client, rounds)?;
    let attacking = attackers_left(&data)?;

    let (p50, p99) = (pestered.p50() / alone.p50(), pestered.p99() / alone.p99());
    let row = |figure: &str, sample: &Sample| {
        println!("{runtime:<9} {figure:<34} {:>7.2} ms {:>7.2} ms", sample.p50(), sample.p99());
    };
    row("round trip alone", &alone);
    row("round trip beside ten attackers", &pestered);
    println!("{runtime:<9} {:<34} {p50:>7.2} x  {p99:>7.2} x", "  as long as alone");
    println!("{runtime:<9} {:<34} {attacking:>7}", "  attackers not in quarantine");
    Ok(json!({
        "scenario": "hostile",
        "runtime": runtime,
        "rounds": rounds,
        "alone_ms": alone.to_json(),
        "pestered_ms": pestered.to_json(),
        "ratio": { "p50": p50, "p99": p99 },
        "attackers_left": attacking,
    }))
}

fn rounds_of(client: &mut Client, rounds: usize) -> Result<Sample, Error> {
    let mut sample = Sample::default();
    for round in 0..rounds {
        let trip = client.round_trip(&format!("message {round}"))?;
        sample.add(trip.accept + trip.deliver);
    }
    Ok(sample)
}

fn has_begun(data: &Path, agent: &str) -> bool {
    data.join("groups").join(agent).join(attack::DONE).exists()
}

/// How many attackers are still at it: an attack that ends early measures nothing.
fn attackers_left(data: &Path) -> Result<i64, Error> {
    let select = "SELECT count(*) FROM sessions WHERE quarantine_reason IS NULL";
    let conn = rusqlite::Connection::open(data.join("host.db"))?;
    let others: i64 = conn.query_row(select, [], |row| row.get(0))?;
    Ok(others - 1) // the healthy one
}
