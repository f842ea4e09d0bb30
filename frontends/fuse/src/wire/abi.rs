//! Numbers of the kernel's interface.

/// The root's node id.
pub const ROOT_NODE: u64 = 1;
/// Major version of the protocol.
pub const KERNEL_MAJOR: u32 = 7;
/// Newest minor version this code knows.
pub const KERNEL_MINOR: u32 = 40;
/// Oldest minor version this code accepts: `max_pages` and 64-byte INIT replies.
pub const KERNEL_MINOR_MIN: u32 = 31;

pub(super) const LOOKUP: u32 = 1;
pub(super) const FORGET: u32 = 2;
pub(super) const GETATTR: u32 = 3;
pub(super) const SETATTR: u32 = 4;
pub(super) const SYMLINK: u32 = 6;
pub(super) const MKNOD: u32 = 8;
pub(super) const MKDIR: u32 = 9;
pub(super) const UNLINK: u32 = 10;
pub(super) const RMDIR: u32 = 11;
pub(super) const RENAME: u32 = 12;
pub(super) const LINK: u32 = 13;
pub(super) const OPEN: u32 = 14;
pub(super) const READ: u32 = 15;
pub(super) const WRITE: u32 = 16;
pub(super) const STATFS: u32 = 17;
pub(super) const RELEASE: u32 = 18;
pub(super) const FSYNC: u32 = 20;
pub(super) const SETXATTR: u32 = 21;
pub(super) const GETXATTR: u32 = 22;
pub(super) const LISTXATTR: u32 = 23;
pub(super) const REMOVEXATTR: u32 = 24;
pub(super) const FLUSH: u32 = 25;
pub(super) const INIT: u32 = 26;
pub(super) const OPENDIR: u32 = 27;
pub(super) const READDIR: u32 = 28;
pub(super) const RELEASEDIR: u32 = 29;
pub(super) const FSYNCDIR: u32 = 30;
pub(super) const CREATE: u32 = 35;
pub(super) const INTERRUPT: u32 = 36;
pub(super) const DESTROY: u32 = 38;
pub(super) const BATCH_FORGET: u32 = 42;
pub(super) const FALLOCATE: u32 = 43;
pub(super) const READDIRPLUS: u32 = 44;
pub(super) const RENAME2: u32 = 45;
pub(super) const TMPFILE: u32 = 51;

/// Bytes of `fuse_in_header`.
pub(super) const IN_HEADER_BYTES: usize = 40;
/// Bytes of `fuse_out_header`.
pub(super) const OUT_HEADER_BYTES: usize = 16;

/// Bytes of `fuse_write_in`.
pub(super) const WRITE_IN_BYTES: usize = 40;
/// Of a mode.
pub(super) const PERMISSION_BITS: u32 = 0o7777;

/// GETATTR carries a file handle.
pub const GETATTR_FH: u32 = 1;

/// `fuse_setattr_in::valid`.
pub(super) const FATTR_MODE: u32 = 1 << 0;
pub(super) const FATTR_UID: u32 = 1 << 1;
pub(super) const FATTR_GID: u32 = 1 << 2;
pub(super) const FATTR_SIZE: u32 = 1 << 3;
pub(super) const FATTR_MTIME: u32 = 1 << 5;
pub(super) const FATTR_FH: u32 = 1 << 6;
pub(super) const FATTR_MTIME_NOW: u32 = 1 << 8;

/// Reads of this handle go to the server, not to the page cache.
pub const FOPEN_DIRECT_IO: u32 = 1 << 0;
/// The page cache of the inode stays.
pub const FOPEN_KEEP_CACHE: u32 = 1 << 1;
/// close(2) sends no FLUSH.
pub const FOPEN_NOFLUSH: u32 = 1 << 5;
/// The kernel reads the backing file by itself.
pub const FOPEN_PASSTHROUGH: u32 = 1 << 7;

/// INIT: the kernel can read backing files.
pub const PASSTHROUGH: u64 = 1 << 37;

const ASYNC_READ: u64 = 1 << 0;
const ATOMIC_O_TRUNC: u64 = 1 << 3;
const BIG_WRITES: u64 = 1 << 5;
const DO_READDIRPLUS: u64 = 1 << 13;
const ASYNC_DIO: u64 = 1 << 15;
const PARALLEL_DIROPS: u64 = 1 << 18;
const MAX_PAGES: u64 = 1 << 22;
const INIT_EXT: u64 = 1 << 30;
const DIRECT_IO_ALLOW_MMAP: u64 = 1 << 36;

/// What is asked for of what the kernel offers. READDIRPLUS always, not adaptively: the master sends attributes with
/// every listing, and what is listed is usually opened next. No writeback cache, which rules out passthrough; locks stay
/// with the kernel.
pub const INIT_FLAGS_WANTED: u64 = ASYNC_READ
    | ATOMIC_O_TRUNC
    | BIG_WRITES
    | DO_READDIRPLUS
    | ASYNC_DIO
    | PARALLEL_DIROPS
    | MAX_PAGES
    | INIT_EXT
    | DIRECT_IO_ALLOW_MMAP;
