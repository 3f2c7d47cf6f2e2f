//! What the host asks of its operating system: the data directory and whose it is, processes, clocks,
//! threads for what blocks, and warnings that do not flood a log. It must not know what is stored in
//! the directory, nor what the processes are for.

pub mod blocking;
pub mod clock;
pub mod data;
mod data_error;
pub mod errno;
pub mod lock;
pub mod modes;
pub mod owner;
pub mod proc;
pub mod remove_tree;
pub mod repeat;
