//! What Discord refuses of a message, with its numbers.

use serde_json::{Value, json};

/// How long a text may be, in characters.
const TEXT_MAX: usize = 2_000;

/// The most bytes of a file.
const FILE_MAX: usize = 10 << 20;

/// A refusal: its status, its number, and its words.
pub(super) type Refusal = (u16, u64, &'static str);

/// A message that is to be made, and its files.
pub(super) struct Asked {
    pub(super) message: Value,
    pub(super) files: Vec<(String, Vec<u8>)>,
}

/// Reads the body of a message.
pub(super) fn read(kind: &str, body: &[u8]) -> Result<Asked, Refusal> {
    let invalid = (400, 50_035, "Invalid Form Body");
    let json_of = |bytes: &[u8]| {
        serde_json::from_slice::<Value>(bytes).map_err(|_| (400, 50_109, "not JSON"))
    };
    if kind.starts_with("application/json") {
        return Ok(Asked { message: json_of(body)?, files: Vec::new() });
    }
    let boundary =
        kind.strip_prefix("multipart/form-data").and_then(|rest| rest.split_once("boundary="));
    let boundary = boundary.map(|(_, it)| it.trim_matches('"').to_owned()).ok_or(invalid)?;
    let mut asked = Asked { message: json!({}), files: Vec::new() };
    for piece in pieces(body, &boundary) {
        let split = piece.windows(4).position(|four| four == b"\r\n\r\n").ok_or(invalid)?;
        let head = String::from_utf8_lossy(&piece[..split]).into_owned();
        let content = &piece[split + 4..];
        let field = |name: &str| {
            let from = head.split(&format!("; {name}=\"")).nth(1)?;
            from.split('"').next().map(str::to_owned)
        };
        match field("name").ok_or(invalid)?.as_str() {
            "payload_json" => asked.message = json_of(content)?,
            name if name.starts_with("files[") => {
                let name = field("filename").filter(|it| !it.is_empty()).ok_or(invalid)?;
                if content.len() > FILE_MAX {
                    return Err((413, 40_005, "Request entity too large"));
                }
                asked.files.push((name, content.to_vec()));
            }
            _ => {}
        }
    }
    Ok(asked)
}

fn pieces<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let mark = format!("--{boundary}").into_bytes();
    let starts: Vec<usize> = (0..body.len().saturating_sub(mark.len() - 1))
        .filter(|at| body[*at..].starts_with(&mark))
        .collect();
    let between = starts.windows(2).map(|two| &body[two[0] + mark.len()..two[1]]);
    let trimmed = between.map(|piece| piece.strip_prefix(b"\r\n").unwrap_or(piece));
    trimmed.map(|piece| piece.strip_suffix(b"\r\n").unwrap_or(piece)).collect()
}

/// Checks what a message says.
pub(super) fn check(asked: &Asked) -> Result<(), Refusal> {
    let message = &asked.message;
    let text = message["content"].as_str().unwrap_or_default();
    let has_more = ["embeds", "components", "sticker_ids", "poll"]
        .iter()
        .any(|key| message[*key].as_array().is_some_and(|all| !all.is_empty()));
    if text.trim().is_empty() && asked.files.is_empty() && !has_more {
        return Err((400, 50_006, "Cannot send an empty message"));
    }
    if text.chars().count() > TEXT_MAX {
        return Err((400, 50_035, "Invalid Form Body: content must be 2000 or fewer in length"));
    }
    if message["nonce"].as_str().is_some_and(|nonce| nonce.len() > 25) {
        return Err((400, 50_035, "Invalid Form Body: nonce must be 25 or fewer in length"));
    }
    buttons(&message["components"])
}

fn buttons(rows: &Value) -> Result<(), Refusal> {
    let invalid = (400, 50_035, "Invalid Form Body: components");
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut ids = Vec::new();
    for row in rows {
        let all = row["components"].as_array().filter(|all| (1..=5).contains(&all.len()));
        for button in all.filter(|_| row["type"] == 1).ok_or(invalid)? {
            let label = button["label"].as_str().unwrap_or_default();
            let id = button["custom_id"].as_str().unwrap_or_default();
            let fits = label.chars().count() <= 80 && (1..=100).contains(&id.len());
            if button["type"] != 2 || !fits || ids.contains(&id) {
                return Err(invalid);
            }
            ids.push(id);
        }
    }
    if rows.len() > 5 { Err(invalid) } else { Ok(()) }
}
