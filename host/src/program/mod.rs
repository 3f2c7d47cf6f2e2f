//! What an agent is: its program and what belongs to it, in a folder that no container can write.

mod readers;

pub use self::readers::open_to_readers;
