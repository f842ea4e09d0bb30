//! The content of one write session: a staging file that blocking threads read and write.
//!
//! Invariants: reads and writes go side by side, cutting, saving and ending alone, in the order in which they came; once the disk
//! failed, nothing but reading works any more; what a thread does counts whether anybody still waits for it.

use forebay_base::{ErrorKind, KindError, limits};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

/// Left free of the file system that holds staging files: a part of it, up to so many bytes.
const RESERVE_PART: u64 = 64;
const RESERVE_BYTES_MAX: u64 = 1 << 30;

/// Nothing else goes on at a content while this lives.
pub(crate) type Alone = OwnedRwLockWriteGuard<()>;

/// The staging file.
pub(crate) struct Content {
    file: File,
    size: AtomicU64,
    /// Grows with each change.
    changes: AtomicU64,
    failed: Mutex<Option<KindError>>,
    turn: Arc<RwLock<()>>,
}

impl Content {
    pub(crate) fn new(file: File) -> std::io::Result<Arc<Self>> {
        let size = AtomicU64::new(file.metadata()?.len());
        Ok(Arc::new(Self { file, size, changes: AtomicU64::new(0), failed: Mutex::default(), turn: Arc::default() }))
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// When it is its turn.
    pub(crate) async fn alone(&self) -> Alone {
        self.turn.clone().write_owned().await
    }

    /// The same, if nothing goes on now.
    pub(crate) fn try_alone(&self) -> Option<Alone> {
        self.turn.clone().try_write_owned().ok()
    }

    /// Why it does not take anything any more.
    pub(crate) fn check(&self) -> Result<(), KindError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    /// The disk failed: what it has is not what was acknowledged.
    fn fail(&self, doing: &str, error: &std::io::Error) -> KindError {
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            _ => ErrorKind::Internal,
        };
        let error = KindError::new(kind, format!("write session: {doing} its staging file: {error}; it cannot go on"));
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        error
    }

    /// Writes; the size afterwards.
    pub(crate) async fn write(
        self: &Arc<Self>,
        threads: &Handle,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<u64, KindError> {
        let end = offset.saturating_add(bytes.len() as u64);
        check_size(end)?;
        let turn = self.turn.clone().read_owned().await;
        let this = self.clone();
        blocking(threads, move || {
            let _turn = turn;
            this.check()?;
            this.has_room(bytes.len() as u64)?;
            this.file.write_all_at(&bytes, offset).map_err(|error| this.fail("writing", &error))?;
            this.size.fetch_max(end, Ordering::AcqRel);
            this.changes.fetch_add(1, Ordering::AcqRel);
            Ok(this.size())
        })
        .await
    }

    /// Reads; fewer bytes come only at the end.
    pub(crate) async fn read(
        self: &Arc<Self>,
        threads: &Handle,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, KindError> {
        let turn = self.turn.clone().read_owned().await;
        let this = self.clone();
        blocking(threads, move || {
            let _turn = turn;
            this.read_now(offset, length)
        })
        .await
    }

    /// For whoever has its turn already. Blocking.
    pub(crate) fn read_now(&self, offset: u64, length: usize) -> Result<Vec<u8>, KindError> {
        let there = self.size().saturating_sub(offset).min(length as u64);
        let mut bytes = vec![0; there as usize];
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map_err(|error| {
            KindError::new(ErrorKind::Internal, format!("write session: reading its staging file: {error}"))
        })?;
        Ok(bytes)
    }

    /// Cuts or lengthens; the size afterwards.
    pub(crate) async fn resize(self: &Arc<Self>, threads: &Handle, size: u64) -> Result<u64, KindError> {
        check_size(size)?;
        let turn = self.alone().await;
        let this = self.clone();
        blocking(threads, move || {
            let _turn = turn;
            this.check()?;
            this.file.set_len(size).map_err(|error| this.fail("cutting", &error))?;
            this.size.store(size, Ordering::Release);
            this.changes.fetch_add(1, Ordering::AcqRel);
            Ok(size)
        })
        .await
    }

    /// For whoever is `alone`: all that was answered before is on the disk, and so is what `note` writes then.
    pub(crate) async fn sync(
        self: &Arc<Self>,
        threads: &Handle,
        alone: Alone,
        note: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), KindError> {
        let this = self.clone();
        blocking(threads, move || {
            let _alone = alone;
            this.check()?;
            this.file.sync_all().map_err(|error| this.fail("syncing", &error))?;
            note().map_err(|error| this.fail("noting", &error))
        })
        .await
    }

    /// What still waits for its turn comes too late.
    pub(crate) fn close(&self) {
        let ended = KindError::new(ErrorKind::Closed, "the write session has ended");
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ended);
    }

    fn has_room(&self, bytes: u64) -> Result<(), KindError> {
        let Ok(stat) = rustix::fs::fstatvfs(&self.file) else { return Ok(()) };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let reserve = (stat.f_blocks.saturating_mul(stat.f_frsize) / RESERVE_PART).min(RESERVE_BYTES_MAX);
        if free >= reserve.saturating_add(bytes) {
            return Ok(());
        }
        let message =
            format!("worker.dir has {free} bytes free, of which {reserve} stay free: no room for what is written");
        Err(KindError::new(ErrorKind::NoSpace, message))
    }
}

fn check_size(size: u64) -> Result<(), KindError> {
    if size <= limits::FILE_BYTES_MAX {
        return Ok(());
    }
    let message = format!("{size} bytes: a file has at most {} bytes", limits::FILE_BYTES_MAX);
    Err(KindError::new(ErrorKind::Invalid, message))
}

/// Runs it on a thread that may block; it goes on if nobody waits any more.
pub(crate) async fn blocking<T: Send + 'static>(
    threads: &Handle,
    work: impl FnOnce() -> Result<T, KindError> + Send + 'static,
) -> Result<T, KindError> {
    let ended = |error| KindError::new(ErrorKind::Internal, format!("a store thread ended: {error}"));
    threads.spawn_blocking(work).await.unwrap_or_else(|error| Err(ended(error)))
}
