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
mod permission;
mod question;
mod servers;
mod thread;
mod turn;
mod wire;

use std::path::PathBuf;
use std::process::Command;
use std::sync::PoisonError;
use std::time::Duration;

use serde_json::json;
use twobox_shared::agent_config::{AgentConfig, Codex as Settings, Route};
use twobox_shared::content::Failure;

use self::app::App;
use self::continuation::{Continuation, Point};
use self::turn::Talk;
use super::desk::{Desk, Launch};
use super::model::lent::{self, Places};
use super::way_out::{self, WayOut};
use super::{Done, Prompt, PromptMessage, Provider, TurnHandle};
use crate::args::{Folders, Options};
use crate::family::groups_below;
use crate::forward::Forwarder;
use crate::say::say;
use crate::turn::fits_system;

/// Names the folder that the agent's sessions share.
const AGENT: &str = "TWOBOX_AGENT";

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
    options: Options,
    turn_timeout: Duration,
    tool_timeout: Duration,
    way_out: Option<WayOut>,
    /// Where it uses the host's tools, while it runs.
    desk: Option<Desk>,
    /// The port of the program that runs.
    forwarder: Option<Forwarder>,
    /// What its own folder has to be before it reads it.
    home: Option<home::Home>,
    app: App,
    /// The thread that the program has open, if nothing is in it but what the point names.
    open: Option<Point>,
}

/// How a turn ends whose program finds its folder not as it has to be.
fn trouble(error: std::io::Error) -> Failure {
    let detail = format!("codex could not be made ready: {error}");
    Failure::retryable(Failure::PROVIDER_ERROR, detail)
}

impl Codex {
    /// One that has answered nothing yet.
    pub(crate) fn new(
        settings: &Settings,
        config: &AgentConfig,
        options: &Options,
        way_out: Option<WayOut>,
    ) -> Self {
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
            options: options.clone(),
            turn_timeout: config.turn_timeout(),
            tool_timeout: config.tool_timeout(),
            way_out,
            desk: None,
            forwarder: None,
            home: None,
            app: App::new(),
            open: None,
        }
    }

    /// Whether its threads ask before tools are used.
    fn asks(&self) -> bool {
        permission::has_to_ask(&self.settings.tools, &self.settings.mcp)
    }

    /// How it is to start the server that has the host's tools, for which a desk is opened.
    fn tools(&mut self, handle: &TurnHandle) -> Option<Launch> {
        let opened = match self.desk.take() {
            Some(desk) => Ok(desk),
            None => Desk::open(handle, &self.options, &self.settings.tools),
        };
        let launch = opened.and_then(|desk| self.desk.insert(desk).launch());
        launch.map_err(|error| say!("codex has none of the host's tools: {error}")).ok()
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
        let command = self.command(handle)?;
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
    fn command(&mut self, handle: &TurnHandle) -> Result<Command, Failure> {
        let tools = self.tools(handle);
        let broken = |detail: &str| Failure::permanent(Failure::AGENT_BROKEN, detail);
        let route = self.route.as_ref().ok_or_else(|| {
            broken("the host has given no way to a model: it is older than this runner")
        })?;
        let cli = self
            .cli
            .as_ref()
            .ok_or_else(|| broken("the host has given no codex: it is older than this runner"))?;
        let forwarder = match self.forwarder.take() {
            Some(forwarder) => forwarder,
            None => Forwarder::open(&self.socket).map_err(trouble)?,
        };
        let environment = self.environment();
        let way = home::Way {
            model: route.name.model(),
            path: &route.path,
            context_tokens: route.context_tokens,
            port: forwarder.port(),
            effort: self.settings.reasoning_effort.as_deref(),
        };
        let own = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let told = environment.iter().map(|(name, _)| *name);
        let told = told.chain(way_out::names(self.way_out.as_ref()));
        let names = own.chain(told.map(str::to_owned)).collect();
        let servers = servers::Servers {
            settings: &self.settings,
            tools: tools.as_ref(),
            program: &self.options.folders.program,
            names: &names,
            turn_timeout: self.turn_timeout,
            tool_timeout: self.tool_timeout,
        };
        let config = format!(
            "{}{}{}{}",
            permission::features(&self.settings.tools),
            home::config(way),
            servers.text(),
            home::distrust(&home::projects(&self.places.work)),
        );
        self.forwarder = Some(forwarder);
        let folder = self.places.kept("codex").map_err(trouble)?;
        let reaches = self.way_out.is_some();
        let instructions = self.places.instructions(reaches);
        fits_system(&instructions)?;
        let home = self.home.insert(home::Home { folder, config, instructions });
        home.furnish().map_err(trouble)?;
        let mut command = Command::new(cli.join(PROGRAM));
        command
            .arg("app-server")
            .current_dir(&self.places.work)
            .env("CODEX_HOME", &home.folder)
            .env(home::KEY, &self.key)
            .env_remove(AGENT) // where the agent's sessions share nothing
            .envs(environment);
        way_out::tell(self.way_out.as_ref(), &mut command);
        Ok(command)
    }

    /// Has its folder be as it was at its start, for with each thread it reads all of that anew: what the container
    /// has put there since is nobody's configuration.
    fn refurnish(&self) -> Result<(), Failure> {
        self.home.as_ref().map_or(Ok(()), home::Home::furnish).map_err(trouble)
    }

    /// Where its programs find their folders.
    fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        let Folders { program, work: _, agent, .. } = &self.options.folders;
        let (work, temp) = (&self.places.work, self.options.temp());
        let named = [
            ("HOME", Some(work)),
            ("TWOBOX_WORK", Some(work)),
            ("TWOBOX_PROGRAM", Some(program)),
            (AGENT, agent.as_ref()),
            ("TMPDIR", temp.as_ref()),
            ("TMP", temp.as_ref()),
            ("TEMP", temp.as_ref()),
        ];
        named.into_iter().filter_map(|(name, folder)| Some((name, folder?.clone()))).collect()
    }
}

impl Codex {
    /// Has what Codex has started so far outlive the turn: its servers of MCP, which are in groups of their own.
    /// What the turn before has started besides was ended after it. They are there once a thread is open, for that
    /// waits for the server of the host's tools.
    fn keep_servers(&self, handle: &TurnHandle) {
        let leader = *handle.group.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = leader.map(groups_below).unwrap_or_default();
        *handle.kept.lock().unwrap_or_else(PoisonError::into_inner) = groups;
    }

    fn answer(&mut self, prompt: &Prompt, handle: &TurnHandle) -> Result<Done, Failure> {
        let anew = lent::anew(prompt, handle);
        let prompt = anew.as_ref().unwrap_or(prompt);
        if anew.is_some() && !prompt.messages.iter().any(|message| message.trigger) {
            let continuation = Some(Continuation::Anew.to_string());
            return Ok(Done { continuation, silent: false });
        }
        let mut aside = Vec::new();
        self.ready(handle, &mut aside)?;
        let opened = self.opened(prompt, handle, &mut aside)?;
        self.keep_servers(handle);
        self.open = None; // what is in the thread from here on may never count
        let upstream = self.route.as_ref().map_or("", |route| route.name.upstream());
        let talk = Talk {
            app: &mut self.app,
            handle,
            places: &self.places,
            thread: &opened.thread,
            upstream,
            tool_timeout: self.tool_timeout,
            tools: &self.settings.tools,
            asks: permission::has_to_ask(&self.settings.tools, &self.settings.mcp),
            aside,
        };
        let (turn, silent) = talk.run(self.places.beginning(prompt, &opened.earlier))?;
        let point = Point { thread: opened.thread, turn };
        let continuation = Some(Continuation::After(point.clone()).to_string());
        self.open = Some(point);
        Ok(Done { continuation, silent })
    }
}

impl Provider for Codex {
    fn turn(&mut self, prompt: &Prompt, handle: &TurnHandle) -> Result<Done, Failure> {
        let answered = self.answer(prompt, handle);
        if !self.app.is_running(handle) {
            self.keep_servers(handle); // and so none: they would be left over
        }
        answered
    }

    fn leave(&mut self, handle: &TurnHandle) {
        self.app.stop(handle, true);
    }
}
