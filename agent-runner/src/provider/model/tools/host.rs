//! What the host does for an agent: sending something somewhere, and doing something later. An agent that
//! is a program of its own uses these tools through the desk, with [`specs`] and [`call`].

use std::path::Path;

use serde_json::{Map, Value, json};
use twobox_shared::content::shorten;

use super::arguments::{Arguments, Field};
use super::{Made, Requested, Run, Speaks, Tool, path_in, permission, spec, words};
use crate::ask::Asking;
use crate::event::{Attachment, Content, Said};
use crate::provider::model::conversation::{Part, ToolSpec};

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

const SEND_MESSAGE: Tool = Tool {
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
        request.turn.done(Said::Send { to, text }).map(|()| words("It was sent."))
    }),
};

const SEND_FILE: Tool = Tool {
    name: "send_file",
    says: "Attaches a file to your answer, with which it is sent when your turn ends.",
    fields: &[
        Field::needed("path", "which file"),
        Field::text("name", "what it is to be called; as in its path if it is left out"),
    ],
    run: Run::Host(send_file),
};

const SAY_NOTHING: Tool = Tool {
    name: "say_nothing",
    says: "Ends your turn without an answer. For when nobody waits for one, as for a task that tells only \
           what is new; whoever asks you something is answered.",
    fields: &[],
    run: Run::Host(|_, _| Ok(words("Your turn ends without an answer."))),
};

const LIST_DESTINATIONS: Tool = Tool {
    name: "list_destinations",
    says: "Says to which places send_message can send.",
    fields: &[],
    run: Run::Host(|request, _| {
        Ok(words(match request.destinations {
            [] => "There is none but the place that you answer.".to_owned(),
            names => names.join("\n"),
        }))
    }),
};

const ASK: Tool = Tool {
    name: "ask",
    says: "Asks whoever you talk with to choose one of a few things, and waits for what they choose.",
    fields: &[
        Field::needed("question", "what to ask"),
        Field::needed("choices", "what there is to choose from: 2 to 8, one a line"),
        Field::flag(
            "later",
            "whether not to wait: the answer then comes to you as a message, when they have chosen",
        ),
    ],
    run: Run::Host(ask_people),
};

/// What stands in the protocol's table of requests.
const REQUESTS: [Tool; 6] = [
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

/// All of them, in the order in which models are told of them.
pub(super) fn all() -> Vec<Tool> {
    let mut tools = vec![SEND_MESSAGE, SEND_FILE, SAY_NOTHING, LIST_DESTINATIONS, ASK];
    tools.extend(REQUESTS);
    tools
}

/// What an agent is told of those that it may use.
pub(in crate::provider) fn specs(is_denied: impl Fn(&str) -> bool) -> Vec<ToolSpec> {
    all().iter().filter(|tool| !is_denied(tool.name)).map(spec).collect()
}

/// `spec` of a tool that a person has to allow, as an agent is told of it.
pub(in crate::provider) fn asked_first(spec: ToolSpec) -> ToolSpec {
    permission::told(spec)
}

/// Uses the tool `name`, for an agent that works in the folder `work` and can send to `destinations`.
///
/// # Errors
/// A sentence for the agent.
pub(in crate::provider) fn call(
    name: &str,
    given: &Map<String, Value>,
    work: &Path,
    destinations: &[String],
    turn: &mut dyn Speaks,
) -> Result<String, String> {
    let tools = all();
    let tool = tools.iter().find(|tool| tool.name == name);
    let Some(Tool { run: Run::Host(run), fields, .. }) = tool else {
        return Err(format!("there is no tool {:?}", shorten(name, 100)));
    };
    let given = Arguments::of(fields, given)?;
    let parts = run(&mut Requested { work, destinations, turn }, given)?;
    let texts: Vec<_> = parts
        .into_iter()
        .filter_map(|part| match part {
            Part::Text { text } => Some(text),
            _ => None,
        })
        .collect();
    Ok(texts.join("\n"))
}

/// Whether this is the tool by which an agent says that it means to say nothing.
pub(in crate::provider) fn is_silence(name: &str) -> bool {
    name == SAY_NOTHING.name
}

fn ask_people(request: &mut Requested<'_>, given: Arguments<'_>) -> Made {
    let text = |name| given.needed(name).to_owned();
    let (question, choices) = (text("question"), text("choices"));
    if given.flag("later") {
        request.turn.done(Said::System(json!({
            "action": "ask", "question": question, "choices": choices, "wake": true,
        })))?;
        return Ok(words("It is asked when your turn ends. The answer comes to you as a message."));
    }
    let decision = request.turn.decided(Asking::Question { question, choices })?;
    match decision.ok {
        true => Ok(words(decision.text)),
        false => Err(decision.text),
    }
}

/// What is wrong with a request is the host's to say, in its answer.
fn ask(request: &mut Requested<'_>, action: &str, given: Arguments<'_>) -> Made {
    let mut fields: Map<String, Value> =
        given.all().map(|(name, value)| (name.clone(), value.clone())).collect();
    fields.insert("action".to_owned(), Value::from(action));
    request.turn.done(Said::System(Value::Object(fields)))?;
    Ok(words("The host does this when your turn ends, and answers by a message."))
}

fn send_file(request: &mut Requested<'_>, given: Arguments<'_>) -> Made {
    let path = path_in(request.work, given.needed("path"));
    match std::fs::metadata(&path) {
        Ok(about) if about.is_file() => {}
        Ok(_) => return Err(format!("{}: it is not a file", path.display())),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    }
    let name = given.text("name").filter(|name| !name.trim().is_empty());
    let own = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let name = name.unwrap_or(&own).to_owned();
    let source = Content::Path(path);
    request.turn.done(Said::File(Attachment { name: name.clone(), source }))?;
    Ok(words(format!("{name} goes with your answer.")))
}
