//! Sessions as people look at them: read-only, for the command line.

use rusqlite::{Row, named_params};
use serde::Serialize;
use twobox_shared::ids::{AgentGroupId, SessionId};
use twobox_shared::time::UnixMillis;

use super::sessions::DUE_NOW;
use super::{Operation, Sessions};
use twobox_model::channel::SCHEDULE_CHANNEL;

/// What `host.db` says about one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionOverview {
    /// The session.
    pub id: SessionId,
    /// Its agent group.
    pub agent_id: AgentGroupId,
    /// The agent group's name.
    pub agent: String,
    /// The id of the channel that it talks on.
    pub channel_type: String,
    /// The chat.
    pub platform_id: String,
    /// The thread; `None` for the chat itself.
    pub thread: Option<String>,
    /// `active`, `quarantined` or `closed`, which those of a removed agent are.
    pub status: String,
    /// Why it is quarantined.
    pub quarantine_reason: Option<String>,
    /// When somebody has to look at it: [`DUE_NOW`], or a time.
    #[serde(serialize_with = "time_of_due")]
    pub next_due: Option<UnixMillis>,
    /// Whether somebody has to look at it now; then there is no time to name.
    pub due_now: bool,
    /// Whether a container was started for it and not yet seen to end.
    pub running: bool,
    /// Starts in a row that came to nothing.
    pub failed_starts: i64,
    /// Why the last one did.
    pub start_error: Option<String>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When something last happened in it, a start for example.
    pub last_active: UnixMillis,
    /// What it was made for.
    pub kind: SessionKind,
    /// The name of the chat, as agents know it; of a run, the schedule's.
    pub chat_name: Option<String>,
}

/// The mark that says "now" is no time.
fn time_of_due<S: serde::Serializer>(
    due: &Option<UnixMillis>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    due.filter(|due| *due != DUE_NOW).serialize(serializer)
}

/// What a session was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// People talk there.
    Chat,
    /// One run of a schedule.
    Run,
}

impl SessionKind {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Run => "run",
        }
    }
}

impl SessionOverview {
    const SELECT: &str = "
        SELECT s.id, s.agent_group_id, a.name, m.channel_type, m.platform_id,
               nullif(s.thread_id, '') AS thread, s.quarantine_reason,
               CASE WHEN s.status = 'active' AND a.removed_at_ms IS NOT NULL THEN 'closed'
                    ELSE s.status END AS status,
               s.next_due_at_ms, s.runner_id IS NOT NULL AS running, s.failed_starts,
               s.start_error, s.created_at_ms, s.last_active_at_ms, m.name AS chat_name
        FROM sessions s
        JOIN agent_groups a ON a.id = s.agent_group_id
        JOIN messaging_groups m ON m.id = s.messaging_group_id";

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let channel: String = row.get("channel_type")?;
        Ok(Self {
            kind: match channel == SCHEDULE_CHANNEL {
                true => SessionKind::Run,
                false => SessionKind::Chat,
            },
            chat_name: row.get("chat_name")?,
            id: row.get("id")?,
            agent_id: row.get("agent_group_id")?,
            agent: row.get("name")?,
            channel_type: row.get("channel_type")?,
            platform_id: row.get("platform_id")?,
            thread: row.get("thread")?,
            status: row.get("status")?,
            quarantine_reason: row.get("quarantine_reason")?,
            next_due: row.get("next_due_at_ms")?,
            due_now: row.get::<_, Option<UnixMillis>>("next_due_at_ms")? == Some(DUE_NOW),
            running: row.get("running")?,
            failed_starts: row.get("failed_starts")?,
            start_error: row.get("start_error")?,
            created_at: row.get("created_at_ms")?,
            last_active: row.get("last_active_at_ms")?,
        })
    }
}

/// The sessions for which starts come to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedStarts {
    /// How many sessions.
    pub sessions: i64,
    /// Why the last start came to nothing, where that is known.
    pub last: Option<String>,
}

/// How many sessions there are, by what they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SessionCounts {
    /// All of them.
    pub total: i64,
    /// Those with something outstanding.
    pub due: i64,
    /// Those that must not be used.
    pub quarantined: i64,
}

const OF_AGENT: &str = "
    WHERE :agent IS NULL OR s.agent_group_id = :agent
    ORDER BY s.last_active_at_ms DESC, s.id";

/// Without a `LIKE`, whose wildcards would have to be escaped.
const LIKE: &str = "
    WHERE substr(s.id, 1, length(:part)) = :part OR substr(s.id, -length(:part)) = :part
    ORDER BY s.id LIMIT 10";

impl Sessions<'_> {
    /// The sessions of `agent`, or of all agents; the one active last comes first.
    pub fn list(&self, agent: Option<AgentGroupId>) -> Operation<Vec<SessionOverview>> {
        self.0.operation("list sessions", move |db| {
            let select = format!("{} {OF_AGENT}", SessionOverview::SELECT);
            db.prepare(&select).and_then(|mut select| {
                select
                    .query_map(named_params! { ":agent": agent }, SessionOverview::from_row)?
                    .collect()
            })
        })
    }

    /// The sessions whose id begins or ends with `part`: one, if `part` says enough. Ids begin with
    /// the time, so the end tells them apart sooner.
    pub fn like(&self, part: &str) -> Operation<Vec<SessionOverview>> {
        let part = part.to_owned();
        self.0.operation("find a session", move |db| {
            let select = format!("{} {LIKE}", SessionOverview::SELECT);
            let part = part.to_ascii_lowercase();
            db.prepare(&select).and_then(|mut select| {
                select
                    .query_map(named_params! { ":part": part }, SessionOverview::from_row)?
                    .collect()
            })
        })
    }

    /// Counts the sessions whose last start came to nothing.
    pub fn failed_starts(&self) -> Operation<FailedStarts> {
        self.0.operation("count failed starts", |db| {
            // With one aggregate `max`, the other columns are those of its row.
            db.query_row(
                "SELECT count(*) AS sessions, start_error, max(start_after_ms) FROM sessions
                 WHERE failed_starts > 0 AND status <> 'closed'",
                [],
                |row| {
                    Ok(FailedStarts {
                        sessions: row.get("sessions")?,
                        last: row.get("start_error")?,
                    })
                },
            )
        })
    }

    /// Counts the sessions.
    pub fn counts(&self) -> Operation<SessionCounts> {
        self.0.operation("count sessions", |db| {
            db.query_row(
                "SELECT count(*), count(next_due_at_ms), count(quarantine_reason) FROM sessions",
                [],
                |row| {
                    Ok(SessionCounts {
                        total: row.get(0)?,
                        due: row.get(1)?,
                        quarantined: row.get(2)?,
                    })
                },
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use crate::messaging::SessionMode;
    use twobox_shared::ids::SystemIds;

    #[test]
    fn a_session_that_is_due_at_once_has_no_time_of_1970() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("host.db")).unwrap();
        store.agents().add("ann", SessionMode::Shared, &SystemIds, UnixMillis(1)).wait().unwrap();
        let heard = store.wirings().listening("terminal", "ann").wait().unwrap().remove(0);
        store
            .raw()
            .execute(
                "INSERT INTO sessions (id, agent_group_id, messaging_group_id, created_at_ms,
                 last_active_at_ms) VALUES ('01890000-0000-7000-8000-00000000aaaa', ?1, ?2, 1, 1)",
                rusqlite::params![heard.agent, heard.messaging_group],
            )
            .unwrap();
        let cases = [
            (Some(DUE_NOW), None, true),
            (Some(UnixMillis(5)), Some("1970-01-01T00:00:00.005Z"), false),
            (None, None, false),
        ];
        for (stored, time, now) in cases {
            store.raw().execute("UPDATE sessions SET next_due_at_ms = ?1", [stored]).unwrap();
            let shown =
                serde_json::to_value(&store.sessions().list(None).wait().unwrap()[0]).unwrap();
            assert_eq!(shown["next_due"].as_str(), time, "{stored:?}");
            assert_eq!(shown["due_now"], now, "{stored:?}");
        }
    }

    #[test]
    fn a_session_is_found_by_either_end_of_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("host.db")).unwrap();
        store.agents().add("ann", SessionMode::Shared, &SystemIds, UnixMillis(1)).wait().unwrap();
        let heard = store.wirings().listening("terminal", "ann").wait().unwrap().remove(0);
        for id in ["01890000-0000-7000-8000-00000000aaaa", "01890000-0000-7000-8000-00000000bbbb"] {
            store
                .raw()
                .execute(
                    "INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id,
                     created_at_ms, last_active_at_ms) VALUES (?1, ?2, ?3, ?1, 1, 1)",
                    rusqlite::params![id, heard.agent, heard.messaging_group],
                )
                .unwrap();
        }
        let cases = [("01890000", 2), ("AAAA", 1), ("bbb", 1), ("%", 0), ("cccc", 0)];
        for (part, count) in cases {
            assert_eq!(store.sessions().like(part).wait().unwrap().len(), count, "{part}");
        }
        assert_eq!(store.sessions().list(Some(heard.agent)).wait().unwrap().len(), 2);
        let none = FailedStarts { sessions: 0, last: None };
        assert_eq!(store.sessions().failed_starts().wait().unwrap(), none);
        for (id, after, why) in [("aaaa", 9, "later"), ("bbbb", 5, "earlier")] {
            store
                .raw()
                .execute(
                    "UPDATE sessions SET failed_starts = 2, start_after_ms = ?2, start_error = ?3
                     WHERE substr(id, -4) = ?1",
                    rusqlite::params![id, after, why],
                )
                .unwrap();
        }
        let two = FailedStarts { sessions: 2, last: Some("later".to_owned()) };
        assert_eq!(store.sessions().failed_starts().wait().unwrap(), two);
        assert_eq!(store.sessions().list(None).wait().unwrap()[0].agent, "ann");
    }
}
