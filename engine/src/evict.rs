//! Which page leaves a tier next. One evictor per tier and directory, owned by one core. Pure.
//!
//! Invariants: an evictor holds exactly the pages that may leave (pages that a pin holds and pages being written are taken out);
//! every operation is O(1), ageing excepted, which is O(buckets).

mod lfu;
mod list;
mod lru;

use crate::EvictionPolicy;
use crate::key::PageKey;

/// A page's place in its evictor.
pub(crate) type Node = u32;

/// The node of a page that is in no evictor.
pub(crate) const NO_NODE: Node = Node::MAX;

/// An order of pages by how little they are missed.
pub(crate) trait Evictor {
    /// Adds a page that was just used.
    fn insert(&mut self, key: PageKey) -> Node;
    /// The page was used.
    fn touch(&mut self, node: Node);
    /// The page left, or may not leave.
    fn remove(&mut self, node: Node);
    /// The page to lose next; it stays until it is removed.
    fn victim(&self) -> Option<PageKey>;
}

/// The evictor of a policy.
pub(crate) fn evictor(policy: EvictionPolicy) -> Box<dyn Evictor> {
    match policy {
        EvictionPolicy::Lru => Box::new(lru::Lru::new()),
        EvictionPolicy::Lfu => Box::new(lfu::Lfu::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::{FileId, PageIndex, Version};

    fn key(page: u32) -> PageKey {
        PageKey { file_id: FileId(9), version: Version(1), page: PageIndex(page) }
    }

    fn drain(evictor: &mut dyn Evictor, nodes: &[Node]) -> Vec<u32> {
        std::iter::from_fn(|| {
            let victim = evictor.victim()?;
            evictor.remove(nodes[victim.page.0 as usize]);
            Some(victim.page.0)
        })
        .collect()
    }

    #[test]
    fn what_was_not_used_leaves_first_and_everything_leaves_once() {
        for policy in [EvictionPolicy::Lru, EvictionPolicy::Lfu] {
            let mut evictor = evictor(policy);
            let nodes: Vec<Node> = (0..6).map(|page| evictor.insert(key(page))).collect();
            evictor.touch(nodes[1]);
            evictor.touch(nodes[0]);
            evictor.remove(nodes[4]);
            assert_eq!(drain(&mut *evictor, &nodes), [2, 3, 5, 1, 0], "{policy:?}");
            let again = evictor.insert(key(7));
            assert_eq!(evictor.victim(), Some(key(7)));
            evictor.remove(again);
            assert_eq!(evictor.victim(), None);
        }
    }

    #[test]
    fn a_scan_does_not_push_out_what_is_used_often_under_lfu() {
        let mut evictor = evictor(EvictionPolicy::Lfu);
        let mut nodes = vec![evictor.insert(key(0))];
        for _ in 0..5 {
            evictor.touch(nodes[0]);
        }
        for page in 1..100 {
            nodes.push(evictor.insert(key(page)));
            if page > 3 {
                let victim = evictor.victim().unwrap();
                assert_ne!(victim, key(0));
                evictor.remove(nodes[victim.page.0 as usize]);
            }
        }
    }

    #[test]
    fn old_fame_fades_under_lfu() {
        let mut evictor = evictor(EvictionPolicy::Lfu);
        let nodes: Vec<Node> = (0..4).map(|page| evictor.insert(key(page))).collect();
        for _ in 0..20 {
            evictor.touch(nodes[0]);
        }
        for _ in 0..2_000 {
            nodes[1..].iter().for_each(|&node| evictor.touch(node));
        }
        assert_eq!(evictor.victim(), Some(key(0)));
    }
}
