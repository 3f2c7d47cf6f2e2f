//! What is written down besides: what each run cost, and who went beyond the cap.

use rusqlite::Connection;

use super::{Deed, Oracle};

impl Oracle {
    /// Each ended run costs something once.
    pub(super) fn check_metrics(
        &mut self,
        db: &Connection,
        numbers: impl Iterator<Item = i64>,
        deed: &Deed,
    ) -> Result<(), String> {
        let mut added = Vec::new();
        for number in numbers {
            let select = "SELECT run_id FROM run_metrics WHERE rowid = ?1";
            let found: Result<String, _> = db.query_row(select, [number], |row| row.get(0));
            match (self.metrics.remove(&number), found) {
                (None, Ok(run)) => added.push((number, run)),
                (Some(_), Err(_)) if matches!(deed, Deed::Pruned { .. }) => {}
                (None, Err(_)) => {}
                other => return Err(format!("costs were changed: {other:?}")),
            }
        }
        let expected = if let Deed::Finished { run, .. } = deed { vec![run] } else { Vec::new() };
        if added.iter().map(|(_, run)| run).collect::<Vec<_>>() != expected {
            return Err(format!("the costs of {added:?} were recorded"));
        }
        self.metrics.extend(added);
        Ok(())
    }

    /// A run beyond the cap is written down, and no other.
    pub(super) fn check_audit(
        &self,
        db: &Connection,
        numbers: impl Iterator<Item = i64>,
        deed: &Deed,
    ) -> Result<(), String> {
        let mut told = Vec::new();
        for number in numbers {
            let select = "SELECT subject FROM audit WHERE rowid = ?1 AND action = 'force_run'";
            let found: Result<String, _> = db.query_row(select, [number], |row| row.get(0));
            told.extend(found);
        }
        let expected = match deed {
            Deed::Executed { run, forced: true, .. } => vec![run.clone()],
            _ => Vec::new(),
        };
        match told == expected {
            true => Ok(()),
            false => Err(format!("written down were {told:?}")),
        }
    }
}
