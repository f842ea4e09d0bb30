//! What a FUSE file system must answer, in the protocol's own terms. Transports call it; file systems implement it.
//!
//! Invariants: node ids are never reused while the mount lives and are not inode numbers; each `Entry` with a node that
//! is handed out counts as one lookup of it, until `forget` takes it back. Handlers run on the session's threads, each
//! with a current-thread runtime: they never block, and shared state is behind locks held for moments.

pub use crate::device::Backing;
use crate::wire::DirBuffer;
pub use crate::wire::{AttrChange, Caller, SetTime};
use bytes::Bytes;
pub use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Attributes of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeAttr {
    /// What stat(2) shows as the inode number; not the node id.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970.
    pub mtime_ms: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `st_blksize`.
    pub preferred_io_bytes: u32,
}

/// A node under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its id; 0 in a listing for an entry that the kernel should look up itself.
    pub node: u64,
    /// Its attributes.
    pub attr: NodeAttr,
    /// How long the kernel may believe name and attributes.
    pub valid: Duration,
}

/// What `open` gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Comes back with every read.
    pub handle: u64,
    /// `FOPEN_` bits.
    pub flags: u32,
    /// A registered backing file, for passthrough.
    pub backing_id: Option<u32>,
}

/// What `read` gives.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes in memory; sent from where they are.
    Memory(Bytes),
    /// A range of a local file.
    Descriptor {
        /// The file.
        file: Arc<OwnedFd>,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: usize,
    },
}

impl Content {
    /// How many bytes it has.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Content::Memory(bytes) => bytes.len(),
            Content::Descriptor { length, .. } => *length,
        }
    }
}

/// Capacity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatFs {
    /// Bytes there are.
    pub capacity_bytes: u64,
    /// Bytes not in use.
    pub free_bytes: u64,
    /// Inodes.
    pub files: u64,
    /// The unit in which capacity is shown.
    pub block_bytes: u32,
    /// Longest name.
    pub name_bytes_max: u32,
}

/// A file system.
#[expect(async_fn_in_trait, reason = "handlers run on the thread that read the request; Send is not wanted")]
pub trait Handler: Send + Sync + 'static {
    /// The session has begun: how backing files are registered, or why none can be.
    fn began(&self, _backing: Result<Backing, String>) {}
    /// A name in a directory.
    async fn lookup(&self, parent: u64, name: &[u8]) -> Result<Entry, Errno>;
    /// The kernel drops this many lookups of a node.
    fn forget(&self, node: u64, lookups: u64);
    /// Attributes, and how long the kernel may believe them.
    async fn get_attr(&self, node: u64) -> Result<(NodeAttr, Duration), Errno>;
    /// Opens a file with open(2)'s flags.
    async fn open(&self, node: u64, flags: u32) -> Result<Opened, Errno>;
    /// Reads; fewer bytes than asked only at the end of the file.
    async fn read(&self, node: u64, handle: u64, offset: u64, size: u32) -> Result<Content, Errno>;
    /// Closes a file.
    fn release(&self, handle: u64);
    /// Opens a directory.
    async fn open_dir(&self, node: u64) -> Result<Opened, Errno>;
    /// Fills `buffer` with entries behind `offset`; an empty buffer is the end.
    async fn read_dir(&self, node: u64, handle: u64, offset: u64, buffer: &mut DirBuffer) -> Result<(), Errno>;
    /// Closes a directory.
    fn release_dir(&self, handle: u64);
    /// Capacity.
    async fn stat_fs(&self) -> Result<StatFs, Errno>;
    /// An extended attribute.
    async fn get_xattr(&self, node: u64, name: &[u8]) -> Result<Vec<u8>, Errno>;
    /// Names of extended attributes, each ended by a zero byte.
    async fn list_xattr(&self, node: u64) -> Result<Vec<u8>, Errno>;
    /// Changes attributes. With a size and no handle by truncate(2), which may answer ESTALE to have the name looked up
    /// again, as an OPEN may.
    async fn set_attr(
        &self,
        _node: u64,
        _handle: Option<u64>,
        _change: AttrChange,
    ) -> Result<(NodeAttr, Duration), Errno> {
        Err(Errno::ROFS)
    }
    /// Makes a node that is no directory; `mode` has its type.
    async fn make_node(&self, _parent: u64, _name: &[u8], _mode: u32, _caller: Caller) -> Result<Entry, Errno> {
        Err(Errno::ROFS)
    }
    /// Makes a directory.
    async fn make_dir(&self, _parent: u64, _name: &[u8], _mode: u32, _caller: Caller) -> Result<Entry, Errno> {
        Err(Errno::ROFS)
    }
    /// Makes a regular file and opens it with open(2)'s flags.
    async fn create(
        &self,
        _parent: u64,
        _name: &[u8],
        _mode: u32,
        _flags: u32,
        _caller: Caller,
    ) -> Result<(Entry, Opened), Errno> {
        Err(Errno::ROFS)
    }
    /// Removes a name.
    async fn remove(&self, _parent: u64, _name: &[u8], _is_directory: bool) -> Result<(), Errno> {
        Err(Errno::ROFS)
    }
    /// Renames.
    async fn rename(
        &self,
        _parent: u64,
        _name: &[u8],
        _new_parent: u64,
        _new_name: &[u8],
        _flags: u32,
    ) -> Result<(), Errno> {
        Err(Errno::ROFS)
    }
    /// Writes; all of it or an error.
    async fn write(&self, _node: u64, _handle: u64, _offset: u64, _data: Bytes) -> Result<(), Errno> {
        Err(Errno::ROFS)
    }
    /// A descriptor of a file is closed; the answer is close(2)'s. May be called many times, or never.
    async fn flush(&self, _handle: u64) -> Result<(), Errno> {
        Ok(())
    }
    /// fsync(2).
    async fn sync(&self, _handle: u64) -> Result<(), Errno> {
        Ok(())
    }
    /// fallocate(2).
    async fn allocate(&self, _handle: u64, _offset: u64, _length: u64, _mode: u32) -> Result<(), Errno> {
        Err(Errno::OPNOTSUPP)
    }
}
