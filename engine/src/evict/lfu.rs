//! Least frequently used, with ageing: a list per count of uses, the oldest first within it.
//!
//! Counts stop at `COUNT_MAX`. After `AGE_FACTOR` uses per page held, every count is halved by joining lists, so that a
//! page that was famous once leaves in the end. A node's count is stored with the age at which it was written and is
//! halved when it is looked at.

use super::list::Lists;
use super::{Evictor, Node};
use crate::index::PageId;

const COUNT_BITS: u32 = 5;
const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;
const AGE_MASK: u32 = u32::MAX >> COUNT_BITS;
const AGE_FACTOR: usize = 8;

fn mark(count: u32, age: u32) -> u32 {
    count | age << COUNT_BITS
}

pub(super) struct Lfu {
    lists: Lists,
    age: u32,
    uses: usize,
}

impl Lfu {
    pub(super) fn new() -> Lfu {
        Lfu { lists: Lists::new(COUNT_MAX + 1), age: 0, uses: 0 }
    }

    fn grow_older(&mut self) {
        self.uses += 1;
        if self.uses < AGE_FACTOR * self.lists.len().max(1) {
            return;
        }
        self.uses = 0;
        self.age = (self.age + 1) & AGE_MASK;
        // Upwards, so that a list is emptied before another one joins it.
        for count in 1..=COUNT_MAX {
            self.lists.append(count / 2, count);
        }
    }
}

impl Evictor for Lfu {
    fn insert(&mut self, page: PageId, _hash: u32, _is_wanted: bool) -> Node {
        self.lists.push(0, page, mark(0, self.age))
    }

    fn touch(&mut self, node: Node) {
        let noted = self.lists.mark(node);
        let (count, age) = (noted & COUNT_MAX, noted >> COUNT_BITS);
        let halvings = (self.age.wrapping_sub(age) & AGE_MASK).min(15);
        let count = ((count >> halvings) + 1).min(COUNT_MAX);
        self.lists.set_mark(node, mark(count, self.age));
        self.lists.move_to(count, node);
        self.grow_older();
    }

    fn remove(&mut self, node: Node, _hash: u32) {
        self.lists.remove(node);
    }

    fn victim(&mut self) -> Option<PageId> {
        (0..=COUNT_MAX).find_map(|count| self.lists.front(count))
    }
}
