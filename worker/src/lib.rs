//! A worker: one core's engine behind each port, filled from the under stores.
//!
//! Threads: one glommio executor per core (`shard`, `service`, `fetch`), a control thread that talks to the master
//! (`run`, `control`), and the store threads (`store_gate`, `uploads`). Cores share nothing but counters; everything else crosses
//! by messages.

mod allocator;
mod control;
mod counters;
mod directories;
mod error;
mod feed;
mod fetch;
mod flight;
mod forward;
mod handout;
mod home;
mod leftovers;
mod live;
mod masters;
mod plan;
mod ports;
mod pulse;
mod read_ahead;
mod report;
mod run;
mod service;
mod sessions;
mod shard;
mod store_gate;
mod stuck;
mod tickets;
mod upload_memory;
mod uploads;
mod within;

pub use error::WorkerError;
pub use run::{run, wipe_cache};
/// Every metric of a worker but those of its process and its servers.
pub const METRICS: &[forebay_base::metrics::MetricDef] = counters::DEFS;
