//! Ids as types, so that a session cannot be passed for an agent group.
//!
//! Ids that Twobox makes are UUID v7 (RFC 9562): they sort by creation and need no coordination.
//! [`MessageId`] is different: platforms and containers choose message ids, so it is only checked.

use std::fmt;
use std::str::FromStr;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::bounds;

/// A text that is not the id it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID.
    #[error("{given:?} is not a UUID")]
    NotUuid {
        /// What was given.
        given: String,
    },
    /// Not usable as a message id.
    #[error("message id {given:?} {reason}")]
    BadMessageId {
        /// What was given, shortened.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Where fresh ids come from. Only `main` and loops hold one; everything else is given ids.
pub trait IdSource: Send + Sync {
    /// A UUID that was never returned before.
    fn uuid(&self) -> Uuid;
}

/// Time-ordered random ids from the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl IdSource for SystemIds {
    fn uuid(&self) -> Uuid {
        Uuid::now_v7()
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh id from `source`.
            pub fn generate(source: &(impl IdSource + ?Sized)) -> Self {
                Self(source.uuid())
            }

            /// This id for a given UUID.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|_| IdError::NotUuid { given: shorten(text) })
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from(self.to_string()))
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                value.as_str()?.parse().map_err(FromSqlError::other)
            }
        }
    };
}

uuid_id!(
    /// Something that a person is asked.
    ApprovalId
);
uuid_id!(
    /// One installation of Twobox: one data directory.
    InstallId
);
uuid_id!(
    /// An agent group: one agent personality with its folder.
    AgentGroupId
);
uuid_id!(
    /// A messaging group: one chat on one platform.
    MessagingGroupId
);
uuid_id!(
    /// A session: one conversation of one agent group.
    SessionId
);
uuid_id!(
    /// A runner id: one incarnation of an agent-runner, made by the host for one start.
    RunnerId
);
uuid_id!(
    /// A schedule: a standing order of a person to an agent group.
    ScheduleId
);
uuid_id!(
    /// A run: what a firing of a schedule makes.
    RunId
);
uuid_id!(
    /// A person whom the host knows.
    UserId
);
uuid_id!(
    /// One incarnation of the host process, which owns the runs that it started.
    HostId
);

/// The id of a row in either box. Channels and containers choose it, so it is never used as a path
/// without [`MessageId::parse`] having accepted it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct MessageId(String);

/// The longest message id, in bytes: what one file name holds.
pub const MESSAGE_ID_MAX: usize = bounds::MESSAGE_ID.most;

impl MessageId {
    /// Checks that `text` can be a message id: 1 to [`MESSAGE_ID_MAX`] bytes, printable, and safe as
    /// one component of a path.
    ///
    /// # Errors
    /// [`IdError::BadMessageId`] with the reason.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let bad = |reason: &str| {
            Err(IdError::BadMessageId { given: shorten(text), reason: reason.to_owned() })
        };
        if text.is_empty() {
            return bad("is empty");
        }
        if let Err(error) = bounds::MESSAGE_ID.check("it", text.len()) {
            return bad(&format!("is too long: {error}"));
        }
        if text == "." || text == ".." {
            return bad("is a directory reference");
        }
        if text.contains('/') || text.contains('\\') {
            return bad("contains a path separator");
        }
        if text.chars().any(char::is_control) {
            return bad("contains a control character");
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Uuid> for MessageId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid.hyphenated().to_string())
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl ToSql for MessageId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for MessageId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::parse(value.as_str()?).map_err(FromSqlError::other)
    }
}

/// At most 64 characters of `text`, for an error message.
fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_that_could_leave_their_folder_are_refused() {
        let long = "x".repeat(256);
        for bad in ["", ".", "..", "a/b", "..\\x", "a\0b", "line\nbreak", &long] {
            assert!(MessageId::parse(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["42", "a~b", "...", "chat:7", "größe", &"x".repeat(255)] {
            assert!(MessageId::parse(good).is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn generated_ids_sort_by_creation() {
        let ids: Vec<_> = (0..100).map(|_| SessionId::generate(&SystemIds)).collect();
        let mut sorted = ids.clone();
        sorted.sort();
        assert_eq!(ids, sorted);
    }
}
