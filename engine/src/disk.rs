//! The only door to disks, and the only home of glommio in this crate.
//!
//! One core owns a `Disk` and everything opened through it. Invariants: offsets and lengths of reads and writes are
//! whole 4 KiB units; a read beyond the end comes back short; a write is complete or an error; nothing is durable before
//! `sync` returned without an error. No glommio type passes this module.

mod buffer;
#[cfg(test)]
pub(crate) mod faulty;
mod glommio_disk;
mod lent_file;
mod queue;
#[cfg(test)]
pub(crate) mod simulated;

pub(crate) use buffer::{AlignedBuffer, ReadBytes};
pub(crate) use glommio_disk::{GlommioDisk, drop_behind};
#[cfg(not(test))]
pub(crate) use glommio_disk::{breathe, sleep, spawn};
pub(crate) use queue::Depth;
#[cfg(test)]
pub(crate) use simulated::{breathe, now, sleep, spawn};

use async_trait::async_trait;
use std::any::Any;
use std::fs::File;
use std::io;
use std::path::Path;
use std::rc::Rc;
#[cfg(not(test))]
use std::time::Instant;

/// What the clock says.
#[cfg(not(test))]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// For reads.
    Read,
    /// For reads and writes; made if it is not there.
    Write,
}

/// One entry of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) length_bytes: u64,
    pub(crate) allocated_bytes: u64,
    /// It was handed out.
    pub(crate) is_lent: bool,
}

/// A file that is watched. Its space is free when it is dropped, if it has no name and nobody else has it open.
pub(crate) trait Watch: Send {
    /// Whether anybody else has it open or mapped.
    fn in_use(&self) -> bool;
}

/// A place for files. Directories and small whole files are touched at start only, and may block.
#[async_trait(?Send)]
pub(crate) trait Disk {
    /// Opens a file.
    async fn open(&self, path: &Path, access: Access) -> io::Result<Rc<dyn DiskFile>>;
    /// Removes a file's name; no error if it is not there.
    async fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Takes the right to write from everyone, the owner included.
    async fn seal(&self, path: &Path) -> io::Result<()>;
    /// Opens a file for another process, read-only and marked as handed out; `None` if it has a hole or another length.
    async fn lend(&self, _path: &Path, _length_bytes: u64) -> io::Result<Option<File>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Watches a file; with the bytes that it takes. `None` if it is not there.
    async fn watch(&self, _path: &Path) -> io::Result<Option<(Box<dyn Watch>, u64)>> {
        Ok(None)
    }
    /// Makes a directory and its parents; no error if it is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The files of a directory, without directories.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Removes everything directly below a directory, with what is below that, except the names in `keep`.
    fn wipe(&self, path: &Path, keep: &[&str]) -> io::Result<()>;
    /// Reads a small file; `None` if it is not there.
    fn read_whole(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// Puts a small file in place, durably, all or nothing.
    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Locks a file (made if needed) against other processes; `None` if one has it. Held until dropped.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any>>>;
}

/// An open file.
#[async_trait(?Send)]
pub(crate) trait DiskFile {
    /// Reads whole units; short at the end of the file.
    async fn read_at(&self, offset: u64, length: usize) -> io::Result<ReadBytes>;
    /// Writes the whole buffer.
    async fn write_at(&self, offset: u64, buffer: &AlignedBuffer) -> io::Result<()>;
    /// Makes all that was written durable.
    async fn sync(&self) -> io::Result<()>;
    /// Sets the length.
    async fn truncate(&self, length: u64) -> io::Result<()>;
    /// Gives the space of whole units back; they read as zeros.
    async fn punch(&self, offset: u64, length: u64) -> io::Result<()>;
}
