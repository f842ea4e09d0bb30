//! The master: the namespace over every under store, its journal, the mount table and the cluster's members.
//!
//! Threads: `namespace-N` own the partitions, `raft` and `journal-sync` the journal, `store` talks to under stores,
//! `master` serves calls. They pass messages; no lock is held over I/O.

mod audit;
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
mod pins;
mod policies;
mod serve;
#[cfg(test)]
mod serve_tests;
mod served;
mod service;
mod sessions;
mod state;
mod tree;
mod web;

pub use error::MasterError;
/// Every metric of a master but those of its process and its servers.
pub const METRICS: &[forebay_base::metrics::MetricDef] = <metrics::MasterMetrics as forebay_base::metrics::Table>::DEFS;
pub use serve::run;
