//! Least recently used: one list, oldest first.

use super::list::Lists;
use super::{Evictor, Node};
use crate::index::PageId;

pub(super) struct Lru {
    lists: Lists,
}

impl Lru {
    pub(super) fn new() -> Lru {
        Lru { lists: Lists::new(1) }
    }
}

impl Evictor for Lru {
    fn insert(&mut self, page: PageId, _hash: u32, _is_wanted: bool) -> Node {
        self.lists.push(0, page, 0)
    }

    fn touch(&mut self, node: Node) {
        self.lists.move_to(0, node);
    }

    fn remove(&mut self, node: Node, _hash: u32) {
        self.lists.remove(node);
    }

    fn victim(&mut self) -> Option<PageId> {
        self.lists.front(0)
    }
}
