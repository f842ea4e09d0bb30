//! Forebay as a FUSE file system: nodes are versions of files, data come from the client library.

mod ahead;
mod directory;
mod forebay;
mod grants;
mod handles;
mod log_gate;
mod names;
mod node_table;
mod opening;
mod passthrough;
mod walk;

pub use forebay::{FilesystemOptions, Forebay};
pub use node_table::{Node, NodeTable};
