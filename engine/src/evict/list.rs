//! Doubly linked lists of pages over one slab: each list is a ring through its own sentinel, so that a node leaves
//! without knowing which list it is in, and two lists join in O(1).

use super::Node;
use crate::chunked::Slab;
use crate::index::PageId;

struct Link {
    previous: Node,
    next: Node,
    page: PageId,
    /// What a policy notes of it; lists give it no meaning.
    mark: u32,
}

/// `lists` rings; nodes 0..lists are the sentinels. The front is the oldest.
pub(super) struct Lists {
    links: Slab<Link>,
    length: usize,
}

impl Lists {
    pub(super) fn new(lists: Node) -> Lists {
        let mut links = Slab::default();
        for list in 0..lists {
            links.put(Link { previous: list, next: list, page: 0, mark: 0 });
        }
        Lists { links, length: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    fn at(&mut self, node: Node) -> &mut Link {
        &mut self.links[node]
    }

    pub(super) fn mark(&self, node: Node) -> u32 {
        self.links[node].mark
    }

    pub(super) fn set_mark(&mut self, node: Node, mark: u32) {
        self.at(node).mark = mark;
    }

    /// Adds at the back.
    pub(super) fn push(&mut self, list: Node, page: PageId, mark: u32) -> Node {
        let node = self.links.put(Link { previous: list, next: list, page, mark });
        self.length += 1;
        self.attach(list, node);
        node
    }

    fn attach(&mut self, list: Node, node: Node) {
        let last = self.at(list).previous;
        self.at(last).next = node;
        self.at(list).previous = node;
        let link = self.at(node);
        (link.previous, link.next) = (last, list);
    }

    fn detach(&mut self, node: Node) {
        let (previous, next) = (self.at(node).previous, self.at(node).next);
        self.at(previous).next = next;
        self.at(next).previous = previous;
    }

    /// Moves to the back of a list.
    pub(super) fn move_to(&mut self, list: Node, node: Node) {
        self.detach(node);
        self.attach(list, node);
    }

    /// Moves to the front of a list.
    pub(super) fn move_to_front(&mut self, list: Node, node: Node) {
        self.detach(node);
        let first = self.at(list).next;
        self.at(list).next = node;
        self.at(first).previous = node;
        let link = self.at(node);
        (link.previous, link.next) = (list, first);
    }

    pub(super) fn remove(&mut self, node: Node) {
        self.detach(node);
        self.links.take(node, Link { previous: node, next: node, page: 0, mark: 0 });
        self.length -= 1;
    }

    pub(super) fn front_node(&self, list: Node) -> Option<Node> {
        let first = self.links[list].next;
        (first != list).then_some(first)
    }

    pub(super) fn page(&self, node: Node) -> PageId {
        self.links[node].page
    }

    pub(super) fn front(&self, list: Node) -> Option<PageId> {
        self.front_node(list).map(|node| self.page(node))
    }

    /// Puts all of `from` behind the back of `onto`.
    pub(super) fn append(&mut self, onto: Node, from: Node) {
        let (first, last) = (self.at(from).next, self.at(from).previous);
        if first == from {
            return;
        }
        (self.at(from).next, self.at(from).previous) = (from, from);
        let back = self.at(onto).previous;
        self.at(back).next = first;
        self.at(first).previous = back;
        self.at(last).next = onto;
        self.at(onto).previous = last;
    }
}
