//! What Telegram takes. Each error is the description of a refusal with the code 400. Pure.

use serde_json::Value;

/// The most characters of a text.
const TEXT_MAX: usize = 4096;

/// The most characters of what is said beside a file.
const CAPTION_MAX: usize = 1024;

/// The most bytes that a button carries.
const DATA_MAX: usize = 64;

/// Checks a text with its marks.
pub(super) fn text(text: &str, marks: Option<&Value>) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("message text is empty".to_owned());
    }
    if text.chars().count() > TEXT_MAX {
        return Err("message is too long".to_owned());
    }
    marks.map_or(Ok(()), |marks| self::marks(text, marks))
}

/// Checks what is said beside a file.
pub(super) fn caption(text: &str) -> Result<(), String> {
    match text.chars().count() > CAPTION_MAX {
        true => Err("message caption is too long".to_owned()),
        false => Ok(()),
    }
}

struct Mark<'a> {
    kind: &'a str,
    begin: usize,
    end: usize,
}

fn marks(text: &str, marks: &Value) -> Result<(), String> {
    let bad = |why: &str| Err(format!("can't parse entities: {why}"));
    let Some(marks) = marks.as_array() else { return bad("expected an Array") };
    let units: Vec<u16> = text.encode_utf16().collect();
    let mut read = Vec::new();
    for mark in marks {
        let number = |field: &str| mark[field].as_u64().and_then(|it| usize::try_from(it).ok());
        let (Some(kind), Some(begin), Some(length)) =
            (mark["type"].as_str(), number("offset"), number("length"))
        else {
            return bad("Field \"type\", \"offset\" or \"length\" is missing");
        };
        let end = begin + length;
        let is_inside = |at: usize| units.get(at).is_some_and(|it| (0xdc00..0xe000).contains(it));
        if length == 0 || end > units.len() || is_inside(begin) || is_inside(end) {
            return bad(&format!(
                "entity beginning at UTF-16 offset {begin} ends outside of a symbol"
            ));
        }
        let known = [
            "bold",
            "italic",
            "underline",
            "strikethrough",
            "spoiler",
            "blockquote",
            "code",
            "pre",
            "text_link",
            "expandable_blockquote",
        ];
        if !known.contains(&kind) {
            return bad(&format!("unsupported type {kind}"));
        }
        if kind == "text_link" && !mark["url"].as_str().is_some_and(|url| url.contains("://")) {
            return bad("a text_link without an address");
        }
        read.push(Mark { kind, begin, end });
    }
    if read.len() > 100 {
        return bad("too many");
    }
    for (index, one) in read.iter().enumerate() {
        for other in &read[index + 1..] {
            may_lie_together(one, other).or_else(|why| bad(&why))?;
        }
    }
    Ok(())
}

/// "If two entities have common characters, one is fully contained inside another", and what may contain what.
fn may_lie_together(one: &Mark<'_>, other: &Mark<'_>) -> Result<(), String> {
    if one.end <= other.begin || other.end <= one.begin {
        return Ok(());
    }
    let contains =
        |one: &Mark<'_>, other: &Mark<'_>| one.begin <= other.begin && other.end <= one.end;
    let (outer, inner) = match (contains(one, other), contains(other, one)) {
        (true, _) => (one, other),
        (false, true) => (other, one),
        (false, false) => return Err(format!("{} and {} overlap", one.kind, other.kind)),
    };
    let is_code = |mark: &Mark<'_>| ["code", "pre"].contains(&mark.kind);
    let is_light = |mark: &Mark<'_>| {
        ["bold", "italic", "underline", "strikethrough", "spoiler"].contains(&mark.kind)
    };
    let is_quote = |mark: &Mark<'_>| mark.kind.ends_with("blockquote");
    let may = match (outer, inner) {
        (outer, _) if is_code(outer) => false,
        (outer, inner) if is_quote(outer) => !is_quote(inner),
        (outer, inner) if is_light(outer) => !is_code(inner) && !is_quote(inner),
        (_, inner) => is_light(inner),
    };
    // What is the same twice in one place may lie either way.
    let same =
        (outer.begin, outer.end) == (inner.begin, inner.end) && is_light(outer) && is_light(inner);
    match may || same {
        true => Ok(()),
        false => Err(format!("{} lies in {}", inner.kind, outer.kind)),
    }
}

/// Checks buttons.
pub(super) fn keyboard(markup: &Value) -> Result<(), String> {
    let Some(rows) = markup.get("inline_keyboard") else {
        return Err("object expected as reply markup".to_owned());
    };
    let rows = rows.as_array().ok_or("can't parse inline keyboard button")?;
    for row in rows {
        for button in row.as_array().ok_or("can't parse inline keyboard button")? {
            if button["text"].as_str().is_none_or(|text| text.trim().is_empty()) {
                return Err("inline keyboard button text must be non-empty".to_owned());
            }
            let data = button["callback_data"].as_str().unwrap_or_default();
            if data.is_empty() || data.len() > DATA_MAX {
                return Err("BUTTON_DATA_INVALID".to_owned());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn marks_lie_in_each_other_as_they_may() {
        let mark = |kind: &str, offset: usize, length: usize| json!({ "type": kind, "offset": offset, "length": length, "url": "https://x.example" });
        let cases = [
            ("apart", json!([mark("code", 0, 1), mark("pre", 1, 1)]), true),
            ("bold in italic", json!([mark("italic", 0, 3), mark("bold", 1, 1)]), true),
            ("code in bold", json!([mark("bold", 0, 3), mark("code", 1, 1)]), false),
            ("bold in code", json!([mark("code", 0, 3), mark("bold", 1, 1)]), false),
            ("overlap", json!([mark("bold", 0, 2), mark("italic", 1, 2)]), false),
            ("link in bold", json!([mark("bold", 0, 3), mark("text_link", 1, 1)]), true),
            ("bold in link", json!([mark("text_link", 0, 3), mark("bold", 1, 1)]), true),
            ("code in link", json!([mark("text_link", 0, 3), mark("code", 1, 1)]), false),
            ("quote in quote", json!([mark("blockquote", 0, 3), mark("blockquote", 1, 1)]), false),
            ("pre in quote", json!([mark("blockquote", 0, 3), mark("pre", 1, 1)]), true),
            ("half a character", json!([mark("bold", 0, 4)]), false),
            ("beyond the end", json!([mark("bold", 0, 9)]), false),
            ("unknown", json!([mark("shiny", 0, 1)]), false),
        ];
        for (case, marks, expected) in cases {
            assert_eq!(text("abc😀", Some(&marks)).is_ok(), expected, "{case}");
        }
        assert!(text(&"ä".repeat(4096), None).is_ok() && text(&"ä".repeat(4097), None).is_err());
        assert!(text(" \n", None).is_err());
    }

    #[test]
    fn a_button_carries_a_little() {
        let of = |data: &str| {
            keyboard(&json!({ "inline_keyboard": [[{ "text": "x", "callback_data": data }]] }))
        };
        assert!(of(&"a".repeat(64)).is_ok() && of(&"a".repeat(65)).is_err() && of("").is_err());
        assert!(keyboard(&json!({ "inline_keyboard": [] })).is_ok());
    }
}
