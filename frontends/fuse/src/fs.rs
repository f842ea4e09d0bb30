//! Forebay as a FUSE file system: nodes are versions of files, data come from the client library; files that change have a session.

mod ahead;
mod changes;
mod directory;
mod edits;
mod failures;
mod forebay;
mod grants;
mod handles;
mod log_gate;
mod names;
mod node_table;
mod opening;
mod passthrough;
mod walk;
mod writers;
mod writing;

pub use forebay::{FilesystemOptions, Forebay};
pub use node_table::{Node, NodeTable};
