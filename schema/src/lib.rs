//! Every table of Twobox, as SQL text with version numbers. No logic, and no dependency: opening,
//! migrating and querying is `twobox-shared` (the two boxes) and `twobox-store` (`host.db`).
//!
//! The session protocol that these tables carry is specified in `PROTOCOL.md` beside this crate.

/// The newest `user_version` of `inbound.db` that this build writes. Version 0 is the legacy shape:
/// non-`STRICT`, and any of the later columns may be missing.
pub const INBOUND_VERSION: u32 = 3;

/// `inbound.db` as a fresh file has it.
pub const INBOUND: &str = include_str!("../inbound/schema.sql");

/// The newest `user_version` of `outbound.db` that this build writes. Version 0 is the legacy shape.
pub const OUTBOUND_VERSION: u32 = 1;

/// `outbound.db` as a fresh file has it.
pub const OUTBOUND: &str = include_str!("../outbound/schema.sql");

/// The migrations of `host.db`: entry `n` takes a file from `user_version` `n` to `n + 1`. An entry
/// never changes once it was released; a new version is a new file.
pub const HOST: &[&str] = &[
    include_str!("../host/0001_core.sql"),
    include_str!("../host/0002_dropped_notices.sql"),
    include_str!("../host/0003_schedules.sql"),
    include_str!("../host/0004_sessions_of_runs.sql"),
    include_str!("../host/0005_new_sessions.sql"),
    include_str!("../host/0006_place.sql"),
    include_str!("../host/0007_refused.sql"),
    include_str!("../host/0008_turns.sql"),
    include_str!("../host/0009_answers.sql"),
    include_str!("../host/0010_order_of_notices.sql"),
    include_str!("../host/0011_owner.sql"),
    include_str!("../host/0012_usage.sql"),
    include_str!("../host/0013_answers_of_notices.sql"),
    include_str!("../host/0014_approvals.sql"),
    include_str!("../host/0015_usage_of_runs.sql"),
    include_str!("../host/0016_asked_at.sql"),
    include_str!("../host/0017_parts.sql"),
    include_str!("../host/0018_alerts.sql"),
    include_str!("../host/0019_people.sql"),
];
