//! What a warm conversation holds and how soon its model is asked: of an agent of `model`, and of those that the
//! vendors' own programs answer.

use std::path::PathBuf;

use serde_json::{Value, json};
use twobox_tests::models::ModelServer;
use twobox_tests::{Runtime, cli};

use super::{FIGURE, first_requests};
use crate::client::{Address, Client};
use crate::commits::Observer;
use crate::installation::Installation;
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::sample::Sample;
use crate::{Error, process};

/// Conversations at once whose memory is looked at: what they have of a program in common is nobody's own.
const WARM: usize = 2;

/// Turns of each before that.
const TURNS: usize = 3;

/// The agent, by its provider.
const AGENTS: [(&str, &str); 3] =
    [("model", "anthropic/m"), ("claude", "anthropic/m"), ("codex", "openai/m")];

pub(super) fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let mut ours: Option<f64> = None;
    for (provider, model) in AGENTS {
        let clis = match provider {
            "model" => None,
            // It says loudly what is missing.
            program => match cli(program) {
                Some(clis) => Some(clis),
                None => continue,
            },
        };
        let contender = Contender::new(provider, model, clis)?;
        let held = contender.held()?;
        let what = format!("{provider}: memory of a warm conversation, private");
        let row = Row::number(what, Unit::MiB, held);
        report.add(
            &FIGURE,
            match ours {
                Some(ours) => row.beside("model", ours),
                None => row,
            },
        );
        ours.get_or_insert(held);
        contender.first_requests(options, report)?;
    }
    Ok(())
}

struct Contender {
    provider: &'static str,
    installation: Installation,
    server: ModelServer,
}

impl Contender {
    /// Without containers: what they hold beside a runner is another figure.
    fn new(provider: &'static str, model: &str, clis: Option<PathBuf>) -> Result<Self, Error> {
        let mut installation = Installation::new(Runtime::Process)?;
        installation.set("CONTAINERS_IDLE", "10m");
        installation.set("SECRET_ANTHROPIC", "any");
        installation.set("SECRET_OPENAI", "any");
        if let Some(clis) = clis {
            installation.set("CONTAINERS_CLIS", &clis.display().to_string());
        }
        let server = ModelServer::open(twobox_tests::models::Options::default())?;
        let url = server.url();
        let settings = installation.data().join("twobox.toml");
        let upstreams = format!(
            "\n[gateway.upstreams.anthropic]\nbase_url = \"{url}\"\n\
             [gateway.upstreams.openai]\nbase_url = \"{url}/v1\"\n"
        );
        let before = std::fs::read_to_string(&settings)?;
        std::fs::write(&settings, before + &upstreams)?;
        let mut add = vec!["agents", "add", provider, "--session-mode", "per-thread"];
        add.extend(["--model", model]);
        if provider != "model" {
            add.extend(["--provider", provider]);
        }
        installation.twobox(&add)?;
        let config = installation.data().join("agents").join(provider).with_extension("json");
        let mut changed: Value = serde_json::from_slice(&std::fs::read(&config)?)?;
        // Claude Code reserves far more memory than it uses, which counts where it is a plain process.
        changed["limits"] = json!({ "memory_mb": 2048 });
        std::fs::write(config, changed.to_string())?;
        Ok(Self { provider, installation, server })
    }

    fn to(&self, number: usize) -> Address {
        Address { agent: self.provider, thread: Some(format!("thread {number}")) }
    }

    /// MiB of one of several conversations that are warm: of its runner, and of all processes above it and
    /// below that are there for it alone.
    fn held(&self) -> Result<f64, Error> {
        let host = self.installation.up()?;
        let mut clients = Vec::new();
        for number in 0..WARM {
            let mut client = Client::connect(&host.socket(), self.to(number))?;
            for turn in 0..TURNS {
                client.round_trip(&format!("question {turn}"))?;
            }
            clients.push(client);
        }
        let runners = self.installation.runners()?;
        if runners.len() != WARM {
            return Err(format!("{} runners instead of {WARM}", runners.len()).into());
        }
        let mut all = 0.0;
        for runner in runners {
            let above = process::parents(runner, host.pid())?;
            let below = process::descendants(runner)?;
            for pid in above.into_iter().chain([runner]).chain(below) {
                all += process::private(pid)?;
            }
        }
        Ok(all / WARM as f64)
    }

    /// From the claim to the first request: with all processes awake, and with none.
    fn first_requests(&self, options: &Options, report: &mut Report) -> Result<(), Error> {
        let to = self.to(0);
        let session = self.installation.session(&to)?;
        let (mut warm, mut cold) = (Sample::default(), Sample::default());
        let observer = Observer::start(&session)?;
        for _ in 0..options.size(10, 1) {
            self.installation.wait_at_rest()?;
            let host = self.installation.up()?;
            let mut client = Client::connect(&host.socket(), to.clone())?;
            let mut ask =
                |rounds: usize| first_requests(&self.server, &observer, &mut client, rounds);
            cold = cold.join(ask(1)?);
            warm = warm.join(ask(options.size(5, 1))?);
        }
        let what = |how: &str| format!("{}: claim to first request, {how}", self.provider);
        report.add(&FIGURE, Row::sample(what("warm"), &warm));
        report.add(&FIGURE, Row::sample(what("cold"), &cold));
        Ok(())
    }
}
