//! Making the kernel forget, so that "warm" means the rig's cache and not the page cache.
//!
//! Pages of files: POSIX_FADV_DONTNEED through each file. Names and attributes of a mount: a remount, which drops the
//! mount's dentries. Everything on the machine: /proc/sys/vm/drop_caches, only where the run was told to.

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount_remount};
use std::path::{Path, PathBuf};

/// Whether the whole machine's caches may be dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    /// Only what the rig shows: neighbours on this machine keep theirs.
    Files,
    /// All of it, before cold jobs.
    Machine,
}

/// Forgets the pages of files.
pub(crate) fn drop_pages(paths: &[PathBuf]) {
    for path in paths {
        forebay_tests::drop_cached(path);
    }
}

/// Forgets the names below a mount of its own.
pub(crate) fn drop_names(mountpoint: &Path) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(mountpoint, flags, "").with_context(|| format!("remount {}", mountpoint.display()))
}

/// Forgets everything, if it may.
pub(crate) fn drop_machine(reach: Reach) -> Result<()> {
    if reach == Reach::Machine {
        rustix::fs::sync();
        std::fs::write("/proc/sys/vm/drop_caches", "3").context("/proc/sys/vm/drop_caches: want root")?;
    }
    Ok(())
}
