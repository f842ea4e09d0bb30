//! The one library through which every frontend and tool reaches Forebay: metadata from the master, bytes from the
//! worker cores that own them.
//!
//! Runs on tokio. `Client` is shared by all threads; connections belong to the runtime that opened them (see `lane`),
//! so that a thread with a runtime of its own never waits for another one.

mod client;
mod config;
mod grant;
mod hold;
mod lane;
mod local_file;
mod local_files;
mod local_link;
mod map;
mod masters;
mod metrics;
mod open_file;
mod read_bytes;
mod read_many;
mod read_path;
mod retry;
mod session;
mod session_keeper;
mod session_place;
mod sweep;
mod workers;
mod write;

pub use client::Client;
pub use config::ClientConfig;
pub use forebay_net::Secret;
// The contracts, so that frontends need no other crate to name them.
pub use forebay_net::{http, message};
pub use grant::Grant;
pub use local_file::LocalFile;
pub use metrics::ClientMetrics;
pub use open_file::OpenFile;
pub use read_bytes::ReadBytes;
pub use session::WriteSession;
pub use write::WriteSource;
