//! What the operator is told in a chat of theirs.

use std::time::Duration;

use rusqlite::{Connection, Row, TransactionBehavior, named_params};
use twobox_shared::time::UnixMillis;

use super::{Alerts, Operation};
use twobox_model::alert::{Alert, Lasting, Telling};

/// How long one is kept that is over.
pub const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Alerts<'_> {
    /// Says what troubles there are now: of those that are new a row is made, those that are not there any more are
    /// over.
    pub fn lasting(&self, lasting: &[Lasting], now: UnixMillis) -> Operation<()> {
        let lasting = lasting.to_vec();
        self.0.operation("write down what is wrong", move |db| {
            let causes = serde_json::to_string(&lasting.iter().map(|it| &it.cause).collect::<Vec<_>>())
                .expect("strings always serialise");
            if is_said(db, &lasting, &causes)? {
                return Ok(()); // mostly: nothing is written for nothing
            }
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for Lasting { cause, text } in &lasting {
                tx.execute(
                    "INSERT INTO alerts (cause, text, raised_at_ms) VALUES (:cause, :text, :now)
                     ON CONFLICT (cause) WHERE ended_at_ms IS NULL DO NOTHING",
                    named_params! { ":cause": cause, ":text": text, ":now": now },
                )?;
            }
            tx.execute(
                "UPDATE alerts SET ended_at_ms = :now
                 WHERE ended_at_ms IS NULL AND cause NOT IN (SELECT value FROM json_each(:causes))",
                named_params! { ":now": now, ":causes": causes },
            )?;
            tx.execute(
                "DELETE FROM alerts WHERE ended_at_ms < :before",
                named_params! {
                    ":before": now.0.saturating_sub(i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX)),
                },
            )?;
            tx.commit()
        })
    }

    /// Those of which something is to be told, oldest first.
    pub fn untold(&self) -> Operation<Vec<Alert>> {
        self.0.operation("look for what the operator is to be told", |db| {
            select(
                db,
                "told_at_ms IS NULL OR (ended_at_ms IS NOT NULL AND end_told_at_ms IS NULL
                   AND substr(cause, 1, 6) <> 'event:')",
            )
        })
    }

    /// Those that are not over, oldest first.
    pub fn open(&self) -> Operation<Vec<Alert>> {
        self.0.operation("look for what is wrong", |db| select(db, "ended_at_ms IS NULL"))
    }

    /// The operator was told of an alert what there was to tell of it. Returns whether that was so still.
    pub fn told(&self, alert: &Alert, now: UnixMillis) -> Operation<bool> {
        let (id, telling) = (alert.id, alert.telling());
        self.0.operation("write down what the operator was told", move |db| {
            let statement = match telling {
                Telling::Begun => {
                    "UPDATE alerts SET told_at_ms = :now WHERE id = :id AND told_at_ms IS NULL"
                }
                Telling::Ended => {
                    "UPDATE alerts SET end_told_at_ms = :now
                     WHERE id = :id AND ended_at_ms IS NOT NULL AND end_told_at_ms IS NULL"
                }
                Telling::Both => {
                    "UPDATE alerts SET told_at_ms = :now, end_told_at_ms = :now
                     WHERE id = :id AND ended_at_ms IS NOT NULL AND told_at_ms IS NULL"
                }
            };
            let changed = db.execute(statement, named_params! { ":id": id, ":now": now })?;
            Ok(changed == 1)
        })
    }
}

/// Whether the rows that last are those of `lasting`.
fn is_said(db: &Connection, lasting: &[Lasting], causes: &str) -> rusqlite::Result<bool> {
    let (all, known): (i64, i64) = db.query_row(
        "SELECT count(*), coalesce(sum(cause IN (SELECT value FROM json_each(:causes))), 0)
         FROM alerts WHERE ended_at_ms IS NULL",
        named_params! { ":causes": causes },
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(i64::try_from(lasting.len()) == Ok(all) && known == all)
}

fn select(db: &Connection, which: &'static str) -> rusqlite::Result<Vec<Alert>> {
    let from_row = |row: &Row<'_>| {
        Ok(Alert {
            id: row.get("id")?,
            cause: row.get("cause")?,
            text: row.get("text")?,
            raised_at: row.get("raised_at_ms")?,
            told_at: row.get("told_at_ms")?,
            ended_at: row.get("ended_at_ms")?,
        })
    };
    db.prepare_cached(&format!(
        "SELECT id, cause, text, raised_at_ms, told_at_ms, ended_at_ms FROM alerts
         WHERE {which} ORDER BY id LIMIT 100"
    ))?
    .query_map([], from_row)?
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn what_lasts_is_told_once_and_so_is_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("host.db")).unwrap();
        let alerts = store.alerts();
        let [m, k] = ["channel:m", "key:x"].map(|cause| Lasting::new(cause, "it is down"));
        let at = UnixMillis;
        let untold = || alerts.untold().wait().unwrap();
        alerts.lasting(std::slice::from_ref(&m), at(1)).wait().unwrap();
        alerts.lasting(&[m.clone(), k.clone()], at(2)).wait().unwrap();
        let [first, second] = &untold()[..] else { panic!("{:?}", untold()) };
        assert_eq!((first.raised_at, second.raised_at), (at(1), at(2)));
        assert!(alerts.told(first, at(3)).wait().unwrap());
        assert!(!alerts.told(first, at(3)).wait().unwrap(), "once");
        assert_eq!(untold().len(), 1);
        alerts.lasting(&[], at(4)).wait().unwrap();
        let [first, second] = &untold()[..] else { panic!("{:?}", untold()) };
        assert_eq!((first.telling(), second.telling()), (Telling::Ended, Telling::Both));
        assert!(alerts.told(first, at(5)).wait().unwrap());
        assert!(alerts.told(second, at(5)).wait().unwrap());
        assert_eq!((untold(), alerts.open().wait().unwrap()), (vec![], vec![]));
        alerts.lasting(std::slice::from_ref(&m), at(6)).wait().unwrap();
        assert_eq!(untold().len(), 1, "the same again is another");
        alerts.lasting(&[Lasting::new("event:x", "it has happened")], at(7)).wait().unwrap();
        alerts.lasting(&[], at(8)).wait().unwrap();
        let event = untold().pop().unwrap();
        assert!(alerts.told(&event, at(9)).wait().unwrap());
        assert_eq!(untold().len(), 1, "what has happened is never over");
    }
}
