use twobox_tests::Runtime;

use super::Figure;
use crate::options::Options;
use crate::report::{Report, Row};
use crate::{Error, engine, floor};

pub(crate) static FIGURE: Figure =
    Figure { name: "floors", about: "what the machine itself costs", measure };

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let dir = tempfile::Builder::new().prefix("twobox-bench-").tempdir()?;
    let (dir, rounds) = (dir.path(), options.rounds);
    for synchronous in ["EXTRA", "FULL"] {
        let sample = floor::commit(dir, synchronous, rounds)?;
        let what = format!("commit of one row, DELETE/{synchronous}");
        report.add(&FIGURE, Row::sample(what, &sample));
    }
    let sample = floor::open_insert_close(dir, rounds)?;
    report.add(&FIGURE, Row::sample("open, insert, close, DELETE/EXTRA", &sample));
    let sample = floor::file_event(dir, rounds)?;
    report.add(&FIGURE, Row::sample("file event from process to process", &sample));
    let sample = floor::process_start(dir, rounds)?;
    report.add(&FIGURE, Row::sample("start and end of a trivial static process", &sample));
    if options.runtimes.contains(&Runtime::Docker) {
        let sample = engine::container_start(dir, options.size(30, 2))?;
        report.add(&FIGURE, Row::sample("start of a container of a trivial image", &sample));
    }
    Ok(())
}
