//! `codex`: has OpenAI's Codex answer, by the way to models that the host gives.
//!
//! `codex app-server` lives as long as the runner and speaks JSON lines (`app`, `wire`). It keeps the
//! conversation in a folder of its own in the session's (`home`), as a *thread* of *turns*; the continuation
//! names the last turn that was committed, and what stands behind that is cut off before anything else is
//! said. It reaches the host's socket by a port (`forward`), and asks nothing again: that is the host's.

mod app;
mod continuation;
mod course;
mod failure;
mod home;
mod thread;
mod turn;
mod wire;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use twobox_shared::agent_config::{AgentConfig, Codex as Settings, Route};
use twobox_shared::content::Failure;

use self::app::App;
use self::continuation::{Continuation, Point};
use self::turn::Talk;
use super::model::lent::{self, Places};
use super::{Done, Prompt, PromptMessage, Provider, TurnHandle};
use crate::args::Options;
use crate::forward::Forwarder;

/// The program in the folder that the host gives.
const PROGRAM: &str = "bin/codex";

/// An agent whose turns Codex answers.
pub(crate) struct Codex {
    settings: Settings,
    /// The way to its model; none if the host has given none.
    route: Option<Route>,
    key: String,
    socket: PathBuf,
    /// Where the program is; none if the host has given none.
    cli: Option<PathBuf>,
    places: Places,
    temp: Option<PathBuf>,
    tool_timeout: Duration,
    /// The port of the program that runs.
    forwarder: Option<Forwarder>,
    app: App,
    /// The thread that the program has open, if nothing is in it but what the point names.
    open: Option<Point>,
}

impl Codex {
    /// One that has answered nothing yet.
    pub(crate) fn new(settings: &Settings, config: &AgentConfig, options: &Options) -> Self {
        let way = config.gateway.as_ref();
        let work = options.folders.work.as_deref().unwrap_or(options.paths.out_dir());
        Self {
            settings: settings.clone(),
            route: way.and_then(|way| way.routes.first()).cloned(),
            key: way.map(|way| way.key.clone()).unwrap_or_default(),
            socket: options.paths.gateway_socket(),
            cli: options.folders.cli.clone(),
            places: Places {
                folders: options.folders.clone(),
                work: work.to_owned(),
                inbox: options.paths.inbox_files(),
            },
            temp: options.temp(),
            tool_timeout: config.tool_timeout(),
            forwarder: None,
            app: App::new(),
            open: None,
        }
    }

    /// Sees to it that the program runs.
    fn ready(
        &mut self,
        handle: &TurnHandle,
        aside: &mut Vec<PromptMessage>,
    ) -> Result<(), Failure> {
        if self.app.is_running(handle) {
            return Ok(());
        }
        self.open = None;
        let command = self.command()?;
        let begun = self.begin(command, handle, aside);
        // One that is half ready would be taken for one that is.
        begun.inspect_err(|_| self.app.stop(handle, false))
    }

    /// Starts the program, and tells it where the skills are.
    fn begin(
        &mut self,
        command: Command,
        handle: &TurnHandle,
        aside: &mut Vec<PromptMessage>,
    ) -> Result<(), Failure> {
        self.app.start(command, handle, aside)?;
        let roots = json!({"extraRoots": [self.places.skills()]});
        let set = self.app.call("skills/extraRoots/set", roots, handle, aside);
        set.map(drop).map_err(|unanswered| unanswered.failure("the skills"))
    }

    /// How the program is started, with all that it finds made ready.
    fn command(&mut self) -> Result<Command, Failure> {
        let broken = |detail: &str| Failure::permanent(Failure::AGENT_BROKEN, detail);
        let route = self.route.as_ref().ok_or_else(|| {
            broken("the host has given no way to a model: it is older than this runner")
        })?;
        let cli = self
            .cli
            .as_ref()
            .ok_or_else(|| broken("the host has given no codex: it is older than this runner"))?;
        let trouble = |error: std::io::Error| {
            let detail = format!("codex could not be made ready: {error}");
            Failure::retryable(Failure::PROVIDER_ERROR, detail)
        };
        let forwarder = match self.forwarder.take() {
            Some(forwarder) => forwarder,
            None => Forwarder::open(&self.socket).map_err(trouble)?,
        };
        let config = home::config(home::Way {
            model: route.name.model(),
            path: &route.path,
            context_tokens: route.context_tokens,
            port: forwarder.port(),
            effort: self.settings.reasoning_effort.as_deref(),
        });
        self.forwarder = Some(forwarder);
        let home = self.places.kept("codex").map_err(trouble)?;
        home::furnish(&home, &config, &self.places.instructions()).map_err(trouble)?;
        let mut command = Command::new(cli.join(PROGRAM));
        command
            .arg("app-server")
            .current_dir(&self.places.work)
            .env("CODEX_HOME", &home)
            .env("HOME", &self.places.work)
            .env(home::KEY, &self.key);
        for name in ["TMPDIR", "TMP", "TEMP"] {
            match &self.temp {
                Some(folder) => command.env(name, folder),
                None => &mut command,
            };
        }
        Ok(command)
    }
}

impl Provider for Codex {
    fn turn(&mut self, prompt: &Prompt, handle: &TurnHandle) -> Result<Done, Failure> {
        let anew = lent::anew(prompt, handle);
        let prompt = anew.as_ref().unwrap_or(prompt);
        if anew.is_some() && !prompt.messages.iter().any(|message| message.trigger) {
            let continuation = Some(Continuation::Anew.to_string());
            return Ok(Done { continuation, silent: false });
        }
        let mut aside = Vec::new();
        self.ready(handle, &mut aside)?;
        let opened = self.opened(prompt, handle, &mut aside)?;
        self.open = None; // what is in the thread from here on may never count
        let upstream = self.route.as_ref().map_or("", |route| route.name.upstream());
        let talk = Talk {
            app: &mut self.app,
            handle,
            places: &self.places,
            thread: &opened.thread,
            upstream,
            tool_timeout: self.tool_timeout,
            aside,
        };
        let turn = talk.run(self.places.beginning(prompt, &opened.earlier))?;
        let point = Point { thread: opened.thread, turn };
        let continuation = Some(Continuation::After(point.clone()).to_string());
        self.open = Some(point);
        Ok(Done { continuation, silent: false })
    }

    fn leave(&mut self, handle: &TurnHandle) {
        self.app.stop(handle, true);
    }
}
