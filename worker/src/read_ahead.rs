//! Adaptive read-ahead: finds sequential readers among a shard's reads and says what to fetch before they ask. Pure;
//! owned by one shard.
//!
//! Requests of one reader arrive over several connections and slightly out of order, so a stream belongs to a file, not
//! to a connection, and tolerates a distance of a few requests. A random reader forms no stream: it pays for no page
//! that it does not touch. Invariant: at most `FILES_MAX` files with `STREAMS_MAX` streams each.

use hashbrown::HashMap;
use std::collections::VecDeque;
use std::ops::Range;

const FILES_MAX: usize = 4096;
const STREAMS_MAX: usize = 8;
/// How far, in requests, a read may lie from where its stream stands.
const REORDER_REQUESTS: u64 = 4;
/// Reads in sequence before anything is fetched ahead.
const HITS_MIN: u32 = 2;

type FileVersion = (u64, u64);

#[derive(Default)]
struct Stream {
    /// End of the furthest read.
    high: u64,
    /// End of what was asked for ahead.
    issued: u64,
    /// Bytes to stay ahead by; 0 before the first time.
    window: u64,
    hits: u32,
    touched: u64,
}

/// All readers of a shard.
pub(crate) struct ReadAhead {
    window_max: u64,
    page_bytes: u64,
    files: HashMap<FileVersion, Vec<Stream>>,
    order: VecDeque<FileVersion>,
    clock: u64,
}

impl ReadAhead {
    /// `window_max` of 0 switches it off.
    pub(crate) fn new(window_max: u64, page_bytes: u32) -> Self {
        let page_bytes = u64::from(page_bytes);
        Self { window_max, page_bytes, files: HashMap::new(), order: VecDeque::new(), clock: 0 }
    }

    /// Notes a read of `range`, which lies inside the file, and returns what to fetch ahead now.
    pub(crate) fn note(&mut self, file: FileVersion, range: &Range<u64>, size_bytes: u64) -> Option<Range<u64>> {
        if self.window_max == 0 || size_bytes <= self.page_bytes || range.is_empty() {
            return None;
        }
        self.clock += 1;
        if !self.files.contains_key(&file) {
            while self.order.len() >= FILES_MAX {
                self.order.pop_front().and_then(|oldest| self.files.remove(&oldest));
            }
            self.order.push_back(file);
        }
        let streams = self.files.entry(file).or_default();
        let slack = REORDER_REQUESTS * (range.end - range.start);
        let near = streams
            .iter_mut()
            .filter(|stream| stream.high.abs_diff(range.start) <= slack)
            .min_by_key(|stream| stream.high.abs_diff(range.start));
        let Some(stream) = near else {
            if streams.len() >= STREAMS_MAX
                && let Some(oldest) = (0..streams.len()).min_by_key(|&index| streams[index].touched)
            {
                streams.swap_remove(oldest);
            }
            let hits = u32::from(range.start == 0);
            streams.push(Stream { high: range.end, issued: range.end, window: 0, hits, touched: self.clock });
            return None;
        };
        stream.touched = self.clock;
        stream.hits = stream.hits.saturating_add(1);
        stream.high = stream.high.max(range.end);
        if stream.hits < HITS_MIN {
            return None;
        }
        if stream.window == 0 {
            stream.window = self.page_bytes.min(self.window_max);
        } else if stream.issued.saturating_sub(stream.high) > stream.window / 2 {
            return None;
        } else {
            stream.window = (stream.window * 2).min(self.window_max);
        }
        let start = stream.issued.max(stream.high);
        let end = (stream.high + stream.window).min(size_bytes);
        if start >= end {
            return None;
        }
        stream.issued = end;
        Some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u32 = 1 << 20;
    const MIB: u64 = 1 << 20;
    const FILE: FileVersion = (7, 1);

    fn read(ahead: &mut ReadAhead, offset: u64, length: u64) -> Option<Range<u64>> {
        ahead.note(FILE, &(offset..offset + length), 256 * MIB)
    }

    #[test]
    fn a_sequential_reader_gets_a_growing_window_without_gaps() {
        let mut ahead = ReadAhead::new(8 * MIB, PAGE);
        let (mut asked_to, mut furthest) = (0, 0);
        for index in 0..400u64 {
            let offset = index * 128 * 1024;
            if let Some(range) = read(&mut ahead, offset, 128 * 1024) {
                assert!(range.start >= offset && (asked_to == 0 || range.start == asked_to.max(offset + 128 * 1024)));
                asked_to = range.end;
            }
            furthest = furthest.max(asked_to.saturating_sub(offset));
        }
        assert!((4 * MIB..=8 * MIB + 128 * 1024).contains(&furthest), "{furthest}");
    }

    #[test]
    fn requests_out_of_order_are_one_stream() {
        let mut ahead = ReadAhead::new(8 * MIB, PAGE);
        let order = [0u64, 2, 1, 3, 5, 4, 7, 6];
        let asked = order.iter().filter_map(|&index| read(&mut ahead, index * 512 * 1024, 512 * 1024)).count();
        assert!(asked >= 2, "{asked}");
    }

    #[test]
    fn two_readers_of_one_file_are_two_streams() {
        let mut ahead = ReadAhead::new(4 * MIB, PAGE);
        let mut asked = [0, 0];
        for index in 0..32u64 {
            for (reader, base) in [0, 128 * MIB].into_iter().enumerate() {
                asked[reader] += usize::from(read(&mut ahead, base + index * 256 * 1024, 256 * 1024).is_some());
            }
        }
        assert!(asked[0] >= 2 && asked[1] >= 2, "{asked:?}");
    }

    #[test]
    fn small_files_and_a_window_of_zero_ask_for_nothing() {
        let mut ahead = ReadAhead::new(8 * MIB, PAGE);
        assert!((0..8).all(|index| ahead.note(FILE, &(index * 4096..(index + 1) * 4096), MIB).is_none()));
        let mut off = ReadAhead::new(0, PAGE);
        assert!((0..64).all(|index| read(&mut off, index * MIB, MIB).is_none()));
    }

    #[test]
    fn files_are_bounded() {
        let mut ahead = ReadAhead::new(8 * MIB, PAGE);
        for file in 0..3 * FILES_MAX as u64 {
            ahead.note((file, 1), &(0..4096), 256 * MIB);
        }
        assert_eq!((ahead.files.len(), ahead.order.len()), (FILES_MAX, FILES_MAX));
    }

    proptest! {
        #[test]
        fn a_random_reader_pays_for_nothing(places in proptest::collection::btree_set(0u64..4096, 2..200)) {
            // 4 KiB reads in distinct places of a 256 MiB file; 7919 is prime, so each place comes once, in mixed order.
            let places: Vec<u64> = places.into_iter().collect();
            let mut ahead = ReadAhead::new(8 * MIB, PAGE);
            for index in 0..places.len() {
                let offset = places[(index * 7919) % places.len()] * 64 * 1024;
                prop_assert_eq!(ahead.note(FILE, &(offset..offset + 4096), 256 * MIB), None);
            }
        }

        #[test]
        fn never_behind_the_end_or_beyond_the_window(reads in proptest::collection::vec((0u64..300, 1u64..20), 1..100)) {
            let mut ahead = ReadAhead::new(4 * MIB, PAGE);
            let size = 300 * 64 * 1024;
            for (place, length) in reads {
                let start = place * 64 * 1024;
                let range = start..(start + length * 4096).min(size);
                if let Some(asked) = ahead.note(FILE, &range, size) {
                    prop_assert!(asked.start < asked.end && asked.end <= size);
                    prop_assert!(asked.end - asked.start <= 4 * MIB);
                }
            }
        }
    }
}
