//! Notices programs that open a directory's files one after another, so that tickets for the next ones are fetched in
//! one call. Shared by the session's threads; a few walks at once.

use forebay_base::FileId;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

const WALKS_MAX: usize = 32;
const BATCH_MAX: usize = 128;

/// Walks under way: the file that is expected next, and how many came as expected.
#[derive(Default)]
pub(super) struct Walks(Mutex<VecDeque<(FileId, u32)>>);

impl Walks {
    /// A file with this follower is opened; how many files to ask tickets for, itself among them. 1 outside a walk.
    pub(super) fn opened(&self, file: FileId, next: Option<FileId>) -> usize {
        let mut walks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = match walks.iter().position(|(expected, _)| *expected == file) {
            Some(place) => walks.remove(place).map_or(0, |(_, steps)| steps) + 1,
            None => 0,
        };
        if let Some(next) = next {
            if walks.len() == WALKS_MAX {
                walks.pop_front();
            }
            walks.push_back((next, steps));
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

    #[test]
    fn batches_grow_with_a_walk_and_not_without() {
        let walks = Walks::default();
        let opened = |file: u64| walks.opened(FileId(file), Some(FileId(file + 1)));
        assert_eq!((opened(10), opened(50), opened(11)), (1, 1, 8));
        assert_eq!((opened(12), opened(70), opened(51)), (16, 1, 8));
        for file in 13..40 {
            opened(file);
        }
        assert_eq!(opened(40), 128);
        assert_eq!(walks.opened(FileId(90), None), 1);
    }
}
