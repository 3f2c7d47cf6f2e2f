//! What `agents add` and `agents edit` set of how an agent runs. Everything else is for an editor.

use clap::Args;

use crate::cli::output::Failure;
use twobox_runtime::profile::File;

/// How an agent runs, where it is not as `[containers]` in twobox.toml says.
#[derive(Debug, Args)]
pub(in crate::cli) struct Settings {
    /// The image of its containers.
    #[arg(long)]
    image: Option<String>,
    /// The network that they join; `none` for none.
    #[arg(long)]
    network: Option<String>,
    /// Memory for a conversation, in MiB.
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Processors for a conversation.
    #[arg(long)]
    cpus: Option<f64>,
    /// A variable for its program, as NAME=VALUE, or NAME alone, which takes the value from this
    /// command's own environment and so shows it to nobody. May be given several times.
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    environment: Vec<String>,
}

impl Settings {
    /// Whether nothing is set.
    pub(in crate::cli) fn is_empty(&self) -> bool {
        let Self { image, network, memory, cpus, environment } = self;
        (image, network, memory, cpus) == (&None, &None, &None, &None) && environment.is_empty()
    }

    /// Sets it in `file`. What is not given stays.
    pub(in crate::cli) fn put(self, file: &mut File) -> Result<(), Failure> {
        let Self { image, network, memory, cpus, environment } = self;
        file.image = image.or(file.image.take());
        file.network = network.or(file.network.take());
        file.limits.memory_mb = memory.or(file.limits.memory_mb);
        file.limits.cpus = cpus.or(file.limits.cpus);
        for given in environment {
            let (name, value) = match given.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => {
                    let own = std::env::var(&given).map_err(|error| {
                        Failure::usage(format!("--env {given}: {error}: give it as {given}=VALUE"))
                    })?;
                    (given.as_str(), own)
                }
            };
            file.environment.insert(name.to_owned(), value);
        }
        Ok(())
    }
}
