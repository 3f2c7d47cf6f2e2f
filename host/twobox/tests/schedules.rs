//! Schedules and runs in `host.db`: every guard both ways, on real files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "schedules/claims.rs"]
mod claims;
#[path = "schedules/definitions.rs"]
mod definitions;
#[path = "schedules/ends.rs"]
mod ends;
#[path = "schedules/faults.rs"]
mod faults;
#[path = "schedules/life.rs"]
mod life;
#[path = "schedules/listing.rs"]
mod listing;
#[path = "schedules/manual.rs"]
mod manual;
#[path = "schedules/migration.rs"]
mod migration;
#[path = "schedules/outlived.rs"]
mod outlived;
#[path = "schedules/races.rs"]
mod races;
#[path = "schedules/starts.rs"]
mod starts;
#[path = "schedules/world.rs"]
mod world;
