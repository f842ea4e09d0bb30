//! A rig: something that shows the data set, started and stopped by the harness.
//!
//! Invariant: when a rig is dropped, so are its processes, its mount and its directory.

pub(crate) mod alluxio;
pub(crate) mod ext4;
pub(crate) mod forebay;
pub(crate) mod fuse_peer;
pub(crate) mod loopback;
pub(crate) mod server;

use anyhow::Result;
use forebay_ufs::UnderStore;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to speak a protocol over TCP directly.
#[derive(Clone, Debug)]
pub(crate) enum WireTarget {
    /// A plain answerer of the harness: the limit.
    Plain { address: String },
    /// A Forebay cluster, by its configuration.
    Forebay { config: PathBuf },
}

/// One rig.
pub(crate) trait Rig {
    /// Its name in tables.
    fn name(&self) -> &str;

    /// What it is, with its version.
    fn version(&self) -> String;

    /// What was run to start it.
    fn commands(&self) -> Vec<String>;

    /// Its processes by role.
    fn processes(&self) -> Vec<(String, u32)>;

    /// Where the data set can be read as files.
    fn folder(&self) -> Option<PathBuf> {
        None
    }

    /// The mount point behind that, where the rig has one of its own.
    fn mountpoint(&self) -> Option<PathBuf> {
        None
    }

    /// Where objects can be read without a file system.
    fn store(&self) -> Option<Arc<dyn UnderStore>> {
        None
    }

    /// Where a protocol can be spoken.
    fn wire(&self) -> Option<WireTarget> {
        None
    }

    /// Empties its cache, as far as the rig can; the mount serves afterwards.
    fn empty(&mut self) -> Result<()>;

    /// Copies everything from the store to where the rig keeps it, by its own means; the command that did. `None` where
    /// there is no such thing.
    fn load(&mut self) -> Option<Result<String>> {
        None
    }

    /// Whether `load` can be asked for.
    fn loads(&self) -> bool {
        false
    }

    /// Kills the process that holds the cache and starts it again. `None` where there is no such thing; else bytes read
    /// from the store since that start can be asked for.
    fn restart_cache(&mut self) -> Option<Result<()>> {
        None
    }

    /// Bytes that the cache has read from the store since it started.
    fn store_read_bytes(&self) -> Option<u64> {
        None
    }
}

/// Unmounts, however many times something was mounted there.
pub(crate) fn unmount(mountpoint: &Path) {
    while rustix::mount::unmount(mountpoint, rustix::mount::UnmountFlags::DETACH).is_ok() {}
}

/// Whether something is mounted exactly there.
pub(crate) fn is_mounted(mountpoint: &Path) -> bool {
    let wanted = mountpoint.to_string_lossy();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().any(|line| line.split(' ').nth(4) == Some(&wanted))
}
