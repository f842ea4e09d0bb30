//! Replies to bytes. Pure.

use super::abi;
use crate::handler::{Entry, NodeAttr, Opened, StatFs};
use std::time::Duration;

/// `fuse_out_header` of a reply with `body_bytes` behind it; `errno` is 0 or positive.
#[must_use]
pub fn out_header(unique: u64, errno: i32, body_bytes: usize) -> [u8; abi::OUT_HEADER_BYTES] {
    let mut header = [0; abi::OUT_HEADER_BYTES];
    header[0..4].copy_from_slice(&((abi::OUT_HEADER_BYTES + body_bytes) as u32).to_ne_bytes());
    header[4..8].copy_from_slice(&(-errno).to_ne_bytes());
    header[8..16].copy_from_slice(&unique.to_ne_bytes());
    header
}

/// What the server tells the kernel at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InitReply {
    /// The most read-ahead.
    pub max_readahead: u32,
    /// What both will use.
    pub flags: u64,
    /// Requests in the background at once.
    pub max_background: u16,
    /// Where the kernel starts to hold back.
    pub congestion_threshold: u16,
    /// Largest WRITE; the request buffer must hold it.
    pub max_write: u32,
    /// Pages per request.
    pub max_pages: u16,
    /// File systems that may lie below each other where backing files are read; 0 without them.
    pub max_stack_depth: u32,
}

/// `fuse_init_out`.
#[must_use]
pub fn init_reply(init: &InitReply) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put32(&mut out, abi::KERNEL_MAJOR);
    put32(&mut out, abi::KERNEL_MINOR);
    put32(&mut out, init.max_readahead);
    put32(&mut out, init.flags as u32);
    out.extend_from_slice(&init.max_background.to_ne_bytes());
    out.extend_from_slice(&init.congestion_threshold.to_ne_bytes());
    put32(&mut out, init.max_write);
    put32(&mut out, 1); // Time stamps count nanoseconds.
    out.extend_from_slice(&init.max_pages.to_ne_bytes());
    out.extend_from_slice(&0u16.to_ne_bytes());
    put32(&mut out, (init.flags >> 32) as u32);
    put32(&mut out, init.max_stack_depth);
    out.resize(64, 0);
    out
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_ne_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_ne_bytes());
}

fn put_attr(out: &mut Vec<u8>, attr: &NodeAttr) {
    put64(out, attr.ino);
    put64(out, attr.size);
    put64(out, attr.size.div_ceil(512));
    let (seconds, nanoseconds) = (attr.mtime_ms / 1000, (attr.mtime_ms % 1000) as u32 * 1_000_000);
    for _ in 0..3 {
        put64(out, seconds);
    }
    for _ in 0..3 {
        put32(out, nanoseconds);
    }
    for word in [attr.mode, attr.nlink, attr.uid, attr.gid, 0, attr.preferred_io_bytes, 0] {
        put32(out, word);
    }
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put64(out, entry.node);
    put64(out, 0); // Node ids are never reused, so one generation is enough.
    put64(out, entry.valid.as_secs());
    put64(out, entry.valid.as_secs());
    put32(out, entry.valid.subsec_nanos());
    put32(out, entry.valid.subsec_nanos());
    put_attr(out, &entry.attr);
}

/// `fuse_entry_out`.
#[must_use]
pub fn entry_reply(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    put_entry(&mut out, entry);
    out
}

/// `fuse_attr_out`.
#[must_use]
pub fn attr_reply(attr: &NodeAttr, valid: Duration) -> Vec<u8> {
    let mut out = Vec::with_capacity(104);
    put64(&mut out, valid.as_secs());
    put32(&mut out, valid.subsec_nanos());
    put32(&mut out, 0);
    put_attr(&mut out, attr);
    out
}

/// `fuse_open_out`.
#[must_use]
pub fn open_reply(opened: &Opened) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    put64(&mut out, opened.handle);
    put32(&mut out, opened.flags);
    put32(&mut out, opened.backing_id.unwrap_or(0));
    out
}

/// What answers CREATE: `fuse_entry_out`, then `fuse_open_out`.
#[must_use]
pub fn create_reply(entry: &Entry, opened: &Opened) -> Vec<u8> {
    [entry_reply(entry), open_reply(opened)].concat()
}

/// `fuse_write_out`.
#[must_use]
pub fn write_reply(size: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(8);
    put32(&mut out, size);
    put32(&mut out, 0);
    out
}

/// `fuse_statfs_out`.
#[must_use]
pub fn stat_fs_reply(stat: &StatFs) -> Vec<u8> {
    let block_bytes = u64::from(stat.block_bytes.max(1));
    let mut out = Vec::with_capacity(80);
    put64(&mut out, stat.capacity_bytes / block_bytes);
    put64(&mut out, stat.free_bytes / block_bytes);
    put64(&mut out, stat.free_bytes / block_bytes);
    put64(&mut out, stat.files);
    put64(&mut out, 0);
    put32(&mut out, stat.block_bytes);
    put32(&mut out, stat.name_bytes_max);
    put32(&mut out, stat.block_bytes);
    out.resize(80, 0);
    out
}

/// Collects directory entries up to the size the kernel asked for.
#[derive(Debug)]
pub struct DirBuffer {
    out: Vec<u8>,
    bytes_max: usize,
    plus: bool,
    nodes: Vec<u64>,
}

const DIRENT_BYTES: usize = 24;
const ENTRY_BYTES: usize = 128;
const S_IFMT: u32 = 0o170_000;

impl DirBuffer {
    /// An empty buffer; `plus` entries carry attributes.
    #[must_use]
    pub fn new(bytes_max: usize, plus: bool) -> Self {
        Self { out: Vec::with_capacity(bytes_max.min(64 << 10)), bytes_max, plus, nodes: Vec::new() }
    }

    /// Whether the kernel wants attributes.
    #[must_use]
    pub fn plus(&self) -> bool {
        self.plus
    }

    /// Whether an entry with this name still fits.
    #[must_use]
    pub fn fits(&self, name: &[u8]) -> bool {
        let head = if self.plus { ENTRY_BYTES + DIRENT_BYTES } else { DIRENT_BYTES };
        self.out.len() + (head + name.len()).next_multiple_of(8) <= self.bytes_max
    }

    /// Adds an entry, which must fit. `next_offset` is where reading goes on behind it. A node id other than 0 counts as
    /// one lookup of that node.
    pub fn push(&mut self, name: &[u8], entry: &Entry, next_offset: u64) {
        debug_assert!(self.fits(name), "the caller asks fits first");
        if self.plus {
            put_entry(&mut self.out, entry);
            if entry.node != 0 {
                self.nodes.push(entry.node);
            }
        }
        put64(&mut self.out, entry.attr.ino);
        put64(&mut self.out, next_offset);
        put32(&mut self.out, name.len() as u32);
        put32(&mut self.out, (entry.attr.mode & S_IFMT) >> 12);
        self.out.extend_from_slice(name);
        let padded = self.out.len().next_multiple_of(8);
        self.out.resize(padded, 0);
    }

    /// The bytes, and the nodes that were given to the kernel with them.
    #[must_use]
    pub fn finish(self) -> (Vec<u8>, Vec<u64>) {
        (self.out, self.nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let attr = NodeAttr {
            ino: 9,
            size: 1000,
            mtime_ms: 1_500,
            mode: 0o100_444,
            nlink: 1,
            uid: 1,
            gid: 2,
            preferred_io_bytes: 4096,
        };
        Entry { node: 3, attr, valid: Duration::from_millis(2_500) }
    }

    #[test]
    fn replies_have_the_kernels_lengths() {
        assert_eq!(entry_reply(&entry()).len(), 128);
        assert_eq!(attr_reply(&entry().attr, Duration::ZERO).len(), 104);
        assert_eq!(open_reply(&Opened { handle: 1, flags: 0, backing_id: None }).len(), 16);
        let opened = Opened { handle: 1, flags: 0, backing_id: None };
        assert_eq!((create_reply(&entry(), &opened).len(), write_reply(7).len()), (144, 8));
        let stat = StatFs { capacity_bytes: 1, free_bytes: 1, files: 1, block_bytes: 4096, name_bytes_max: 255 };
        assert_eq!(stat_fs_reply(&stat).len(), 80);
        let init = InitReply {
            max_readahead: 1,
            flags: u64::MAX,
            max_background: 1,
            congestion_threshold: 1,
            max_write: 1,
            max_pages: 1,
            max_stack_depth: 7,
        };
        let bytes = init_reply(&init);
        assert_eq!((bytes.len(), bytes[36]), (64, 7));
    }

    #[test]
    fn entry_fields_lie_where_the_kernel_looks() {
        let bytes = entry_reply(&entry());
        let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let half = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(8), word(16), word(24)), (3, 0, 2, 2));
        assert_eq!((half(32), half(36)), (500_000_000, 500_000_000));
        assert_eq!((word(40), word(48), word(56)), (9, 1000, 2));
        assert_eq!((word(64), word(72), half(88), half(92)), (1, 1, 500_000_000, 500_000_000));
        assert_eq!((half(100), half(104), half(108), half(112), half(120)), (0o100_444, 1, 1, 2, 4096));
    }

    #[test]
    fn a_directory_buffer_never_exceeds_its_size() {
        for plus in [false, true] {
            let mut buffer = DirBuffer::new(500, plus);
            let mut pushed = 0;
            while buffer.fits(b"abc") {
                pushed += 1;
                buffer.push(b"abc", &entry(), pushed);
            }
            let (bytes, nodes) = buffer.finish();
            assert!(bytes.len() <= 500 && bytes.len().is_multiple_of(8));
            assert_eq!(nodes.len(), if plus { pushed as usize } else { 0 });
            assert_eq!(pushed, if plus { 3 } else { 15 });
        }
    }
}
