//! The ledger of money: what models have sold is what the host has counted, whoever is killed and whatever
//! goes wrong on the way; and each message is answered once, or visibly fails.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use twobox_tests::ledger::{Record, Said, Saying};
use twobox_tests::models::{Death, Mind, ModelServer, ORDER, Options, audit};
use twobox_tests::{Chat, Mode, Outbound, Setup, World, on_process, wait_within};

on_process!(what_was_sold_is_counted_or_known_to_be_unknown_whoever_dies);

/// An agent for each way in which models are spoken to, and its model.
const AGENTS: [(&str, &str); 3] =
    [("ada", "anthropic/model-a"), ("bob", "openai/model-b"), ("cyd", "router/model-c")];

const KILLS: usize = 12;

/// How long all messages together may take once nobody is killed any more: all pauses between the tries
/// of one, and troubles on top.
const REST: Duration = Duration::from_secs(100);

fn what_was_sold_is_counted_or_known_to_be_unknown_whoever_dies(setup: Setup) {
    let seed = std::env::var("TWOBOX_MONEY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}; TWOBOX_MONEY_SEED={seed} says the same again");
    let mind = Some(Mind { seed, troubled: true });
    let server = ModelServer::start_with(Options { mind, ..Options::default() });
    let setup = AGENTS.iter().fold(setup.models_at(&server), |setup, (agent, model)| {
        setup.thinking_agent(agent, Mode::Shared, model)
    });
    let mut dice = Rng::with_seed(seed);
    // With few tries some messages fail, which whoever said them has to hear; with many hardly any.
    let few = dice.bool();
    let setup = setup.setting("limits.max_tries", if few { 2 } else { 5 });
    let world = setup.setting("containers.max_running", 3).up();
    let chats = AGENTS.map(|(agent, _)| world.chat(agent));
    let (mut said, mut deaths) = (Vec::new(), Vec::new());
    for _ in 0..KILLS {
        for (at, chat) in chats.iter().enumerate() {
            said.extend((0..dice.usize(..3)).map(|_| (at, say(chat, &mut dice))));
        }
        std::thread::sleep(Duration::from_millis(dice.u64(..1500)));
        deaths.extend(kill(&world, &server, &mut dice));
    }
    let end = Instant::now() + REST;
    for (at, id) in &said {
        let chat = &chats[*at];
        while !chat.is_answered(id) && !chat.is_failed(id) {
            assert!(
                Instant::now() < end,
                "seed {seed}: nothing is heard of {}",
                world.evidence(id)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let told = |letter: &Outbound| letter.failed.contains(id);
        let told = chat.letters().iter().filter(|letter| told(letter)).count();
        assert_eq!(told, usize::from(chat.is_failed(id)), "seed {seed}: {}", world.evidence(id));
    }
    AGENTS.iter().for_each(|(agent, _)| world.session(agent).wait_settled());
    assert_paid_for(&world, &server, &deaths, seed);
    for (at, (agent, model)) in AGENTS.iter().enumerate() {
        let of_agent = said.iter().filter(|(of, id)| *of == at && chats[at].is_answered(id));
        let answered: Vec<&str> = of_agent.map(|(_, id)| id.as_str()).collect();
        assert_remembered(&server, model, &answered, &format!("seed {seed}: {agent}"));
    }
    let verdict = world.verdict();
    assert_eq!(verdict.violations, [], "seed {seed}: {verdict:?}");
    assert_eq!(verdict.accepted, said.len(), "seed {seed}: {verdict:?}");
    assert!(
        few || verdict.failed * 5 <= verdict.accepted,
        "seed {seed}: hardly any is answered: {verdict:?}"
    );
    world.assert_fsck_clean();
    let (answered, failed) = (verdict.answered, verdict.failed);
    eprintln!(
        "{answered} answered, after {:?} at the latest; {failed} failed visibly",
        latest(&world)
    );
}

/// Shows that what was asked last of `model` has all in it that was `answered` in the conversation, whoever died.
#[track_caller]
fn assert_remembered(server: &ModelServer, model: &str, answered: &[&str], whose: &str) {
    let name = model.split_once('/').expect("UPSTREAM/MODEL").1;
    let requests = server.requests();
    let Some(last) = requests.iter().rfind(|it| it.body["model"] == name) else { return };
    let body = last.body.to_string();
    let forgotten: Vec<&&str> = answered.iter().filter(|id| !body.contains(**id)).collect();
    assert!(forgotten.is_empty(), "{whose} has forgotten {forgotten:?}");
}

/// The longest that anybody waited for an answer.
fn latest(world: &World) -> Duration {
    let mut handed = BTreeMap::new();
    let mut latest = Duration::ZERO;
    for record in world.records() {
        match record {
            Record::Handed { at_us, message, .. } => {
                handed.entry(message).or_insert(at_us);
            }
            Record::Shown { at_us, text, .. } => {
                for said in Said::all(&text).iter().filter(|it| it.saying == Saying::Answer) {
                    let waited = handed.get(&said.message).map(|since| at_us - since);
                    latest = latest.max(Duration::from_micros(waited.unwrap_or_default()));
                }
            }
            _ => {}
        }
    }
    latest
}

fn say(chat: &Chat, dice: &mut Rng) -> String {
    let words = ["plain", "tool", "twice", "note", "note tool", "note twice"];
    chat.hand_in(None, &format!("{ORDER} {}", words[dice.usize(..words.len())]))
}

/// Kills the host, a runner, or both, and starts the host again.
fn kill(world: &World, server: &ModelServer, dice: &mut Rng) -> Vec<Death> {
    let (host, runner) =
        [(true, false), (true, false), (false, true), (true, true)][dice.usize(..4)];
    let strike = |dice: &mut Rng| {
        let (agent, model) = AGENTS[dice.usize(..AGENTS.len())];
        let session = world.sessions().into_iter().find(|it| it.agent == agent)?;
        let model = model.split_once('/').expect("UPSTREAM/MODEL").1;
        world.container(&session)?.strike_and_look(server, model)
    };
    let mut deaths = Vec::new();
    deaths.extend(host.then(|| world.kill_host_and_look(server)));
    deaths.extend(runner.then(|| strike(dice)).flatten());
    if host {
        world.up();
    }
    deaths
}

#[track_caller]
fn assert_paid_for(world: &World, server: &ModelServer, deaths: &[Death], seed: u64) {
    wait_within(REST, "all requests to end", || {
        (!server.is_busy() && world.open_requests() == 0).then_some(())
    });
    let audit = audit(&server.requests(), &world.counted(), deaths);
    assert!(audit.problems.is_empty(), "seed {seed}: {audit:#?}\n{deaths:#?}");
    assert!(audit.sold > 0 && audit.bought > 0, "seed {seed}: {audit:?}");
    eprintln!("{audit:?}");
}
