//! Changing mode, owner and times. Blocking. What is changed is what was opened beneath the root, whatever its name leads to
//! by then.

use super::beneath::{Root, failure_of, meta_of};
use crate::{
    failure::Failure,
    key::last_name,
    under_store::{AttributeChange, ObjectMeta},
};
use forebay_base::ErrorKind;
use rustix::{
    fd::{AsRawFd, OwnedFd},
    fs::{
        AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chmod, chown, fstat, fsync, open,
        utimensat,
    },
    io::Errno,
};

pub(super) fn set(root: &Root, key: &str, change: &AttributeChange) -> Result<ObjectMeta, Failure> {
    // A descriptor of the path alone: its owner may change a file that he cannot read.
    let file = root.open_key(key, OFlags::PATH)?;
    let not_there = || Failure::new(ErrorKind::NotFound, "neither a file nor a directory");
    meta_of(last_name(key), &stat(&file)?).ok_or_else(not_there)?;
    // This link leads to the very inode that was opened.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let failed = |errno| match errno {
        Errno::NOENT => Failure::new(ErrorKind::Internal, "/proc is not mounted: attributes cannot be changed"),
        errno => failure_of(errno, "changing its attributes"),
    };
    // The owner first: that clears bits of the mode.
    if change.uid.is_some() || change.gid.is_some() {
        chown(&path, change.uid.map(Uid::from_raw), change.gid.map(Gid::from_raw)).map_err(failed)?;
    }
    if let Some(mode) = change.mode {
        chmod(&path, Mode::from_raw_mode(mode & 0o7777)).map_err(failed)?;
    }
    if let Some(mtime_ms) = change.mtime_ms {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: i64::try_from(mtime_ms / 1000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(mtime_ms % 1000 * 1_000_000).unwrap_or(0),
            },
        };
        utimensat(CWD, &path, &times, AtFlags::empty()).map_err(failed)?;
    }
    // What cannot be opened cannot be synced: then its file system writes it when it does.
    if let Ok(readable) = open(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        fsync(&readable).map_err(|errno| failure_of(errno, "syncing it"))?;
    }
    meta_of(last_name(key), &stat(&file)?).ok_or_else(not_there)
}

fn stat(file: &OwnedFd) -> Result<rustix::fs::Stat, Failure> {
    fstat(file).map_err(|errno| failure_of(errno, "asking for its attributes"))
}
