//! Which pages a byte range touches, and how missing pages are grouped into store requests. Pure.
//!
//! Invariant: sizes come from verified tickets, so every page index fits a `u32`.

use forebay_base::Fingerprint;
use std::ops::Range;

/// Most pages of one store request.
pub(crate) const RUN_PAGES_MAX: u32 = 8;

/// Most pages of one request to the store that gave this fingerprint. Where the store itself checks the condition of
/// a read, each byte is of the right content as soon as it arrives. Elsewhere only the end of the stream says so, and a
/// page must not be used before it: requests are then one page long.
pub(crate) fn run_pages_max(fingerprint: &Fingerprint) -> u32 {
    if fingerprint.0.starts_with("etag:") { RUN_PAGES_MAX } else { 1 }
}

/// The part of `[offset, offset + length)` that lies inside a file of `size_bytes`; empty behind its end.
pub(crate) fn clamp(offset: u64, length: u64, size_bytes: u64) -> Range<u64> {
    let start = offset.min(size_bytes);
    start..offset.saturating_add(length).min(size_bytes).max(start)
}

/// The pages that a range inside the file touches.
pub(crate) fn pages_of(range: &Range<u64>, page_bytes: u32) -> Range<u32> {
    if range.is_empty() {
        return 0..0;
    }
    let page_bytes = u64::from(page_bytes);
    (range.start / page_bytes) as u32..((range.end - 1) / page_bytes) as u32 + 1
}

/// The bytes of the file that a page holds; the last page may be short.
pub(crate) fn bytes_of_page(page: u32, page_bytes: u32, size_bytes: u64) -> Range<u64> {
    let start = u64::from(page) * u64::from(page_bytes);
    start.min(size_bytes)..(start + u64::from(page_bytes)).min(size_bytes)
}

/// The part of `range` inside `page`: offset in the page and length.
pub(crate) fn part_in_page(range: &Range<u64>, page: u32, page_bytes: u32) -> (u32, u32) {
    let start = u64::from(page) * u64::from(page_bytes);
    let from = range.start.max(start);
    let to = range.end.min(start + u64::from(page_bytes));
    ((from - start) as u32, to.saturating_sub(from) as u32)
}

/// Groups ascending page indexes into runs of neighbours, each at most `pages_max` long.
pub(crate) fn runs(pages: impl IntoIterator<Item = u32>, pages_max: u32) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for page in pages {
        match runs.last_mut() {
            Some(run) if run.end == page && run.end - run.start < pages_max => run.end += 1,
            _ => runs.push(page..page + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges() {
        assert_eq!(clamp(10, 5, 12), 10..12);
        assert_eq!(clamp(20, 5, 12), 12..12);
        assert_eq!(clamp(u64::MAX, u64::MAX, 12), 12..12);
        assert_eq!(clamp(0, 0, 0), 0..0);
        assert_eq!(pages_of(&(0..0), 10), 0..0);
        assert_eq!(pages_of(&(9..11), 10), 0..2);
        assert_eq!(bytes_of_page(2, 10, 25), 20..25);
        assert_eq!(part_in_page(&(9..25), 1, 10), (0, 10));
        assert_eq!(part_in_page(&(9..25), 2, 10), (0, 5));
    }

    #[test]
    fn only_stores_that_check_the_condition_get_long_requests() {
        assert_eq!(run_pages_max(&Fingerprint("etag:\"x\"".into())), RUN_PAGES_MAX);
        assert_eq!(run_pages_max(&Fingerprint("stat:1:2:3:4:5".into())), 1);
    }

    proptest! {
        #[test]
        fn parts_tile_the_range(offset in 0u64..5_000, length in 0u64..5_000, size in 0u64..5_000, page_bytes in 1u32..700) {
            let range = clamp(offset, length, size);
            let mut at = range.start;
            for page in pages_of(&range, page_bytes) {
                let (from, bytes) = part_in_page(&range, page, page_bytes);
                let held = bytes_of_page(page, page_bytes, size);
                prop_assert_eq!(held.start + u64::from(from), at);
                prop_assert!(bytes > 0 && held.start + u64::from(from + bytes) <= held.end);
                at += u64::from(bytes);
            }
            prop_assert_eq!(at, range.end);
        }

        #[test]
        fn runs_keep_every_page_once(
            pages in proptest::collection::btree_set(0u32..200, 0..100),
            most in 1u32..=RUN_PAGES_MAX,
        ) {
            let runs = runs(pages.iter().copied(), most);
            prop_assert!(runs.iter().all(|run| !run.is_empty() && run.end - run.start <= most));
            let back: Vec<u32> = runs.into_iter().flatten().collect();
            prop_assert_eq!(back, pages.into_iter().collect::<Vec<_>>());
        }
    }
}
