//! Whether a mail is from a person, and from whom really. What a mail says of that is its sender's word; what
//! counts is what the server says that has received it. Pure.

use mailparse::MailHeader;

use super::letter::{Correspondent, all, first, raw};
use super::settings::Trust;

/// The header by which mail of ours is known, wherever it was sent on.
pub(super) const LOOP: &str = "X-Loop";

/// Whose a mail is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Of a person.
    Person,
    /// Our own.
    Own,
    /// A program has sent it.
    Program(&'static str),
    /// A mail of ours came back.
    Bounce,
    /// Nobody knows.
    Unproven(String),
}

/// Judges the mail with these headers, which says that it is `from` that one. `own` is our address.
pub(super) fn judge(
    headers: &[MailHeader<'_>],
    from: Option<&Correspondent>,
    own: &str,
    trust: &Trust,
) -> Origin {
    if is_bounce(headers) {
        return Origin::Bounce;
    }
    if all(headers, LOOP).into_iter().any(|it| raw(it).eq_ignore_ascii_case(own)) {
        return Origin::Own;
    }
    let Some(from) = from else {
        return Origin::Unproven("it does not say who has written it, as one address".to_owned());
    };
    if from.address == own {
        return Origin::Own;
    }
    if let Some(why) = program(headers, from) {
        return Origin::Program(why);
    }
    match trust {
        Trust::From => Origin::Person,
        Trust::Server(id) => match proven(headers, from, id) {
            Ok(()) => Origin::Person,
            Err(why) => Origin::Unproven(why),
        },
    }
}

/// Whether it tells what became of another mail. Such mail has no sender to the servers.
fn is_bounce(headers: &[MailHeader<'_>]) -> bool {
    let is = |name: &str, wanted: &dyn Fn(&str) -> bool| {
        first(headers, name).is_some_and(|it| wanted(&raw(it).trim().to_ascii_lowercase()))
    };
    is("Return-Path", &|it| it == "<>")
        || is("Content-Type", &|it| it.starts_with("multipart/report"))
}

/// Why a program has sent it, if one has.
fn program(headers: &[MailHeader<'_>], from: &Correspondent) -> Option<&'static str> {
    let value = |name: &str| first(headers, name).map(|it| raw(it).trim().to_ascii_lowercase());
    // RFC 3834: whatever is not `no` was sent by itself.
    let automatic =
        value("Auto-Submitted").is_some_and(|it| it.split([';', ' ']).next() != Some("no"));
    let bulk = value("Precedence")
        .is_some_and(|it| ["bulk", "junk", "list", "auto_reply"].contains(&it.as_str()));
    let list = ["List-Id", "List-Post", "List-Unsubscribe"].iter().any(|it| value(it).is_some());
    let away = ["X-Autoreply", "X-Autorespond", "X-Auto-Response-From"];
    let away = away.iter().any(|it| value(it).is_some());
    let name = from.address.split('@').next().unwrap_or_default();
    match () {
        () if automatic || away => Some("it was sent by itself"),
        () if bulk || list => Some("it went to a list"),
        () if ["mailer-daemon", "postmaster"].contains(&name) => Some("a mail server has sent it"),
        () => None,
    }
}

/// Whether the server of this name says that the mail is of the domain in its `From`. Only the uppermost header
/// of the server counts: it puts its own above what came with the mail.
///
/// # Errors
/// Why that is not so.
fn proven(headers: &[MailHeader<'_>], from: &Correspondent, id: &str) -> Result<(), String> {
    let results = uppermost(headers, id)?;
    let domain = from.address.rsplit('@').next().unwrap_or_default();
    let dmarc: Vec<_> = results.iter().filter(|it| it.method == "dmarc").collect();
    if dmarc.iter().any(|it| it.result == "pass") {
        let all_pass =
            dmarc.iter().all(|it| it.result == "pass" && it.is_of("header.from", domain));
        return all_pass
            .then_some(())
            .ok_or_else(|| format!("{id} does not say that it is from {domain} (dmarc)"));
    }
    if dmarc.iter().any(|it| it.result != "none") {
        return Err(format!("{id} says that it is not from {domain} (dmarc)"));
    }
    let signed = results.iter().filter(|it| it.method == "dkim" && it.result == "pass");
    let is_signed = |it: &&ResultInfo| match it.property("header.d") {
        Some(signer) => signer == domain,
        None => it.property("header.i").and_then(|it| it.rsplit('@').next()) == Some(domain),
    };
    match signed.filter(is_signed).count() {
        0 => Err(format!("{id} does not say that {domain} has signed it (dkim, dmarc)")),
        _ => Ok(()),
    }
}

/// What the uppermost header of the server `id` says.
///
/// # Errors
/// That there is none; or that something above it cannot be read, which may be that one.
fn uppermost(headers: &[MailHeader<'_>], id: &str) -> Result<Vec<ResultInfo>, String> {
    for header in all(headers, "Authentication-Results") {
        match results(&raw(header)) {
            Some((other, results)) if other == id => return Ok(results),
            Some(_) => {}
            None => return Err("its `Authentication-Results` cannot be read".to_owned()),
        }
    }
    Err(format!("there is no `Authentication-Results` of {id} in it"))
}

/// What a server has found by one method.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ResultInfo {
    method: String,
    result: String,
    properties: Vec<(String, String)>,
}

impl ResultInfo {
    fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether that property is so, where it is said.
    fn is_of(&self, name: &str, value: &str) -> bool {
        self.property(name).is_none_or(|said| said == value)
    }
}

/// Who says what, of a header `Authentication-Results` (RFC 8601). All in small letters.
fn results(header: &str) -> Option<(String, Vec<ResultInfo>)> {
    let mut statements = statements(header)?.into_iter();
    let id = statements.next()?.into_iter().next()?;
    let results = statements.filter_map(|words| {
        let mut pairs = words.into_iter().filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        let (method, result) = pairs.next()?;
        // A method may have a version behind it.
        let method = method.split('/').next().unwrap_or_default().to_owned();
        Some(ResultInfo { method, result, properties: pairs.collect() })
    });
    Some((id, results.collect()))
}

/// The words of each statement, without comments and quotes. `None` if something is left open.
fn statements(header: &str) -> Option<Vec<Vec<String>>> {
    let mut statements = vec![Vec::new()];
    let mut word = String::new();
    let mut chars = header.chars();
    let (mut depth, mut is_quoted) = (0_usize, false);
    let end = |word: &mut String, statements: &mut Vec<Vec<String>>| {
        if !word.is_empty() {
            statements.last_mut().expect("there is one").push(std::mem::take(word).to_lowercase());
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '\\' if depth > 0 || is_quoted => {
                let escaped = chars.next()?;
                if depth == 0 {
                    word.push(escaped);
                }
            }
            '"' if depth == 0 => is_quoted = !is_quoted,
            c if is_quoted => word.push(c),
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            ';' => {
                end(&mut word, &mut statements);
                statements.push(Vec::new());
            }
            // `dkim = pass` is one word.
            c if c.is_whitespace() && word.ends_with('=') => {}
            c if c.is_whitespace() => end(&mut word, &mut statements),
            '=' if word.is_empty() => word = statements.last_mut()?.pop()? + "=",
            c => word.push(c),
        }
    }
    end(&mut word, &mut statements);
    (depth == 0 && !is_quoted).then_some(statements)
}

#[cfg(test)]
mod tests {
    use mailparse::parse_headers;

    use super::super::letter::Head;
    use super::*;

    fn origin(text: &str) -> Origin {
        let text = format!("{text}\nSubject: x\n\n").replace('\n', "\r\n");
        let headers = parse_headers(text.as_bytes()).unwrap().0;
        let trust = Trust::Server("mx.us".to_owned());
        judge(&headers, Head::of(&headers).from.as_ref(), "bot@us", &trust)
    }

    #[test]
    fn who_it_is_from_is_what_the_receiving_server_says() {
        let yes = [
            "Authentication-Results: mx.us; dmarc=pass header.from=x.org",
            "Authentication-Results: MX.us 1; spf=fail; DKIM=Pass (2048 bit) header.d=X.org header.s=k",
            "Authentication-Results: mx.us;\n dkim=pass header.i=@x.org;\n dmarc=none",
            "Authentication-Results: mx.us; dmarc = pass (p=reject (x) dis=none)",
            "Authentication-Results: mx.us; dkim=fail header.d=x.org; dkim/1=pass header.d=\"x.org\"",
        ];
        for text in yes {
            assert_eq!(origin(&format!("{text}\nFrom: a@x.org")), Origin::Person, "{text}");
        }
        let no = [
            "X: nothing",
            "Authentication-Results: mx.evil; dmarc=pass header.from=x.org",
            "Authentication-Results: mx.us; dmarc=fail; dkim=pass header.d=x.org",
            "Authentication-Results: mx.us; dkim=pass header.d=evil.org",
            "Authentication-Results: mx.us; dkim=pass header.d=org",
            "Authentication-Results: mx.us; dmarc=pass header.from=evil.org",
            "Authentication-Results: mx.us; spf=pass smtp.mailfrom=x.org",
            "Authentication-Results: mx.us; none",
            // The uppermost of the server counts, and what came with the mail is below.
            "Authentication-Results: mx.us; dmarc=fail\nAuthentication-Results: mx.us; dmarc=pass",
            "Authentication-Results: mx.us; x=\"y\nAuthentication-Results: mx.us; dmarc=pass",
            // What a sender has put into it is quoted, or a comment.
            "Authentication-Results: mx.us; spf=fail smtp.mailfrom=\"x;dmarc=pass;\"@evil.org",
            "Authentication-Results: mx.us; spf=fail (says; dmarc=pass)",
            "Authentication-Results: mx.us; spf=fail (says \\); dmarc=pass",
            "Authentication-Results: mx.us; spf=fail =?utf-8?q?=3B_dmarc=3Dpass?=",
            "Authentication-Results: mx.us; dmarc=fail (x); dmarc=pass header.from=evil.org",
        ];
        for text in no {
            let said = origin(&format!("{text}\nFrom: a@x.org"));
            assert!(matches!(said, Origin::Unproven(_)), "{text}: {said:?}");
        }
    }

    #[test]
    fn programs_lists_bounces_and_ourselves_are_no_people() {
        let good = "Authentication-Results: mx.us; dmarc=pass\nFrom: a@x.org";
        let program = |text: &str| matches!(origin(&format!("{good}\n{text}")), Origin::Program(_));
        for text in [
            "Auto-Submitted: auto-replied",
            "auto-submitted: auto-generated; owner=x",
            "Precedence: Bulk",
            "List-Id: <l.x.org>",
            "List-Unsubscribe: <mailto:x@y>",
            "X-Autoreply: yes",
        ] {
            assert!(program(text), "{text}");
        }
        for text in ["Auto-Submitted: no", "Precedence: first-class", "X-Loop: other@us"] {
            assert_eq!(origin(&format!("{good}\n{text}")), Origin::Person, "{text}");
        }
        let bounces = ["Return-Path: <>", "Content-Type: multipart/report; boundary=x"];
        for text in bounces {
            assert_eq!(origin(&format!("{text}\n{good}")), Origin::Bounce, "{text}");
        }
        assert_eq!(origin(&format!("{good}\nX-Loop: Bot@us")), Origin::Own);
        assert_eq!(origin("From: Me <BOT@us>"), Origin::Own);
        let daemon = good.replace("a@", "MAILER-DAEMON@");
        assert!(matches!(origin(&daemon), Origin::Program(_)));
    }
}
