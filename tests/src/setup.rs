//! What an installation is to be like, before it exists.

use serde_json::Value;
pub use twobox_shared::agent_config::Lifetime;

use crate::courier::Courier;
use crate::engine;
use crate::faults::disk::Part;
use crate::faults::shim::Shim;
use crate::models::ModelServer;
use crate::scenario::Runtime;
use crate::world::World;

/// Whether an agent has one session or one for each thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One for all.
    Shared,
    /// One for each thread.
    PerThread,
}

impl Mode {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::PerThread => "per-thread",
        }
    }
}

/// What answers as an agent.
#[derive(Debug)]
pub(crate) enum Player {
    /// The scripted provider.
    Script(Value),
    /// The program `recording-agent`, with this lifetime.
    Recording(Lifetime),
    /// A model, which is asked by this name.
    Model(String),
}

/// An installation to be made.
#[derive(Debug)]
pub struct Setup {
    pub(crate) runtime: Runtime,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) agents: Vec<(String, Mode, Player)>,
    /// Whether the upstreams of models are a stand-in.
    pub(crate) stand_in: bool,
    pub(crate) disk: Option<(Part, u32)>,
    pub(crate) umask: Option<u32>,
    pub(crate) parent: std::path::PathBuf,
}

impl Setup {
    /// With the defaults of the product, but for the image, and without an API.
    pub fn new(runtime: Runtime) -> Self {
        let mut settings = vec![
            ("runtime".to_owned(), format!("{:?}", runtime.word())),
            ("api.listen".to_owned(), "\"\"".to_owned()), // one address serves one of many hosts
        ];
        if runtime == Runtime::Docker {
            let image = engine::image().expect("checked by `play`");
            settings.push(("containers.image".to_owned(), format!("{image:?}")));
        }
        let parent = std::env::temp_dir();
        let agents = Vec::new();
        Self { runtime, settings, agents, stand_in: false, disk: None, umask: None, parent }
    }

    /// The runtime.
    pub fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// Sets one key of `twobox.toml`; the last value for a key counts. `value` is TOML without the
    /// quotes of a text.
    #[must_use]
    pub fn setting(mut self, key: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        let bare = value.parse::<f64>().is_ok() || value.parse::<bool>().is_ok();
        let value = if bare { value } else { format!("{value:?}") };
        self.settings.retain(|(other, _)| other != key);
        self.settings.push((key.to_owned(), value));
        self
    }

    /// Has its runners run under `shim`, with the host's own rights: what the shim has to read and write
    /// lies in a folder of the test's, which the user that runners of root are may not enter.
    #[must_use]
    pub fn runner_under(self, shim: &Shim) -> Self {
        let setup = self.setting("containers.runner", shim.runner().display());
        match nix::unistd::geteuid().is_root() {
            true => {
                setup.setting("containers.user", "0:0").setting("containers.allow_unsafe", true)
            }
            false => setup,
        }
    }

    /// Gives it an API, at any free port.
    #[must_use]
    pub fn api(self) -> Self {
        self.setting("api.listen", "127.0.0.1:0")
    }

    /// Has `courier` take what goes to the `command` channel, with or without honouring keys.
    #[must_use]
    pub fn courier(self, courier: &Courier, honours_keys: bool) -> Self {
        self.setting("channels.command", courier.program().display())
            .setting("channels.command_keys", honours_keys)
    }

    /// Adds an agent that plays `script`, with one session for all.
    #[must_use]
    pub fn agent(self, name: &str, script: Value) -> Self {
        self.agent_with(name, Mode::Shared, script)
    }

    /// Adds an agent that plays `script`.
    #[must_use]
    pub fn agent_with(mut self, name: &str, mode: Mode, script: Value) -> Self {
        self.agents.push((name.to_owned(), mode, Player::Script(script)));
        self
    }

    /// Adds an agent that records its turns and does what it is told: see the binary
    /// `recording-agent`. With one, everything that is said to agents and that they answer is
    /// recorded too, and [`World::verdict`] judges it.
    #[must_use]
    pub fn recording_agent(mut self, name: &str, mode: Mode, lifetime: Lifetime) -> Self {
        self.agents.push((name.to_owned(), mode, Player::Recording(lifetime)));
        self
    }

    /// Has `server` be all that there is of models: `anthropic`, `openai`, and `router`, which is
    /// `compatible`.
    #[must_use]
    pub fn models_at(self, server: &ModelServer) -> Self {
        let (url, v1) = (server.url(), format!("{}/v1", server.url()));
        let setup = self
            .setting("gateway.upstreams.anthropic.base_url", url)
            .setting("gateway.upstreams.openai.base_url", &v1)
            .setting("gateway.upstreams.router.kind", "compatible")
            .setting("gateway.upstreams.router.base_url", &v1);
        Self { stand_in: true, ..setup }
    }

    /// Adds an agent that `model` answers, as [`Setup::models_at`] has it, with the mind of
    /// [`Mind`](crate::models::Mind): it is judged as a recording agent is, but for the turns that it
    /// begins, of which nobody writes.
    #[must_use]
    pub fn thinking_agent(mut self, name: &str, mode: Mode, model: &str) -> Self {
        self.agents.push((name.to_owned(), mode, Player::Model(model.to_owned())));
        self
    }

    /// Puts a part of the data directory on a disk of `mib` MiB. Only where that is
    /// [`available`](crate::faults::disk::available).
    #[must_use]
    pub fn on_small_disk(mut self, part: Part, mib: u32) -> Self {
        self.disk = Some((part, mib));
        self
    }

    /// Starts every command, and with it the host and its runners, with this umask.
    #[must_use]
    pub fn umask(mut self, mask: u32) -> Self {
        self.umask = Some(mask);
        self
    }

    /// Makes it in a folder of its own below `parent`, and not where temporary files are.
    #[must_use]
    pub fn below(mut self, parent: &std::path::Path) -> Self {
        self.parent = parent.to_owned();
        self
    }

    /// Makes it, without a host.
    pub fn make(self) -> World {
        World::make(self)
    }

    /// Makes it and starts the host.
    pub fn up(self) -> World {
        let world = self.make();
        world.up();
        world
    }
}
