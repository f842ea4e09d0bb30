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
    /// Files that are expected, in order: those that were passed over, then those behind the last one opened.
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
        if let Some((place, at)) = found
            && let Some(held) = walks.remove(place)
        {
            walk.steps = held.steps + 1;
            walk.expected.extend(held.expected.into_iter().take(at));
            let excess = walk.expected.len().saturating_sub(WINDOW);
            walk.expected.drain(..excess);
        }
        let steps = walk.steps;
        walk.expected.extend(followers.take(WINDOW));
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
        (1003..1040).for_each(|file| drop(opened(file)));
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
        (0..200).for_each(|walk| drop(opened(&walks, walk * 100)));
        let held = walks.0.lock().unwrap();
        assert!(held.len() <= WALKS_MAX && held.iter().all(|walk| walk.expected.len() <= 2 * WINDOW));
    }
}
