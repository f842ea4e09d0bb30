//! Latency histograms: fixed buckets at powers of two from 1 us to 17 s, so that finding the bucket is one instruction.
//!
//! Invariant: the count of a histogram is the sum of its buckets, so no reader sees a count that they do not add up to.

use super::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// 2^10 ns is the bound of the first bucket.
const FIRST_BIT: u32 = 10;
/// Buckets with a bound; one more holds what is longer than all of them.
pub const BUCKETS: usize = 25;

/// The bound of a bucket, inclusive.
#[must_use]
pub fn bound_seconds(bucket: usize) -> f64 {
    (1u64 << (FIRST_BIT + bucket as u32)) as f64 / 1e9
}

/// Counts durations by size.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn record(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(ns)].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Counts the time since `began`.
    #[inline]
    pub fn record_since(&self, began: Instant) {
        self.record(began.elapsed());
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

/// The bucket whose bound is the smallest that is not less.
#[inline]
fn bucket_of(ns: u64) -> usize {
    let bits = u64::BITS - ns.saturating_sub(1).leading_zeros();
    (bits.saturating_sub(FIRST_BIT) as usize).min(BUCKETS)
}

impl Cell for Histogram {
    const NUMBERS: usize = BUCKETS + 2;

    fn read(&self, out: &mut Vec<u64>) {
        out.extend(self.buckets.iter().chain([&self.sum_ns]).map(|number| number.load(Ordering::Relaxed)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lands_in_the_smallest_bucket_that_holds_it() {
        for bucket in 0..BUCKETS {
            let bound = 1u64 << (FIRST_BIT + bucket as u32);
            assert_eq!(bucket_of(bound), bucket);
            assert_eq!(bucket_of(bound + 1), bucket + 1);
        }
        assert_eq!((bucket_of(0), bucket_of(1), bucket_of(u64::MAX)), (0, 0, BUCKETS));
    }

    #[test]
    fn many_threads_lose_nothing() {
        let histogram = Histogram::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|us| histogram.record(Duration::from_micros(us))));
            }
        });
        assert_eq!(histogram.count(), 40_000);
        let mut numbers = Vec::new();
        histogram.read(&mut numbers);
        assert_eq!(numbers.len(), Histogram::NUMBERS);
        assert_eq!(numbers[BUCKETS + 1], 4 * (0..10_000u64).sum::<u64>() * 1000);
    }
}
