//! What the feed said of late: files whose older versions are dead. Pure; owned by one shard.
//!
//! A ticket lives at most `TICKET_LIFE_MS`, so an event older than that can contradict no valid ticket and is
//! forgotten. Invariant: at most `EVENTS_MAX` files are remembered, newest first.

use forebay_base::{FileId, Version, limits};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const EVENTS_MAX: usize = 262_144;
const REMEMBERED: Duration = Duration::from_millis(2 * limits::TICKET_LIFE_MS);

/// Live versions of files that changed recently.
#[derive(Default)]
pub(crate) struct LiveVersions {
    live: HashMap<FileId, (Version, Instant)>,
    order: VecDeque<(FileId, Instant)>,
}

impl LiveVersions {
    /// Notes that `live` is the only living version of a file; `Version(0)`: the file is gone.
    pub(crate) fn note(&mut self, file: FileId, live: Version, now: Instant) {
        while let Some(&(oldest, noted)) = self.order.front() {
            if self.order.len() < EVENTS_MAX && now.duration_since(noted) < REMEMBERED {
                break;
            }
            self.order.pop_front();
            if self.live.get(&oldest).is_some_and(|entry| entry.1 == noted) {
                self.live.remove(&oldest);
            }
        }
        self.live.insert(file, (live, now));
        self.order.push_back((file, now));
    }

    /// Whether the feed said that this version is dead.
    pub(crate) fn is_dead(&self, file: FileId, version: Version) -> bool {
        self.live.get(&file).is_some_and(|&(live, _)| live == Version(0) || version < live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_versions_are_dead_and_newer_ones_are_not() {
        let mut live = LiveVersions::default();
        let now = Instant::now();
        assert!(!live.is_dead(FileId(1), Version(1)));
        live.note(FileId(1), Version(5), now);
        live.note(FileId(2), Version(0), now);
        let dead = |version| live.is_dead(FileId(1), Version(version));
        assert_eq!((dead(4), dead(5), dead(6)), (true, false, false));
        assert!(live.is_dead(FileId(2), Version(9)));
    }

    #[test]
    fn old_events_are_forgotten_unless_renewed() {
        let mut live = LiveVersions::default();
        let start = Instant::now();
        live.note(FileId(1), Version(5), start);
        live.note(FileId(2), Version(5), start);
        live.note(FileId(2), Version(6), start + REMEMBERED / 2);
        live.note(FileId(3), Version(1), start + REMEMBERED);
        assert!(!live.is_dead(FileId(1), Version(4)));
        assert!(live.is_dead(FileId(2), Version(5)));
        assert_eq!((live.live.len(), live.order.len()), (2, 2));
    }

    #[test]
    fn bounded() {
        let mut live = LiveVersions::default();
        let now = Instant::now();
        for file in 0..EVENTS_MAX as u64 + 100 {
            live.note(FileId(file), Version(2), now);
        }
        assert!(live.live.len() <= EVENTS_MAX && live.order.len() <= EVENTS_MAX);
        assert!(live.is_dead(FileId(EVENTS_MAX as u64), Version(1)));
    }
}
