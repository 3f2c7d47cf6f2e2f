//! A new `host.db` from what is known without the old one.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, named_params};
use twobox_shared::ids::{AgentGroupId, IdSource, InstallId, MessagingGroupId, SessionId};
use twobox_shared::time::UnixMillis;

use crate::messaging::SessionMode;
use crate::{DbError, failed, open};

/// A chat: the id of its channel, and its id there.
pub type ChatKey = (String, String);

/// What is known.
#[derive(Debug, Default)]
pub struct Recovered {
    /// What each agent is called, and its folder.
    pub agents: BTreeMap<AgentGroupId, String>,
    /// What agents call each chat.
    pub chats: BTreeMap<ChatKey, String>,
    /// Who listens where; all of these agents and chats are among those above.
    pub wirings: BTreeMap<(AgentGroupId, ChatKey), SessionMode>,
    /// The session of each agent, chat and thread.
    pub sessions: BTreeMap<(AgentGroupId, ChatKey, String), SessionId>,
}

impl Recovered {
    /// Makes `path`, where there is nothing, a `host.db` of a new installation. No log is left beside it.
    ///
    /// # Errors
    /// [`DbError::Sqlite`]: what is there is of no use.
    pub fn write(
        &self,
        path: &Path,
        ids: &(impl IdSource + ?Sized),
        now: UnixMillis,
    ) -> Result<(), DbError> {
        let mut db = open::create(path)?;
        self.insert(&mut db, ids, now).map_err(failed("write the new database"))?;
        // Into the file itself.
        db.pragma_update(None, "journal_mode", "DELETE").map_err(failed("finish the new database"))
    }

    fn insert(
        &self,
        db: &mut Connection,
        ids: &(impl IdSource + ?Sized),
        now: UnixMillis,
    ) -> rusqlite::Result<()> {
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (id, name) in &self.agents {
            tx.execute(
                "INSERT INTO agent_groups (id, name, folder, created_at_ms)
                 VALUES (:id, :name, :name, :now)",
                named_params! { ":id": id, ":name": name, ":now": now },
            )?;
        }
        let mut chats = BTreeMap::new();
        for (chat @ (kind, platform), name) in &self.chats {
            let id = MessagingGroupId::generate(ids);
            tx.execute(
                "INSERT INTO messaging_groups (id, channel_type, platform_id, name, created_at_ms)
                 VALUES (:id, :kind, :platform, :name, :now)",
                named_params! {
                    ":id": id, ":kind": kind, ":platform": platform, ":name": name, ":now": now,
                },
            )?;
            chats.insert(chat, id);
        }
        for ((agent, chat), mode) in &self.wirings {
            tx.execute(
                "INSERT INTO wirings (messaging_group_id, agent_group_id, session_mode, created_at_ms)
                 VALUES (:chat, :agent, :mode, :now)",
                named_params! {
                    ":chat": chats[chat], ":agent": agent, ":mode": mode.as_str(), ":now": now,
                },
            )?;
        }
        for ((agent, chat, thread), session) in &self.sessions {
            // Marked: the next host looks what is open in it.
            tx.execute(
                "INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id,
                   next_due_at_ms, created_at_ms, last_active_at_ms)
                 VALUES (:id, :agent, :chat, :thread, 0, :now, :now)",
                named_params! {
                    ":id": session, ":agent": agent, ":chat": chats[chat], ":thread": thread,
                    ":now": now,
                },
            )?;
        }
        tx.execute(
            "INSERT INTO install (id, install_id, created_at_ms) VALUES (1, :id, :now)",
            named_params! { ":id": InstallId::generate(ids), ":now": now },
        )?;
        tx.commit()
    }
}
