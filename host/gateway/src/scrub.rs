//! A body on its way to a container, without the secrets of the host that are looked for in it: who is told one
//! may say it back. A piece is held back only where it ends as a secret begins.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};

use crate::secrets::Secret;

/// Stands in a secret's place.
const INSTEAD: &[u8] = b"[secret]";

/// Secrets with fewer bytes are not looked for: they would be found by chance.
const LEAST: usize = 8;

/// What is looked for: each of `secrets` as it is, and as it stands in JSON.
pub(crate) fn needles<'s>(secrets: impl Iterator<Item = &'s Secret>) -> Arc<[Vec<u8>]> {
    let mut needles = Vec::new();
    for text in secrets.map(Secret::text).filter(|text| text.len() >= LEAST) {
        let json = serde_json::Value::from(text).to_string();
        let json = json[1..json.len() - 1].to_owned();
        for form in [text.to_owned(), json.replace('/', "\\/"), json] {
            if !needles.contains(&form.as_bytes().to_vec()) {
                needles.push(form.into_bytes());
            }
        }
    }
    needles.sort_by_key(|needle| std::cmp::Reverse(needle.len())); // the whole before what is a part of it
    needles.into()
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
        let (mut out, mut at) = (Vec::with_capacity(self.held.len()), 0);
        while at < self.held.len() {
            let rest = &self.held[at..];
            let begins = |needle: &Vec<u8>| needle.len() > rest.len() && needle.starts_with(rest);
            if !is_last && self.needles.iter().any(begins) {
                break;
            }
            if let Some(found) = self.needles.iter().find(|needle| rest.starts_with(needle)) {
                out.extend_from_slice(INSTEAD);
                at += found.len();
            } else {
                out.push(rest[0]);
                at += 1;
            }
        }
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

    #[test]
    fn what_ends_an_event_is_not_held_back() {
        let mut scrub = Scrub::new((), secrets(&["token-1234"]));
        assert_eq!(scrub.passed(Bytes::from_static(b"data: x\n\n")), "data: x\n\n");
        assert_eq!(scrub.passed(Bytes::from_static(b"data: tok")), "data: ");
        assert_eq!(scrub.passed(Bytes::from_static(b"yo\n\n")), "tokyo\n\n");
    }
}
