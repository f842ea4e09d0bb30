//! Least frequently used, with ageing: a list per count of uses, the oldest first within it.
//!
//! Counts stop at `COUNT_MAX`. After `AGE_FACTOR` uses per page held, every count is halved by joining lists, so that a
//! page that was famous once leaves in the end. A node's count is stored with the age at which it was written and is
//! halved when it is looked at.

use super::list::Lists;
use super::{Evictor, Node};
use crate::key::PageKey;

const COUNT_MAX: u32 = 31;
const AGE_FACTOR: usize = 8;

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
        self.age = self.age.wrapping_add(1);
        // Upwards, so that a list is emptied before another one joins it.
        for count in 1..=COUNT_MAX {
            self.lists.append(count / 2, count);
        }
    }
}

impl Evictor for Lfu {
    fn insert(&mut self, key: PageKey, _is_wanted: bool) -> Node {
        let node = self.lists.push(0, key);
        self.lists.set_mark(node, [0, self.age]);
        node
    }

    fn touch(&mut self, node: Node) {
        let [count, age] = self.lists.mark(node);
        let halvings = self.age.wrapping_sub(age).min(15);
        let count = ((count >> halvings) + 1).min(COUNT_MAX);
        self.lists.set_mark(node, [count, self.age]);
        self.lists.move_to(count, node);
        self.grow_older();
    }

    fn remove(&mut self, node: Node) {
        self.lists.remove(node);
    }

    fn victim(&mut self) -> Option<PageKey> {
        (0..=COUNT_MAX).find_map(|count| self.lists.front(count))
    }
}
