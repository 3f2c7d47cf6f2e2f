//! The ids of schedules, runs and hosts: UUIDs v7, which sort by creation.
//!
//! They lean on an id of `twobox_shared::ids`, whose reading and writing they share.

use std::fmt;
use std::str::FromStr;

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};
use twobox_shared::ids::{IdError, IdSource, RunnerId};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(RunnerId);

        impl $name {
            /// A fresh id from `source`.
            pub fn generate(source: &(impl IdSource + ?Sized)) -> Self {
                Self(RunnerId::generate(source))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.parse().map(Self)
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                self.0.to_sql()
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                RunnerId::column_result(value).map(Self)
            }
        }
    };
}

id!(
    /// A schedule.
    ScheduleId
);
id!(
    /// A run: what a firing of a schedule makes.
    RunId
);
id!(
    /// One incarnation of the host process, which owns the runs that it started.
    HostId
);
