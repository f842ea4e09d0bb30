//! A whole local file of a worker on this host, held under a lease. Shared by every open handle of its content, on any
//! thread; the lease goes back when the last one lets go.
//!
//! Invariants: the worker has checked the file and never changes it, so its bytes are right for as long as it is open,
//! lease or no lease; what a read cannot bring is read from the worker.

use crate::local_link::Returned;
use bytes::Bytes;
use rustix::io::ReadWriteFlags;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A leased file.
pub struct LocalFile {
    file: File,
    size: u64,
    lease: u64,
    returned: Arc<Returned>,
    /// The worker no longer has the content, or the connection that the lease belonged to is gone.
    gone: Arc<AtomicBool>,
    failed: AtomicBool,
}

impl LocalFile {
    pub(crate) fn new(file: File, size: u64, lease: u64, returned: Arc<Returned>, gone: Arc<AtomicBool>) -> Self {
        Self { file, size, lease, returned, gone, failed: AtomicBool::new(false) }
    }

    /// The file itself, open for reading.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Bytes of the file; exactly the content's.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it may be given to new readers: its worker still vouches for it, and no read of it failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.gone.load(Ordering::Relaxed) && !self.has_failed()
    }

    /// Whether a read of it failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Notes that a read failed: nobody reads it any more.
    pub(crate) fn set_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Reads a range; shorter only at the end of the file. What the page cache does not hold is read on a thread that may
    /// block.
    pub(crate) async fn read(self: &Arc<Self>, offset: u64, length: u32) -> io::Result<Bytes> {
        let length = self.size.saturating_sub(offset).min(u64::from(length)) as usize;
        let mut bytes = vec![0; length];
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        // An error means no more than that somebody has to wait for the disk.
        let done = rustix::io::preadv2(&self.file, &mut pieces, offset, ReadWriteFlags::NOWAIT).unwrap_or(0);
        if done == length {
            return Ok(bytes.into());
        }
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            this.file.read_exact_at(&mut bytes[done..], offset + done as u64)?;
            Ok(bytes)
        });
        read.await.map_err(io::Error::other)?.map(Bytes::from)
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        self.returned.put(self.lease);
    }
}
