//! Least recently used: one list, oldest first.

use super::list::Lists;
use super::{Evictor, Node};
use crate::key::PageKey;

pub(super) struct Lru {
    lists: Lists,
}

impl Lru {
    pub(super) fn new() -> Lru {
        Lru { lists: Lists::new(1) }
    }
}

impl Evictor for Lru {
    fn insert(&mut self, key: PageKey, _is_wanted: bool) -> Node {
        self.lists.push(0, key)
    }

    fn touch(&mut self, node: Node) {
        self.lists.move_to(0, node);
    }

    fn remove(&mut self, node: Node) {
        self.lists.remove(node);
    }

    fn victim(&mut self) -> Option<PageKey> {
        self.lists.front(0)
    }
}
