//! The `command` channel: a program of the operator's that is run once for each message, and so
//! connects any chat platform with a small script. `docs/channels.md` is the description for people
//! who write one.
//!
//! The program's exit code says what became of the message (`judge`). What it does not say, because
//! it was killed or took too long, is unknown: tried again if the program drops keys that it knows,
//! and otherwise never.
//!
//! Not here: messages that come in, which a script hands in with `twobox send`.

mod program;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;
use twobox_shared::content::shorten;
use twobox_shared::ids::{IdSource, MessageId, SystemIds};

use super::hears::Hears;
use super::kinds::{Kind, Setup, setting};
use super::parcel::{Attachment, Parcel};
use super::{Channel, in_order};
use program::{End, Run};
use twobox_model::channel::{Address, COMMAND, Capabilities, Outbound, Outcome};
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

/// How many programs run at once; further messages wait for one to end.
const RUNNING_MAX: usize = 16;

/// The longest error that is kept, in characters.
const ERROR_MAX: usize = 300;

/// The longest platform's id that is kept, in bytes.
const PLATFORM_ID_MAX: usize = twobox_shared::bounds::NAME.most;

/// The longest pause that a program may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// `EX_TEMPFAIL` of `sysexits.h`.
const TRY_AGAIN: i32 = 75;

/// The kind.
pub const KIND: Kind = Kind {
    name: COMMAND,
    build: |setup| Ok(Arc::new(CommandChannel::new(setup)?)),
    usable: |setup| {
        let settings = Settings::of(setup)?;
        let name = (setup.name_of)("program");
        Ok(usable(&name, &settings.program).map(|()| settings.program.display().to_string()))
    },
    secrets: |_| Ok(Vec::new()),
    probe: None,
    hears: Hears::OPEN,
};

/// What can be set.
#[derive(Debug)]
struct Settings {
    program: PathBuf,
    keys: bool,
    timeout: Duration,
}

/// What a section says. What is left out is `None`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "path")]
    program: Option<PathBuf>,
    #[serde(default, deserialize_with = "yes_or_no")]
    keys: Option<bool>,
    #[serde(default, deserialize_with = "span")]
    timeout: Option<Duration>,
}

impl Settings {
    fn of(setup: &Setup<'_>) -> Result<Self, String> {
        let Written { program, keys, timeout } = setup.read()?;
        let program = program.ok_or_else(|| {
            let setting = (setup.name_of)("program");
            format!("{setting} is missing: set it to the whole path of your program")
        })?;
        Ok(Self { program, keys: keys.unwrap_or(false), timeout: timeout.unwrap_or(PATIENCE) })
    }
}

/// How long a program may take, if nothing is set.
const PATIENCE: Duration = Duration::from_secs(30);

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    setting(deserializer, "the whole path of your program, in quotes", |value| {
        Some(Some(PathBuf::from(value.as_str()?)))
    })
}

fn yes_or_no<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    setting(deserializer, "true or false", |value| Some(Some(value.as_bool()?)))
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let allowed = "a time above zero and up to a year, such as \"30s\"";
    setting(deserializer, allowed, |value| Some(Some(twobox_config::span(value.as_str()?)?)))
}

/// The channel.
#[derive(Debug)]
pub struct CommandChannel {
    id: String,
    /// What people call the setting of its program.
    setting: String,
    program: PathBuf,
    honours_keys: bool,
    patience: Duration,
    /// Where the program runs.
    folder: PathBuf,
    /// Where the files of messages lie while it runs.
    parcels: PathBuf,
    permits: Semaphore,
    /// Why it cannot be run, as it was last logged.
    complaint: Mutex<Option<String>>,
}

impl CommandChannel {
    /// The channel that is set so. Its program runs in the data directory, and the files of its messages
    /// get folders in `setup.scratch` while it does.
    ///
    /// # Errors
    /// A sentence that names the setting that is wrong.
    pub fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let Settings { program, keys, timeout } = Settings::of(setup)?;
        Ok(Self {
            id: setup.id.to_owned(),
            setting: (setup.name_of)("program"),
            program,
            honours_keys: keys,
            patience: timeout,
            folder: setup.folder.to_owned(),
            parcels: setup.scratch.to_owned(),
            permits: Semaphore::new(RUNNING_MAX),
            complaint: Mutex::default(),
        })
    }

    async fn hand_over(&self, address: &Address, outbound: &Outbound) -> Outcome {
        let _place = self.permits.acquire().await.expect("it is never closed");
        if let Err(error) = usable(&self.setting, &self.program) {
            self.complain(Some(&error));
            return Outcome::Transient { error, retry_after: None };
        }
        // It goes when the program has ended, and also when nobody waits for that any more.
        let parcel = match self.pack(outbound).await {
            Ok(parcel) => parcel,
            Err(error) => {
                let error = format!("could not put its files ready: {error}");
                return Outcome::Transient { error, retry_after: None };
            }
        };
        let told = Told::of(address, outbound, &parcel.attachments).to_line();
        let started = program::run(&self.program, &self.folder, told.as_bytes(), self.patience)
            .await
            .map_err(|error| format!("could not run {}: {error}", self.program.display()));
        parcel.end().await;
        self.complain(started.as_ref().err());
        match started {
            Ok(run) => judge(&run, self.honours_keys, self.patience),
            Err(error) => Outcome::Transient { error, retry_after: None },
        }
    }

    /// Copies the files of a message to where its program can have them.
    async fn pack(&self, outbound: &Outbound) -> io::Result<Parcel> {
        let Some(shelf) = outbound.shelf.clone() else { return Ok(Parcel::empty()) };
        let folder = self.parcels.join(SystemIds.uuid().to_string());
        let names = outbound.files.clone();
        let parcel = blocking(move || Parcel::pack(&folder, &shelf, &names)).await?;
        let missing = || {
            let told = |it: &Attachment| Some((it.name.clone(), it.error.clone()?));
            parcel.attachments.iter().filter_map(told)
        };
        // Once, and not for each: how many there are is the container's choice.
        if let Some((file, error)) = missing().next()
            && let Some(before) = warned("files of a message", &error)
        {
            let files = missing().count();
            tracing::warn!(
                key = outbound.key,
                file,
                error,
                files,
                before,
                "files are not handed over"
            );
        }
        Ok(parcel)
    }

    /// Logs why the program cannot be run, once until that changes.
    fn complain(&self, reason: Option<&String>) {
        let mut complaint = lock(&self.complaint);
        if let Some(reason) = reason
            && complaint.as_ref() != Some(reason)
        {
            tracing::warn!(
                channel = self.id,
                reason,
                "the program of a command channel cannot be run; its messages wait"
            );
        }
        *complaint = reason.cloned();
    }
}

impl Channel for CommandChannel {
    fn capabilities(&self) -> Capabilities {
        let keys = self.honours_keys;
        Capabilities { keys, threads: true, files_out: true, ..Capabilities::TEXT }
    }

    fn deliver<'a>(
        &'a self,
        address: &'a Address,
        outbounds: Vec<Outbound>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(
            async move { in_order(&outbounds, |outbound| self.hand_over(address, outbound)).await },
        )
    }
}

/// Whether `program` can be run, as far as that can be told without running it.
///
/// # Errors
/// A sentence that names the `setting`.
pub fn usable(setting: &str, program: &Path) -> Result<(), String> {
    use nix::unistd::{AccessFlags, access};
    let bad = |what: &str| Err(format!("{setting} = {program:?} {what}"));
    if !program.is_absolute() {
        return bad("is not an absolute path");
    }
    match std::fs::metadata(program) {
        Err(error) => bad(&format!("cannot be run: {error}")),
        Ok(meta) if !meta.is_file() => bad("is not a file"),
        Ok(_) => match access(program, AccessFlags::X_OK) {
            Ok(()) => Ok(()),
            Err(_) => bad("is not executable"),
        },
    }
}

/// What the program reads.
#[derive(Debug, Serialize)]
struct Told<'a> {
    key: &'a str,
    chat: &'a str,
    thread: Option<&'a str>,
    text: &'a str,
    files: &'a [String],
    attachments: &'a [Attachment],
    in_reply_to: Option<&'a MessageId>,
    answers: &'a [MessageId],
    failed: bool,
}

impl<'a> Told<'a> {
    fn of(address: &'a Address, outbound: &'a Outbound, attachments: &'a [Attachment]) -> Self {
        Self {
            key: &outbound.key,
            chat: &address.platform_id,
            thread: address.thread_id.as_deref(),
            text: &outbound.text,
            files: &outbound.files,
            attachments,
            in_reply_to: outbound.in_reply_to.as_ref(),
            answers: &outbound.answers,
            failed: outbound.failed,
        }
    }

    fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("strings always serialise");
        line.push('\n');
        line
    }
}

/// What the program may say. Anything else is passed over.
#[derive(Debug, Default, Deserialize)]
struct Says {
    #[serde(default)]
    platform_message_id: Value,
    #[serde(default)]
    retry_after_secs: Value,
}

impl Says {
    fn platform_message_id(&self) -> Option<String> {
        let id = match &self.platform_message_id {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => return None,
        };
        (id.len() <= PLATFORM_ID_MAX && !id.contains(char::is_control)).then_some(id)
    }

    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.retry_after_secs.as_f64().filter(|seconds| *seconds >= 0.0)?;
        Some(Duration::from_secs_f64(seconds.min(RETRY_AFTER_MAX.as_secs_f64())))
    }
}

/// What a run of the program means for the message.
fn judge(run: &Run, honours_keys: bool, patience: Duration) -> Outcome {
    let says: Says = serde_json::from_slice(&run.output).unwrap_or_default();
    let last_words = |otherwise: String| last_line(&run.errors).unwrap_or(otherwise);
    let unknown = |error| match honours_keys {
        true => Outcome::Transient { error, retry_after: None },
        false => Outcome::Uncertain { error },
    };
    match run.end {
        End::Exited(0) => Outcome::Delivered { platform_message_id: says.platform_message_id() },
        End::Exited(TRY_AGAIN) => Outcome::Transient {
            error: last_words(format!("the program asks to be run again (exit code {TRY_AGAIN})")),
            retry_after: says.retry_after(),
        },
        End::Exited(code) => Outcome::Permanent {
            error: last_words(format!("the program ended with exit code {code}")),
        },
        End::Signalled(signal) => unknown(format!("the program was killed by signal {signal}")),
        End::Late => unknown(format!(
            "the program was killed after {}",
            humantime::format_duration(patience)
        )),
        End::Unknown => unknown("nobody knows how the program ended".to_owned()),
    }
}

/// The last line that says anything, as something that can be shown: short, and without what a
/// terminal would obey.
fn last_line(errors: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(errors);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let safe = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    Some(shorten(&line.chars().map(safe).collect::<String>(), ERROR_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(end: End, output: &str, errors: &[u8]) -> Run {
        Run { end, output: output.into(), errors: errors.into() }
    }

    fn delivered(id: Option<&str>) -> Outcome {
        Outcome::Delivered { platform_message_id: id.map(str::to_owned) }
    }

    fn transient(error: &str, retry_after: Option<u64>) -> Outcome {
        let retry_after = retry_after.map(Duration::from_secs);
        Outcome::Transient { error: error.to_owned(), retry_after }
    }

    fn permanent(error: &str) -> Outcome {
        Outcome::Permanent { error: error.to_owned() }
    }

    #[test]
    fn the_exit_code_says_what_became_of_an_outbound() {
        let id = |id: &str| format!(r#"{{"platform_message_id":{id}}}"#);
        let again = "the program asks to be run again (exit code 75)";
        let most = RETRY_AFTER_MAX.as_secs();
        let long = "x".repeat(ERROR_MAX + 1);
        let cases = [
            ("said nothing", 0, "", "", delivered(None)),
            ("warned", 0, "", "careful", delivered(None)),
            ("named its id", 0, &id(r#""m1""#), "", delivered(Some("m1"))),
            ("a number", 0, &id("17"), "", delivered(Some("17"))),
            ("no id", 0, &id("[1]"), "", delivered(None)),
            ("steers terminals", 0, &id(r#""\u001b[2J""#), "", delivered(None)),
            ("too long an id", 0, &id(&format!("\"{}\"", "x".repeat(256))), "", delivered(None)),
            ("talks", 0, "sent!", "", delivered(None)),
            ("talks first", 0, "ok {}", "", delivered(None)),
            ("later", 75, "", "", transient(again, None)),
            ("later, and why", 75, "", "503\n", transient("503", None)),
            ("when", 75, r#"{"retry_after_secs":90}"#, "429", transient("429", Some(90))),
            ("never mind", 75, r#"{"retry_after_secs":-1}"#, "429", transient("429", None)),
            (
                "much later",
                75,
                r#"{"retry_after_secs":1e300}"#,
                "429",
                transient("429", Some(most)),
            ),
            ("never", 1, "", "", permanent("the program ended with exit code 1")),
            ("never, and why", 1, "", "a\nno such chat\n\n", permanent("no such chat")),
            ("126", 126, &id("1"), "", permanent("the program ended with exit code 126")),
            ("steers", 2, "", "\x1b[2Jgone\x07", permanent("\u{fffd}[2Jgone\u{fffd}")),
            ("long", 2, "", &long, permanent(&format!("{}…", &long[1..]))),
        ];
        for (case, code, output, errors, expected) in cases {
            for honours_keys in [false, true] {
                let run = run(End::Exited(code), output, errors.as_bytes());
                assert_eq!(judge(&run, honours_keys, Duration::ZERO), expected, "{case}");
            }
        }
        let torn = run(End::Exited(1), "", b"\xff\xfe gone");
        assert_eq!(judge(&torn, true, Duration::ZERO), permanent("\u{fffd}\u{fffd} gone"));
    }

    #[test]
    fn an_end_that_says_nothing_is_tried_again_only_where_that_shows_once() {
        let cases = [
            (End::Signalled(9), "the program was killed by signal 9"),
            (End::Late, "the program was killed after 30s"),
            (End::Unknown, "nobody knows how the program ended"),
        ];
        for (end, error) in cases {
            // What it said before may not be all that it wanted to say.
            let run = run(end, r#"{"platform_message_id":"m1"}"#, b"sent");
            let patience = Duration::from_secs(30);
            assert_eq!(judge(&run, true, patience), transient(error, None));
            assert_eq!(
                judge(&run, false, patience),
                Outcome::Uncertain { error: error.to_owned() }
            );
        }
    }
}
