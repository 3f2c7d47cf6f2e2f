//! Where an agent may write to and where it answers, as the host projects them into the inbox.

use rusqlite::named_params;

use super::{Destination, InboxTx, Origin, failed, routing};
use crate::open::BoxError;

impl InboxTx<'_> {
    /// Replaces what the agent may name as destinations, and where it answers by default.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn project_routing(
        &self,
        routing: &Origin,
        destinations: &[Destination],
    ) -> Result<(), BoxError> {
        let replace = || {
            self.conn().execute(
                "INSERT INTO session_routing (id, channel_type, platform_id, thread_id)
                 VALUES (1, :channel_type, :platform_id, :thread_id)
                 ON CONFLICT (id) DO UPDATE SET channel_type = excluded.channel_type,
                   platform_id = excluded.platform_id, thread_id = excluded.thread_id",
                named_params! {
                    ":channel_type": routing.channel_type,
                    ":platform_id": routing.platform_id,
                    ":thread_id": routing.thread_id,
                },
            )?;
            self.conn().execute("DELETE FROM destinations", [])?;
            for destination in destinations {
                self.conn().execute(
                    "INSERT INTO destinations (name, display_name, type, channel_type, platform_id)
                     VALUES (:name, :name, 'channel', :channel_type, :platform_id)",
                    named_params! {
                        ":name": destination.name,
                        ":channel_type": destination.channel_type,
                        ":platform_id": destination.platform_id,
                    },
                )?;
            }
            Ok(())
        };
        replace().map_err(failed("write the routing"))
    }

    /// What [`InboxTx::project_routing`] wrote last.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn routing(&self) -> Result<(Origin, Vec<Destination>), BoxError> {
        routing(self.conn()).map_err(failed("read the routing"))
    }
}
