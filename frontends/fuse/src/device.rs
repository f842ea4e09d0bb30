//! /dev/fuse: opening, cloning, and registering backing files. The one file of this crate with `unsafe`.
#![expect(unsafe_code, reason = "the ioctls of /dev/fuse and AsyncFd have no safe wrapper")]

use crate::error::FuseError;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `_IOR(229, 0, uint32_t)`.
const FUSE_DEV_IOC_CLONE: libc::c_ulong = 0x8004_e500;

/// `_IOW(229, 1, struct fuse_backing_map)`.
const FUSE_DEV_IOC_BACKING_OPEN: libc::c_ulong = 0x4010_e501;
/// `_IOW(229, 2, uint32_t)`.
const FUSE_DEV_IOC_BACKING_CLOSE: libc::c_ulong = 0x4004_e502;

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

/// `struct fuse_backing_map`.
#[repr(C)]
struct BackingMap {
    descriptor: i32,
    flags: u32,
    padding: u64,
}

/// Registers local files for the kernel to read. Made by the session; any thread.
#[derive(Debug)]
pub struct Backing {
    device: OwnedFd,
}

impl Backing {
    /// For a session that has agreed on passthrough; the error says why this process may not use it.
    pub(crate) fn new(device: OwnedFd) -> Result<Self, Errno> {
        let this = Self { device };
        // The kernel looks at the caller before it looks at the descriptor.
        match this.register(-1) {
            Err(Errno::BADF) => Ok(this),
            Err(error) => Err(error),
            Ok(_) => Err(Errno::INVAL),
        }
    }

    /// Registers a file; the kernel holds it until `close`.
    pub fn open(&self, file: BorrowedFd<'_>) -> Result<u32, Errno> {
        self.register(file.as_raw_fd())
    }

    fn register(&self, descriptor: RawFd) -> Result<u32, Errno> {
        let map = BackingMap { descriptor, flags: 0, padding: 0 };
        // SAFETY: the ioctl reads one `fuse_backing_map` behind the pointer, which lives until the call returns.
        let id = unsafe { libc::ioctl(self.device.as_raw_fd(), FUSE_DEV_IOC_BACKING_OPEN as _, &raw const map) };
        u32::try_from(id).map_err(|_| last_error())
    }

    /// Gives an id back.
    pub fn close(&self, id: u32) -> Result<(), Errno> {
        // SAFETY: the ioctl reads one u32 behind the pointer, which lives until the call returns.
        let result = unsafe { libc::ioctl(self.device.as_raw_fd(), FUSE_DEV_IOC_BACKING_CLOSE as _, &raw const id) };
        if result < 0 { Err(last_error()) } else { Ok(()) }
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
