//! Notices programs that open a directory's files in order, with one thread or several that share the work, so that
//! tickets and contents of the next ones are fetched together. Shared by the session's threads; a few walks at once.

use forebay_base::FileId;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

const WALKS_MAX: usize = 32;
const BATCH_MAX: usize = 128;
/// Threads of one walk may be this far from each other.
pub(super) const WINDOW: usize = 12;

/// Walks under way.
#[derive(Default)]
pub(super) struct Walks(Mutex<VecDeque<Walk>>);

struct Walk {
    /// Files that are expected, in order: those that were passed over, then those behind the furthest one opened.
    expected: VecDeque<FileId>,
    /// How many came as expected.
    steps: u32,
}

impl Walks {
    /// A file with these followers is opened; how many files to ask tickets for, itself among them. 1 outside a walk.
    pub(super) fn opened(&self, file: FileId, followers: impl Iterator<Item = FileId>) -> usize {
        let mut walks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = walks
            .iter()
            .enumerate()
            .find_map(|(walk, held)| held.expected.iter().position(|expected| *expected == file).map(|at| (walk, at)));
        let mut walk = Walk { expected: VecDeque::new(), steps: 0 };
        let mut is_furthest = true;
        if let Some((place, at)) = found
            && let Some(held) = walks.remove(place)
        {
            walk = Walk { expected: held.expected, steps: held.steps + 1 };
            walk.expected.remove(at);
            is_furthest = at == walk.expected.len();
        }
        let steps = walk.steps;
        let mut followers: Vec<FileId> = followers.take(WINDOW).collect();
        if !is_furthest && let Some(last) = walk.expected.back() {
            // Those before it are expected already, or were opened.
            let known = followers.iter().position(|file| file == last).map_or(followers.len(), |at| at + 1);
            followers.drain(..known);
        }
        walk.expected.extend(followers);
        let excess = walk.expected.len().saturating_sub(2 * WINDOW);
        walk.expected.drain(..excess);
        if !walk.expected.is_empty() {
            if walks.len() == WALKS_MAX {
                walks.pop_front();
            }
            walks.push_back(walk);
        }
        match steps {
            0 => 1,
            steps => BATCH_MAX.min(4 << steps.min(8)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(walks: &Walks, file: u64) -> usize {
        walks.opened(FileId(file), (file + 1..100_000).map(FileId))
    }

    #[test]
    fn batches_grow_with_a_walk_and_not_without() {
        let walks = Walks::default();
        let opened = |file| opened(&walks, file);
        assert_eq!((opened(1000), opened(5000), opened(1001)), (1, 1, 8));
        assert_eq!((opened(1002), opened(7000), opened(5001)), (16, 1, 8));
        for file in 1003..1040 {
            opened(file);
        }
        assert_eq!(opened(1040), 128);
        assert_eq!(walks.opened(FileId(90), std::iter::empty()), 1);
    }

    #[test]
    fn threads_that_share_a_walk_are_one_walk() {
        let walks = Walks::default();
        opened(&walks, 10);
        let orders = [12u64, 11, 14, 13, 17, 15, 16, 18, 21, 20, 19, 22, 30, 23, 24];
        let batches: Vec<usize> = orders.into_iter().map(|file| opened(&walks, file)).collect();
        assert!(batches.iter().all(|batch| *batch > 1), "{batches:?}");
        // A file of the walk a second time is none of it, and neither is one far away.
        assert_eq!((opened(&walks, 12), opened(&walks, 60)), (1, 1));
    }

    #[test]
    fn bounded() {
        let walks = Walks::default();
        for walk in 0..200 {
            opened(&walks, walk * 100);
        }
        let held = walks.0.lock().unwrap();
        assert!(held.len() <= WALKS_MAX && held.iter().all(|walk| walk.expected.len() <= 2 * WINDOW));
    }
}
