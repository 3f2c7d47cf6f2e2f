//! A gateway with two upstreams in one server, and a client of its socket.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use twobox_config::Config;
use twobox_gateway::{
    Allowed, Door, Ledger, Proxy, Resolver, Secret, Secrets, TakenIn, Terms, Upstreams,
};
use twobox_model::egress::{Egress, Rule};
use twobox_shared::agent_config::{Model, ModelName, Provider};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::{AgentGroupId, SessionId, SystemIds};
use twobox_slots::zone::Zone;
use twobox_store::Store;
use twobox_store::usage::{By, Day, Limit, Line};

use super::upstream::Upstream;

/// A request for Messages.
pub(crate) const MESSAGES: &str = r#"{"model":"large","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

pub(crate) struct Gateway {
    pub(crate) key: String,
    pub(crate) socket: PathBuf,
    pub(crate) door: Door,
    /// What its agent may use in a day and reach of the network.
    pub(crate) allowed: Arc<Mutex<Allowed>>,
    /// Its run is over, which the host sees when it looks.
    pub(crate) run_is_over: Arc<AtomicBool>,
    /// How often the host looks and cannot see anything.
    pub(crate) blind_looks: Arc<AtomicU32>,
    way: Arc<twobox_gateway::Gateway>,
    store: Store,
    folder: PathBuf,
    _dir: Arc<tempfile::TempDir>,
}

/// What a session is told that it may do.
struct Told {
    allowed: Arc<Mutex<Allowed>>,
    run_is_over: Arc<AtomicBool>,
    blind_looks: Arc<AtomicU32>,
    store: Store,
    session: SessionId,
}

impl Terms for Told {
    fn allowed(&self) -> Allowed {
        self.allowed.lock().unwrap().clone()
    }

    fn taken_in(&self) -> TakenIn {
        let (blind, relaxed) = (&self.blind_looks, Ordering::Relaxed);
        if blind.fetch_update(relaxed, relaxed, |left| left.checked_sub(1)).is_ok() {
            return Box::pin(std::future::ready(false));
        }
        let (is_over, store) =
            (self.run_is_over.swap(false, Ordering::Relaxed), self.store.clone());
        let session = self.session;
        Box::pin(async move {
            if is_over {
                assert!(store.usage().end_run(session).await.unwrap());
            }
            true
        })
    }
}

/// A connection to a session's socket.
pub(crate) struct Raw(UnixStream);

impl Gateway {
    pub(crate) async fn start(upstream: &Upstream) -> Self {
        Self::start_in(upstream, "in").await
    }

    pub(crate) async fn start_in(upstream: &Upstream, folder: &str) -> Self {
        Self::with(upstream, folder, Limit::default()).await
    }

    pub(crate) async fn with_tokens_per_day(upstream: &Upstream, tokens: u64) -> Self {
        let limit = Limit { tokens: Some(tokens.try_into().unwrap()), nano_usd: None };
        Self::with(upstream, "in", limit).await
    }

    /// One whose agent may reach what `rules` say, where names stand for what `resolver` says.
    pub(crate) async fn reaching(upstream: &Upstream, rules: &[&str], resolver: Resolver) -> Self {
        let resolver = Some(resolver);
        let gateway = Self::made(upstream, "in", Limit::default(), resolver).await;
        gateway.let_reach(rules);
        gateway
    }

    /// From now on its agent may reach what `rules` say.
    pub(crate) fn let_reach(&self, rules: &[&str]) {
        let rules = rules.iter().map(|rule| Rule::try_from((*rule).to_owned()).unwrap());
        self.allowed.lock().unwrap().egress = Arc::new(Egress::of(rules.collect()).unwrap());
    }

    async fn with(upstream: &Upstream, folder: &str, all: Limit) -> Self {
        Self::made(upstream, folder, all, None).await
    }

    async fn made(
        upstream: &Upstream,
        folder: &str,
        all: Limit,
        resolver: Option<Resolver>,
    ) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let settings = format!(
            "[anthropic]\nbase_url = \"http://{0}\"\n\
             [anthropic.models.priced]\ninput_usd = 0\noutput_usd = 1\n\
             [local]\nkind = \"compatible\"\nbase_url = \"http://{0}\"\n",
            upstream.address
        );
        let mut config = Config::default();
        config.gateway.upstreams = toml::from_str::<BTreeMap<_, _>>(&settings).unwrap();
        let upstreams = Upstreams::read(&config).unwrap();
        let secrets = Secrets::new(dir.path().join("secrets"), &BTreeMap::new());
        for (name, value) in [("anthropic", "upstream-key"), ("local", "local-key")] {
            secrets.set(name, &Secret::of(value.into()).unwrap()).unwrap();
        }
        let store = Store::create(&dir.path().join("host.db")).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let zone: Zone = "UTC".parse().unwrap();
        let ledger = Ledger::new(store.clone(), clock, zone, all);
        let proxy = Proxy::new(upstreams, secrets, ledger);
        let proxy = match resolver {
            Some(resolver) => proxy.with_resolver(resolver),
            None => proxy,
        };
        let way = Arc::new(twobox_gateway::Gateway::new(proxy));
        Self::open(way, store, dir.path().join(folder), Arc::clone(&dir))
    }

    fn open(
        way: Arc<twobox_gateway::Gateway>,
        store: Store,
        folder: PathBuf,
        dir: Arc<tempfile::TempDir>,
    ) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let models = ["anthropic/large", "anthropic/dear", "anthropic/priced", "local/small"]
            .map(|name| ModelName::try_from(name.to_owned()).unwrap());
        let provider = Provider::Model(Model {
            models: models.to_vec(),
            max_output_tokens: None,
            tools: BTreeMap::new(),
            mcp: twobox_shared::agent_config::Servers::default(),
        });
        let told = way.way(&provider, &Egress::default()).unwrap().unwrap();
        let (session, agent) =
            (SessionId::generate(&SystemIds), AgentGroupId::generate(&SystemIds));
        let socket = folder.join("gateway.sock");
        let allowed = Arc::<Mutex<Allowed>>::default();
        let (run_is_over, blind_looks) = <(Arc<AtomicBool>, Arc<AtomicU32>)>::default();
        let terms = Arc::new(Told {
            allowed: Arc::clone(&allowed),
            run_is_over: Arc::clone(&run_is_over),
            blind_looks: Arc::clone(&blind_looks),
            store: store.clone(),
            session,
        });
        let door = way.open(session, agent, &told, terms, &socket).unwrap();
        let key = told.key;
        Self { key, socket, door, allowed, run_is_over, blind_looks, way, store, folder, _dir: dir }
    }

    /// Another session of the same host.
    pub(crate) async fn another(&self, name: &str) -> Self {
        let folder = self.folder.with_file_name(name);
        Self::open(Arc::clone(&self.way), self.store.clone(), folder, Arc::clone(&self._dir))
    }

    /// A request of this session for Messages, with more headers.
    pub(crate) fn request(&self, body: &str, headers: &str) -> String {
        self.request_to("POST", "/anthropic/v1/messages?beta=true", body, headers)
    }

    pub(crate) fn request_to(&self, method: &str, path: &str, body: &str, headers: &str) -> String {
        let (key, length) = (&self.key, body.len());
        format!(
            "{method} {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncookie: a=b\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        )
    }

    pub(crate) async fn try_connect(&self) -> io::Result<Raw> {
        Raw::connect(&self.socket).await
    }

    pub(crate) async fn connect(&self) -> Raw {
        self.try_connect().await.unwrap()
    }

    /// What `request` is answered over a connection of its own, head and body.
    pub(crate) async fn answer(&self, request: &str) -> String {
        let mut client = self.connect().await;
        client.ask(request).await;
        client.answer().await
    }

    /// What was used today.
    pub(crate) async fn usage(&self) -> Vec<Line> {
        let (from, to) = (Day::parse("2000-01-01").unwrap(), Day::parse("2999-12-31").unwrap());
        self.store.usage().report(By::Model, from, to).await.unwrap()
    }

    /// Waits until so many requests have been settled.
    pub(crate) async fn settled(&self, requests: u64) {
        loop {
            let counted: u64 = self.usage().await.iter().map(|line| line.used.requests).sum();
            if counted >= requests {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

/// Requests; tokens of input, from the cache, into it, and of output; and how many nobody knows.
pub(crate) fn sold(lines: &[Line]) -> (u64, [u64; 4], u64) {
    let mut sum = (0, [0; 4], 0);
    for Line { used, .. } in lines {
        sum.0 += used.requests;
        sum.2 += used.unknown;
        let of = [
            used.tokens.input,
            used.tokens.cache_read,
            used.tokens.cache_write,
            used.tokens.output,
        ];
        for (sum, of) in sum.1.iter_mut().zip(of) {
            *sum += of;
        }
    }
    sum
}

impl Raw {
    pub(crate) async fn connect(socket: &Path) -> io::Result<Self> {
        let folder = std::fs::File::open(socket.parent().unwrap())?;
        let near = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&folder));
        let name = socket.file_name().unwrap();
        Ok(Self(UnixStream::connect(Path::new(&near).join(name)).await?))
    }

    /// The connection itself.
    pub(crate) fn stream(&mut self) -> &mut UnixStream {
        &mut self.0
    }

    pub(crate) async fn ask(&mut self, text: &str) {
        // It may hang up before all of it is written.
        let _sent = self.0.write_all(text.as_bytes()).await;
    }

    /// Everything up to `text`, with it.
    pub(crate) async fn read_until(&mut self, text: &str) -> String {
        let mut read = Vec::new();
        while !String::from_utf8_lossy(&read).ends_with(text) {
            match self.0.read_u8().await {
                Ok(byte) => read.push(byte),
                Err(error) => {
                    panic!("{text:?} did not come: {error}: {}", String::from_utf8_lossy(&read))
                }
            }
        }
        String::from_utf8(read).unwrap()
    }

    /// Everything until the connection is closed.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut read = Vec::new();
        let _closed = self.0.read_to_end(&mut read).await;
        String::from_utf8_lossy(&read).into_owned()
    }

    /// One answer with a length, or what there is until the connection is closed.
    pub(crate) async fn answer(&mut self) -> String {
        let mut read = Vec::new();
        let mut wanted = None;
        while wanted.is_none_or(|wanted| read.len() < wanted) {
            match self.0.read_u8().await {
                Ok(byte) => read.push(byte),
                Err(_) => break,
            }
            if wanted.is_none() && read.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&read).to_ascii_lowercase();
                let length = head.lines().find_map(|it| it.strip_prefix("content-length:"));
                wanted = length.map(|it| read.len() + it.trim().parse::<usize>().unwrap());
            }
        }
        String::from_utf8_lossy(&read).into_owned()
    }
}
