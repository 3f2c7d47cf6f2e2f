//! What the host does for an agent: sending something somewhere, and doing something later.

use serde_json::{Map, Value};

use super::arguments::{Arguments, Field};
use super::{Made, Requested, Run, Tool, words};
use crate::event::{Attachment, Content, Said};

const WAKE: Field = Field::flag(
    "wake",
    "whether the host's answer wakes you with a turn of its own; else you read it with the next message",
);
const ID: Field = Field::needed("id", "the task's id, such as task-0123456789abcdef");
const PROCESS_AFTER: Field = Field::text(
    "process_after",
    "when, as 2026-11-01T09:00 on the clock of `zone`, or with an offset from UTC",
);
const RECURRENCE: Field = Field::text(
    "recurrence",
    "how often: a cron expression of five fields, or hourly MM, daily HH:MM, weekdays HH:MM, \
     weekly DAY@HH:MM, every 90m",
);
const ZONE: Field =
    Field::text("zone", "the time zone, such as Europe/Berlin; UTC if it is left out");

pub(super) const SEND_MESSAGE: Tool = Tool {
    name: "send_message",
    says: "Sends a message to a place by its name, at once. It is for other places than the one that you \
           answer: your answer goes there by itself.",
    fields: &[
        Field::needed("to", "the name of the place; list_destinations has them"),
        Field::needed("text", "what to say"),
    ],
    run: Run::Host(|request, given| {
        let (to, text) = (given.needed("to").to_owned(), given.needed("text").to_owned());
        if text.trim().is_empty() {
            return Err("the text is empty".to_owned());
        }
        request.done(Said::Send { to, text }).map(|()| words("It was sent."))
    }),
};

pub(super) const SEND_FILE: Tool = Tool {
    name: "send_file",
    says: "Attaches a file to your answer, with which it is sent when your turn ends.",
    fields: &[
        Field::needed("path", "which file"),
        Field::text("name", "what it is to be called; as in its path if it is left out"),
    ],
    run: Run::Host(send_file),
};

pub(super) const SAY_NOTHING: Tool = Tool {
    name: "say_nothing",
    says: "Ends your turn without an answer. For when nobody waits for one, as for a task that tells only \
           what is new; whoever asks you something is answered.",
    fields: &[],
    run: Run::Host(|_, _| Ok(words("Your turn ends without an answer."))),
};

pub(super) const LIST_DESTINATIONS: Tool = Tool {
    name: "list_destinations",
    says: "Says to which places send_message can send.",
    fields: &[],
    run: Run::Host(|request, _| {
        Ok(words(match request.bench.destinations.as_slice() {
            [] => "There is none but the place that you answer.".to_owned(),
            names => names.join("\n"),
        }))
    }),
};

/// What stands in the protocol's table of requests.
pub(super) const REQUESTS: [Tool; 6] = [
    Tool {
        name: "schedule_task",
        says: "Has you do something later, once or again and again: its prompt comes to you as a message \
               when it is due. The host does it when your turn ends, and answers.",
        fields: &[
            Field::needed(
                "prompt",
                "what you are to do then, with all that you need to know for it",
            ),
            PROCESS_AFTER,
            RECURRENCE,
            ZONE,
            WAKE,
        ],
        run: Run::Host(|request, given| ask(request, "schedule_task", given)),
    },
    Tool {
        name: "list_tasks",
        says: "Asks the host which tasks there are. It answers by a message when your turn has ended: \
               with `wake`, in a turn of its own.",
        fields: &[WAKE],
        run: Run::Host(|request, given| ask(request, "list_tasks", given)),
    },
    Tool {
        name: "update_task",
        says: "Changes a task: what you give takes the place of what it had.",
        fields: &[
            ID,
            Field::text("prompt", "what you are to do then"),
            PROCESS_AFTER,
            RECURRENCE,
            ZONE,
            WAKE,
        ],
        run: Run::Host(|request, given| ask(request, "update_task", given)),
    },
    Tool {
        name: "pause_task",
        says: "Keeps a task from being done until it is resumed.",
        fields: &[ID, WAKE],
        run: Run::Host(|request, given| ask(request, "pause_task", given)),
    },
    Tool {
        name: "resume_task",
        says: "Lets a task that was paused go on.",
        fields: &[ID, WAKE],
        run: Run::Host(|request, given| ask(request, "resume_task", given)),
    },
    Tool {
        name: "cancel_task",
        says: "Ends a task.",
        fields: &[ID, WAKE],
        run: Run::Host(|request, given| ask(request, "cancel_task", given)),
    },
];

/// What is wrong with a request is the host's to say, in its answer.
fn ask(request: &mut Requested<'_>, action: &str, given: Arguments<'_>) -> Made {
    let mut fields: Map<String, Value> =
        given.all().map(|(name, value)| (name.clone(), value.clone())).collect();
    fields.insert("action".to_owned(), Value::from(action));
    request.done(Said::System(Value::Object(fields)))?;
    Ok(words("The host does this when your turn ends, and answers by a message."))
}

fn send_file(request: &mut Requested<'_>, given: Arguments<'_>) -> Made {
    let path = request.bench.path(given.needed("path"));
    match std::fs::metadata(&path) {
        Ok(about) if about.is_file() => {}
        Ok(_) => return Err(format!("{}: it is not a file", path.display())),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    }
    let name = given.text("name").filter(|name| !name.trim().is_empty());
    let own = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let name = name.unwrap_or(&own).to_owned();
    let source = Content::Path(path);
    request.done(Said::File(Attachment { name: name.clone(), source }))?;
    Ok(words(format!("{name} goes with your answer.")))
}
