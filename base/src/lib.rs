//! What every Forebay crate shares: ids, error kinds, units, settings, checksums, placement, logging and metrics.
//!
//! No runtime, no network, no storage. Everything here is plain data and pure functions, except `log`, which
//! installs the process-wide subscriber, `wall_clock`, the only place that reads the clock of the host, and `stall`, which
//! measures the turns of tasks.

mod checksum;
mod error_kind;
mod fingerprint;
mod id;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod placement;
pub mod settings;
pub mod stall;
mod units;
mod wall_clock;

pub use checksum::{UNIT_BYTES, crc32c, crc32c_append, unit_checksums};
pub use error_kind::{ErrorKind, KindError};
pub use fingerprint::{Fingerprint, FingerprintHash};
pub use id::{
    BlockIndex, ClusterId, FileId, Incarnation, MapEpoch, MountId, PageIndex, PartitionId, ShardId, Version, WorkerId,
};
pub use units::{ByteSize, Span};
pub use wall_clock::unix_now_ms;
