use twobox_tests::Runtime;

use super::Figure;
use crate::client::{Address, Client};
use crate::installation::{CROWD, Installation};
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::sample::Sample;
use crate::{Error, process};

pub(crate) static FIGURE: Figure = Figure {
    name: "side-by-side",
    about: "what each runtime costs, in turns: a message to a sleeping conversation, and memory",
    measure,
};

/// Conversations whose memory is looked at together.
const HELD: usize = 4;

/// One runtime, or an engine that stands in for another one.
struct Contender {
    name: String,
    installation: Installation,
}

fn contenders(options: &Options, idle: &str) -> Result<Vec<Contender>, Error> {
    let mut all = Vec::new();
    let mut add = |runtime: Runtime, name: &str, socket: Option<&str>| {
        let mut installation = Installation::new(runtime)?;
        installation.set("CONTAINERS_IDLE", idle);
        if let Some(socket) = socket {
            installation.set("CONTAINERS_SOCKET", socket);
        }
        all.push(Contender { name: name.to_owned(), installation });
        Ok::<_, Error>(())
    };
    for runtime in &options.runtimes {
        add(*runtime, runtime.word(), None)?;
    }
    if let Some(socket) = &options.podman {
        add(Runtime::Docker, "podman", Some(socket))?;
    }
    Ok(all)
}

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    cold(options, report)?;
    held(options, report)
}

/// `twobox send --wait` to a conversation that sleeps, until it has printed the answer.
fn cold(options: &Options, report: &mut Report) -> Result<(), Error> {
    let contenders = contenders(options, "100ms")?;
    let mut hosts = Vec::new();
    for contender in &contenders {
        let host = contender.installation.up()?;
        host.warm_client(1)?;
        hosts.push(host);
    }
    let mut samples = vec![Sample::default(); contenders.len()];
    for round in 0..options.size(20, 2) {
        for (contender, sample) in contenders.iter().zip(&mut samples) {
            contender.installation.wait_at_rest()?;
            let text = format!("message {round}");
            let began = std::time::Instant::now();
            contender.installation.twobox(&[
                "send",
                "--agent",
                "assistant",
                "--wait",
                "60",
                &text,
            ])?;
            sample.add(began.elapsed());
        }
    }
    for (contender, sample) in contenders.iter().zip(&samples) {
        let what = format!("{}: send --wait to a sleeping conversation", contender.name);
        report.add(&FIGURE, Row::sample(what, sample));
    }
    Ok(())
}

/// The memory of whatever stands between the host and a runner that waits, as far as it is there
/// once for each conversation.
fn held(options: &Options, report: &mut Report) -> Result<(), Error> {
    for contender in contenders(options, "1m")? {
        let host = contender.installation.up()?;
        let mut clients = Vec::new();
        for number in 0..HELD {
            let to = Address { agent: CROWD, thread: Some(format!("held {number}")) };
            let mut client = Client::connect(&host.socket(), to)?;
            client.round_trip("hello")?;
            clients.push(client);
        }
        let runners = contender.installation.runners()?;
        if runners.len() != HELD {
            return Err(format!("{} runners instead of {HELD}", runners.len()).into());
        }
        let (mut runner, mut beside) = (0.0, 0.0);
        for pid in runners {
            runner += process::proportional(pid)?;
            for parent in process::parents(pid, host.pid())? {
                beside += process::proportional(parent)?;
            }
        }
        let mib = |what: &str, value: f64| {
            Row::number(format!("{}: {what}", contender.name), Unit::MiB, value / HELD as f64)
        };
        report.add(&FIGURE, mib("held for each conversation beside its runner", beside));
        report.add(&FIGURE, mib("the runner itself", runner));
    }
    Ok(())
}
