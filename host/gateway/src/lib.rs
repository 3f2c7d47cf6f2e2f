//! The way from agents to models: which upstreams there are and what they cost (`settings`, `price`),
//! and the host's secrets that they are asked with (`secrets`). A container has no key of an upstream,
//! and no way to one but through here.
//!
//! It must not know sessions' boxes, channels, or what runs a container.

pub mod price;
pub mod secrets;
pub mod settings;
