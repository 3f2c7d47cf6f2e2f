//! Making another program of an agent, for all of its conversations and for others'.

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Attack, Done, End, Then};

/// A file that lies in the program folder of every agent here.
const SCRIPT: &str = "script.json";

/// For every runtime.
pub static TAKEOVER: &[Attack] = &[
    Attack {
        name: "its-own-program",
        act: |_| take_over(&own()?),
        then: Then::Answers,
        end: End::Unmoved { refused: 0 },
    },
    Attack {
        name: "the-program-of-another",
        act: |_| take_over(&own()?.with_file_name("healthy")),
        then: Then::Answers,
        end: End::Unmoved { refused: 0 },
    },
];

fn own() -> Result<PathBuf, Box<dyn Error>> {
    Ok(PathBuf::from(std::env::var("TWOBOX_PROGRAM")?))
}

/// Tries every way to change what is in `program`, and reports the first that works.
fn take_over(program: &Path) -> Done {
    let script = program.join(SCRIPT);
    let aside = PathBuf::from(std::env::var("TWOBOX_WORK")?).join("mine");
    fs::write(&aside, "{}")?;
    let ways: [(&str, &dyn Fn() -> io::Result<()>); 7] = [
        ("write over it", &|| fs::OpenOptions::new().write(true).open(&script).map(drop)),
        ("put something beside it", &|| fs::write(program.join("agent.py"), "print()")),
        ("put a link beside it", &|| symlink(&aside, program.join("link"))),
        ("replace it", &|| fs::rename(&aside, &script)),
        ("remove it", &|| fs::remove_file(&script)),
        ("move the folder", &|| fs::rename(program, program.with_file_name("old"))),
        ("put a folder beside it", &|| fs::create_dir(program.with_file_name("new"))),
    ];
    match ways.iter().find(|(_, way)| way().is_ok()) {
        Some((way, _)) => Err(format!("it could {way}").into()),
        None => Ok(()),
    }
}
