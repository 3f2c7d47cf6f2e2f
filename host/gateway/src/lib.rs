//! The way from agents to models: a socket for each session (`door`), what may be asked there (`request`,
//! `headers`), how much at once (`caller`, `pace`, `body`), and the way on (`proxy`, `upstream`, `pause`,
//! `tap`); to what they may reach of the network (`egress`); which upstreams there are and what they cost
//! (`settings`, `price`), the host's secrets that they are asked with (`secrets`), what was used
//! (`counting`, `ledger`), and what was answered, if that is wanted (`recording`). A container has no key of an upstream, and no way to one but through here.
//!
//! It must not know sessions' boxes, channels, or what runs a container.

mod answer;
mod body;
mod body_fields;
mod built_in;
mod caller;
pub mod counting;
mod door;
mod egress;
mod gateway;
mod headers;
pub mod ledger;
mod pace;
mod pause;
pub mod price;
mod proxy;
mod reader;
pub mod recording;
pub mod refusal;
pub mod request;
pub mod retry;
mod scrub;
pub mod secrets;
mod server_headers;
pub mod settings;
mod tap;
mod unsaid;
mod upstream;

pub use caller::{Allowance, Allowed, TakenIn, Terms};
pub use door::Door;
pub use egress::reach::Resolver;
pub use gateway::{Gateway, GatewayError, Unoffered};
pub use ledger::Ledger;
pub use proxy::Proxy;
pub use secrets::{Secret, Secrets};
pub use settings::Upstreams;
