//! The file that came with a message, fetched from the homeserver for whoever is given it.

use std::time::Duration;

use tokio::time::sleep;
use twobox_model::channel::Inbound;

use super::super::events::Attached;
use super::super::path::step;
use super::super::trouble::Trouble;
use super::super::{Account, MatrixChannel};
use crate::Intake;
use crate::staged::{Staged, too_large};

/// The pauses before a file is asked for once more. What another homeserver has may not be there yet; but a room
/// does not wait for a file for ever.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

impl MatrixChannel {
    /// Has `inbound` bring its file, if somebody is given that. What it returns has to live until the message is
    /// accepted or refused.
    ///
    /// # Errors
    /// What is wrong on this side.
    pub(super) async fn attach(
        &self,
        intake: &dyn Intake,
        account: &Account,
        inbound: &mut Inbound,
        file: Attached,
    ) -> Result<Option<Staged>, String> {
        if !intake.takes_files(inbound).await {
            return Ok(None);
        }
        let mut staged = Staged::new(&self.parcels);
        match self.fetch(account, &file).await {
            Ok(content) => staged.put(&file.name, content).await.map_err(|error| {
                format!("a file cannot be kept in {}: {error}", self.parcels.display())
            })?,
            Err(why) => staged.missing(&file.name, why),
        }
        inbound.chat.text = file.caption;
        inbound.files = staged.files();
        Ok(Some(staged))
    }

    async fn fetch(&self, account: &Account, file: &Attached) -> Result<bytes::Bytes, String> {
        let most = self.file_max;
        if let Some(why) = file.size.and_then(|size| too_large(size, most)) {
            return Err(why);
        }
        let Some((server, id)) = &file.at else {
            return Err("it is encrypted, or nowhere".to_owned());
        };
        let path = format!("client/v1/media/download/{}/{}", step(server), step(id));
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut pauses = PAUSES.into_iter();
        loop {
            match self.client.fetch(&account.token, &path, most).await {
                Ok(content) => return Ok(content),
                Err(trouble) if trouble.is_final() => return Err(trouble.to_string()),
                // It is longer than was said, or what answers is no homeserver: the next time it is that, too.
                Err(Trouble::Strange(why)) => return Err(why),
                Err(trouble) => match pauses.next() {
                    Some(pause) => sleep(trouble.busy().unwrap_or(pause).min(PAUSES[1])).await,
                    None => return Err(trouble.to_string()),
                },
            }
        }
    }
}
