//! Names of files and pages inside the store. Plain data.

use forebay_base::{FileId, FingerprintHash, PageIndex, Version};

/// One immutable content: what a page belongs to. Pages of a key that differs in any field are never served for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C, packed(8))]
pub struct FileKey {
    /// The file.
    pub file_id: FileId,
    /// Its content.
    pub version: Version,
    /// The store's own mark of that content.
    pub fingerprint: FingerprintHash,
    /// Length of the content.
    pub size_bytes: u64,
}

impl FileKey {
    /// Bytes of a page; 0 beyond the end.
    #[must_use]
    pub fn page_length(&self, page: PageIndex, page_bytes: u32) -> u32 {
        let start = u64::from(page.0) * u64::from(page_bytes);
        self.size_bytes.saturating_sub(start).min(u64::from(page_bytes)) as u32
    }

    pub(crate) fn page(&self, page: PageIndex) -> PageKey {
        PageKey { file_id: self.file_id, version: self.version, page }
    }

    pub(crate) fn content(&self) -> (FileId, Version) {
        (self.file_id, self.version)
    }
}

/// One page of one content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct PageKey {
    pub(crate) file_id: FileId,
    pub(crate) version: Version,
    pub(crate) page: PageIndex,
}

impl PageKey {
    pub(crate) fn content(&self) -> (FileId, Version) {
        (self.file_id, self.version)
    }
}
