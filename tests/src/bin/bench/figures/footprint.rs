use std::path::PathBuf;

use twobox_tests::{Runtime, docker};

use super::Figure;
use crate::installation::Installation;
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::{Error, process};

pub(crate) static FIGURE: Figure =
    Figure { name: "footprint", about: "memory at rest and sizes on disk", measure };

/// At most so many MiB: 5 for a runner at rest, 15 for the host, 5 for the runner's binary.
const RUNNER_MAX: f64 = 5.0;
const HOST_MAX: f64 = 15.0;
const BINARY_MAX: f64 = 5.0;

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let mib = |what: &str, value: f64| Row::number(what, Unit::MiB, value);
    for runtime in &options.runtimes {
        let mut installation = Installation::new(*runtime)?;
        installation.set("CONTAINERS_IDLE", "3s");
        installation.set("API_LISTEN", "127.0.0.1:0");
        let schedule = ["schedules", "add", "report", "--agent", "assistant", "--prompt", "report"];
        let daily = ["--daily", "08:00", "--timezone", "America/New_York"];
        installation.twobox(&[&schedule[..], &daily].concat())?;
        let host = installation.up()?;
        let mut add = |row: Row| report.add(&FIGURE, row.on(*runtime));
        add(mib("host that was just started, resident", process::resident(host.pid())?));
        let client = host.warm_client(20)?;
        let runner = *installation.runners()?.first().ok_or("no runner of this host runs")?;
        add(mib("runner, idle, resident", process::resident(runner)?).at_most(RUNNER_MAX));
        drop(client);
        // The API and the zones of schedules are in memory from their first use on.
        host.ask_api("/api/schedules/report")?;
        installation.wait_at_rest()?;
        add(mib("host at rest, resident", process::resident(host.pid())?).at_most(HOST_MAX));
        if *runtime == Runtime::Docker {
            let image = twobox_tests::image()?;
            let size = docker(&["image", "inspect", "--format", "{{.Size}}", &image]);
            let size = size.trim().parse::<f64>()? / f64::from(1 << 20);
            add(mib("image", size));
        }
    }
    for name in ["twobox", "agent-runner"] {
        let size = size_of(&std::env::current_exe()?.with_file_name(name))?;
        report.add(&FIGURE, mib(&format!("binary, {name}"), size));
    }
    if let Some(path) = static_runner()? {
        let row = mib("binary, static agent-runner", size_of(&path)?);
        report.add(&FIGURE, row.at_most(BINARY_MAX));
    }
    Ok(())
}

fn size_of(path: &std::path::Path) -> Result<f64, Error> {
    Ok(std::fs::metadata(path)?.len() as f64 / f64::from(1 << 20))
}

/// The runner that `scripts/build-image` has built in the same profile, if it has.
fn static_runner() -> Result<Option<PathBuf>, Error> {
    let ours = std::env::current_exe()?;
    let Some((profile, target)) =
        ours.parent().and_then(|dir| Some((dir.file_name()?, dir.parent()?)))
    else {
        return Ok(None);
    };
    let triples = std::fs::read_dir(target)?.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(triples.map(|dir| dir.join(profile).join("agent-runner")).find(|path| path.is_file()))
}
