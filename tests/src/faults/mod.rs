//! What may go wrong outside Twobox, to be injected into the real binaries: a disk that is full or
//! read-only ([`disk`]), system calls that fail and clocks that jump ([`shim`]), and a container
//! engine that is away, slow or mad ([`engine`]).

pub mod disk;
pub mod engine;
pub mod shim;
