//! Files of an agent, shared in a conversation. They are copied out of its container's folder first, as for the
//! `command` channel; in the place of one that cannot be shared there is a text that says why.
//!
//! Source: <https://docs.slack.dev/messaging/working-with-files>.

use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use twobox_model::channel::Outbound;
use twobox_shared::content::shorten;
use twobox_shared::ids::{IdSource, SystemIds};
use twobox_shared::visible;
use twobox_system::blocking::blocking;
use url::Url;

use super::SlackChannel;
use super::compose::Said;
use super::events::Raw;
use super::send::{Letter, What};
use super::settings::is_near;
use super::trouble::Trouble;
use crate::format::mrkdwn::escape;
use crate::http::{Ask, Client};
use crate::media::media_type;
use crate::parcel::Parcel;
use crate::parts::Part;

/// How long a file may take to be uploaded.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// The longest name that is sent, in characters.
const NAME_MAX: usize = 200;

/// The most bytes of the answer to an upload.
const ANSWER_MAX: usize = 64 << 10;

/// A file that lies ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    name: String,
    path: PathBuf,
    size: u64,
}

#[derive(Deserialize)]
struct Place {
    upload_url: String,
    file_id: String,
}

impl File {
    /// Whether a message shows this file.
    pub(super) fn is_in(&self, raw: &Raw) -> bool {
        raw.files.iter().any(|file| {
            file.name.as_deref() == Some(self.name.as_str()) && file.size == Some(self.size)
        })
    }
}

/// The parts that `parcel` becomes: each file, and then a text about those that are not there.
pub(super) fn parts(parcel: &Parcel) -> Vec<Part<What>> {
    let (mut parts, mut missing) = (Vec::new(), Vec::new());
    for (index, attachment) in parcel.attachments.iter().enumerate() {
        let name = shorten(&visible::line(&attachment.name), NAME_MAX);
        let known = attachment.path.as_ref().map(|path| {
            let path = PathBuf::from(path);
            std::fs::metadata(&path).map(|meta| (path, meta.len()))
        });
        match known {
            Some(Ok((path, size))) if size > 0 => {
                let file = File { name, path, size };
                parts.push(Part { name: format!("file-{index}"), what: What::File(file) });
            }
            Some(Ok(_)) => {
                missing.push((name, "it is empty, and Slack takes no such file".to_owned()))
            }
            Some(Err(error)) => missing.push((name, error.to_string())),
            None => {
                let why = attachment.error.clone();
                missing.push((name, why.unwrap_or_else(|| "it is not there".to_owned())));
            }
        }
    }
    if !missing.is_empty() {
        let what = What::Text(not_sent(&missing));
        parts.push(Part { name: "missing".to_owned(), what });
    }
    parts
}

/// What people are told of files that could not be sent.
fn not_sent(missing: &[(String, String)]) -> Said {
    let mut text = "Not sent:".to_owned();
    for (name, why) in missing {
        let mut line = String::new();
        escape(&format!("`{}`: {}", name.replace('`', "'"), visible::line(why)), &mut line);
        write!(text, "\n• {line}").expect("a string takes all");
    }
    Said { text, prompt: None }
}

impl SlackChannel {
    /// Puts the files of `outbound` ready.
    pub(super) async fn pack(&self, outbound: &Outbound) -> io::Result<Parcel> {
        let names = outbound.files.clone();
        let Some(shelf) = outbound.shelf.clone().filter(|_| !names.is_empty()) else {
            return Ok(Parcel::empty());
        };
        let folder = self.parcels.join(SystemIds.uuid().to_string());
        blocking(move || Parcel::pack(&folder, &shelf, &names)).await
    }
}

impl Letter<'_> {
    /// Shares a file, as the part with this name; in its place there is a text if Slack does not take it.
    ///
    /// # Errors
    /// Why it was not, or may have been.
    pub(super) async fn share(&self, name: &str, file: &File) -> Result<Option<String>, Trouble> {
        match self.upload_and_share(file).await {
            Ok(()) => Ok(None),
            Err(trouble) if trouble.is_final() || trouble.error() == Some("missing_scope") => {
                let why = trouble.to_string();
                self.post(name, &not_sent(&[(file.name.clone(), why)])).await.map(Some)
            }
            Err(trouble) => Err(trouble),
        }
    }

    async fn upload_and_share(&self, file: &File) -> Result<(), Trouble> {
        let id = self.upload(file).await.map_err(|trouble| match trouble {
            // Nothing was said in the conversation: that nobody knows of a file's end matters to nobody.
            Trouble::Silent(why) | Trouble::Strange(why) => Trouble::NotReached(why),
            trouble => trouble,
        })?;
        let mut body = json!({
            "files": [{ "id": id, "title": file.name }], "channel_id": self.chat,
        });
        if let Some(thread) = self.thread {
            body["thread_ts"] = json!(thread);
        }
        let (api, bot) = (&self.channel.api, &self.account.bot);
        api.json::<Value>(bot, "files.completeUploadExternal", &body).await.map(drop)
    }

    /// Uploads a file, which nobody sees yet. Returns its id.
    async fn upload(&self, file: &File) -> Result<String, Trouble> {
        let (api, bot) = (&self.channel.api, &self.account.bot);
        let length = file.size.to_string();
        let fields = [("filename", file.name.as_str()), ("length", &length)];
        let place: Place = api.form(bot, "files.getUploadURLExternal", &fields).await?;
        let strange = || Trouble::Strange("it has named no place for a file".to_owned());
        let url: Url = place.upload_url.parse().map_err(|_| strange())?;
        let is_safe = url.scheme() == "https"
            || is_near(&url)
            || self.channel.settings.api.scheme() == "http";
        let path = url[url::Position::BeforePath..].trim_start_matches('/').to_owned();
        let mut base = url;
        base.set_path("");
        base.set_query(None);
        base.set_fragment(None);
        if !is_safe {
            return Err(strange());
        }
        let _one = self.channel.uploading.acquire().await.expect("it is never closed");
        let whole = file.path.clone();
        let bytes = blocking(move || std::fs::read(whole)).await;
        let bytes = bytes.map_err(|error| Trouble::NotReached(error.to_string()))?;
        let ask = Ask::new(Method::POST, path).body(media_type(&file.name), bytes);
        let answer = Client::new(base).ask(ask.patient(PATIENCE).at_most(ANSWER_MAX)).await?;
        match answer.is_success() {
            true => Ok(place.file_id),
            false => Err(Trouble::Strange(format!("it answered {} to a file", answer.status))),
        }
    }
}
