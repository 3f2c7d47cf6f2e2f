//! What a request costs, and the most that it can: pure.

/// Tokens of one request, as its upstream counted them. What was read from a cache or written to one is
/// not counted as input besides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Read, at the full price.
    pub input: u64,
    /// Read from the upstream's cache.
    pub cache_read: u64,
    /// Read, and put into its cache.
    pub cache_write: u64,
    /// Written by the model.
    pub output: u64,
}
