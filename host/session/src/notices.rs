//! The host's own notices to people: stored in `host.db`, and delivered as `delivery` decides, beside the
//! rows of the outbox.

use twobox_shared::inbox::Delivery;

use super::delivery::Entry;
use super::task::{Task, Trouble};
use twobox_store::notices::Notice;

impl Task {
    /// Stores a notice, to be delivered behind what is in the outbox now. The next sweep finds it.
    pub(crate) async fn notify_person(&mut self, notice: Notice) -> Result<(), Trouble> {
        let notice = Notice { behind: Some(self.seen), ..notice };
        if self.core.parts.store.notices().add(self.id, &notice).await? {
            self.outgoing.notices.push(notice);
            self.look_once_more();
        }
        Ok(())
    }

    /// Reads them if that is needed, and forgets those that are settled.
    pub(super) async fn load_notices(&mut self) -> Result<(), Trouble> {
        if !self.outgoing.knows_notices {
            let open = self.core.parts.store.notices().open(self.id, self.seen).await?;
            self.outgoing.notices = open;
            self.outgoing.knows_notices = true;
        }
        self.outgoing.notices.retain(|notice| !notice.record.status.is_settled());
        Ok(())
    }

    /// Writes records of notices.
    pub(super) async fn write_notices(
        &mut self,
        records: Vec<(usize, Delivery)>,
    ) -> Result<(), Trouble> {
        for (index, record) in records {
            let cause = &self.outgoing.notices[index].cause;
            let recorded = self.core.parts.store.notices().record(self.id, cause, &record).await?;
            self.outgoing.knows_notices &= recorded; // who settled it meanwhile has the last word
            self.remember(Entry::Notice(index), record);
        }
        Ok(())
    }
}
