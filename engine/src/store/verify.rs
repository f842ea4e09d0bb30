//! Reading back what was written: a page on SSD is compared with its checksums whatever `worker.verify_reads` says.

use super::Store;
use super::read::{Lost, Sighting};
use crate::index::OnDisk;
use crate::key::FileKey;
use forebay_base::PageIndex;

/// What a look at a page found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageCheck {
    /// It is on SSD and all of it matches its checksums.
    Intact,
    /// It is in memory and not on SSD, where checksums are kept.
    InMemory,
    /// It is not held.
    Missing,
    /// It was unreadable or did not match, and is dropped now.
    Bad,
}

impl Store {
    /// Reads a page back from SSD and compares it. Does not count as a use of the page.
    pub async fn check_page(&self, key: &FileKey, page: PageIndex) -> PageCheck {
        let seen = {
            let tiers = self.tiers.borrow();
            let Some(held) = tiers.index.page(key, page) else { return PageCheck::Missing };
            match held.disk {
                OnDisk::Present { directory, record } => {
                    Sighting { directory, record, generation: held.generation, is_hot: false }
                }
                _ if held.memory.is_some() => return PageCheck::InMemory,
                _ => return PageCheck::Missing,
            }
        };
        let whole = 0..key.page_length(page, self.config.page_bytes);
        match self.read_disk(key, page, whole, seen, true).await {
            Ok(_) => PageCheck::Intact,
            Err(Lost::Bad) => PageCheck::Bad,
            Err(Lost::Gone) if self.has_page(key, page) => PageCheck::InMemory,
            Err(Lost::Gone) => PageCheck::Missing,
        }
    }
}
