//! Schedules: what people may do with them and see of them (`service`), and what claims their slots,
//! starts their runs and follows each to its end (`scheduler`). Where the slots are is `twobox-slots`;
//! how a run's message is worked on is the session's.

pub mod scheduler;
pub mod service;
