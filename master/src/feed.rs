//! The feed of dead versions (hard case 6): (FileId -> live Version, or 0 when it is gone), read by workers with their
//! heartbeats. A ring in memory; positions of one start of the master lie above those of every earlier one, so a worker
//! that is behind the ring, or comes from another start, is told to ask for all that it holds.

use crate::namespace::command::Event;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Events kept.
const RING_EVENTS: usize = 65_536;

/// What a worker gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FeedPart {
    /// Oldest first.
    pub(crate) events: Vec<Event>,
    /// Position behind them.
    pub(crate) position: u64,
    /// The worker was not on the ring.
    pub(crate) reset: bool,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    /// Position behind the last event.
    end: u64,
}

/// The feed.
#[derive(Debug, Default)]
pub(crate) struct Feed(Mutex<Ring>);

impl Feed {
    /// Starts the positions of the master's `boot`-th start; what replay pushed before is forgotten.
    pub(crate) fn rebase(&self, boot: u64) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.events.clear();
        ring.end = boot << 40;
    }

    /// Appends events.
    pub(crate) fn push(&self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.end += events.len() as u64;
        ring.events.extend(events);
        let excess = ring.events.len().saturating_sub(RING_EVENTS);
        ring.events.drain(..excess);
    }

    /// Where it ends now.
    #[must_use]
    pub(crate) fn position(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).end
    }

    /// What lies behind `position`, at most `events_max` events.
    #[must_use]
    pub(crate) fn after(&self, position: u64, events_max: usize) -> FeedPart {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = ring.end - ring.events.len() as u64;
        if position < start || position > ring.end {
            return FeedPart { events: Vec::new(), position: ring.end, reset: true };
        }
        let events: Vec<Event> =
            ring.events.iter().skip((position - start) as usize).take(events_max).copied().collect();
        FeedPart { position: position + events.len() as u64, events, reset: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_follow_or_are_reset() {
        let feed = Feed::default();
        feed.rebase(3);
        let base = feed.position();
        assert!(feed.after(0, 10).reset && feed.after(base + 1, 10).reset);
        feed.push(&[(1, 0), (2, 5), (3, 0)]);
        let part = feed.after(base, 2);
        assert_eq!((part.events, part.position, part.reset), (vec![(1, 0), (2, 5)], base + 2, false));
        assert_eq!(feed.after(base + 2, 2).events, [(3, 0)]);
        feed.push(&vec![(9, 0); RING_EVENTS]);
        assert!(feed.after(base, 10).reset);
        assert_eq!(
            feed.after(feed.position(), 10),
            FeedPart { events: vec![], position: feed.position(), reset: false }
        );
    }
}
