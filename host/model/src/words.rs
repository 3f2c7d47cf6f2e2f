//! Enums that have one word for each variant, the same wherever they are written.

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

        impl $crate::words::rusqlite::types::ToSql for $name {
            fn to_sql(&self) -> $crate::words::rusqlite::Result<$crate::words::rusqlite::types::ToSqlOutput<'_>> {
                self.as_str().to_sql()
            }
        }

        impl $crate::words::rusqlite::types::FromSql for $name {
            fn column_result(
                value: $crate::words::rusqlite::types::ValueRef<'_>,
            ) -> $crate::words::rusqlite::types::FromSqlResult<Self> {
                Self::parse(value.as_str()?).ok_or($crate::words::rusqlite::types::FromSqlError::InvalidType)
            }
        }
    };
}

#[doc(hidden)]
pub use rusqlite;
