//! What goes wrong on a simulated disk, how often, and how often it did. Plain data.

use super::Seed;
use std::time::Duration;

/// Odds are out of a million operations of their kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    /// A cut may mix two states of a 4 KiB unit at 512-byte boundaries.
    pub(crate) tears: bool,
    pub(crate) read_error: u32,
    pub(crate) write_error: u32,
    /// A sync fails, and part of what was written is gone for good.
    pub(crate) sync_error: u32,
    /// A sync says that it is done, and did nothing.
    pub(crate) lying_sync: u32,
    /// A write says that it is done, and did nothing.
    pub(crate) lost_write: u32,
    /// A write goes to another place, in the same file or another one.
    pub(crate) misdirected_write: u32,
    /// A read brings what is at another place.
    pub(crate) misdirected_read: u32,
    /// A bit turns over somewhere.
    pub(crate) rot: u32,
    /// An operation takes minutes.
    pub(crate) stall: u32,
    /// The most that any other operation takes.
    pub(crate) latency: Duration,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) errors: u64,
    pub(crate) full: u64,
    pub(crate) lies: u64,
    pub(crate) lost: u64,
    pub(crate) misdirected: u64,
    pub(crate) flipped_bits: u64,
    pub(crate) stalls: u64,
}

impl Happened {
    pub(crate) fn add(&mut self, other: Happened) {
        self.errors += other.errors;
        self.full += other.full;
        self.lies += other.lies;
        self.lost += other.lost;
        self.misdirected += other.misdirected;
        self.flipped_bits += other.flipped_bits;
        self.stalls += other.stalls;
    }
}

impl Seed {
    /// Whether something of these odds happens now. Draws nothing where it cannot.
    pub(super) fn hits(&mut self, odds: u32) -> bool {
        odds > 0 && self.below(1_000_000) < u64::from(odds)
    }
}
