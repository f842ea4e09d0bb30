//! The wire between Forebay's processes: frames, messages, handshake, tickets, and transports for glommio and tokio;
//! and a small HTTP server.
//!
//! `frame`, `message`, `ticket`, `write_ticket` and `handshake` are pure; runtimes appear only in `transport/` and `http/`. docs/formats/wire.md is
//! the specification; golden-byte tests hold this crate to it.

mod endpoint;
mod error;
pub mod frame;
pub mod handshake;
mod host;
pub mod http;
mod identity;
pub mod message;
mod metrics;
mod secret;
pub mod ticket;
pub mod transport;
pub mod write_ticket;

pub use endpoint::Endpoint;
pub use error::NetError;
pub use frame::{FRAME_HEADER_BYTES, Flags, Header};
pub use host::host_id;
pub use identity::{Identity, Peer};
pub use message::{Message, Op, decode};
pub use metrics::{NET_METRICS, NetMetrics};
pub use secret::Secret;
