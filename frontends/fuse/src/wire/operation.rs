//! What the kernel wants, as values. Pure data.

use super::abi;
use rustix::io::Errno;
use std::ops::Range;

/// A request of the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// What the reply names.
    pub unique: u64,
    /// The node it is about; 0 for some.
    pub node: u64,
    /// Who calls.
    pub caller: Caller,
    /// What is wanted.
    pub operation: Operation,
}

/// Who made a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// The thread, in the server's pid namespace; 0 if it has none there.
    pub pid: u32,
}

/// A time to set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// When the request is handled.
    Now,
    /// Milliseconds since 1970.
    Ms(u64),
}

/// Attributes to change; none stay as they are. Access times are not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AttrChange {
    /// Bytes.
    pub size: Option<u64>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Modification time.
    pub mtime: Option<SetTime>,
}

/// First words between the kernel and the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Init {
    /// The kernel's protocol.
    pub major: u32,
    /// Its minor version.
    pub minor: u32,
    /// The most read-ahead it will do.
    pub max_readahead: u32,
    /// What it offers, both words.
    pub flags: u64,
}

/// What the kernel wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Start.
    Init(Init),
    /// A name in a directory.
    Lookup {
        /// The name.
        name: Vec<u8>,
    },
    /// The kernel drops (node, lookups). No reply.
    Forget {
        /// What it drops.
        nodes: Vec<(u64, u64)>,
    },
    /// Attributes.
    GetAttr,
    /// Opens a file.
    Open {
        /// As given to open(2).
        flags: u32,
    },
    /// Reads a file.
    Read {
        /// What `Open` gave.
        handle: u64,
        /// First byte.
        offset: u64,
        /// Bytes.
        size: u32,
    },
    /// Closes a file.
    Release {
        /// What `Open` gave.
        handle: u64,
    },
    /// Opens a directory.
    OpenDir,
    /// Reads a directory.
    ReadDir {
        /// What `OpenDir` gave.
        handle: u64,
        /// 0 or the offset of the last entry seen.
        offset: u64,
        /// Bytes that fit.
        size: u32,
        /// Whether attributes are wanted with the names.
        plus: bool,
    },
    /// Closes a directory.
    ReleaseDir {
        /// What `OpenDir` gave.
        handle: u64,
    },
    /// Capacity.
    StatFs,
    /// An extended attribute.
    GetXattr {
        /// Bytes that fit; 0 asks for the length.
        size: u32,
        /// Its name.
        name: Vec<u8>,
    },
    /// Names of extended attributes.
    ListXattr {
        /// Bytes that fit; 0 asks for the length.
        size: u32,
    },
    /// The caller of another request got a signal.
    Interrupt {
        /// That request.
        unique: u64,
    },
    /// The end.
    Destroy,
    /// Changes attributes.
    SetAttr {
        /// What `Open` gave, if the caller has the file open for writing.
        handle: Option<u64>,
        /// What it changes.
        change: AttrChange,
    },
    /// Makes a node that is no directory.
    MakeNode {
        /// Its name.
        name: Vec<u8>,
        /// Type and permission bits, less the caller's mask.
        mode: u32,
    },
    /// Makes a directory.
    MakeDir {
        /// Its name.
        name: Vec<u8>,
        /// Permission bits, less the caller's mask.
        mode: u32,
    },
    /// Makes a regular file and opens it.
    Create {
        /// Its name.
        name: Vec<u8>,
        /// Permission bits, less the caller's mask.
        mode: u32,
        /// As given to open(2).
        flags: u32,
    },
    /// Removes a name.
    Remove {
        /// The name.
        name: Vec<u8>,
        /// Whether rmdir(2) was called.
        is_directory: bool,
    },
    /// Renames.
    Rename {
        /// The name.
        name: Vec<u8>,
        /// The node of the directory that it goes to.
        new_parent: u64,
        /// The name that it gets.
        new_name: Vec<u8>,
        /// Of renameat2(2).
        flags: u32,
    },
    /// Writes a file.
    Write {
        /// What `Open` gave.
        handle: u64,
        /// Where the first byte goes.
        offset: u64,
        /// Where the bytes lie in the request.
        data: Range<usize>,
    },
    /// close(2) of one descriptor.
    Flush {
        /// What `Open` gave.
        handle: u64,
    },
    /// fsync(2) or fdatasync(2).
    Sync {
        /// What `Open` gave.
        handle: u64,
    },
    /// fsync(2) of a directory.
    SyncDir,
    /// fallocate(2).
    Allocate {
        /// What `Open` gave.
        handle: u64,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// `FALLOC_FL_` bits.
        mode: u32,
    },
    /// A change that no mount offers, by its number: links, setting extended attributes, files without a name.
    Refused(u32),
    /// Anything else, by its number.
    Other(u32),
}

/// What answers a change that no mount offers.
#[must_use]
pub fn refusal(opcode: u32) -> Errno {
    match opcode {
        abi::SYMLINK | abi::LINK => Errno::PERM,
        _ => Errno::OPNOTSUPP,
    }
}
