//! Whole outbox files, mutated at the places that mean something, read as the host reads them: every
//! read ends in time and with an error that is the session's alone, and changes nothing.
//!
//! `TWOBOX_FUZZ_SECS` says for how long, 5 if it says nothing. A failure prints the line that
//! replays it. For hours, use `cargo test`, which ends nothing by itself:
//! `TWOBOX_FUZZ_SECS=3600 cargo test -p twobox-shared --test fuzz_outbox -- --nocapture`
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use common::{NOW, honest_outbox, id, picture, within};
use fastrand::Rng;
use rusqlite::Connection;
use twobox_shared::audit;
use twobox_shared::open::{BoxError, Remedy};
use twobox_shared::outbox::{OutboxWriter, Source, read_untrusted};
use twobox_shared::seq::Seq;

const SECS: &str = "TWOBOX_FUZZ_SECS";
const SEED: &str = "TWOBOX_FUZZ_SEED";
const CASES: &str = "TWOBOX_FUZZ_CASES";

/// How long one read may take, and when it is said to hang.
const PATIENCE: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(10);

const QUOTA: u64 = 16 << 20;

const PAGE: usize = 4096;

/// A file of the outbox half: its name and what is in it.
type File = (&'static str, Vec<u8>);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect(name))
}

#[test]
fn no_outbox_takes_the_host_along() {
    let seed = number(SEED).unwrap_or_else(|| fastrand::u64(..u64::MAX / 2));
    let dir = tempfile::tempdir().unwrap();
    let order = dir.path().join("order");
    let cases = number(CASES).unwrap_or(u64::MAX);
    let secs = number(SECS).unwrap_or(5);
    std::fs::write(&order, format!("{seed} {cases} {secs}")).unwrap();
    eprintln!("the first seed is {seed}");
    let mut reader = common::start("read mutants", &order);
    let mut last = seed;
    loop {
        let said = reader.line_or_end();
        match said.as_deref().map(|said| said.split_once(' ').unwrap()) {
            Some(("case", number)) => last = number.parse().unwrap(),
            Some(("done", count)) => {
                eprintln!("{count}");
                break;
            }
            other => panic!(
                "case {last} ended the reader ({other:?}); to replay it:\n\
                 {SEED}={last} {CASES}=1 cargo nextest run -p twobox-shared -E \
                 'test(no_outbox_takes_the_host_along)' --no-capture"
            ),
        }
    }
    reader.finish();
}

#[test]
fn second_process() {
    common::play(&[("read mutants", |order| {
        let order = std::fs::read_to_string(order).unwrap();
        let order: Vec<u64> = order.split(' ').map(|part| part.parse().unwrap()).collect();
        let [seed, cases, secs] = order[..] else { panic!("{order:?}") };
        let end = Instant::now() + Duration::from_secs(secs);
        let seeds = seed_files();
        let (beat, beats) = channel();
        std::thread::spawn(move || {
            loop {
                match beats.recv_timeout(4 * LIMIT) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Timeout) => std::process::abort(), // a read hangs
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        let mut outcomes = [0_u64; 4];
        let mut count = 0;
        while count < cases && (Instant::now() < end || cases != u64::MAX) {
            common::say(format!("case {}", seed + count));
            beat.send(()).unwrap();
            let outcome = try_one(&seeds, seed + count);
            outcomes.iter_mut().zip(outcome).for_each(|(sum, one)| *sum += one);
            count += 1;
        }
        let [read, later, refused, repair] = outcomes;
        common::say(format!(
            "done {count} cases: {read} reads went well, {later} were put off, {repair} wait for a \
             repair, {refused} were refused"
        ));
        drop(beat);
        // A mutator that breaks everything, or nothing, tests one line of the host.
        if count > 200 {
            assert!(read > 0 && refused > 0 && repair > 0, "{outcomes:?}");
        }
    })]);
}

/// Reads the mutant of this seed in every way. How often it could be read, has to be tried again, is
/// refused, and has to be repaired.
fn try_one(seeds: &[Vec<File>], seed: u64) -> [u64; 4] {
    let mut rng = Rng::with_seed(seed);
    let mut files = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(1..=6) {
        let at = if rng.u8(..4) == 0 { rng.usize(..files.len()) } else { 0 };
        let donor = &seeds[rng.usize(..seeds.len())];
        let donor = donor[rng.usize(..donor.len())].1.clone();
        mutate(&mut rng, files[at].0, &mut files[at].1, &donor);
    }
    // In memory, where that is offered: most of the time is spent on syncing otherwise.
    let memory = Path::new("/dev/shm");
    let dir = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let root = dir.path().canonicalize().unwrap();
    let (out, scratch) = (root.join("out"), root.join("scratch"));
    for folder in [&out, &scratch] {
        std::fs::create_dir(folder).unwrap();
    }
    for (name, bytes) in &files {
        std::fs::write(out.join(name), bytes).unwrap();
    }
    std::fs::write(root.join("victim-mj0123459AB"), "precious").unwrap();
    let path = out.join("outbound.db");
    let before = (picture(&root), picture(&out));

    let read = |source: Source<'_>| {
        read_untrusted(&path, source, PATIENCE, |outbox| {
            outbox.acks([&id("m1"), &id("m2")])?;
            outbox.tool()?;
            outbox.rows(Seq(0), Seq(2), 1000).map(drop)
        })
        .map(drop)
    };
    let mut outcomes = [0; 4];
    let mut take = |how: &str, result: Result<(), BoxError>| match result {
        Ok(()) => outcomes[0] += 1,
        Err(error) => match error.remedy() {
            Remedy::TryAgain => outcomes[1] += 1,
            Remedy::Quarantine => outcomes[2] += 1,
            Remedy::Repair => outcomes[3] += 1,
            // The host itself makes this one the session's.
            Remedy::Operator if matches!(error, BoxError::Newer { .. }) => outcomes[2] += 1,
            Remedy::Operator => {
                panic!("{how}: a file cannot be the host's trouble: {error} {error:?}")
            }
        },
    };
    take("live", within(LIMIT, "live", || read(Source::Live)));
    take("audit", within(LIMIT, "audit", || audit::outbox(&path, PATIENCE).map(drop)));
    assert_eq!((picture(&root), picture(&out)), before, "what was only looked at");
    let source = Source::Copy { scratch: &scratch, quota: QUOTA };
    take("copy", within(LIMIT, "copy", || read(source)));
    // The copy may remain: whoever made the folder removes it.
    std::fs::remove_dir_all(&scratch).unwrap();
    std::fs::create_dir(&scratch).unwrap();
    let names = |folder: &Path| {
        let mut names: Vec<PathBuf> =
            folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    assert_eq!(picture(&out), before.1, "what was copied");
    let beside = names(&root);
    assert_eq!(beside, [out, scratch, root.join("victim-mj0123459AB")], "beside it");
    assert_eq!(std::fs::read(&beside[2]).unwrap(), b"precious");
    outcomes
}

/// Outboxes to begin with, each with the files that lie beside it.
fn seed_files() -> Vec<Vec<File>> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        dir.path().join(name).join("outbound.db")
    };
    let files = |path: &Path| -> Vec<File> {
        let beside = ["outbound.db", "outbound.db-journal", "outbound.db-wal", "outbound.db-shm"];
        let read = |name| Some((name, std::fs::read(path.with_file_name(name)).ok()?));
        beside.into_iter().filter_map(read).collect()
    };
    let fill = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
         INSERT INTO messages_out (id, seq, timestamp, kind, content)
           SELECT 'u' || i, 2 * i + 1, '2027-01-15T08:00:00.000Z', 'chat', printf('%.*c', 5 * i, 'u')
           FROM n;
         INSERT INTO processing_ack (message_id, status, status_changed, attempt)
           SELECT 'a' || seq, 'completed', '2027-01-15T08:00:00.000Z', 0 FROM messages_out;";

    let fresh = path("fresh");
    drop(OutboxWriter::open(&fresh, common::runner()).unwrap());
    let honest = path("honest");
    honest_outbox(&honest);
    OutboxWriter::open(&honest, common::runner()).unwrap().set_tool(None, NOW).unwrap();
    let full = path("full");
    honest_outbox(&full);
    Connection::open(&full).unwrap().execute_batch(fill).unwrap();

    let hot = path("hot");
    honest_outbox(&hot);
    let writer = Connection::open(&hot).unwrap();
    let half = format!("PRAGMA cache_size = 1; BEGIN IMMEDIATE; {fill}");
    writer.execute_batch(&half).unwrap();
    let interrupted = files(&hot);
    drop(writer);

    let wal = path("wal");
    honest_outbox(&wal);
    let writer = Connection::open(&wal).unwrap();
    writer.pragma_update(None, "journal_mode", "WAL").unwrap();
    writer.execute_batch(fill).unwrap();
    let in_wal_mode = files(&wal);
    drop(writer);

    let seeds = vec![files(&fresh), files(&honest), files(&full), interrupted, in_wal_mode];
    assert_eq!(seeds.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 2, 3]);
    seeds
}

/// Numbers at the edges of what fields can hold.
fn interesting(rng: &mut Rng) -> u64 {
    let edges = [0, 1, 2, 3, 4, 7, 8, 13, 100, 127, 128, 255, 256, 512, 1024, 4095, 4096, 32_767];
    let far = [65_535, 65_536, 1 << 20, (1 << 30) - 1, 1 << 30, 1 << 31, u64::MAX >> 1, u64::MAX];
    match rng.u8(..4) {
        0 => *rng.choice(&far).unwrap(),
        1 => rng.u64(..),
        _ => *rng.choice(&edges).unwrap(),
    }
}

fn put(bytes: &mut [u8], at: usize, width: usize, number: u64) {
    let number = number.to_be_bytes();
    for (byte, new) in bytes.iter_mut().skip(at).zip(&number[8 - width..]) {
        *byte = *new;
    }
}

fn mutate(rng: &mut Rng, name: &str, bytes: &mut Vec<u8>, donor: &[u8]) {
    if bytes.is_empty() {
        bytes.extend(donor);
        return;
    }
    let anywhere = rng.usize(..bytes.len());
    match rng.u8(..12) {
        0 => bytes[anywhere] ^= 1 << rng.u8(..8),
        1 => bytes[anywhere] = rng.u8(..),
        2 | 3 => {
            let (at, width) = field(rng, name, bytes);
            let number = interesting(rng);
            put(bytes, at, width, number);
        }
        4 => {
            // A cell is a few varints and what they count.
            let at = cell(rng, bytes);
            let number = interesting(rng);
            let width = *rng.choice(&[1, 1, 1, 2, 8]).unwrap();
            put(bytes, at, width, number);
        }
        5 => {
            let length = rng.usize(..=bytes.len() - anywhere).min(PAGE);
            let to = rng.usize(..bytes.len());
            let piece = bytes[anywhere..anywhere + length].to_vec();
            bytes.iter_mut().skip(to).zip(piece).for_each(|(byte, new)| *byte = new);
        }
        6 => {
            let pages = bytes.len() / PAGE;
            if pages > 1 {
                let (one, two) = (rng.usize(..pages), rng.usize(..pages));
                for offset in 0..PAGE {
                    bytes.swap(one * PAGE + offset, two * PAGE + offset);
                }
            }
        }
        7 => {
            let from = rng.usize(..=donor.len() / PAGE) * PAGE;
            let page = donor.iter().skip(from).take(PAGE);
            let to = anywhere / PAGE * PAGE;
            bytes.iter_mut().skip(to).zip(page).for_each(|(byte, new)| *byte = *new);
        }
        8 => bytes.truncate(match rng.bool() {
            true => anywhere,
            false => anywhere / PAGE * PAGE,
        }),
        9 => {
            let more = rng.usize(..3 * PAGE);
            let noise = rng.bool();
            bytes.extend(std::iter::repeat_with(|| if noise { rng.u8(..) } else { 0 }).take(more));
        }
        10 => change_schema(rng, bytes),
        _ => {
            if name.ends_with("-journal") {
                let victim = b"../victim-mj0123459AB";
                let sum: u32 = victim.iter().map(|byte| u32::from(*byte)).sum();
                bytes.extend(0x4000_0000_u32.to_be_bytes());
                bytes.extend(victim);
                bytes.extend(u32::try_from(victim.len()).unwrap().to_be_bytes());
                bytes.extend(sum.to_be_bytes());
                bytes.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
            } else {
                change_schema(rng, bytes);
            }
        }
    }
}

/// A field that SQLite reads, and its width (<https://sqlite.org/fileformat.html>).
fn field(rng: &mut Rng, name: &str, bytes: &[u8]) -> (usize, usize) {
    const HEADER: [(usize, usize); 20] = [
        (16, 2),
        (18, 1),
        (19, 1),
        (20, 1),
        (21, 1),
        (22, 1),
        (23, 1),
        (24, 4),
        (28, 4),
        (32, 4),
        (36, 4),
        (40, 4),
        (44, 4),
        (48, 4),
        (52, 4),
        (56, 4),
        (60, 4),
        (64, 4),
        (92, 4),
        (96, 4),
    ];
    const JOURNAL: [(usize, usize); 8] =
        [(0, 8), (8, 4), (12, 4), (16, 4), (20, 4), (24, 4), (512, 4), (512 + 4 + PAGE, 4)];
    const OF_PAGE: [(usize, usize); 6] = [(0, 1), (1, 2), (3, 2), (5, 2), (7, 1), (8, 4)];
    if name.ends_with("-journal") {
        return *rng.choice(&JOURNAL).unwrap();
    }
    if rng.bool() {
        return *rng.choice(&HEADER).unwrap();
    }
    let header = page_header(rng, bytes);
    let (at, width) = *rng.choice(&OF_PAGE).unwrap();
    match rng.bool() {
        true => (header + at, width),
        false => (header + 8 + 2 * rng.usize(..8), 2), // where a cell begins
    }
}

/// Where the header of a page begins.
fn page_header(rng: &mut Rng, bytes: &[u8]) -> usize {
    match rng.usize(..=bytes.len() / PAGE) * PAGE {
        0 => 100,
        page => page,
    }
}

/// Where a cell begins, or a little behind it.
fn cell(rng: &mut Rng, bytes: &[u8]) -> usize {
    let header = page_header(rng, bytes);
    let pointer = header + 8 + 2 * rng.usize(..8);
    let within = match bytes.get(pointer..pointer + 2) {
        Some(pair) => usize::from(u16::from_be_bytes([pair[0], pair[1]])),
        None => 0,
    };
    header / PAGE * PAGE + within + rng.usize(..12)
}

/// Another word of the same length somewhere in the schema's text, or another letter.
fn change_schema(rng: &mut Rng, bytes: &mut [u8]) {
    const WORDS: [(&str, &str); 14] = [
        ("CREATE TABLE", "CREATE VIEW "),
        ("CREATE TABLE", "CREATE INDEX"),
        ("messages_out", "messages_ouu"),
        ("messages_out", "sqlite_maste"),
        ("processing_ack", "processing_acl"),
        ("container_state", "container_statf"),
        ("INTEGER", "VIRTUAL"),
        ("NOT NULL", "AS (1,1)"),
        ("NOT NULL", "AS (seq)"),
        ("UNIQUE", "HIDDEN"),
        ("UNIQUE", "COLLAT"),
        ("STRICT", "STRIKE"),
        ("PRIMARY KEY", "AS (random)"),
        ("CHECK", "CHUCK"),
    ];
    let (word, other) = rng.choice(&WORDS).unwrap();
    let places: Vec<usize> = bytes
        .windows(word.len())
        .enumerate()
        .filter(|(_, window)| *window == word.as_bytes())
        .map(|(at, _)| at)
        .collect();
    let Some(at) = rng.choice(&places) else { return };
    match rng.u8(..4) {
        0 => bytes[at + rng.usize(..word.len())] = rng.u8(..),
        _ => bytes[*at..at + other.len()].copy_from_slice(other.as_bytes()),
    }
}
