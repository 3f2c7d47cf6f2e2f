//! Files of an agent, sent to a chat. They are copied out of its container's folder first; what cannot be sent is
//! named, with the reason, and keeps no message waiting.

use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use twobox_model::channel::Outbound;
use twobox_shared::content::shorten;
use twobox_shared::ids::{IdSource, SystemIds};
use twobox_shared::visible;
use twobox_system::blocking::blocking;

use super::TelegramChannel;
use super::compose::{self, Target};
use super::send::{Letter, Shown, What};
use super::trouble::Trouble;
use crate::media::media_type;
use crate::parcel::Parcel;
use crate::parts::Part;

/// The most bytes of a file that the Bot API takes. One of somebody's own may take more.
const FILE_MAX: u64 = 50 << 20;

/// The most bytes of a picture that is shown as one; a larger one is sent as a file.
const PHOTO_MAX: u64 = 10 << 20;

/// How long an upload may take.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// The longest name that is sent, in characters.
const NAME_MAX: usize = 200;

/// A file on its way.
pub(super) struct FileOut {
    name: String,
    path: PathBuf,
    size: u64,
    target: Target,
}

impl TelegramChannel {
    pub(super) async fn pack(&self, outbound: &Outbound) -> io::Result<Parcel> {
        let names = outbound.files.clone();
        let Some(shelf) = outbound.shelf.clone() else { return Ok(Parcel::empty()) };
        let folder = self.parcels.join(SystemIds.uuid().to_string());
        blocking(move || Parcel::pack(&folder, &shelf, &names)).await
    }

    /// The files of a message as its parts, and behind them the names of those that cannot be sent.
    pub(super) fn file_parts(&self, parcel: &Parcel, target: &Target) -> Vec<Part<What>> {
        let (mut parts, mut missing) = (Vec::new(), Vec::new());
        for (index, file) in parcel.attachments.iter().enumerate() {
            let name = shorten(&visible::line(&file.name), NAME_MAX);
            let path = file.path.as_ref().map(PathBuf::from);
            let found = path
                .ok_or_else(|| file.error.clone().unwrap_or_else(|| "it is not there".to_owned()));
            let sized = found.and_then(|path| match std::fs::metadata(&path) {
                Ok(meta) if meta.len() > FILE_MAX => {
                    Err(format!("it has {} bytes, and Telegram takes {FILE_MAX}", meta.len()))
                }
                Ok(meta) if meta.len() == 0 => Err("it is empty".to_owned()),
                Ok(meta) => Ok((path, meta.len())),
                Err(error) => Err(error.to_string()),
            });
            match sized {
                Ok((path, size)) => {
                    let file = FileOut { name, path, size, target: *target };
                    let what = What::File(file);
                    parts.push(Part { name: format!("file-{index}"), what });
                }
                Err(why) => missing.push((name, why)),
            }
        }
        if !missing.is_empty() {
            let told = compose::texts(&not_sent(&missing));
            let part = |(index, rich)| Part {
                name: format!("missing-{index}"),
                what: What::Text { parameters: compose::text(rich, target, None), code: None },
            };
            parts.extend(told.iter().enumerate().map(part));
        }
        parts
    }
}

impl Letter<'_> {
    /// Shows a file, as a picture if it can be one; or says why it cannot be.
    pub(super) async fn show_file(&self, file: &FileOut) -> Result<Shown, Trouble> {
        let kind = media_type(&file.name);
        let is_photo = ["image/png", "image/jpeg", "image/webp"].contains(&kind);
        if is_photo && file.size <= PHOTO_MAX {
            match self.upload(file, "sendPhoto", "photo").await {
                // It is none, or too wide: then it is a file.
                Err(trouble) if trouble.refused(400).is_some() => {}
                done => return done,
            }
        }
        match self.upload(file, "sendDocument", "document").await {
            Err(trouble) if [400, 413].iter().any(|it| trouble.refused(*it).is_some()) => {
                let told = compose::texts(&not_sent(&[(file.name.clone(), trouble.to_string())]));
                let Some(rich) = told.first() else { return Err(trouble) };
                self.call("sendMessage", &compose::text(rich, &file.target, None)).await
            }
            done => done,
        }
    }

    async fn upload(&self, file: &FileOut, method: &str, field: &str) -> Result<Shown, Trouble> {
        let _one = self.channel.uploading.acquire().await.expect("it is never closed");
        for is_again in [false, true] {
            let target = Target { chat: self.chat(), ..file.target };
            let (path, parameters) = (file.path.clone(), target.parameters());
            let (name, field) = (file.name.clone(), field.to_owned());
            let boundary = SystemIds.uuid().simple().to_string();
            let built = blocking(move || {
                let bytes = std::fs::read(path)?;
                Ok::<_, io::Error>(form(&parameters, (&field, &name), &bytes, &boundary))
            });
            let (kind, form) = built.await.map_err(|error| {
                Trouble::NotReached(format!("the file cannot be read: {error}"))
            })?;
            let (api, token) = (&self.channel.api, &self.entered.token);
            match api.upload(token, method, (&kind, form), PATIENCE).await {
                Err(trouble) if !is_again && self.has_moved(&trouble).await => {}
                done => return done,
            }
        }
        unreachable!("the second time is the last")
    }
}

/// A form with `parameters` and one file, and its type.
fn form(
    parameters: &Value,
    (field, name): (&str, &str),
    file: &[u8],
    boundary: &str,
) -> (String, Bytes) {
    let mut head = String::new();
    let mut add = |text: std::fmt::Arguments<'_>| {
        head.write_fmt(text).expect("a string takes all");
    };
    for (name, value) in parameters.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        add(format_args!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        ));
    }
    let kind = media_type(name);
    // The name is one line already. Quotes would end it.
    let name = name.replace('"', "%22");
    add(format_args!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\
         Content-Type: {kind}\r\n\r\n"
    ));
    let tail = format!("\r\n--{boundary}--\r\n");
    let whole = [head.as_bytes(), file, tail.as_bytes()].concat();
    (format!("multipart/form-data; boundary={boundary}"), whole.into())
}

/// What people are told of files that could not be sent.
fn not_sent(missing: &[(String, String)]) -> String {
    let mut text = "Not sent:".to_owned();
    for (name, why) in missing {
        let name = name.replace('`', "'");
        write!(text, "\n- `{name}`: {why}").expect("a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_form_has_its_fields_and_its_file_and_no_name_ends_it() {
        let parameters = json!({ "chat_id": -5, "reply_parameters": { "message_id": 1 } });
        let (kind, form) = form(&parameters, ("document", "a\"b.txt"), b"\xff\r\n", "B");
        assert_eq!(kind, "multipart/form-data; boundary=B");
        let expected = b"--B\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n-5\r\n\
            --B\r\nContent-Disposition: form-data; name=\"reply_parameters\"\r\n\r\n{\"message_id\":1}\r\n\
            --B\r\nContent-Disposition: form-data; name=\"document\"; filename=\"a%22b.txt\"\r\n\
            Content-Type: text/plain\r\n\r\n\xff\r\n\r\n--B--\r\n";
        assert_eq!(&form[..], &expected[..]);
        let told = not_sent(&[("a`b.txt".to_owned(), "it is gone".to_owned())]);
        assert_eq!(told, "Not sent:\n- `a'b.txt`: it is gone");
    }
}
