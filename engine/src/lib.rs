//! One core's block store: pages in memory, on SSD and on HDD, with the tables that bring them back after a restart.
//!
//! Owned by one core and never sent to another: everything here is `!Send` and runs inside a glommio executor. The store
//! knows no path and no network. It serves right bytes or a miss: what fails a check, whatever the reason, is a miss.

#[doc(hidden)]
pub mod bench;
mod chunked;
mod config;
mod directory;
mod disk;
mod error;
mod evict;
mod format;
mod gone;
mod index;
mod key;
mod lent;
mod memory;
mod pins;
mod recent;
mod report;
mod signal;
mod store;

pub use config::{DirectoryConfig, EvictionPolicy, StoreConfig};
pub use directory::{holds_cache, wipe_cache};
pub use error::EngineError;
pub use gone::{Cause, Gone};
pub use key::FileKey;
pub use memory::{PageBuf, PageSlice, UnitSums};
pub use report::{CachedPages, DirectoryUsage, EngineCounters, Recovery};
pub use store::{Explained, HeldAt, NotLent, PageCheck, Pin, PinState, Store};

/// Where bytes are held, the fastest first. The order is fixed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tier {
    /// In memory.
    Mem,
    /// On a fast local disk.
    Ssd,
    /// On a slow local disk.
    Hdd,
}
