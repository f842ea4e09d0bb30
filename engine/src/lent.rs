//! Which contents somebody holds the file of, by lease. Pure; owned by one core.
//!
//! Invariants: a content is in `contents` exactly while a lease of it lives that is not gone; `bytes` is the sum over
//! these, by directory. A lease is gone when its content left this store: its holder may read on, nobody else joins.

use forebay_base::{FileId, Version};
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// Most leases of a core.
pub(crate) const LEASES_MAX: usize = 16_384;

type Content = (FileId, Version);

struct Lease {
    holder: u64,
    content: Content,
    is_gone: bool,
}

struct Held {
    leases: BTreeSet<u64>,
    bytes: u64,
    directory: u8,
}

/// All leases.
#[derive(Default)]
pub(crate) struct Lent {
    leases: HashMap<u64, Lease>,
    contents: HashMap<Content, Held>,
    holders: HashMap<u64, BTreeSet<u64>>,
    bytes: HashMap<u8, u64>,
}

impl Lent {
    pub(crate) fn contains(&self, content: Content) -> bool {
        self.contents.contains_key(&content)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.leases.len() >= LEASES_MAX
    }

    /// Bytes of one directory's files that are held.
    pub(crate) fn bytes(&self, directory: u8) -> u64 {
        self.bytes.get(&directory).copied().unwrap_or(0)
    }

    /// Begins a lease; true if it is the first one of its content. A lease number is used once.
    pub(crate) fn begin(&mut self, lease: u64, holder: u64, content: Content, bytes: u64, directory: u8) -> bool {
        if self.leases.contains_key(&lease) {
            return false;
        }
        self.leases.insert(lease, Lease { holder, content, is_gone: false });
        self.holders.entry(holder).or_default().insert(lease);
        let mut is_first = false;
        let held = self.contents.entry(content).or_insert_with(|| {
            is_first = true;
            Held { leases: BTreeSet::new(), bytes, directory }
        });
        held.leases.insert(lease);
        if is_first {
            *self.bytes.entry(directory).or_default() += bytes;
        }
        is_first
    }

    /// Ends a lease; yields the content if that was its last one.
    pub(crate) fn end(&mut self, lease: u64, holder: u64) -> Option<Content> {
        if self.leases.get(&lease)?.holder != holder {
            return None;
        }
        let ended = self.leases.remove(&lease)?;
        if let Some(leases) = self.holders.get_mut(&holder) {
            leases.remove(&lease);
            if leases.is_empty() {
                self.holders.remove(&holder);
            }
        }
        if ended.is_gone {
            return None;
        }
        let held = self.contents.get_mut(&ended.content)?;
        held.leases.remove(&lease);
        if !held.leases.is_empty() {
            return None;
        }
        self.leave(ended.content);
        Some(ended.content)
    }

    fn leave(&mut self, content: Content) -> Option<Held> {
        let held = self.contents.remove(&content)?;
        if let Some(bytes) = self.bytes.get_mut(&held.directory) {
            *bytes -= held.bytes;
        }
        Some(held)
    }

    /// Whether a lease's content is still here.
    pub(crate) fn is_good(&self, lease: u64) -> bool {
        self.leases.get(&lease).is_some_and(|lease| !lease.is_gone)
    }

    /// The content leaves.
    pub(crate) fn lose(&mut self, content: Content) {
        let Some(held) = self.leave(content) else { return };
        for lease in held.leases {
            if let Some(lease) = self.leases.get_mut(&lease) {
                lease.is_gone = true;
            }
        }
    }

    /// A holder's leases.
    pub(crate) fn of(&self, holder: u64) -> Vec<u64> {
        self.holders.get(&holder).into_iter().flatten().copied().collect()
    }

    /// A holder's leases whose content is gone.
    pub(crate) fn gone(&self, holder: u64) -> Vec<u64> {
        let leases = self.holders.get(&holder).into_iter().flatten();
        leases.copied().filter(|lease| !self.is_good(*lease)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Content = (FileId(1), Version(5));
    const SECOND: Content = (FileId(2), Version(6));

    #[test]
    fn a_content_is_held_until_its_last_lease_ends() {
        let mut lent = Lent::default();
        assert!(lent.begin(1, 70, FIRST, 10, 0) && !lent.begin(2, 71, FIRST, 10, 0) && lent.begin(3, 70, SECOND, 5, 1));
        assert_eq!((lent.bytes(0), lent.bytes(1), lent.of(70)), (10, 5, vec![1, 3]));
        assert_eq!(lent.end(1, 71), None, "another one's lease");
        assert_eq!((lent.end(1, 70), lent.contains(FIRST)), (None, true));
        assert_eq!((lent.end(2, 71), lent.contains(FIRST), lent.bytes(0)), (Some(FIRST), false, 0));
        assert_eq!(lent.end(2, 71), None);
        assert_eq!(lent.end(3, 70), Some(SECOND));
        assert!(lent.leases.is_empty() && lent.holders.is_empty());
    }

    #[test]
    fn a_lease_of_a_content_that_left_is_gone_and_a_new_one_stands_beside_it() {
        let mut lent = Lent::default();
        lent.begin(1, 70, FIRST, 10, 0);
        lent.lose(FIRST);
        lent.lose(FIRST);
        assert!(!lent.contains(FIRST) && !lent.is_good(1) && lent.bytes(0) == 0);
        assert_eq!(lent.gone(70), [1]);
        assert!(lent.begin(2, 70, FIRST, 10, 0));
        assert_eq!((lent.end(1, 70), lent.contains(FIRST)), (None, true));
        assert_eq!(lent.end(2, 70), Some(FIRST));
    }
}
