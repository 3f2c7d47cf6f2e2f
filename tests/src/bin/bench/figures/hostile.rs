use std::path::Path;

use serde_json::json;
use twobox_shared::ids::{IdSource, SystemIds};
use twobox_tests::{Runtime, attack, image_with};

use super::Figure;
use crate::client::{Address, Client, Listener, Speaker};
use crate::installation::{Installation, wait_for};
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::sample::Sample;
use crate::{Error, floor};

pub(crate) static FIGURE: Figure = Figure {
    name: "hostile",
    about: "a healthy conversation beside ten containers that pester the host",
    measure,
};

/// How much longer the slowest of a hundred messages may take for it.
const P99_RATIO_MAX: f64 = 2.0;

/// Where Linux keeps files in memory. What the attackers' own commits cost everybody who shares a
/// disk with them is not there; what the host does for them is.
const MEMORY: &str = "/dev/shm";

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let disk = std::env::temp_dir();
    for runtime in &options.runtimes {
        measure_on(&disk, "", *runtime, options, report)?;
        if Path::new(MEMORY).is_dir() {
            measure_on(Path::new(MEMORY), " in memory,", *runtime, options, report)?;
        }
    }
    Ok(())
}

fn measure_on(
    parent: &Path,
    place: &str,
    runtime: Runtime,
    options: &Options,
    report: &mut Report,
) -> Result<(), Error> {
    let installation = installation(parent, runtime)?;
    let host = installation.up()?;
    let (mut client, _) = host.warm_client(options.rounds.min(20))?;
    let alone = round_trips(&mut client, options.rounds)?;
    let commit_alone = floor::open_insert_close(installation.aside(), options.rounds)?;
    let mut attackers = Vec::new();
    for attack in attack::PESTER {
        let to = Address { agent: attack.name, thread: None };
        // Somebody who hears its letters and says nothing, which holds up nobody else either.
        let silent = Listener::connect(&host.socket(), std::slice::from_ref(&to))?;
        let mut speaker = Speaker::connect(&host.socket())?;
        speaker.say(&to, &SystemIds.uuid().to_string(), attack.name)?;
        speaker.accepted()?;
        attackers.push((silent, speaker));
    }
    for attack in attack::PESTER {
        let begun = installation.data().join("groups").join(attack.name).join(attack::DONE);
        wait_for(attack.name, || Ok(begun.exists().then_some(())))?;
    }
    let pestered = round_trips(&mut client, options.rounds)?;
    let commit_pestered = floor::open_insert_close(installation.aside(), options.rounds)?;
    // An attack that ends early measures nothing.
    let select = "SELECT count(*) FROM sessions WHERE quarantine_reason IS NULL";
    let left: i64 = installation.host_db()?.query_row(select, [], |row| row.get(0))?;
    let mut add = |row: Row| report.add(&FIGURE, row.on(runtime));
    add(Row::sample(format!("commit of one row,{place} alone"), &commit_alone));
    add(Row::sample(format!("commit of one row,{place} beside ten attackers"), &commit_pestered)
        .beside("alone", commit_alone.p50()));
    add(Row::sample(format!("sent to delivered,{place} alone"), &alone));
    add(Row::sample(format!("sent to delivered,{place} beside ten attackers"), &pestered)
        .beside("alone", alone.p50())
        .p99_at_most(P99_RATIO_MAX * alone.p99()));
    let still = format!("attackers that were still at it,{place} at the end");
    add(Row::number(still, Unit::Count, (left - 1) as f64));
    Ok(())
}

/// With an agent for each attack.
fn installation(parent: &Path, runtime: Runtime) -> Result<Installation, Error> {
    let program = std::env::current_exe()?.with_file_name("attacker");
    let mut installation = Installation::below(parent, runtime)?;
    let command = match runtime {
        Runtime::Process => program.display().to_string(),
        Runtime::Sandbox => "./attacker".to_owned(),
        Runtime::Docker => {
            installation.set("CONTAINERS_IMAGE", &image_with(&program));
            "/attacker".to_owned()
        }
    };
    for attack in attack::PESTER {
        installation.twobox(&["agents", "add", attack.name, "--provider", "echo"])?;
        if runtime == Runtime::Sandbox {
            let folder = installation.data().join("programs").join(attack.name);
            std::fs::copy(&program, folder.join("attacker"))?;
        }
        configure(&installation.data().join("agents").join(attack.name), &command)?;
    }
    Ok(installation)
}

fn configure(agent: &Path, command: &str) -> Result<(), Error> {
    let config = json!({ "provider": "command", "command": [command], "lifetime": "runner" });
    Ok(std::fs::write(agent.with_extension("json"), config.to_string())?)
}

fn round_trips(client: &mut Client, rounds: usize) -> Result<Sample, Error> {
    let mut sample = Sample::default();
    for round in 0..rounds {
        let trip = client.round_trip(&format!("message {round}"))?;
        sample.add(trip.delivered - trip.sent);
    }
    Ok(sample)
}
