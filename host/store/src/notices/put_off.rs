//! Notices that something waits for the budget of another day, which are the record of it too.

use std::collections::BTreeMap;

use rusqlite::named_params;
use twobox_shared::ids::{AgentGroupId, SessionId};
use twobox_shared::time::UnixMillis;

use super::Notice;
use crate::usage::Limits;
use crate::{Notices, Operation};
use twobox_model::channel::Address;

/// A conversation in which something waits for a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOff {
    /// Which.
    pub session: SessionId,
    /// Whose agent,
    pub agent: AgentGroupId,
    /// and what that one's folder is called.
    pub folder: String,
    /// What could be used when it was put off.
    pub limits: Limits,
    /// When the day turns.
    pub until: UnixMillis,
}

impl Notice {
    /// What begins the cause of a notice that something waits for the budget of another day.
    const BUDGET: &str = "budget:";

    /// A fresh notice that something which is to be answered there waits `until` the day turns, as no more may
    /// be used than `limits`. Under others it is told anew.
    pub fn over_budget(
        until: UnixMillis,
        limits: &Limits,
        address: Address,
        text: String,
        now: UnixMillis,
    ) -> Self {
        let (limits, chat) = (limits.word(), address.digest());
        let cause = format!("{}{}:{limits}:{chat}", Self::BUDGET, until.0);
        Self::held(cause, address, text, now)
    }
}

impl Notices<'_> {
    /// What was put off until after `now`, as notices say: each conversation once, by the newest.
    pub fn put_off(&self, now: UnixMillis) -> Operation<Vec<PutOff>> {
        self.0.operation("list what waits for a budget", move |db| {
            let mut select = db.prepare(
                "SELECT n.session_id, n.cause, s.agent_group_id, g.folder FROM notices n
                 JOIN sessions s ON s.id = n.session_id
                 JOIN agent_groups g ON g.id = s.agent_group_id
                 WHERE n.cause >= :begins AND n.cause < :ends AND s.status = 'active'
                   AND g.removed_at_ms IS NULL
                 ORDER BY n.created_at_ms",
            )?;
            // A semicolon is what follows a colon.
            let params = named_params! { ":begins": Notice::BUDGET, ":ends": "budget;" };
            let rows = select.query_map(params, |row| {
                let Some((until, limits)) = put_off(&row.get::<_, String>("cause")?) else {
                    return Ok(None);
                };
                Ok(Some(PutOff {
                    session: row.get("session_id")?,
                    agent: row.get("agent_group_id")?,
                    folder: row.get("folder")?,
                    limits,
                    until,
                }))
            })?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
            let newest = rows.filter(|it| it.until > now).map(|it| (it.session, it));
            Ok(newest.collect::<BTreeMap<_, _>>().into_values().collect())
        })
    }
}

/// Until when something was put off, and under which limits, if `cause` is of that. One that an earlier version
/// wrote says no limits: they are nothing then, so that whatever holds is more, and it is looked at once.
fn put_off(cause: &str) -> Option<(UnixMillis, Limits)> {
    let mut parts = cause.strip_prefix(Notice::BUDGET)?.split(':');
    let until = parts.next()?.parse().ok().map(UnixMillis)?;
    Some((until, parts.next().map_or(Some(Limits::NOTHING), Limits::parse)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_of_a_budget_says_until_when_and_under_which_limits() {
        let address =
            Address { channel_type: "c".into(), platform_id: "p:1".into(), thread_id: None };
        let limits = Limits::parse("-,5,7,-").unwrap();
        let now = UnixMillis(1);
        let told = |address: Address| {
            Notice::over_budget(UnixMillis(9), &limits, address, "later".into(), now).cause
        };
        assert_eq!(put_off(&told(address.clone())), Some((UnixMillis(9), limits)));
        let other = Address { platform_id: "p:2".into(), ..address.clone() };
        assert_ne!(told(address.clone()), told(other), "each chat is told");
        assert_eq!(
            put_off("budget:9"),
            Some((UnixMillis(9), Limits::NOTHING)),
            "an earlier version's"
        );
        for cause in ["budget:", "budget:x", "budget:9:x", "failed:m:1"] {
            assert_eq!(put_off(cause), None, "{cause}");
        }
    }
}
