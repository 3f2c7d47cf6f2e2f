//! Signatures, as Standard Webhooks has them (<https://www.standardwebhooks.com>): HMAC-SHA256 over
//! `ID.TIMESTAMP.BODY`, so that its libraries check what leaves and sign what comes in. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use twobox_shared::time::UnixMillis;

/// The header with the id of a message.
pub const ID: &str = "webhook-id";
/// The header with the time at which it was signed, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header with its signatures.
pub const SIGNATURE: &str = "webhook-signature";

/// How a secret begins that is written as base64.
const BASE64: &str = "whsec_";

/// The fewest bytes of a secret: as many as the standard asks for.
const SECRET_MIN: usize = 24;

/// The most bytes of the header with the signatures, and how many of them are looked at.
const SIGNATURES_LENGTH: usize = 2048;
const SIGNATURES_MAX: usize = 8;

/// How a signature of this kind begins.
const V1: &str = "v1,";

/// What signs and checks.
pub(super) struct Key(hmac::Key);

impl Key {
    /// Of a secret: base64 behind `whsec_`, else the bytes of its text.
    ///
    /// # Errors
    /// What is wrong with it, without a word of it.
    pub(super) fn of(secret: &str) -> Result<Self, String> {
        let bytes = match secret.strip_prefix(BASE64) {
            Some(encoded) => STANDARD
                .decode(encoded)
                .map_err(|_| format!("what stands behind {BASE64} in it is no base64"))?,
            None => secret.as_bytes().to_vec(),
        };
        match bytes.len() < SECRET_MIN {
            true => Err(format!(
                "it has {} bytes, and could be guessed: use {SECRET_MIN} or more, such as those that \
                 `openssl rand -hex 32` prints",
                bytes.len()
            )),
            false => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))),
        }
    }

    /// The signature of `body`, which goes out under `id` at `seconds`, as its header has it.
    pub(super) fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        format!("{V1}{}", STANDARD.encode(hmac::sign(&self.0, &signed(id, seconds, body))))
    }

    /// Whether one of the signatures in `head` is that of `body`. Takes as long for one that is nearly right.
    pub(super) fn admits(&self, head: &Head, body: &[u8]) -> bool {
        let signed = signed(&head.id, head.seconds, body);
        head.signatures.iter().any(|signature| hmac::verify(&self.0, &signed, signature).is_ok())
    }
}

fn signed(id: &str, seconds: i64, body: &[u8]) -> Vec<u8> {
    let mut signed = format!("{id}.{seconds}.").into_bytes();
    signed.extend_from_slice(body);
    signed
}

/// What the headers of a request say of who sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub(super) id: String,
    seconds: i64,
    signatures: Vec<Vec<u8>>,
}

/// Why nobody can have sent it who knows the secret; or why that is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// A header is missing, or is none.
    #[error("{0}")]
    Malformed(String),
    /// It was signed at another time.
    #[error(
        "it was signed {seconds} s {}, and only what was signed within {window} s is taken: set the clocks \
         right, and sign a message anew when it is sent again",
        if *.early { "from now" } else { "ago" }
    )]
    Skewed {
        /// How far it is from now.
        seconds: u64,
        /// Whether it is in the future.
        early: bool,
        /// How far it may be.
        window: u64,
    },
    /// No signature is right.
    #[error(
        "the signature is wrong: it is HMAC-SHA256 with the secret of this channel over \
         `{ID}.{TIMESTAMP}.BODY`, byte by byte, as `v1,` and base64"
    )]
    Wrong,
}

impl Head {
    /// From what the three headers say.
    ///
    /// # Errors
    /// [`Forged::Malformed`], saying which of them and what it has to be.
    pub fn read<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, Forged> {
        let text = |name: &str| {
            header(name).and_then(|bytes| str::from_utf8(bytes).ok()).ok_or_else(|| {
                Forged::Malformed(format!(
                    "the header {name} is missing: sign messages as Standard Webhooks has it"
                ))
            })
        };
        let (id, timestamp, signatures) = (text(ID)?, text(TIMESTAMP)?, text(SIGNATURE)?);
        let digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = timestamp.parse().ok().filter(|_| digits).ok_or_else(|| {
            Forged::Malformed(format!("{TIMESTAMP} has to be a time in whole seconds since 1970"))
        })?;
        if signatures.len() > SIGNATURES_LENGTH {
            return Err(Forged::Malformed(format!("{SIGNATURE} is too long")));
        }
        let decoded = |signature: &str| STANDARD.decode(signature.strip_prefix(V1)?).ok();
        let signatures: Vec<_> =
            signatures.split(' ').filter_map(decoded).take(SIGNATURES_MAX).collect();
        match signatures.is_empty() {
            true => {
                Err(Forged::Malformed(format!("{SIGNATURE} has no `v1,` with base64 behind it")))
            }
            false => Ok(Self { id: id.to_owned(), seconds, signatures }),
        }
    }

    /// Whether it was signed within `window` seconds of `now`, before or after.
    ///
    /// # Errors
    /// [`Forged::Skewed`].
    pub(super) fn in_time(&self, now: UnixMillis, window: u64) -> Result<(), Forged> {
        let now = now.0.div_euclid(1000);
        let seconds = now.abs_diff(self.seconds);
        match seconds <= window {
            true => Ok(()),
            false => Err(Forged::Skewed { seconds, early: self.seconds > now, window }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(id: &str, timestamp: &str, signature: &str) -> Result<Head, Forged> {
        Head::read(|name| match name {
            ID => Some(id.as_bytes()),
            TIMESTAMP => Some(timestamp.as_bytes()),
            SIGNATURE => Some(signature.as_bytes()),
            _ => None,
        })
    }

    /// The example in the specification's reference implementations.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let key = Key::of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_was_changed_on_its_way_is_forged() {
        let key = Key::of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let right = key.sign("m1", 1000, b"body");
        let admits = |id: &str, timestamp: &str, signature: &str, body: &[u8]| {
            key.admits(&head(id, timestamp, signature).unwrap(), body)
        };
        assert!(admits("m1", "1000", &right, b"body"));
        assert!(
            admits("m1", "1000", &format!("v1a,AAAA v1,AAAA {right}"), b"body"),
            "one of several"
        );
        assert!(!admits("m2", "1000", &right, b"body"), "another id");
        assert!(!admits("m1", "1001", &right, b"body"), "another time");
        assert!(!admits("m1", "1000", &right, b"bodY"), "another body");
        assert!(!admits("m1", "1000", &right, b""), "no body");
        assert!(!admits("m1", "1000", &right[..right.len() - 4], b"body"), "half a signature");
        let other = Key::of("the secret of somebody else").unwrap();
        assert!(!other.admits(&head("m1", "1000", &right).unwrap(), b"body"), "another secret");
        let many = ["v1,AAAA"; SIGNATURES_MAX].join(" ");
        assert!(
            !admits("m1", "1000", &format!("{many} {right}"), b"body"),
            "no more are looked at"
        );
    }

    #[test]
    fn each_header_is_needed_and_has_to_be_what_it_is() {
        let good = "v1,AAAA";
        for (name, read) in [
            (TIMESTAMP, head("m", "", good)),
            (TIMESTAMP, head("m", "soon", good)),
            (TIMESTAMP, head("m", "+1", good)),
            (TIMESTAMP, head("m", "99999999999999999999", good)),
            (SIGNATURE, head("m", "1", "")),
            (SIGNATURE, head("m", "1", "AAAA")),
            (SIGNATURE, head("m", "1", "v1,!")),
            (SIGNATURE, head("m", "1", &"v1,AAAA ".repeat(1000))),
            (ID, Head::read(|_| None)),
            (ID, Head::read(|_| Some(b"\xff"))),
        ] {
            match read {
                Err(Forged::Malformed(said)) => assert!(said.contains(name), "{name}: {said}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn only_what_was_signed_about_now_is_taken() {
        let head = head("m", "1000", "v1,AAAA").unwrap();
        let at = |seconds: i64| head.in_time(UnixMillis(seconds * 1000), 300);
        assert_eq!((at(1000), at(1300), at(700)), (Ok(()), Ok(()), Ok(())));
        let skewed = |early| Err(Forged::Skewed { seconds: 301, early, window: 300 });
        assert_eq!((at(1301), at(699)), (skewed(false), skewed(true)));
        assert!(at(1301).unwrap_err().to_string().contains("301 s ago"));
        assert!(at(699).unwrap_err().to_string().contains("301 s from now"));
    }

    #[test]
    fn a_secret_that_could_be_guessed_is_none_and_is_repeated_by_nobody() {
        for bad in
            ["", "hunter2", "whsec_", "whsec_aHVudGVyMg==", "whsec_hunter2!!!!!!!!!!!!!!!!!!!!"]
        {
            let Err(said) = Key::of(bad) else { panic!("{bad}") };
            assert!(!said.contains("hunter"), "{said}");
        }
        assert!(Key::of("012345678901234567890123").is_ok());
    }
}
