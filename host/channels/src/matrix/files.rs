//! Files of an agent, sent to a room. They are copied out of its container's folder first, as for the `command`
//! channel; what cannot be sent is named, with the reason, and keeps no message waiting.

use std::fmt::Write;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use twobox_model::channel::Outbound;
use twobox_shared::content::shorten;
use twobox_shared::ids::{IdSource, SystemIds};
use twobox_shared::visible;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use super::MatrixChannel;
use super::client::Ask;
use super::compose::{self, Kind, Relation};
use super::path::transaction;
use super::send::Letter;
use super::trouble::Trouble;
use crate::media::media_type;
use crate::parcel::Parcel;

/// The most bytes of a file, if the homeserver does not say.
const UPLOAD_MAX: u64 = 50 << 20;

/// How often an upload is tried that is broken off: that is how some say that a file is too large.
const BROKEN_MAX: u32 = 3;

/// How long an upload may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// The longest name that is sent, in characters.
const NAME_MAX: usize = 200;

#[derive(Deserialize)]
struct Uploaded {
    content_uri: String,
}

impl MatrixChannel {
    /// Sends the files of `outbound`, and then the names of those that could not be sent. Returns the first
    /// event.
    pub(super) async fn send_files(
        &self,
        letter: &Letter<'_>,
        outbound: &Outbound,
        relation: &Relation,
    ) -> Result<Option<String>, Trouble> {
        let parcel = self.pack(outbound).await.map_err(|error| {
            Trouble::NotReached(format!("the files could not be put ready: {error}"))
        })?;
        let (mut first, mut missing) = (None, Vec::new());
        for (index, file) in parcel.attachments.iter().enumerate() {
            let path = match (&file.path, &file.error) {
                (Some(path), _) => path,
                (None, error) => {
                    let why = error.clone().unwrap_or_else(|| "it is not there".to_owned());
                    missing.push((file.name.clone(), why));
                    continue;
                }
            };
            match self.send_file(letter, index, &file.name, Path::new(path), relation).await? {
                Ok(sent) => first = first.or(Some(sent)),
                Err(why) => missing.push((file.name.clone(), why)),
            }
        }
        parcel.end().await;
        if !missing.is_empty() {
            let transaction = transaction(letter.key, "missing");
            let event = compose::event(Kind::Notice, &not_sent(&missing), relation, &transaction);
            let sent = self.put(letter, &transaction, &event).await?;
            first = first.or(Some(sent));
        }
        Ok(first)
    }

    async fn pack(&self, outbound: &Outbound) -> io::Result<Parcel> {
        let names = outbound.files.clone();
        let Some(shelf) = outbound.shelf.clone() else { return Ok(Parcel::empty()) };
        let folder = self.parcels.join(SystemIds.uuid().to_string());
        blocking(move || Parcel::pack(&folder, &shelf, &names)).await
    }

    /// Sends one file, unless it is known to be there; or says why it cannot be.
    async fn send_file(
        &self,
        letter: &Letter<'_>,
        index: usize,
        name: &str,
        path: &Path,
        relation: &Relation,
    ) -> Result<Result<String, String>, Trouble> {
        let transaction = transaction(letter.key, &format!("file-{index}"));
        if let Some(sent) = self.taken(letter.key, &transaction) {
            return Ok(Ok(sent));
        }
        let known = self.begun(letter.key, |begun| begun.uploaded.get(&index).cloned());
        let size = match std::fs::metadata(path) {
            Ok(meta) => meta.len(),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mime = media_type(name);
        let uri = match known {
            Some(uri) => uri,
            None => match self.upload(letter, index, (path, size), mime).await? {
                Ok(uri) => uri,
                Err(why) => return Ok(Err(why)),
            },
        };
        let name = shorten(&visible::line(name), NAME_MAX);
        let event = json!({
            "msgtype": shown_as(mime), "body": name, "filename": name, "url": uri,
            "info": { "size": size, "mimetype": mime },
        });
        let event = compose::complete(event, relation, &transaction);
        self.put(letter, &transaction, &event).await.map(Ok)
    }

    async fn upload(
        &self,
        letter: &Letter<'_>,
        index: usize,
        (path, size): (&Path, u64),
        mime: &'static str,
    ) -> Result<Result<String, String>, Trouble> {
        let most = self.upload_max(letter).await?;
        if size > most {
            return Ok(Err(format!("it has {size} bytes, and the homeserver takes {most}")));
        }
        let broken = self.begun(letter.key, |begun| begun.broken.get(&index).copied());
        if broken.unwrap_or(0) >= BROKEN_MAX {
            return Ok(Err("the homeserver broke off each time that it was sent".to_owned()));
        }
        let _one = self.uploading.acquire().await.expect("it is never closed");
        let whole = path.to_owned();
        let bytes = match blocking(move || std::fs::read(whole)).await {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let path = "media/v3/upload".to_owned();
        let ask = Ask::upload(&letter.account.token, path, mime, bytes.into()).patient(PATIENCE);
        match self.client.ask::<Uploaded>(ask).await {
            Ok(Uploaded { content_uri }) => {
                self.begun(letter.key, |begun| begun.uploaded.insert(index, content_uri.clone()));
                Ok(Ok(content_uri))
            }
            Err(trouble) if trouble.is_final() => Ok(Err(trouble.to_string())),
            Err(trouble @ Trouble::Silent(_)) => {
                self.begun(letter.key, |begun| *begun.broken.entry(index).or_default() += 1);
                // Nothing was said in the room: that nobody knows of a file's end matters to nobody.
                Err(Trouble::NotReached(trouble.to_string()))
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// The most bytes of a file that the homeserver takes.
    async fn upload_max(&self, letter: &Letter<'_>) -> Result<u64, Trouble> {
        if let Some(known) = *lock(&self.upload_max) {
            return Ok(known);
        }
        let path = "client/v1/media/config".to_owned();
        let most = match self.client.ask::<Value>(Ask::get(&letter.account.token, path)).await {
            Ok(config) => config["m.upload.size"].as_u64().unwrap_or(UPLOAD_MAX),
            Err(trouble) if trouble.is_final() => UPLOAD_MAX,
            Err(trouble) => return Err(trouble),
        };
        *lock(&self.upload_max) = Some(most);
        Ok(most)
    }
}

/// How a file of this media type is shown.
fn shown_as(media_type: &str) -> &'static str {
    match media_type.split('/').next() {
        Some("image") => "m.image",
        Some("audio") => "m.audio",
        Some("video") => "m.video",
        _ => "m.file",
    }
}

/// What people are told of files that could not be sent.
fn not_sent(missing: &[(String, String)]) -> String {
    let mut text = "Not sent:".to_owned();
    for (name, why) in missing {
        let name = shorten(&visible::line(name), NAME_MAX).replace('`', "'");
        write!(text, "\n- `{name}`: {why}").expect("a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_shown_as_what_its_name_says() {
        assert_eq!(shown_as(media_type("a.PNG")), "m.image");
        assert_eq!(shown_as(media_type("a.svg")), "m.file");
        let told = not_sent(&[("a`b\n.txt".to_owned(), "it is gone".to_owned())]);
        assert_eq!(told, "Not sent:\n- `a'b\\n.txt`: it is gone");
    }
}
