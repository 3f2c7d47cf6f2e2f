//! What may go wrong outside Twobox, to be injected into the real binaries: a disk that is full or
//! read-only ([`disk`]), system calls that fail and clocks that jump ([`shim`]), and a container
//! engine that is away, slow or mad ([`engine`]).

pub mod disk;
pub mod engine;
pub mod shim;

/// Says loudly that a fault cannot be injected here.
///
/// # Panics
/// If `TWOBOX_REQUIRE_FAULTS` is set.
fn skipped(missing: &str) {
    let required = std::env::var("TWOBOX_REQUIRE_FAULTS").is_ok_and(|value| value != "0");
    assert!(!required, "TWOBOX_REQUIRE_FAULTS is set, but {missing}");
    eprintln!("SKIPPED: {missing}");
}
