//! Notices programs that open a directory's files one after another, so that tickets for the next ones are fetched in
//! one call. Shared by the session's threads; a few walks at once.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

const WALKS_MAX: usize = 32;
const BATCH_MAX: usize = 128;

/// Walks under way: the node that is expected next, and how many came as expected.
#[derive(Default)]
pub(super) struct Walks(Mutex<VecDeque<(u64, u32)>>);

impl Walks {
    /// A node with this follower is opened; how many files to ask tickets for, itself among them.
    pub(super) fn opened(&self, node: u64, next: u64) -> usize {
        let mut walks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = match walks.iter().position(|(expected, _)| *expected == node) {
            Some(place) => walks.remove(place).map_or(0, |(_, steps)| steps) + 1,
            None => 0,
        };
        if next != 0 {
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
        assert_eq!((walks.opened(10, 11), walks.opened(50, 51), walks.opened(11, 12)), (1, 1, 8));
        assert_eq!((walks.opened(12, 13), walks.opened(70, 71), walks.opened(51, 52)), (16, 1, 8));
        for node in 13..40 {
            walks.opened(node, node + 1);
        }
        assert_eq!(walks.opened(40, 41), 128);
        assert_eq!(walks.opened(90, 0), 1);
    }
}
