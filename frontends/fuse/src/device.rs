//! /dev/fuse: opening and cloning. The one file of this crate with `unsafe`.
#![expect(unsafe_code, reason = "FUSE_DEV_IOC_CLONE and AsyncFd have no safe wrapper")]

use crate::error::FuseError;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `_IOR(229, 0, uint32_t)`.
const FUSE_DEV_IOC_CLONE: libc::c_ulong = 0x8004_e500;

/// What to wait for: requests, and the end of the mount, which is an error condition only.
pub(crate) const WAKES: Interest = Interest::READABLE.add(Interest::ERROR);

/// Opens the device, not blocking.
pub(crate) fn open() -> Result<OwnedFd, FuseError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open("/dev/fuse", flags, Mode::empty())
        .map_err(|error| FuseError::system("cannot open /dev/fuse", error))
}

/// Another descriptor of the same connection with a queue of its own for replies.
pub(crate) fn clone(session: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fresh = rustix::fs::open("/dev/fuse", flags, Mode::empty())?;
    let session_number = session.as_raw_fd() as u32;
    // SAFETY: the ioctl reads one u32 behind the pointer, which lives until the call returns; both descriptors are open.
    let result = unsafe { libc::ioctl(fresh.as_raw_fd(), FUSE_DEV_IOC_CLONE as _, &raw const session_number) };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(fresh)
}

/// Registers the descriptor with the current runtime.
pub(crate) fn watch(descriptor: OwnedFd) -> Result<AsyncFd<OwnedFd>, FuseError> {
    // SAFETY: an `OwnedFd` always gives the same descriptor and keeps it open until it is dropped, which the `AsyncFd`
    // that owns it does after it has deregistered.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, WAKES) };
    registered.map_err(|error| FuseError::system("cannot wait for /dev/fuse", std::io::Error::from(error)))
}
