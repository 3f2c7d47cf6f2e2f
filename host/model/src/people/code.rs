//! Codes by which people come in: that of a stranger, which somebody says who may, and that of the first owner,
//! which nobody else has seen.
//!
//! Neither can be guessed. A wrong one counts, and of those only so many are looked at in an hour ([`Tries`]): a
//! million guesses are a million messages, of which a few dozen had an effect, among 2^40 codes that live for an
//! hour, or 2^80 that live for a day.

use std::time::Duration;

/// The letters and digits of a code: none that could be taken for another.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// How many letters stand together, so that people can say them.
const GROUP: usize = 4;

/// How many random bytes a stranger's code is made of: 40 bits.
pub const PAIRING_BYTES: usize = 5;

/// How many random bytes the code of the first owner is made of: 80 bits.
pub const CLAIM_BYTES: usize = 10;

/// How long a stranger's code holds.
pub const PAIRING_LIFE: Duration = Duration::from_secs(60 * 60);

/// How long the code of the first owner holds.
pub const CLAIM_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// A stranger's code of random `bytes`.
pub fn pairing_code(bytes: [u8; PAIRING_BYTES]) -> String {
    written(&bytes)
}

/// A first owner's code of random `bytes`.
pub fn claim_code(bytes: [u8; CLAIM_BYTES]) -> String {
    written(&bytes)
}

/// Five bits to a letter.
fn written(bytes: &[u8]) -> String {
    let bits = bytes.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    let letters = 8 * bytes.len() / 5;
    let mut code = String::with_capacity(letters + letters / GROUP);
    for at in 0..letters {
        if at > 0 && at % GROUP == 0 {
            code.push('-');
        }
        code.push(char::from(LETTERS[(bits >> (5 * at)) as usize % LETTERS.len()]));
    }
    code
}

/// `code` as it is compared: people write capitals, and leave the hyphens out.
pub fn normal(code: &str) -> String {
    let kept = code.chars().filter(|c| !c.is_whitespace() && !['-', '–', '_'].contains(c));
    kept.flat_map(char::to_lowercase).collect()
}

/// How many wrong codes were said within [`Tries::WITHIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tries {
    /// By the same person, and
    pub own: u32,
    /// by all.
    pub all: u32,
}

impl Tries {
    /// Over which time wrong codes are counted.
    pub const WITHIN: Duration = Duration::from_secs(60 * 60);
    /// How many of one person are looked at in that time.
    pub const OWN_MAX: u32 = 5;
    /// How many of all together.
    pub const ALL_MAX: u32 = 60;

    /// Whether another code is looked at.
    pub fn may_try(self) -> bool {
        self.own < Self::OWN_MAX && self.all < Self::ALL_MAX
    }
}

// What is looked at in the life of a code is nothing beside how many there are: one in 2^30 at most.
const _: () = assert!(
    (Tries::ALL_MAX as u128) * (PAIRING_LIFE.as_secs() / Tries::WITHIN.as_secs() + 1) as u128
        <= 1 << (8 * PAIRING_BYTES - 30)
);
const _: () = assert!(
    (Tries::ALL_MAX as u128) * (CLAIM_LIFE.as_secs() / Tries::WITHIN.as_secs() + 1) as u128
        <= 1 << (8 * CLAIM_BYTES - 30)
);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_code_has_all_its_bits_and_reads_back_however_people_write_it() {
        let code = pairing_code([0xff, 0, 0x12, 0x34, 0x56]);
        assert_eq!(code.len(), 9);
        assert_eq!(claim_code([7; CLAIM_BYTES]).len(), 19);
        let mut seen = HashSet::new();
        for byte in 0..PAIRING_BYTES {
            for bit in 0..8 {
                let mut bytes = [0; PAIRING_BYTES];
                bytes[byte] = 1 << bit;
                assert!(seen.insert(pairing_code(bytes)), "each bit makes another code");
            }
        }
        for said in
            [code.clone(), code.to_uppercase(), code.replace('-', ""), code.replace('-', " ")]
        {
            assert_eq!(normal(&said), normal(&code), "{said}");
        }
        assert!(normal(&code).bytes().all(|byte| LETTERS.contains(&byte)));
    }

    #[test]
    fn of_a_million_guesses_within_the_life_of_a_code_a_handful_is_looked_at() {
        for senders in [1_u32, 100, 1_000_000] {
            let (mut looked, mut by) = (0_u32, vec![0; senders as usize]);
            for guess in 0..1_000_000_u32 {
                let own = &mut by[(guess % senders) as usize];
                if (Tries { own: *own, all: looked }).may_try() {
                    looked += 1;
                    *own += 1;
                }
            }
            let bounds = Tries::OWN_MAX..=Tries::ALL_MAX;
            assert!(bounds.contains(&looked), "{senders}: {looked}");
        }
    }
}
