mod pester;
mod vendors;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use twobox_shared::agent_config::AgentConfig;
use twobox_tests::Runtime;
use twobox_tests::models::{ModelServer, Options as ServerOptions, Rule, Step};

use super::Figure;
use super::crowd::watchable;
use super::talk::Standing;
use crate::client::{Address, Client, PATIENCE};
use crate::commits::Observer;
use crate::installation::{Host, Installation};
use crate::options::Options;
use crate::report::{Report, Row, Unit};
use crate::sample::Sample;
use crate::{Error, process};

pub(crate) static FIGURE: Figure = Figure {
    name: "models",
    about: "agents that a model answers: the way to it, and what a warm conversation holds",
    measure,
};

/// At most so much beside the same request without the gateway: a millisecond until the first byte, 3 % of
/// a stream.
const FIRST_BYTE_MAX_MS: f64 = 1.0;
const STREAM_MAX: f64 = 1.03;

/// From the claim of a message to the request that asks a model about it.
const FIRST_REQUEST_MAX_MS: f64 = 10.0;

/// How much longer the slowest request of a round may take beside hostile conversations.
const BESIDE_OTHERS_MAX: f64 = 2.0;

/// MiB of a runner with one turn behind it, and with fifty.
const RUNNER_MAX: f64 = 8.0;
const LONG_RUNNER_MAX: f64 = 12.0;

/// An agent with a conversation for each thread, which the stand-in answers.
const THINKER: &str = "thinker";

/// What is said for an answer whose stream has about a MiB, in pieces of a few words like a vendor's.
const LONG: &str = "a long answer";
/// The same in fewer pieces, with a pause before each: still far faster than a vendor's.
const PACED: &str = "an answer that takes its time";
const PAUSE_MS: u64 = 1;
const LONG_LETTERS: usize = 360_000;
const LETTERS_OF_A_PIECE: usize = 64;
const LETTERS_OF_A_PACED_PIECE: usize = 640;

/// A conversation may send twenty requests a second.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(55);

fn measure(options: &Options, report: &mut Report) -> Result<(), Error> {
    let world = World::new()?;
    {
        let host = world.installation.up()?;
        let mut client = Client::connect(&host.socket(), thread(0))?;
        client.round_trip("good morning")?;
        measure_way(&world, options, report)?;
        world.measure_beside_others(&host, options, report)?;
    }
    world.measure_first_requests(options, report)?;
    world.measure_one_conversation(options, report)?;
    world.measure_many(options, report)?;
    vendors::measure(options, report)
}

/// An installation whose only upstream is a stand-in that answers at once. Without containers: what they
/// hold beside the runner is another figure.
struct World {
    installation: Installation,
    server: ModelServer,
    /// Where the stand-in answers those who do not go through the gateway.
    direct: PathBuf,
}

impl World {
    fn new() -> Result<Self, Error> {
        let mut installation = Installation::new(Runtime::Process)?;
        installation.set("CONTAINERS_IDLE", "10m");
        installation.set("SECRET_LOCAL", "any");
        let direct = installation.aside().join("direct.sock");
        let listen = ServerOptions { socket: Some(direct.clone()), ..ServerOptions::default() };
        let server = ModelServer::open(listen)?;
        let long = Step::text(&"x".repeat(LONG_LETTERS));
        let paced = long.clone().in_pieces(LETTERS_OF_A_PACED_PIECE).with_pauses(PAUSE_MS);
        server.script(Rule::text(PACED, paced));
        server.script(Rule::text(LONG, long.in_pieces(LETTERS_OF_A_PIECE)));
        let settings = installation.data().join("twobox.toml");
        let upstream = format!(
            "\n[gateway.upstreams.local]\nkind = \"anthropic\"\nbase_url = \"{}\"\n",
            server.url()
        );
        let before = std::fs::read_to_string(&settings)?;
        std::fs::write(&settings, before + &upstream)?;
        let add = ["agents", "add", THINKER, "--model", "local/m", "--session-mode", "per-thread"];
        installation.twobox(&add)?;
        Ok(Self { installation, server, direct })
    }

    /// From the claim to the first request: with the runner awake, and with one that is started for it.
    fn measure_first_requests(&self, options: &Options, report: &mut Report) -> Result<(), Error> {
        let host = self.installation.up()?;
        let to = thread(0);
        let mut client = Client::connect(&host.socket(), to.clone())?;
        client.round_trip("once more")?;
        let observer = Observer::start(&self.installation.session(&to)?)?;
        let warm = first_requests(&self.server, &observer, &mut client, options.size(100, 3))?;
        let row = Row::sample("claim to first request, warm", &warm);
        report.add(&FIGURE, row.at_most(FIRST_REQUEST_MAX_MS));
        drop((client, host));
        let mut cold = Sample::default();
        for _ in 0..options.size(10, 2) {
            // With the host before went its runner.
            self.installation.wait_at_rest()?;
            let host = self.installation.up()?;
            let mut client = Client::connect(&host.socket(), to.clone())?;
            cold = cold.join(first_requests(&self.server, &observer, &mut client, 1)?);
        }
        let row = Row::sample("claim to first request, of a runner just started", &cold);
        report.add(&FIGURE, row.at_most(FIRST_REQUEST_MAX_MS));
        Ok(())
    }

    fn measure_one_conversation(
        &self,
        options: &Options,
        report: &mut Report,
    ) -> Result<(), Error> {
        let host = self.installation.up()?;
        let to = thread(1);
        let mut client = Client::connect(&host.socket(), to)?;
        client.round_trip("good morning")?;
        let runner = *self.installation.runners()?.first().ok_or("no runner of this host runs")?;
        let mut add = |turns: usize, limit: f64| -> Result<(), Error> {
            let what = format!("runner, turns behind it: {turns}, resident");
            let row = Row::number(what, Unit::MiB, process::resident(runner)?);
            report.add(&FIGURE, row.at_most(limit));
            Ok(())
        };
        add(1, RUNNER_MAX)?;
        let turns = options.size(50, 3);
        for turn in 1..turns {
            client.round_trip(&format!("question {turn}"))?;
        }
        add(turns, LONG_RUNNER_MAX)
    }

    /// Many conversations that are warm, in which messages are answered one after the other.
    fn measure_many(&self, options: &Options, report: &mut Report) -> Result<(), Error> {
        let count = options.size(watchable()?.min(200), 3);
        let to: Vec<Address> = (0..count).map(|number| thread(number + 10)).collect();
        let host = self.installation.up()?;
        let mut standing = Standing::connect(&host.socket(), &to)?;
        standing.talk(1)?;
        let host_alone = process::resident(host.pid())?;
        let mut add = |row: Row| report.add(&FIGURE, row);
        let (mut all, mut supervisors) = (0.0, 0.0);
        let runners = self.installation.runners()?;
        for runner in &runners {
            all += process::proportional(*runner)?;
            for parent in process::parents(*runner, host.pid())? {
                supervisors += process::proportional(parent)?;
            }
        }
        let warm = runners.len();
        let label = |what: &str| format!("{warm} warm conversations: {what}");
        add(Row::number(label("memory of the runners"), Unit::MiB, all));
        add(Row::number(label("of the processes above them"), Unit::MiB, supervisors));
        add(Row::number(label("of the host, resident"), Unit::MiB, host_alone));
        let turns = turns(&host, &to, options.size(3, 1))?;
        let one = turns_of_echo(&host, options.size(100, 3))?;
        add(Row::sample(label("accepted to delivered, one at a time"), &turns)
            .beside("echo", one.p50()));
        Ok(())
    }
}

impl World {
    /// A healthy conversation's requests, alone and while ten others do to their sockets what they like: in
    /// turn, for what else the machine does would be held against whichever came second. Of the slowest in each
    /// round the median counts.
    fn measure_beside_others(
        &self,
        host: &Host<'_>,
        options: &Options,
        report: &mut Report,
    ) -> Result<(), Error> {
        let ours = self.way_of(&thread(0), "healthy")?;
        let others = (1..=pester::HOSTILE)
            .map(|number| {
                let to = thread(1000 + number);
                Client::connect(&host.socket(), to.clone())?.round_trip("good morning")?;
                self.way_of(&to, &format!("hostile-{number}"))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let rounds = options.size(50, 2);
        let (mut alone, mut beside) = (Rounds::default(), Rounds::default());
        for _ in 0..options.size(7, 2) {
            alone.add(ours.first_bytes(rounds)?);
            beside.add(pester::beside(&others, || ours.first_bytes(rounds))?);
        }
        let (what, others) = ("first byte", "beside ten hostile conversations");
        report.add(&FIGURE, Row::sample(format!("{what}, alone"), &alone.all));
        let row = Row::sample(format!("{what}, {others}"), &beside.all);
        report.add(&FIGURE, row.beside("alone", alone.all.p50()));
        let row = |how: &str, value| {
            Row::number(format!("{what}, slowest of {rounds}, {how}"), Unit::Millis, value)
        };
        report.add(&FIGURE, row("alone", alone.slowest.p50()));
        let limit = BESIDE_OTHERS_MAX * alone.slowest.p50();
        let row = row(others, beside.slowest.p50()).beside("alone", alone.slowest.p50());
        report.add(&FIGURE, row.at_most(limit));
        Ok(())
    }

    /// The way of the conversation with `to`, whose container lives.
    fn way_of(&self, to: &Address, name: &str) -> Result<Way, Error> {
        let session = self.installation.session(to)?;
        let way = AgentConfig::load(&session.agent_config())?.gateway.ok_or("no way to a model")?;
        let path = way.routes.first().ok_or("no model")?.path.clone();
        // The address of a socket has 107 bytes at most, and a session's path is longer.
        let socket = self.installation.aside().join(format!("{name}.sock"));
        std::os::unix::fs::symlink(session.gateway_socket(), &socket)?;
        Ok(Way { socket, path, key: way.key })
    }
}

/// The same measured several times.
#[derive(Default)]
struct Rounds {
    all: Sample,
    /// The longest of each round.
    slowest: Sample,
}

impl Rounds {
    fn add(&mut self, round: Sample) {
        self.slowest.add(Duration::from_secs_f64(round.longest() / 1000.0));
        self.all = std::mem::take(&mut self.all).join(round);
    }
}

/// Where a conversation's models are asked.
pub(super) struct Way {
    pub(super) socket: PathBuf,
    path: String,
    pub(super) key: String,
}

impl Way {
    fn first_bytes(&self, rounds: usize) -> Result<Sample, Error> {
        (0..rounds)
            .map(|_| {
                std::thread::sleep(BETWEEN_REQUESTS);
                Ok(ask(&self.socket, &self.path, &self.key, "a question")?.first)
            })
            .collect()
    }

    /// A request as it is sent, of somebody who means well.
    pub(super) fn request(&self, text: &str) -> String {
        request(&self.path, &self.key, text)
    }
}

/// How long it takes from the claim of each of so many messages to the first request for it.
fn first_requests(
    server: &ModelServer,
    observer: &Observer,
    client: &mut Client,
    rounds: usize,
) -> Result<Sample, Error> {
    let mut sample = Sample::default();
    for round in 0..rounds {
        let asked = server.requests().len();
        let observed = observer.round_trip(client, &format!("question {round}"))?;
        let requests = server.requests();
        let first = requests.get(asked).ok_or("an answer for which no model was asked")?;
        sample.add(first.came.saturating_duration_since(observed.claim.done));
    }
    Ok(sample)
}

fn thread(number: usize) -> Address {
    Address { agent: THINKER, thread: Some(format!("thread {number}")) }
}

/// From accepted to delivered, in each conversation in turn.
fn turns(host: &Host<'_>, to: &[Address], rounds: usize) -> Result<Sample, Error> {
    let mut sample = Sample::default();
    let mut clients = to
        .iter()
        .map(|to| Client::connect(&host.socket(), to.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    for round in 0..rounds {
        for client in &mut clients {
            let trip = client.round_trip(&format!("question {round}"))?;
            sample.add(trip.delivered - trip.accepted);
        }
    }
    Ok(sample)
}

/// The same of an agent that asks nobody.
fn turns_of_echo(host: &Host<'_>, rounds: usize) -> Result<Sample, Error> {
    let (mut client, _) = host.warm_client(3)?;
    (0..rounds)
        .map(|round| {
            let trip = client.round_trip(&format!("message {round}"))?;
            Ok(trip.delivered - trip.accepted)
        })
        .collect()
}

/// The same requests through the gateway and around it, in turn, over a connection that stands already.
fn measure_way(world: &World, options: &Options, report: &mut Report) -> Result<(), Error> {
    let way = world.way_of(&thread(0), "through")?;
    let around = world.direct.as_path();
    let compare = |text: &str, rounds: usize| -> Result<[(Sample, Sample); 2], Error> {
        let mut samples: [(Sample, Sample); 2] = Default::default();
        for _ in 0..rounds {
            let ways = [(around, "/v1/messages"), (way.socket.as_path(), way.path.as_str())];
            for ((socket, path), (first, whole)) in ways.into_iter().zip(&mut samples) {
                let asked = ask(socket, path, &way.key, text)?;
                first.add(asked.first);
                whole.add(asked.whole);
            }
            std::thread::sleep(BETWEEN_REQUESTS);
        }
        Ok(samples)
    };
    let [(direct, _), (ours, _)] = compare("a question", options.size(300, 5))?;
    report.add(
        &FIGURE,
        Row::sample("through the gateway, first byte", &ours)
            .beside("direct", direct.p50())
            .at_most(direct.p50() + FIRST_BYTE_MAX_MS),
    );
    let [(_, direct), (_, ours)] = compare(PACED, options.size(10, 1))?;
    report.add(
        &FIGURE,
        Row::sample("through the gateway, a stream at a pace", &ours)
            .beside("direct", direct.p50())
            .at_most(direct.p50() * STREAM_MAX),
    );
    let [(_, direct), (_, ours)] = compare(LONG, options.size(30, 2))?;
    let row = Row::sample("through the gateway, as fast as it can be sent", &ours);
    report.add(&FIGURE, row.beside("direct", direct.p50()));
    Ok(())
}

/// How long an answer took, from the request on.
struct Asked {
    first: Duration,
    whole: Duration,
}

fn request(path: &str, key: &str, text: &str) -> String {
    let body = json!({
        "model": "m", "max_tokens": 1000, "stream": true,
        "messages": [{ "role": "user", "content": text }],
    })
    .to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: model\r\nx-api-key: {key}\r\n\
         anthropic-version: 2023-06-01\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ask(socket: &Path, path: &str, key: &str, text: &str) -> Result<Asked, Error> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let began = Instant::now();
    stream.write_all(request(path, key, text).as_bytes())?;
    let mut buffer = vec![0; 64 << 10];
    let mut count = stream.read(&mut buffer)?;
    let first = began.elapsed();
    if !buffer[..count].starts_with(b"HTTP/1.1 200") {
        return Err(
            format!("asked for {path}: {}", String::from_utf8_lossy(&buffer[..count])).into()
        );
    }
    while count > 0 {
        count = stream.read(&mut buffer)?;
    }
    Ok(Asked { first, whole: began.elapsed() })
}
