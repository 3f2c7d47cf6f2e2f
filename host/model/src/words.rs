//! Enums that have one word for each variant, the same wherever they are written.

/// What has one word for each of its values; [`words!`](crate::words!) makes them.
pub trait Words: Sized {
    /// What `word` means; `None` for any other.
    fn of_word(word: &str) -> Option<Self>;
}

/// An enum with one word for each variant, the same in the database, in JSON and on the command line.
/// Whoever uses it needs `serde`.
#[macro_export]
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Each of them, in the order in which they are declared.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word, in the database, in JSON and on the command line.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// What `word` means; `None` for any other.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }

        impl $crate::words::Words for $name {
            fn of_word(word: &str) -> Option<Self> {
                Self::parse(word)
            }
        }
    };
}
