//! The command line.

use std::path::PathBuf;

use twobox_tests::Runtime;

/// Kills in a whole run, and in a quick one.
const KILLS: usize = 240;
const QUICK_KILLS: usize = 40;

/// What to do.
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) kills: usize,
    pub(crate) only: Option<String>,
    pub(crate) runtimes: Vec<Runtime>,
    pub(crate) json: Option<PathBuf>,
    /// Results of parts that ran elsewhere, to stand on the same scoreboard.
    pub(crate) also: Option<PathBuf>,
    pub(crate) quick: bool,
}

impl Options {
    pub(crate) fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut seed, mut kills) = (None, None);
        let mut options = Self {
            seed: 0,
            kills: 0,
            only: None,
            runtimes: Runtime::ALL.to_vec(),
            json: None,
            also: None,
            quick: false,
        };
        while let Some(name) = args.next() {
            if name == "--quick" {
                options.quick = true;
                continue;
            }
            let value = args.next().ok_or(format!("{name} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{name} {value}: no number"));
            match name.as_str() {
                "--seed" => seed = Some(number()?),
                "--kills" => kills = Some(usize::try_from(number()?).unwrap_or(usize::MAX)),
                "--only" => options.only = Some(value),
                "--runtime" => {
                    options.runtimes = match (value.as_str(), Runtime::named(&value)) {
                        (_, Some(runtime)) => vec![runtime],
                        ("all", None) => options.runtimes,
                        ("both", None) => vec![Runtime::Process, Runtime::Docker],
                        _ => {
                            return Err(format!(
                                "--runtime {value}: process, sandbox, docker, both or all"
                            ));
                        }
                    };
                }
                "--json" => options.json = Some(value.into()),
                "--also" => options.also = Some(value.into()),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        options.seed = seed.unwrap_or_else(|| fastrand::u64(..));
        options.kills = kills.unwrap_or(if options.quick { QUICK_KILLS } else { KILLS });
        options.check()
    }

    fn check(self) -> Result<Self, String> {
        let names: Vec<&str> = Runtime::ALL
            .into_iter()
            .flat_map(|runtime| crate::faults::all(runtime, self.quick))
            .map(|fault| fault.name())
            .collect();
        match &self.only {
            Some(only) if !names.contains(&only.as_str()) => {
                Err(format!("--only {only}: there is {}", names.join(", ")))
            }
            _ => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        Options::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_given_counts_and_what_is_wrong_is_named() {
        let options = read("--seed 7 --runtime docker --only runner-kill").unwrap();
        assert_eq!((options.seed, options.kills), (7, KILLS));
        assert_eq!(options.runtimes, [Runtime::Docker]);
        assert_eq!(read("--runtime sandbox").unwrap().runtimes, [Runtime::Sandbox]);
        assert_eq!(read("").unwrap().runtimes, Runtime::ALL);
        assert_eq!(read("--quick").unwrap().kills, QUICK_KILLS);
        assert_eq!(read("--quick --kills 9").unwrap().kills, 9);
        for wrong in ["--seed x", "--seed", "--runtime vm", "--only nonsense", "--nonsense 1"] {
            let error = read(wrong).err().unwrap_or_else(|| panic!("{wrong} was taken"));
            assert!(error.contains(wrong.split(' ').next().unwrap()), "{wrong}: {error}");
        }
    }
}
