//! The wire between Forebay's processes: frames, messages, handshake, tickets, and transports for glommio and tokio.
//!
//! `frame` and `message` are pure codecs; runtimes appear only in `transport/`. docs/formats/wire.md is the
//! specification; golden-byte tests hold this crate to it.

pub mod frame;
pub mod message;
pub mod ticket;

pub use frame::{FRAME_HEADER_BYTES, Flags, Header};
pub use message::{Message, Op};
