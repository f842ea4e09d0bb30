//! Disks through glommio: direct I/O where the file system takes it, else buffered.
//!
//! glommio decides per device, at the first file opened there, whether polled I/O works, by reading its first block; on
//! an empty file it decides wrongly and every later direct read fails. `open_directory` therefore opens a file
//! that is not empty (the superblock) before anything else.
//!
//! What `spawn` starts runs in a task queue of its own with a small share of the core; requests that come from it are
//! the background's at the disk too.

use super::queue::{Class, Depth, DiskQueue};
use super::{Access, AlignedBuffer, Disk, DiskFile, Entry, ReadBytes, Watch, lent_file};
use async_trait::async_trait;
use glommio::io::{BufferedFile, DmaFile, OpenOptions};
use glommio::{GlommioError, Latency, Shares, TaskQueueHandle};
use rustix::fs::{Mode, OFlags};
use std::any::Any;
use std::cell::Cell;
use std::fs;
use std::future::Future;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// The background's part of a core that has more to do than it can; readers have 1000.
const BACKGROUND_SHARES: usize = 100;

thread_local! {
    /// The background's queue in the executor of this number: a thread may run several, one after the other.
    static BACKGROUND: Cell<Option<(usize, TaskQueueHandle)>> = const { Cell::new(None) };
}

/// The queue of what nobody waits for.
fn background() -> TaskQueueHandle {
    let executor = glommio::executor();
    match BACKGROUND.get() {
        Some((id, queue)) if id == executor.id() => queue,
        _ => {
            let shares = Shares::Static(BACKGROUND_SHARES);
            let queue = executor.create_task_queue(shares, Latency::NotImportant, "background");
            BACKGROUND.set(Some((executor.id(), queue)));
            queue
        }
    }
}

/// Runs a future on this core in the background.
pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) {
    let task = glommio::spawn_local_into(future, background());
    task.expect("the queue was made in this executor").detach();
}

/// Lets others run if their turn has come.
pub(crate) async fn breathe() {
    glommio::yield_if_needed().await;
}

/// Who waits for what the running task asks of a disk.
fn class() -> Class {
    if glommio::executor().current_task_queue() == background() { Class::Background } else { Class::Reader }
}

/// Waits.
pub(crate) async fn sleep(time: Duration) {
    glommio::timer::sleep(time).await;
}

/// Lets a file go on another thread: closing the last descriptor of a large unlinked one takes a while.
pub(crate) fn drop_behind(watch: Box<dyn Watch>) {
    spawn(blocking(move || drop(watch)));
}

/// The operating system's own error, where there is one, with its number.
fn io_error<T>(error: GlommioError<T>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}

/// One directory's files.
pub(crate) struct GlommioDisk {
    direct: bool,
    queue: Rc<DiskQueue>,
}

impl GlommioDisk {
    /// Finds out how the file system below `sample` wants to be read. `sample` is a file of one whole unit or more.
    pub(crate) async fn open_directory(sample: &Path, depth: Depth) -> io::Result<GlommioDisk> {
        let queue = DiskQueue::new(depth);
        let refused = match Self::try_direct(sample).await? {
            Ok(()) => return Ok(GlommioDisk { direct: true, queue }),
            Err(why) => why,
        };
        let directory = sample.parent().unwrap_or(sample).display().to_string();
        tracing::warn!(%directory, "direct I/O is refused here ({refused}): using the page cache");
        Ok(GlommioDisk { direct: false, queue })
    }

    async fn try_direct(sample: &Path) -> io::Result<Result<(), String>> {
        let magic = rustix::fs::statfs(sample)?.f_type;
        if [TMPFS_MAGIC, RAMFS_MAGIC].contains(&magic) {
            return Ok(Err("a file system in memory".to_owned()));
        }
        // Asked for by hand first, since glommio panics or guesses where open refuses O_DIRECT.
        match rustix::fs::open(sample, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()) {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => {
                return Ok(Err("open with O_DIRECT fails".to_owned()));
            }
            Err(error) => return Err(error.into()),
            Ok(descriptor) => drop(descriptor),
        }
        let file = match OpenOptions::new().read(true).dma_open(sample).await.map_err(io_error) {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        };
        let read = file.read_at_aligned(0, forebay_base::UNIT_BYTES).await.map(drop).map_err(io_error);
        file.close().await.map_err(io_error)?;
        match read {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                Ok(Err(error.to_string()))
            }
            other => other.map(Ok),
        }
    }

    async fn open_once(&self, path: &Path, access: Access) -> io::Result<Rc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        if access == Access::Write {
            options.write(true).create(true);
        }
        Ok(if self.direct {
            Rc::new(DirectFile(options.dma_open(path).await.map_err(io_error)?, self.queue.clone()))
        } else {
            Rc::new(PlainFile(options.buffered_open(path).await.map_err(io_error)?, self.queue.clone()))
        })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    glommio::executor().spawn_blocking(work).await
}

fn set_mode(path: PathBuf, mode: u32) -> impl FnOnce() -> io::Result<()> + Send + 'static {
    move || fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[async_trait(?Send)]
impl Disk for GlommioDisk {
    async fn open(&self, path: &Path, access: Access) -> io::Result<Rc<dyn DiskFile>> {
        match self.open_once(path, access).await {
            // A sealed file that is about to lose pages.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && access == Access::Write => {
                blocking(set_mode(path.to_owned(), 0o600)).await?;
                self.open_once(path, access).await
            }
            other => other,
        }
    }

    async fn unlink(&self, path: &Path) -> io::Result<()> {
        match glommio::io::remove(path).await.map_err(io_error) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    async fn seal(&self, path: &Path) -> io::Result<()> {
        blocking(set_mode(path.to_owned(), 0o400)).await
    }

    async fn lend(&self, path: &Path, length_bytes: u64) -> io::Result<Option<fs::File>> {
        let path = path.to_owned();
        blocking(move || lent_file::lend(&path, length_bytes)).await
    }

    async fn watch(&self, path: &Path) -> io::Result<Option<(Box<dyn Watch>, u64)>> {
        let path = path.to_owned();
        blocking(move || lent_file::watch(&path)).await
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                entries.push(Entry {
                    name,
                    length_bytes: meta.len(),
                    allocated_bytes: meta.blocks() * 512,
                    is_lent: lent_file::is_marked(meta.mode()),
                });
            }
        }
        Ok(entries)
    }

    fn wipe(&self, path: &Path, keep: &[&str]) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if keep.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn read_whole(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let temporary = PathBuf::from(name);
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(parent) => fs::File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any>>> {
        let file = fs::File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

impl GlommioDisk {
    /// For what has to happen before `open_directory` can look at a file.
    pub(crate) fn before_probe(depth: Depth) -> GlommioDisk {
        GlommioDisk { direct: false, queue: DiskQueue::new(depth) }
    }
}

struct DirectFile(DmaFile, Rc<DiskQueue>);

#[async_trait(?Send)]
impl DiskFile for DirectFile {
    async fn read_at(&self, offset: u64, length: usize) -> io::Result<ReadBytes> {
        let _turn = self.1.turn(class(), length as u64).await;
        self.0.read_at_aligned(offset, length).await.map(ReadBytes::ring).map_err(io_error)
    }

    async fn write_at(&self, offset: u64, buffer: &AlignedBuffer) -> io::Result<()> {
        let want = buffer.bytes().len();
        let _turn = self.1.turn(class(), want as u64).await;
        written(self.0.write_rc_at(buffer.shared(), offset).await.map_err(io_error)?, want)
    }

    async fn sync(&self) -> io::Result<()> {
        self.0.fdatasync().await.map_err(io_error)
    }

    async fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.truncate(length).await.map_err(io_error)
    }

    async fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.deallocate(offset, length).await.map_err(io_error)
    }
}

struct PlainFile(BufferedFile, Rc<DiskQueue>);

#[async_trait(?Send)]
impl DiskFile for PlainFile {
    async fn read_at(&self, offset: u64, length: usize) -> io::Result<ReadBytes> {
        let _turn = self.1.turn(class(), length as u64).await;
        self.0.read_at(offset, length).await.map(ReadBytes::ring).map_err(io_error)
    }

    async fn write_at(&self, offset: u64, buffer: &AlignedBuffer) -> io::Result<()> {
        let want = buffer.bytes().len();
        let _turn = self.1.turn(class(), want as u64).await;
        written(self.0.write_at(buffer.bytes().to_vec(), offset).await.map_err(io_error)?, want)
    }

    async fn sync(&self) -> io::Result<()> {
        self.0.fdatasync().await.map_err(io_error)
    }

    async fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.truncate(length).await.map_err(io_error)
    }

    async fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.deallocate(offset, length).await.map_err(io_error)
    }
}

/// A write comes back short when the device has no more room.
fn written(bytes: usize, want: usize) -> io::Result<()> {
    if bytes == want { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENOSPC)) }
}
