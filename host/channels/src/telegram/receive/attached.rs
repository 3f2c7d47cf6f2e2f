//! Files that people send: fetched from Telegram once somebody is given them, and handed in with their message.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;
use twobox_model::channel::Inbound;

use super::super::trouble::Trouble;
use super::super::updates::File;
use super::super::{Entered, TelegramChannel};
use crate::Intake;
use crate::staged::{Staged, too_large};

/// The most bytes of a file that the Bot API hands out.
const TELEGRAM_MAX: u64 = 20 << 20;

/// The pauses before a file is asked for once more. A chat does not wait for a file for ever.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// Where a file is.
#[derive(Deserialize)]
struct At {
    #[serde(default)]
    file_path: Option<String>,
}

impl TelegramChannel {
    /// Has `inbound` bring its files, if somebody is given them; `bare` is what was said without their names. What it
    /// returns has to live until the message is accepted or refused.
    ///
    /// # Errors
    /// What is wrong on this side.
    pub(super) async fn attach(
        &self,
        intake: &dyn Intake,
        entered: &Entered,
        inbound: &mut Inbound,
        (files, bare): (&[File], String),
    ) -> Result<Option<Staged>, String> {
        if files.is_empty() || !intake.takes_files(inbound).await {
            return Ok(None);
        }
        let mut staged = Staged::new(&self.parcels);
        for file in files {
            match self.fetch(entered, file).await {
                Ok(content) => staged.put(&file.name, content).await.map_err(|error| {
                    format!("a file cannot be kept in {}: {error}", self.parcels.display())
                })?,
                Err(why) => staged.missing(&file.name, why),
            }
        }
        inbound.chat.text = bare;
        inbound.files = staged.files();
        Ok(Some(staged))
    }

    async fn fetch(&self, entered: &Entered, file: &File) -> Result<Bytes, String> {
        let most = self.file_max.min(TELEGRAM_MAX);
        if let Some(why) = file.size.and_then(|size| too_large(size, most)) {
            return Err(why);
        }
        let mut pauses = PAUSES.into_iter();
        loop {
            match self.fetch_once(entered, file, most).await {
                Ok(content) => return Ok(content),
                Err(trouble @ (Trouble::Strange(_) | Trouble::Refused(_))) => {
                    match (trouble.busy(), pauses.next()) {
                        (Some(wait), Some(pause)) if wait <= PAUSES[1] => {
                            sleep(wait.max(pause)).await;
                        }
                        _ => return Err(trouble.to_string()),
                    }
                }
                Err(trouble) => match pauses.next() {
                    Some(pause) => sleep(pause).await,
                    None => return Err(trouble.to_string()),
                },
            }
        }
    }

    async fn fetch_once(
        &self,
        entered: &Entered,
        file: &File,
        most: u64,
    ) -> Result<Bytes, Trouble> {
        let (api, token) = (&self.api, &entered.token);
        let at: At = api.call(token, "getFile", &json!({ "file_id": file.id })).await?;
        let path = at.file_path.filter(|path| is_path(path)).ok_or_else(|| {
            Trouble::Strange(
                "it does not say where the file is, or that is on its own disk".to_owned(),
            )
        })?;
        api.fetch(token, &path, usize::try_from(most).unwrap_or(usize::MAX)).await
    }
}

/// Whether it can be part of an address as it is: steps of plain letters, none of which leads out.
fn is_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_step =
        |step: &str| !step.is_empty() && !step.starts_with('.') && step.bytes().all(plain);
    path.len() <= 255 && path.split('/').all(is_step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_elsewhere() {
        assert!(is_path("photos/file_1.jpg"));
        for bad in ["", "/var/lib/x", "a//b", "../x", "a/../b", "a?b", "a/%2e%2e/b", "a b", ".x"] {
            assert!(!is_path(bad), "{bad}");
        }
    }
}
