//! A file mapped into memory: what a reader sees through page faults, also when it has closed the file.
#![expect(unsafe_code, reason = "mmap(2) has no safe wrapper")]

use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::fs::File;

/// A shared, read-only mapping of a whole file.
#[derive(Debug)]
pub struct Mapping {
    start: *mut std::ffi::c_void,
    length: usize,
}

// SAFETY: the mapping is read-only memory of this process and belongs to this value alone.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps a file; it may be closed afterwards.
    pub fn new(file: &File) -> std::io::Result<Self> {
        let length = file.metadata()?.len() as usize;
        // SAFETY: a fresh mapping at an address the kernel picks; it aliases nothing of this process.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, file, 0) }?;
        Ok(Self { start, length })
    }

    /// A copy of all bytes, each page faulted in anew.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        // SAFETY: the range is this mapping; dropping pages of a file mapping loses nothing.
        unsafe { rustix::mm::madvise(self.start, self.length, Advice::LinuxDontNeed) }.expect("advice is taken");
        // SAFETY: the mapping has `length` bytes and lives as long as `self`; what is behind it does not change.
        unsafe { std::slice::from_raw_parts(self.start.cast::<u8>(), self.length) }.to_vec()
    }

    /// A copy of what the last page holds behind the end of the file.
    #[must_use]
    pub fn behind_the_end(&self) -> Vec<u8> {
        let whole = self.length.next_multiple_of(4096);
        // SAFETY: a mapping is whole pages, so these bytes belong to it.
        unsafe { std::slice::from_raw_parts(self.start.cast::<u8>().add(self.length), whole - self.length) }.to_vec()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping from `new`, and no reference into it is left.
        let _ = unsafe { rustix::mm::munmap(self.start, self.length) };
    }
}
