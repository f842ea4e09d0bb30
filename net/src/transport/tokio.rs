//! The tokio transport: the client's connection, and the server that masters run.
//!
//! Owned by the runtime it was made on. Frames are read into one small buffer, large payloads straight into their own
//! allocation; whatever is queued to be written goes out in one write.

mod connection;
mod frames;
mod server;

pub use connection::Connection;
pub use server::{Server, Service};
