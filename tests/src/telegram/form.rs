//! What a request says, however it says it: as JSON, as a form, or as a form with files.

use serde_json::{Map, Value, json};

/// A file that was sent.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// The parameters of a request, and its files by the names of their fields.
pub(super) type Said = (Map<String, Value>, Vec<(String, Upload)>);

/// Reads a request. Values of forms are text, and JSON where they are such.
pub(super) fn read(query: Option<&str>, kind: &str, body: &[u8]) -> Option<Said> {
    let mut said = Map::new();
    let mut files = Vec::new();
    pairs(query.unwrap_or_default().as_bytes(), &mut said);
    let (sort, rest) = kind.split_once(';').unwrap_or((kind, ""));
    match sort.trim() {
        "application/json" if !body.is_empty() => {
            let Ok(Value::Object(object)) = serde_json::from_slice(body) else { return None };
            said.extend(object);
        }
        "application/x-www-form-urlencoded" => pairs(body, &mut said),
        "multipart/form-data" => {
            let boundary = rest.split("boundary=").nth(1)?.trim_matches('"').to_owned();
            parts(body, &boundary, &mut said, &mut files)?;
        }
        _ => {}
    }
    Some((said, files))
}

fn pairs(text: &[u8], said: &mut Map<String, Value>) {
    for (name, text) in url::form_urlencoded::parse(text) {
        said.insert(name.into_owned(), value(&text));
    }
}

/// A number, an object or a list is one; everything else is text.
fn value(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Object(_) | Value::Array(_) | Value::Number(_) | Value::Bool(_))) => {
            value
        }
        _ => json!(text),
    }
}

fn parts(
    body: &[u8],
    boundary: &str,
    said: &mut Map<String, Value>,
    files: &mut Vec<(String, Upload)>,
) -> Option<()> {
    let mark = format!("\r\n--{boundary}");
    let whole = [b"\r\n", body].concat();
    let mut rest = &whole[find(&whole, mark.as_bytes())? + mark.len()..];
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let head_end = find(part, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&part[..head_end]).into_owned();
        let part = &part[head_end + 4..];
        let end = find(part, mark.as_bytes())?;
        let (content, next) = (&part[..end], &part[end + mark.len()..]);
        rest = next;
        let field = |name: &str| {
            let at = head.find(&format!("{name}=\""))? + name.len() + 2;
            head[at..].split('"').next().map(str::to_owned)
        };
        let name =
            head.find(" name=\"").and_then(|at| head[at + 7..].split('"').next())?.to_owned();
        match field("filename") {
            Some(file) => files.push((name, Upload { name: file, bytes: content.to_vec() })),
            None => drop(said.insert(name, value(&String::from_utf8_lossy(content)))),
        }
    }
    rest.starts_with(b"--").then_some(())
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    // By its first byte: files are long.
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| *byte == wanted[0]) {
        if text[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_saying_it_says_the_same() {
        let expected = json!({ "chat_id": 5, "text": "a b", "reply_markup": { "x": [1] } });
        let json = expected.to_string();
        let query = "chat_id=5&text=a+b&reply_markup=%7B%22x%22%3A%5B1%5D%7D";
        let form = "--B\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n5\r\n--B\r\n\
                    Content-Disposition: form-data; name=\"text\"\r\n\r\na b\r\n--B\r\n\
                    Content-Disposition: form-data; name=\"reply_markup\"\r\n\r\n{\"x\":[1]}\r\n--B\r\n\
                    Content-Disposition: form-data; name=\"document\"; filename=\"f.txt\"\r\n\r\n1\r\n2\r\n--B--\r\n";
        let cases = [
            (None, "application/json", json.as_str()),
            (Some(query), "", ""),
            (None, "application/x-www-form-urlencoded", query),
            (None, "multipart/form-data; boundary=B", form),
        ];
        for (query, kind, body) in cases {
            let (said, files) = read(query, kind, body.as_bytes()).unwrap();
            assert_eq!(Value::Object(said), expected, "{kind}");
            let files: Vec<_> =
                files.iter().map(|(field, it)| (field.as_str(), &it.bytes[..])).collect();
            let file: &[(&str, &[u8])] = &[("document", b"1\r\n2")];
            assert_eq!(files, if kind.starts_with("multi") { file } else { &[] });
        }
    }
}
