//! The bandwidth limit of a job: a bucket of bytes that fills at a steady rate and may be overdrawn by one batch. Pure
//! but for the caller's clock.

use std::time::{Duration, Instant};

/// What a bucket that nobody draws from holds at most: this much time's worth.
const SAVED: Duration = Duration::from_millis(100);

/// The bucket.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes per second; 0 for no limit.
    rate: u64,
    credit: f64,
    filled: Instant,
}

impl Pace {
    /// Empty.
    pub(super) fn new(rate: u64, now: Instant) -> Self {
        Self { rate, credit: 0.0, filled: now }
    }

    /// Whether a batch may go now.
    pub(super) fn may_send(&mut self, now: Instant) -> bool {
        if self.rate == 0 {
            return true;
        }
        let rate = self.rate as f64;
        self.credit += now.duration_since(self.filled).as_secs_f64() * rate;
        self.credit = self.credit.min(rate * SAVED.as_secs_f64());
        self.filled = now;
        self.credit >= 0.0
    }

    /// A batch goes.
    pub(super) fn draw(&mut self, bytes: u64) {
        self.credit -= bytes as f64;
    }

    /// Some of what was drawn did not come from a store.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.credit += bytes as f64;
    }

    /// Most bytes of one batch: a quarter of a second's worth, so that the rate is steady.
    pub(super) fn batch_bytes(&self, most: u64, least: u64) -> u64 {
        if self.rate == 0 { most } else { (self.rate / 4).clamp(least, most) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_what_was_cached_costs_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(1_000_000, start);
        let mut sent = 0;
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            while pace.may_send(now) {
                pace.draw(250_000);
                sent += 250_000;
            }
        }
        assert!((9_500_000..=10_500_000).contains(&sent), "{sent}");
        pace.give_back(10_000_000);
        let later = start + Duration::from_secs(10);
        assert!(pace.may_send(later));
        let mut burst = 0;
        while pace.may_send(later) {
            pace.draw(50_000);
            burst += 50_000;
        }
        assert!(burst <= 200_000, "{burst}: credit does not pile up");
        assert_eq!((pace.batch_bytes(16 << 20, 1 << 20), Pace::new(0, start).batch_bytes(16, 1)), (1 << 20, 16));
    }
}
