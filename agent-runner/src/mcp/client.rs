//! A client of a server of MCP, of whichever form it is: which that is, which tools it has, and using them.
//!
//! It is asked `server/discover` first, as the Python client and Claude Code do: what is no answer of the
//! newer form leads to the handshake. Nothing that a server says is taken without a bound.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde_json::{Map, Value, json};

use super::beside::{self, Mirrored};
use super::link::{Asked, Link, Trouble, Until};
use super::{HANDSHAKE, META_CAPABILITIES, META_CLIENT, META_VERSION, MODERN, code};
use crate::say::say;

/// How long a server may take to say of which form it is. One of the older form may not answer what it does
/// not know.
const PROBE: Duration = Duration::from_secs(10);

/// The most pages in which a server may list its tools.
const PAGES_MAX: usize = 20;

/// The most tools of a server.
const TOOLS_MAX: usize = 64;

/// The longest description of a tool, in characters, and the longest schema, in bytes.
const DESCRIPTION_MAX: usize = 4_000;
const SCHEMA_MAX: usize = 16 << 10;

/// A server that answers.
pub(crate) struct Client {
    link: Box<dyn Link>,
    modern: bool,
    /// Which arguments of which tool are said beside the request as well.
    beside: Mutex<HashMap<String, Vec<Mirrored>>>,
}

/// A tool, as its server describes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) schema: Value,
}

impl Client {
    /// Agrees with a server that was not asked anything yet.
    ///
    /// # Errors
    /// Why it is of no use.
    pub(crate) fn agree(link: Box<dyn Link>, until: Until<'_>) -> Result<Self, Trouble> {
        let probe = Until { deadline: until.deadline.min(Instant::now() + PROBE), ..until };
        let discover =
            Asked { method: "server/discover", params: envelope(Map::new()), ..Asked::default() };
        let modern = match link.ask(discover, probe) {
            Ok(result) => has_text(&result["supportedVersions"], MODERN),
            Err(
                trouble @ (Trouble::Gone
                | Trouble::Cancelled
                | Trouble::Unreached(_)
                | Trouble::Unanswered(_)
                | Trouble::Unasked(_)),
            ) => return Err(trouble),
            // Whatever else it is to one of the older form, which need not know what it was asked.
            Err(
                Trouble::Refused { .. }
                | Trouble::Status(..)
                | Trouble::Forbidden(_)
                | Trouble::Silent
                | Trouble::Forgotten
                | Trouble::NoMcp(_)
                | Trouble::TooLong
                | Trouble::Cut(_),
            ) => false,
        };
        let mut client = Self { link, modern, beside: Mutex::default() };
        if !modern {
            client.shake_hands(until)?;
        }
        let subscription = client.modern.then(|| {
            let wanted = json!({"toolsListChanged": true});
            envelope(Map::from_iter([("notifications".to_owned(), wanted)]))
        });
        client.link.listen(subscription);
        Ok(client)
    }

    fn shake_hands(&mut self, until: Until<'_>) -> Result<(), Trouble> {
        let params = fields(json!({
            "protocolVersion": HANDSHAKE[0],
            "capabilities": {},
            "clientInfo": about(),
        }));
        let asked = Asked { method: "initialize", params, ..Asked::default() };
        match self.link.ask(asked, until) {
            Ok(_) => {
                self.link.tell("notifications/initialized", &json!({}));
                Ok(())
            }
            // It was slow to be asked, and is of the newer form since.
            Err(Trouble::Refused { code: code::UNSUPPORTED_VERSION, data, .. })
                if has_text(&data["supported"], MODERN) =>
            {
                self.modern = true;
                Ok(())
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// The group of its processes, if they are this runner's.
    pub(crate) fn group(&self) -> Option<Pid> {
        self.link.group()
    }

    /// Whether it would hear that the server has other tools now.
    pub(crate) fn hears(&self) -> bool {
        self.link.hears()
    }

    /// Whether it has not ended.
    pub(crate) fn is_there(&self) -> bool {
        self.link.is_there()
    }

    /// Whether it has said since the last time that it has other tools now.
    pub(crate) fn take_changed(&self) -> bool {
        self.link.take_changed()
    }

    fn ask(
        &self,
        method: &str,
        params: Map<String, Value>,
        beside: Vec<(String, String)>,
        until: Until<'_>,
    ) -> Result<Value, Trouble> {
        let params = if self.modern { envelope(params) } else { params };
        self.link.ask(Asked { method, params, beside }, until)
    }

    /// The tools of the server `name`, as far as they are within bounds; others are left out, and the log
    /// says so.
    ///
    /// # Errors
    /// Why it does not tell.
    pub(crate) fn tools(&self, name: &str, until: Until<'_>) -> Result<Vec<Described>, Trouble> {
        let mut tools = Vec::new();
        let mut all_beside = HashMap::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let cursor_field = cursor.take().map(|cursor| ("cursor".to_owned(), json!(cursor)));
            let params = cursor_field.into_iter().collect();
            let page = self.ask("tools/list", params, Vec::new(), until)?;
            for tool in page["tools"].as_array().into_iter().flatten() {
                if tools.len() >= TOOLS_MAX {
                    say!(
                        "the MCP server {name} has more than {TOOLS_MAX} tools: the rest is left out"
                    );
                    break;
                }
                let taken = described(tool).and_then(|it| Ok((self.beside_of(&it)?, it)));
                match taken {
                    Ok((beside, tool)) => {
                        all_beside
                            .extend((!beside.is_empty()).then(|| (tool.name.clone(), beside)));
                        tools.push(tool);
                    }
                    Err(why) => say!("a tool of the MCP server {name} is left out: {why}"),
                }
            }
            match page["nextCursor"].as_str() {
                Some(next) if tools.len() < TOOLS_MAX => cursor = Some(next.to_owned()),
                Some(_) | None => break,
            }
        }
        *self.beside.lock().unwrap_or_else(PoisonError::into_inner) = all_beside;
        Ok(tools)
    }

    /// Which arguments of `tool` are said beside a request as well.
    fn beside_of(&self, tool: &Described) -> Result<Vec<Mirrored>, String> {
        match self.modern && self.link.says_beside() {
            true => beside::mirrored(&tool.schema).map_err(|why| format!("{:?}: {why}", tool.name)),
            false => Ok(Vec::new()),
        }
    }

    /// Uses a tool, and returns its result as the server gives it.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn call(
        &self,
        tool: &str,
        arguments: &Map<String, Value>,
        until: Until<'_>,
    ) -> Result<Value, Trouble> {
        let params = fields(json!({"name": tool, "arguments": arguments}));
        let beside = {
            let all = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(tool).map(|of_tool| beside::params(of_tool, arguments))
        };
        let wrong =
            |message| Trouble::Refused { code: code::INVALID_PARAMS, message, data: Value::Null };
        let beside = beside.transpose().map_err(wrong)?.unwrap_or_default();
        self.ask("tools/call", params, beside, until)
    }
}

/// Agrees with the server `name` at the end of `link`, and asks for its tools.
///
/// # Errors
/// A sentence about why it is of no use.
pub(crate) fn agree_and_list(
    link: Box<dyn Link>,
    name: &str,
    deadline: Instant,
    cancelled: &AtomicBool,
) -> Result<(Client, Vec<Described>), String> {
    let until = Until { deadline, cancelled };
    let client = Client::agree(link, until).map_err(|trouble| trouble.to_string())?;
    let tools = client.tools(name, until).map_err(|trouble| trouble.to_string())?;
    Ok((client, tools))
}

fn described(tool: &Value) -> Result<Described, String> {
    let name = tool["name"].as_str().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        let name = twobox_shared::content::shorten(name, 100);
        return Err(format!("{name:?} is no name that every model takes"));
    }
    let schema = match &tool["inputSchema"] {
        schema @ Value::Object(_) => schema.clone(),
        _ => json!({"type": "object"}),
    };
    let length = schema.to_string().len();
    if length > SCHEMA_MAX {
        return Err(format!("the schema of {name:?} has {length} bytes, more than {SCHEMA_MAX}"));
    }
    let description = tool["description"].as_str().or(tool["title"].as_str()).unwrap_or_default();
    let description = twobox_shared::content::shorten(description, DESCRIPTION_MAX);
    Ok(Described { name: name.to_owned(), description, schema })
}

fn has_text(list: &Value, text: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|it| it == text))
}

fn about() -> Value {
    json!({"name": "twobox", "version": env!("CARGO_PKG_VERSION")})
}

fn fields(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        other => unreachable!("it was written as an object: {other}"),
    }
}

/// `params` of a request of the newer form.
fn envelope(mut params: Map<String, Value>) -> Map<String, Value> {
    let meta = json!({META_VERSION: MODERN, META_CLIENT: about(), META_CAPABILITIES: {}});
    params.insert("_meta".to_owned(), meta);
    params
}
