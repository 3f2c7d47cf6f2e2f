//! What does not break a rule, or not for long enough, and goes on for ever: it is meant to take the
//! host's time. Each acts many times as often as the host grants one session a look, and leaves the
//! processor and the disk some air, so that it is the host that is worn out and not the machine.

use std::error::Error;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use super::locks::{self, READ, WRITE};
use super::{Attack, DONE, Done, End, Ground, Then, content};

const fn endless(name: &'static str, act: fn(&Ground) -> Done) -> Attack {
    Attack { name, act, then: Then::Hangs, end: End::Endured }
}

/// For every runtime.
pub static PESTER: &[Attack] = &[
    endless("looks-without-end", |ground| again(2, || Ok(ground.poke()?))),
    endless("events-without-end", |ground| {
        let other = ground.out.join("other"); // several times as many as one folder may have
        again(1, || {
            for _ in 0..10 {
                fs::write(ground.journal(), "")?;
                fs::remove_file(ground.journal())?;
                fs::write(&other, "")?;
                fs::remove_file(&other)?;
            }
            Ok(())
        })
    }),
    endless("commits-without-end", |ground| {
        again(10, || content::run(ground, "UPDATE container_state SET updated_at = 'x'"))
    }),
    endless("rows-to-nowhere", |ground| {
        again(10, || {
            content::run(
                ground,
                "INSERT INTO messages_out (id, seq, timestamp, kind, channel_type, platform_id,
                   content)
                 SELECT 'n' || seq, seq, '2027-01-15T08:00:00.000Z', 'chat', 'terminal', 'nowhere',
                   '{}'
                 FROM (SELECT max(3, coalesce(max(seq), 1) + 2) AS seq FROM messages_out)",
            )
        })
    }),
    endless("requests-without-end", |ground| {
        again(10, || {
            content::run(
                ground,
                "INSERT INTO messages_out (id, seq, timestamp, kind, content)
                 SELECT 's' || seq, seq, '2027-01-15T08:00:00.000Z', 'system', '{}'
                 FROM (SELECT max(3, coalesce(max(seq), 1) + 2) AS seq FROM messages_out)",
            )
        })
    }),
    endless("large-rows", |ground| {
        content::run(
            ground,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50)
             INSERT INTO messages_out (id, seq, timestamp, kind, content, deliver_after)
             SELECT 'l' || i, 2 * i + 1, '2027-01-15T08:00:00.000Z', 'chat',
               printf('%.1000000c', 'l'), '2099-01-15T08:00:00.000Z' FROM n",
        )?;
        again(50, || Ok(ground.poke()?))
    }),
    endless("long-looks", |ground| {
        content::many_acks(ground, 300_000)?;
        again(20, || Ok(ground.poke()?))
    }),
    endless("locks-for-a-while", |ground| {
        again(100, || {
            let lock = locks::lock(&ground.outbox(), WRITE, locks::SHARED, 510)?;
            ground.nudge()?;
            sleep(Duration::from_millis(1000));
            drop(lock);
            Ok(())
        })
    }),
    endless("locks-its-inbox-for-a-while", |ground| {
        let inbox = ground.inbox.join("inbound.db");
        again(100, || {
            let lock = locks::lock(&inbox, READ, locks::SHARED, 510)?;
            sleep(Duration::from_millis(1000));
            drop(lock);
            Ok(())
        })
    }),
    endless("journals-that-come-and-go", |ground| {
        again(2, || {
            fs::write(ground.journal(), [7; 1024])?;
            ground.poke()?;
            Ok(fs::remove_file(ground.journal())?)
        })
    }),
];

/// Does it again and again, with so many milliseconds in between. What fails because the honest
/// runner is using its file, or has tidied up, does not count.
fn again(pause: u64, mut act: impl FnMut() -> Done) -> Done {
    fs::write(DONE, "")?;
    loop {
        if let Err(error) = act()
            && !is_passing(error.as_ref())
        {
            return Err(error);
        }
        sleep(Duration::from_millis(pause));
    }
}

fn is_passing(error: &(dyn Error + 'static)) -> bool {
    let gone = |it: &std::io::Error| it.kind() == std::io::ErrorKind::NotFound;
    let busy =
        |it: &rusqlite::Error| it.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy);
    error.downcast_ref().is_some_and(gone) || error.downcast_ref().is_some_and(busy)
}
