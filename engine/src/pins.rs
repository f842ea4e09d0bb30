//! Which contents may not leave for want of room, and until when: leases that somebody renews. Pure: the time is given
//! in. Owned by one core.
//!
//! Invariants: the bytes reserved by all leases never exceed the limit that came with the latest of them; a file has a
//! lease of one version at most; each lease has exactly one entry in `ends`.

use forebay_base::{FileId, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Most leases of a core.
const LEASES_MAX: usize = 1 << 20;
/// Most leases that run out at once: their pages join the evictor, one by one, on the core that serves.
const ENDED_MAX: usize = 8192;

type Content = (FileId, Version);

struct Lease {
    reserved_bytes: u64,
    until: Instant,
    /// A page of it did not find room among the pages that are held.
    is_short: bool,
}

/// What became of a request for a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leased {
    /// There was none before.
    New,
    /// It goes on; `short` when its pages should be looked at again.
    Renewed { short: bool },
    /// There is no room for so many bytes; an earlier lease runs on to its end.
    Refused,
}

/// All leases.
#[derive(Default)]
pub(crate) struct Pins {
    leases: BTreeMap<Content, Lease>,
    ends: BTreeSet<(Instant, Content)>,
    reserved_bytes: u64,
}

impl Pins {
    pub(crate) fn contains(&self, content: Content) -> bool {
        self.leases.contains_key(&content)
    }

    /// What a lease reserves, when it ends, and whether a page of it is not held.
    pub(crate) fn state(&self, content: Content) -> Option<(u64, Instant, bool)> {
        self.leases.get(&content).map(|lease| (lease.reserved_bytes, lease.until, lease.is_short))
    }

    /// Begins or renews a lease.
    pub(crate) fn lease(&mut self, content: Content, bytes: u64, until: Instant, limit_bytes: u64) -> Leased {
        let before = self.leases.get(&content).map_or(0, |lease| lease.reserved_bytes);
        let reserved = (self.reserved_bytes - before).saturating_add(bytes);
        let is_new = !self.leases.contains_key(&content);
        if reserved > limit_bytes || is_new && self.leases.len() >= LEASES_MAX {
            // The limit has shrunk: this one makes room, so that those behind it can go on.
            if let Some(lease) = self.leases.get_mut(&content).filter(|lease| bytes <= lease.reserved_bytes) {
                lease.reserved_bytes = 0;
                self.reserved_bytes -= before;
            }
            return Leased::Refused;
        }
        self.reserved_bytes = reserved;
        self.ends.insert((until, content));
        match self.leases.insert(content, Lease { reserved_bytes: bytes, until, is_short: false }) {
            None => Leased::New,
            Some(old) => {
                if old.until != until {
                    self.ends.remove(&(old.until, content));
                }
                Leased::Renewed { short: old.is_short }
            }
        }
    }

    /// A page of it is not held.
    pub(crate) fn set_short(&mut self, content: Content) {
        if let Some(lease) = self.leases.get_mut(&content) {
            lease.is_short = true;
        }
    }

    /// Ends a lease; `false` if there was none.
    pub(crate) fn end(&mut self, content: Content) -> bool {
        let Some(lease) = self.leases.remove(&content) else { return false };
        self.reserved_bytes -= lease.reserved_bytes;
        self.ends.remove(&(lease.until, content));
        true
    }

    /// The versions of a file that have a lease, except `keep`.
    pub(crate) fn others(&self, file_id: FileId, keep: Option<Version>) -> Vec<Version> {
        let versions = self.leases.range((file_id, Version(0))..=(file_id, Version(u64::MAX)));
        versions.map(|((_, version), _)| *version).filter(|version| Some(*version) != keep).collect()
    }

    /// Those whose time is over, oldest first; they are still to be ended.
    pub(crate) fn over(&self, now: Instant) -> Vec<Content> {
        self.ends.iter().take_while(|(until, _)| *until <= now).take(ENDED_MAX).map(|(_, content)| *content).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const FIRST: Content = (FileId(1), Version(5));
    const SECOND: Content = (FileId(2), Version(6));

    #[test]
    fn leases_run_out_unless_they_are_renewed() {
        let (mut pins, start) = (Pins::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pins.lease(FIRST, 10, at(60), 100), Leased::New);
        assert_eq!(pins.lease(SECOND, 10, at(60), 100), Leased::New);
        assert_eq!(pins.lease(SECOND, 10, at(80), 100), Leased::Renewed { short: false });
        assert!(pins.over(at(59)).is_empty());
        assert_eq!(pins.over(at(60)), [FIRST]);
        assert!(pins.end(FIRST) && !pins.end(FIRST) && !pins.contains(FIRST));
        assert_eq!(pins.over(at(100)), [SECOND]);
        assert!(pins.end(SECOND));
        assert!(pins.ends.is_empty() && pins.reserved_bytes == 0);
    }

    #[test]
    fn no_more_is_reserved_than_the_limit() {
        let (mut pins, until) = (Pins::default(), Instant::now());
        assert_eq!(pins.lease(FIRST, 60, until, 100), Leased::New);
        assert_eq!(pins.lease(SECOND, 41, until, 100), Leased::Refused);
        assert!(!pins.contains(SECOND));
        assert_eq!(pins.lease(SECOND, 40, until, 100), Leased::New);
        assert_eq!(pins.lease(FIRST, 61, until, 100), Leased::Refused);
        assert!(pins.contains(FIRST), "what was there runs on to its end");
        assert_eq!(pins.lease(FIRST, 50, until, 100), Leased::Renewed { short: false });
        assert_eq!(pins.reserved_bytes, 90);
        pins.end(SECOND);
        assert_eq!(pins.lease(FIRST, 100, until, 100), Leased::Renewed { short: false });
    }

    #[test]
    fn a_limit_that_shrinks_costs_no_more_than_the_excess() {
        let (mut pins, until) = (Pins::default(), Instant::now());
        let content = |id: u64| (FileId(id), Version(1));
        (0..8).for_each(|id| assert_eq!(pins.lease(content(id), 10, until, 80), Leased::New));
        let renewed = (0..8).filter(|id| pins.lease(content(*id), 10, until, 55) != Leased::Refused).count();
        assert_eq!((renewed, pins.reserved_bytes), (5, 50));
        assert_eq!(pins.lease(content(0), 10, until, 80), Leased::Renewed { short: false });
    }

    #[test]
    fn other_versions_of_a_file_are_known_by_it() {
        let (mut pins, until) = (Pins::default(), Instant::now());
        pins.lease((FileId(7), Version(1)), 1, until, 9);
        pins.lease((FileId(7), Version(3)), 1, until, 9);
        pins.lease((FileId(8), Version(2)), 1, until, 9);
        assert_eq!(pins.others(FileId(7), Some(Version(3))), [Version(1)]);
        assert_eq!(pins.others(FileId(7), None), [Version(1), Version(3)]);
        pins.set_short((FileId(8), Version(2)));
        assert_eq!(pins.lease((FileId(8), Version(2)), 1, until, 9), Leased::Renewed { short: true });
    }
}
