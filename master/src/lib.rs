//! The master: the namespace over every under store, its journal, the mount table and the cluster's members.
//!
//! Threads: `namespace-N` own the partitions, `raft` and `journal-sync` the journal, `store` talks to under stores,
//! `master` serves calls. They pass messages; no lock is held over I/O.

#[doc(hidden)]
pub mod bench;
mod console;
mod cores;
mod error;
mod feed;
mod flights;
mod freshness;
mod identity;
mod jobs;
mod journal;
mod links;
mod members;
mod metrics;
mod mount_state;
mod mounts;
mod namespace;
mod policies;
mod serve;
#[cfg(test)]
mod serve_tests;
mod service;
mod state;
mod tree;
mod web;

pub use error::MasterError;
pub use serve::run;
