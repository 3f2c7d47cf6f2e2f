//! The Model Context Protocol, as JSON-RPC in both of its forms: that of 2025, which begins with a handshake
//! (`initialize`), and that of 2026, in which each request says in `_meta` what the handshake said.
//!
//! `server` is `agent-runner mcp`, which offers the host's tools to agents that are programs of their own, by
//! way of the desk of the runner that they belong to. `client` is the other direction: the tools of servers that
//! an agent's configuration names, for provider `model`, each at the end of a `link`: a `program` at the end of
//! its standard streams, or one that is `hosted`, which is asked over HTTP by a `letter` at the host's socket.
//!
//! Source: <https://modelcontextprotocol.io/specification>, versions 2025-06-18, 2025-11-25 and 2026-07-28.

mod beside;
pub(crate) mod client;
pub(crate) mod hosted;
pub(crate) mod letter;
pub(crate) mod lines;
pub(crate) mod link;
pub(crate) mod program;
pub(crate) mod server;
pub(crate) mod wire;

/// The version without a handshake.
pub(crate) const MODERN: &str = "2026-07-28";

/// The versions that are agreed on by a handshake, the newest first.
pub(crate) const HANDSHAKE: [&str; 2] = ["2025-11-25", "2025-06-18"];

/// Where a request of the modern form says its version,
pub(crate) const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// and what its client can do.
pub(crate) const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// and who asks.
pub(crate) const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";
/// Where an answer says who gives it.
pub(crate) const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// Codes of errors.
pub(crate) mod code {
    pub(crate) const PARSE: i64 = -32_700;
    pub(crate) const INVALID_REQUEST: i64 = -32_600;
    pub(crate) const NO_METHOD: i64 = -32_601;
    pub(crate) const INVALID_PARAMS: i64 = -32_602;
    pub(crate) const INTERNAL: i64 = -32_603;
    pub(crate) const UNSUPPORTED_VERSION: i64 = -32_022;
}
