//! A body on its way to a container, without the secrets of the host that are looked for in it: who is told one
//! may say it back. A piece is held back only where it ends as a secret, or what escapes a character, begins.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};

use crate::secrets::Secret;

/// Stands in a secret's place.
const INSTEAD: &[u8] = b"[secret]";

/// Secrets with fewer bytes are not looked for: they would be found by chance.
const LEAST: usize = 8;

/// How deep JSON within JSON is read: a tool's result is often JSON, as a text of the JSON that says it.
const DEPTH_MAX: usize = 2;

/// What is looked for: each of `secrets`, as it is and however JSON, or JSON within JSON, may write it.
pub(crate) fn needles<'s>(secrets: impl Iterator<Item = &'s Secret>) -> Arc<[Vec<u8>]> {
    let texts = secrets.map(Secret::text).filter(|text| text.len() >= LEAST);
    let mut needles: Vec<Vec<u8>> = texts.map(|text| text.as_bytes().to_vec()).collect();
    needles.sort_unstable();
    needles.dedup();
    needles.sort_by_key(|needle| std::cmp::Reverse(needle.len())); // the whole before what is a part of it
    needles.into()
}

/// Whether one of `needles` is in `said`.
pub(crate) fn has(needles: &[Vec<u8>], said: &[u8]) -> bool {
    (0..said.len()).any(|at| matches!(met(needles, &said[at..], true), Met::Whole(_)))
}

/// All of `said`, without `needles`.
pub(crate) fn without(needles: &[Vec<u8>], said: &[u8]) -> Vec<u8> {
    cleared(needles, said, true).0
}

/// What of `said` may be passed on, without `needles`, and how much of it that was: all of it, if nothing more
/// comes.
fn cleared(needles: &[Vec<u8>], said: &[u8], is_last: bool) -> (Vec<u8>, usize) {
    // Most bytes begin nothing: they pass without a closer look.
    let mut begins = [false; 256];
    begins[usize::from(b'\\')] = true;
    for first in needles.iter().filter_map(|needle| needle.first()) {
        begins[usize::from(*first)] = true;
    }
    let (mut out, mut at) = (Vec::with_capacity(said.len()), 0);
    while at < said.len() {
        let rest = &said[at..];
        let plain = rest.iter().position(|byte| begins[usize::from(*byte)]).unwrap_or(rest.len());
        if plain > 0 {
            out.extend_from_slice(&rest[..plain]);
            at += plain;
            continue;
        }
        match met(needles, rest, is_last) {
            Met::Begun => break,
            Met::Whole(length) => {
                out.extend_from_slice(INSTEAD);
                at += length;
            }
            Met::Not => {
                out.push(rest[0]);
                at += 1;
            }
        }
    }
    (out, at)
}

/// Whether something begins with a needle.
enum Met {
    /// With all of it, in so many bytes.
    Whole(usize),
    /// It may, if more comes.
    Begun,
    Not,
}

/// Whether `said` begins with one of `needles`, in any form in which they are looked for.
fn met(needles: &[Vec<u8>], said: &[u8], is_last: bool) -> Met {
    let mut met = Met::Not;
    for needle in needles {
        for depth in 0..=DEPTH_MAX {
            match met_at(needle, said, depth) {
                Met::Begun if !is_last => return Met::Begun,
                Met::Whole(length) if matches!(met, Met::Not) => met = Met::Whole(length),
                Met::Whole(_) | Met::Begun | Met::Not => {}
            }
        }
    }
    met
}

/// Whether `said`, which is JSON in JSON `depth` times, begins with `needle`.
fn met_at(needle: &[u8], said: &[u8], depth: usize) -> Met {
    let mut at = 0;
    for wanted in needle {
        match read(&said[at..], depth) {
            Ok((byte, length)) if byte == *wanted => at += length,
            Err(Unread::More) => return Met::Begun,
            Ok(_) | Err(Unread::Odd) => return Met::Not,
        }
    }
    Met::Whole(at)
}

/// Why no byte is read.
enum Unread {
    /// More has to come.
    More,
    /// It is none that a secret has.
    Odd,
}

/// The first byte of what `said` means where `depth` writers of JSON have each escaped what the one before wrote,
/// and how many bytes it has there. Each of them may escape more than it has to, and in its own way: `/` as `\/`,
/// `&` as `\u0026`, `+` as `\u002B`.
fn read(said: &[u8], depth: usize) -> Result<(u8, usize), Unread> {
    let Some(outer) = depth.checked_sub(1) else {
        return said.first().map(|byte| (*byte, 1)).ok_or(Unread::More);
    };
    let (first, mut at) = read(said, outer)?;
    if first != b'\\' {
        return Ok((first, at));
    }
    let mut next = || -> Result<u8, Unread> {
        let (byte, length) = read(&said[at..], outer)?;
        at += length;
        Ok(byte)
    };
    let byte = match next()? {
        b'u' => {
            let mut code = 0;
            for _ in 0..4 {
                code = code * 16 + char::from(next()?).to_digit(16).ok_or(Unread::Odd)?;
            }
            u8::try_from(code).map_err(|_| Unread::Odd)?
        }
        byte @ (b'"' | b'\\' | b'/' | b'\'') => byte,
        _ => return Err(Unread::Odd),
    };
    Ok((byte, at))
}

/// `inner` without needles.
pub(crate) struct Scrub<B> {
    inner: B,
    needles: Arc<[Vec<u8>]>,
    /// What came, and may be the beginning of a needle.
    held: Vec<u8>,
    ended: bool,
}

impl<B> Scrub<B> {
    pub(crate) fn new(inner: B, needles: Arc<[Vec<u8>]>) -> Self {
        Self { inner, needles, held: Vec::new(), ended: false }
    }

    /// What of `piece`, behind what is held, may be passed on.
    fn passed(&mut self, piece: Bytes) -> Bytes {
        if self.needles.is_empty() {
            return piece;
        }
        self.held.extend_from_slice(&piece);
        self.passed_of_held(false)
    }

    /// What of that which is held may be passed on: all of it, if nothing more comes.
    fn passed_of_held(&mut self, is_last: bool) -> Bytes {
        let (out, at) = cleared(&self.needles, &self.held, is_last);
        self.held.drain(..at);
        out.into()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Scrub<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        while !this.ended {
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                None => this.ended = true,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => {
                    // Trailers are not passed on.
                    let Ok(piece) = frame.into_data() else { continue };
                    let passed = this.passed(piece);
                    if !passed.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(passed))));
                    }
                }
            }
        }
        let last = this.passed_of_held(true);
        Poll::Ready((!last.is_empty()).then(|| Ok(Frame::data(last))))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && (self.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self.needles.is_empty() {
            true => self.inner.size_hint(),
            false => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::collections::VecDeque;
    use std::convert::Infallible;

    fn secrets(texts: &[&str]) -> Arc<[Vec<u8>]> {
        let secrets: Vec<_> =
            texts.iter().map(|it| Secret::of(it.as_bytes().to_vec()).unwrap()).collect();
        needles(secrets.iter())
    }

    /// A body of pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    async fn scrubbed(pieces: Vec<&[u8]>, needles: &Arc<[Vec<u8>]>) -> String {
        let pieces = Pieces(pieces.into_iter().map(|it| it.to_vec().into()).collect());
        let mut body = Scrub::new(pieces, Arc::clone(needles));
        let mut whole = Vec::new();
        // As whoever passes it on: the last piece is the one behind which the stream has ended.
        while !body.is_end_stream() {
            let Some(frame) = body.frame().await else { break };
            whole.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        String::from_utf8(whole).unwrap()
    }

    #[tokio::test]
    async fn a_secret_is_taken_out_however_a_body_is_cut() {
        let needles = secrets(&["token-12/34", "token-12", "short", "quo\"ted\\one"]);
        let said =
            r#"a token-12/34, token-12\/34, token-12 token-1 short quo\"ted\\one tokentoken-12"#;
        let expected = "a [secret], [secret], [secret] token-1 short [secret] token[secret]";
        for cut in 0..said.len() {
            let (before, after) = said.as_bytes().split_at(cut);
            assert_eq!(scrubbed(vec![before, after], &needles).await, expected, "cut at {cut}");
        }
        let pieces: Vec<&[u8]> = said.as_bytes().chunks(1).collect();
        assert_eq!(scrubbed(pieces, &needles).await, expected, "byte by byte");
        assert_eq!(scrubbed(vec![b"ends in token-1"], &needles).await, "ends in token-1");
        assert_eq!(scrubbed(vec![said.as_bytes()], &secrets(&[])).await, said);
    }

    #[tokio::test]
    async fn a_secret_is_taken_out_however_json_writes_it() {
        let needles = secrets(&["a+b/c&d<e>f=", r#"it's "so\much""#]);
        let cases = [
            (r#"{"a":"a+b/c\u0026d\u003ce\u003ef="}"#, "Go"),
            (r#"{"a":"a\u002Bb/c\u0026d\u003Ce\u003Ef="}"#, ".NET"),
            (r#"{"a":"a+b\/c\u0026d\u003Ce\u003Ef\u003d"}"#, "PHP and Gson"),
            (r#"{"a":"\u0061+b\u002fc&d<e>f="}"#, "any other"),
            (r#"{"a":"it\u0027s \u0022so\\much\u0022"}"#, "quotes"),
            (r#"{"a":"it's \"so\u005Cmuch\""}"#, "a backslash by its number"),
            (r#"{"a":"a\\u002Bb\\/c\\u0026d<e\u003ef="}"#, "JSON within JSON"),
            (r#"{"a":"it's \\\"so\\\\much\\\u0022"}"#, "quotes of JSON within JSON"),
        ];
        for (said, case) in cases {
            for cut in 0..said.len() {
                let (before, after) = said.as_bytes().split_at(cut);
                let scrubbed = scrubbed(vec![before, after], &needles).await;
                assert_eq!(scrubbed, r#"{"a":"[secret]"}"#, "{case}, cut at {cut}");
            }
        }
        for said in [r"a\u002Cb/c&d<e>f=", r"a\u012Bb/c&d<e>f=", r"a\nb/c&d<e>f=", r"a\u00", r"c:\"]
        {
            assert_eq!(scrubbed(vec![said.as_bytes()], &needles).await, said, "it is none");
        }
    }

    #[test]
    fn what_is_short_is_looked_through_at_once() {
        let needles = secrets(&["token-12/34"]);
        assert!(has(&needles, b"is token-12/34") && has(&needles, br"is token-12\/34"));
        assert!(!has(&needles, b"is token-12/3") && !has(&needles, b""));
        assert_eq!(without(&needles, b"/token-12/34/token-1"), b"/[secret]/token-1");
    }

    #[test]
    fn what_ends_an_event_is_not_held_back() {
        let mut scrub = Scrub::new((), secrets(&["token-1234"]));
        assert_eq!(scrub.passed(Bytes::from_static(b"data: x\n\n")), "data: x\n\n");
        assert_eq!(scrub.passed(Bytes::from_static(b"data: tok")), "data: ");
        assert_eq!(scrub.passed(Bytes::from_static(b"yo\n\n")), "tokyo\n\n");
        assert_eq!(scrub.passed(Bytes::from_static(b"data: \\u\n\n")), "data: \\u\n\n");
    }
}
