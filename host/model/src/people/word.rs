//! Words about people, said in a chat to the host: `/pair` and `/claim`. What is told of them is the host's alone:
//! no agent reads one, and none is kept.

/// A word about people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeopleWord {
    /// A stranger wants a code.
    WantsCode,
    /// Lets the stranger in who was told this code.
    Pair(String),
    /// Makes whoever says it an owner.
    Claim(String),
}

/// The longest that is taken for a code, in bytes. What is longer is none.
const CODE_MAX: usize = 64;

impl PeopleWord {
    /// The word that `text` is, if it is one and nothing else.
    pub fn of(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (word, code, more) = (words.next()?, words.next(), words.next());
        let is = |known: &str| word.eq_ignore_ascii_case(known);
        let code = code.map(str::to_owned);
        if more.is_some() || code.as_ref().is_some_and(|code| code.len() > CODE_MAX) {
            return None;
        }
        match code {
            None if is("/pair") => Some(Self::WantsCode),
            Some(code) if is("/pair") => Some(Self::Pair(code)),
            Some(code) if is("/claim") => Some(Self::Claim(code)),
            None | Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_word_and_its_code_are_one() {
        let pair = |code: &str| Some(PeopleWord::Pair(code.to_owned()));
        let cases = [
            ("/pair", Some(PeopleWord::WantsCode)),
            (" /PAIR\n", Some(PeopleWord::WantsCode)),
            ("/pair abcd-efgh", pair("abcd-efgh")),
            ("  /Pair   abcd ", pair("abcd")),
            ("/claim abcd", Some(PeopleWord::Claim("abcd".to_owned()))),
            ("/claim", None),
            ("/pair me with bob", None),
            ("/paired abcd", None),
            ("pair abcd", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(PeopleWord::of(text), expected, "{text:?}");
        }
        assert_eq!(PeopleWord::of(&format!("/claim {}", "x".repeat(65))), None);
    }
}
