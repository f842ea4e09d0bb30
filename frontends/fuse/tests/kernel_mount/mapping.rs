//! Reads a file through a memory mapping, which must bring page faults to the server.
#![expect(unsafe_code, reason = "mmap(2) has no safe wrapper")]

use rustix::mm::{MapFlags, ProtFlags};
use std::fs::File;
use std::ops::Range;

/// A copy of a range of the file, read by page faults.
pub(crate) fn mapped(file: &File, range: Range<usize>) -> Vec<u8> {
    let length = file.metadata().expect("the file has attributes").len() as usize;
    assert!(range.end <= length, "{range:?} lies in the file");
    // SAFETY: a fresh private read-only mapping at an address the kernel picks; it aliases nothing of this process.
    let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, file, 0) }
        .expect("the file can be mapped");
    // SAFETY: the mapping has `length` bytes, the file behind it is immutable, and the slice ends before munmap.
    let copy = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) }[range].to_vec();
    // SAFETY: this is the mapping from above, and no reference into it is left.
    unsafe { rustix::mm::munmap(start, length) }.expect("the mapping can be taken away");
    copy
}
