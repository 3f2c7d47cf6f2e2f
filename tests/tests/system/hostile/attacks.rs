//! Every attack of the table, carried out from inside by an agent's program. They all attack one
//! host at the same time, which has to go on with everybody else and to touch nothing of theirs.
//! `TWOBOX_TEST_ATTACK=NAME` leaves only that one, and `TWOBOX_TEST_ROWS=10000000` makes ten million
//! of a million rows.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use twobox_tests::attack::{self, Attack, End};
use twobox_tests::{
    Chat, Runtime, Setup, World, binary, image_with, on_all_runtimes, on_process, wait_for,
    wait_within,
};

use crate::scripts::echo;

on_all_runtimes!(
    what_stands_in_the_outboxs_place_harms_nobody_else,
    what_is_in_an_outbox_harms_nobody_else,
    what_an_outbox_says_is_believed_only_of_its_own_session,
    s5_s8_a_lock_that_is_never_given_back_costs_its_container_and_nobody_else,
    changing_things_while_the_host_looks_gains_nothing,
    no_agent_takes_over_its_own_program_or_anothers,
    a_healthy_session_is_answered_while_ten_others_pester_the_host,
);

on_process!(a_device_in_the_outboxs_place_harms_nobody_else);

fn what_stands_in_the_outboxs_place_harms_nobody_else(setup: Setup) {
    withstand(setup, attack::FILES);
}

fn a_device_in_the_outboxs_place_harms_nobody_else(setup: Setup) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root makes devices");
        return;
    }
    // Nobody else could make one, and root is what agents are by nobody's accident.
    withstand(setup.setting("containers.user", "0:0"), attack::DEVICES);
}

fn what_is_in_an_outbox_harms_nobody_else(setup: Setup) {
    withstand(setup, attack::CONTENT);
}

fn what_an_outbox_says_is_believed_only_of_its_own_session(setup: Setup) {
    withstand(setup, attack::FORGERY);
}

fn s5_s8_a_lock_that_is_never_given_back_costs_its_container_and_nobody_else(setup: Setup) {
    withstand(setup, attack::LOCKS);
}

fn changing_things_while_the_host_looks_gains_nothing(setup: Setup) {
    withstand(setup, attack::RACES);
}

fn no_agent_takes_over_its_own_program_or_anothers(setup: Setup) {
    withstand(setup, attack::TAKEOVER);
}

fn withstand(setup: Setup, attacks: &'static [Attack]) {
    let only = std::env::var("TWOBOX_TEST_ATTACK").ok();
    let wanted = |attack: &&Attack| only.as_ref().is_none_or(|only| only == attack.name);
    let attacks: Vec<&'static Attack> = attacks.iter().filter(wanted).collect();
    let names: Vec<&str> = attacks.iter().map(|attack| attack.name).collect();
    let world = attacked(setup, &names);
    world.up();

    let (healthy, bystander) = (world.chat("healthy"), world.chat("bystander"));
    assert_eq!(healthy.ask("hello"), "echo: hello");
    assert_eq!(bystander.ask("hello"), "echo: hello");
    let rests = world.session("bystander");
    rests.wait_settled();
    world.container(&rests).expect("it waits for more").kill();
    wait_for("the bystander's rest", || (!world.session("bystander").running).then_some(()));
    wait_for("its runner's log", || rests.folder.join("runner.log").exists().then_some(()));

    let victim = world.aside().join("victim.db");
    std::fs::copy(rests.paths().outbound_db(), &victim).unwrap();
    let before = belongings(&world, &victim);

    let duels: Vec<Duel<'_>> =
        attacks.iter().copied().map(|attack| Duel::begin(&world, attack, &victim)).collect();
    for duel in &duels {
        duel.await_end();
        assert_eq!(healthy.ask(duel.attack.name), format!("echo: {}", duel.attack.name));
    }
    let log = world.host_log();
    let lost = |attack: &&&Attack| matches!(attack.end, End::Quarantined { .. });
    let times = log.matches("the session is quarantined").count();
    assert_eq!(times, attacks.iter().filter(lost).count(), "each said once, not with every look");
    for duel in &duels {
        duel.put_back();
    }
    for duel in &duels {
        duel.await_answer();
    }
    assert_eq!(healthy.letters().len(), 1 + attacks.len(), "it got its answers and nothing else");
    assert_eq!(bystander.letters().len(), 1);
    let after = belongings(&world, &victim);
    let changed = |path: &&PathBuf| before.get(*path) != after.get(*path);
    let changed: Vec<_> = before.keys().chain(after.keys()).filter(changed).collect();
    assert!(changed.is_empty(), "what belongs to others: {changed:?}");
    assert!(!world.host_log().contains("panicked"), "the host's log");
}

fn a_healthy_session_is_answered_while_ten_others_pester_the_host(setup: Setup) {
    let names: Vec<&str> = attack::PESTER.iter().map(|attack| attack.name).collect();
    assert_eq!(names.len(), 10);
    let world = attacked(setup, &names);
    world.up();
    let healthy = world.chat("healthy");
    assert_eq!(healthy.ask("hello"), "echo: hello");
    let attackers: Vec<Chat> = names.iter().map(|name| world.chat(name)).collect();
    for (name, chat) in names.iter().zip(&attackers) {
        chat.hand_in(None, name);
    }
    for name in &names {
        let done = world.agent_folder(name).join(attack::DONE);
        wait_for(&format!("{name} to begin"), || done.exists().then_some(()));
    }
    for n in 0..20 {
        assert_eq!(healthy.ask(&format!("message {n}")), format!("echo: message {n}"));
    }
    // Somebody new is served as well.
    assert_eq!(world.chat("bystander").ask("hello"), "echo: hello");
    assert_eq!(healthy.letters().len(), 21);
    let quarantined = world.sessions().into_iter().find(|it| it.status == "quarantined");
    assert_eq!(quarantined.map(|it| it.quarantine_reason), None, "none of it breaks a rule");
}

/// An installation with an attacker for each of these attacks, of that name, and two agents that do
/// no harm.
pub(super) fn attacked(setup: Setup, attacks: &[&str]) -> World {
    let program = binary("attacker");
    let (setup, command) = match setup.runtime() {
        Runtime::Process => (setup, program.display().to_string()),
        Runtime::Sandbox => (setup, "./attacker".to_owned()), // all that it sees is what it is given
        Runtime::Docker => {
            (setup.setting("containers.image", image_with(&program)), "/attacker".to_owned())
        }
    };
    let rows = std::env::var("TWOBOX_TEST_ROWS").ok();
    // Whoever writes that many is silent for a while.
    let tolerance = if rows.is_some() { "5m" } else { "5s" };
    let setup = setup
        .setting("containers.max_running", 64)
        .setting("containers.stop_grace", "1s")
        .setting("limits.start_grace", "500ms")
        .setting("limits.heartbeat", "5s")
        .setting("limits.claim_tolerance", tolerance)
        .setting("limits.outbox_quota_mb", 8)
        .agent("healthy", echo())
        .agent("bystander", echo());
    let world = attacks.iter().fold(setup, |setup, name| setup.agent(name, echo())).make();
    for name in attacks {
        let config = json!({ "provider": "command", "command": [command], "lifetime": "runner" });
        world.configure_agent(name, &config);
        if world.runtime() == Runtime::Sandbox {
            std::fs::copy(&program, world.program_folder(name).join("attacker")).unwrap();
        }
        if let Some(rows) = &rows {
            std::fs::write(world.agent_folder(name).join("rows"), rows).unwrap();
        }
    }
    world
}

/// Everything that belongs to somebody else, and the names of all that lies beside it.
fn belongings(world: &World, victim: &Path) -> BTreeMap<PathBuf, String> {
    let data = world.data();
    let mut found = BTreeMap::new();
    let whole = [
        victim.to_owned(),
        data.join("agents"),
        data.join("twobox.toml"),
        data.join("groups/healthy"),
        data.join("groups/bystander"),
        data.join("programs"),
        world.session("bystander").folder,
    ];
    for beside in [world.aside().to_owned(), data.clone(), data.join("groups")] {
        let names = beside.read_dir().unwrap().map(|entry| entry.unwrap().path());
        // They come and go while the host works.
        let lasting = |path: &PathBuf| !path.to_string_lossy().contains("host.db-");
        found.extend(names.filter(lasting).map(|path| (path, String::new())));
    }
    whole.iter().for_each(|path| describe(path, &mut found));
    found
}

fn describe(path: &Path, found: &mut BTreeMap<PathBuf, String>) {
    let meta = path.symlink_metadata().unwrap();
    let content = match meta.is_file() {
        true => std::fs::read(path).unwrap(),
        false => Vec::new(),
    };
    let about = format!(
        "{:o} {}:{} {} names, {:?}, {content:?}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.nlink(),
        meta.modified().unwrap(),
    );
    found.insert(path.to_owned(), about);
    if meta.is_dir() {
        path.read_dir().unwrap().for_each(|entry| describe(&entry.unwrap().path(), found));
    }
}

/// One attack on the host of `world`.
struct Duel<'a> {
    world: &'a World,
    attack: &'static Attack,
    chat: Chat,
    message: String,
    text: String,
}

impl<'a> Duel<'a> {
    fn begin(world: &'a World, attack: &'static Attack, victim: &Path) -> Self {
        let chat = world.chat(attack.name);
        let text = format!("{} {}", attack.name, victim.display());
        let message = chat.say(&text);
        Self { world, attack, chat, message, text }
    }

    fn case(&self, what: &str) -> String {
        format!("{}: {what}", self.attack.name)
    }

    /// Waits for what has to become of the session.
    fn await_end(&self) {
        let session = || self.world.session(self.attack.name);
        match self.attack.end {
            End::Quarantined { because, finding } => {
                wait_for(&self.case("the quarantine"), || {
                    self.assert_no_answer();
                    (session().status == "quarantined").then_some(())
                });
                wait_for(&self.case("its container to be gone"), || {
                    self.world.container(&session()).is_none().then_some(())
                });
                let reason = session().quarantine_reason.unwrap();
                assert!(reason.contains(because), "{}", self.case(&reason));
                let shown = self.world.twobox(&["sessions", "show", &session().id]);
                assert!(shown.contains(&reason), "{}", self.case(&shown));
                let fsck = self.world.run(&["sessions", "fsck", &session().id, "--json"]);
                let report: Value = serde_json::from_slice(&fsck.stdout).unwrap();
                let findings = report["findings"].as_array().unwrap();
                let told = |name: &str| findings.iter().any(|found| found["name"] == name);
                // Of a runner that was killed inside a commit, too, only the quarantine is told.
                let cut_off = session().paths().out_dir().join("outbound.db-journal").is_file();
                assert!(told("quarantined"), "{}", self.case(&report.to_string()));
                assert!(told(finding) || cut_off, "{}", self.case(&report.to_string()));
                let refused = self.chat.hand_in(None, "are you there?");
                let refusal = self.chat.wait_refused(&refused);
                assert!(refusal.contains("quarantined"), "{}", self.case(&refusal));
            }
            End::Stopped => {
                if self.is_written_to() {
                    let done = self.world.agent_folder(self.attack.name).join(attack::DONE);
                    wait_for(&self.case("the attack"), || done.exists().then_some(()));
                    self.chat.hand_in(None, "more");
                }
                wait_for(&self.case("another attempt"), || {
                    let tries = session().message(&self.message).tries;
                    (tries == 1).then_some(())
                });
            }
            End::Unmoved { refused } => {
                self.await_answer();
                let failed = || {
                    let deliveries = session().deliveries();
                    deliveries.iter().filter(|delivery| delivery.status == "failed").count()
                };
                wait_for(&self.case("the refusal"), || (failed() == refused).then_some(()));
                assert_eq!(session().status, "active", "{}", self.attack.name);
                assert_eq!(session().message(&self.message).tries, 0, "{}", self.attack.name);
            }
            End::Endured => {
                let done = self.world.agent_folder(self.attack.name).join(attack::DONE);
                let limit = 4 * twobox_tests::PATIENCE; // for ten million rows
                wait_within(limit, &self.case("the attack"), || done.exists().then_some(()));
            }
        }
    }

    /// Whether somebody says something more. A lock is noticed when its host has something to write,
    /// if the runner goes on living.
    fn is_written_to(&self) -> bool {
        matches!((&self.attack.end, &self.attack.then), (End::Stopped, attack::Then::Hangs))
    }

    fn assert_no_answer(&self) {
        let answers = self.chat.answers(&self.message);
        assert!(answers.is_empty(), "{}", self.case(&format!("{answers:?}")));
    }

    /// What a person does who has looked: the bad files go, and the session comes back.
    fn put_back(&self) {
        if !matches!(self.attack.end, End::Quarantined { .. } | End::Endured) {
            return;
        }
        let session = self.world.session(self.attack.name);
        if let Some(container) = self.world.container(&session) {
            container.kill();
        }
        for entry in session.paths().out_dir().read_dir().unwrap() {
            let path = entry.unwrap().path();
            let removed = match path.symlink_metadata().unwrap().is_dir() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            removed.unwrap();
        }
        self.world.twobox(&["sessions", "retry", &session.id]);
    }

    /// The message that brought the attack is answered in the end, once.
    fn await_answer(&self) {
        let answer = wait_within(twobox_tests::PATIENCE, &self.case("the answer"), || {
            self.chat.answers(&self.message).pop()
        });
        assert_eq!(answer.text, format!("echo: {}", self.text));
        if self.is_written_to() {
            wait_for(&self.case("the answer to what came later"), || {
                self.chat.letters().into_iter().find(|letter| letter.text == "echo: more")
            });
        }
        let (letters, said) = (self.chat.letters(), 1 + usize::from(self.is_written_to()));
        assert_eq!(letters.len(), said, "{}", self.case(&format!("{letters:?}")));
    }
}
