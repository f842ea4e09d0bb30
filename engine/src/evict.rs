//! Which page leaves a tier next. One evictor per tier and directory, owned by one core. Pure.
//!
//! Invariants: an evictor holds exactly the pages that may leave (pages that a pin holds and pages being written are taken out);
//! every operation is O(1), ageing excepted, which is O(buckets).

mod ghost;
mod lfu;
mod list;
mod lru;
mod scan_resistant;

use crate::EvictionPolicy;
use crate::index::PageId;
use crate::key::PageKey;

/// A page's place in its evictor.
pub(crate) type Node = u32;

/// The node of a page that is in no evictor.
pub(crate) const NO_NODE: Node = Node::MAX;

/// An order of pages by how little they are missed. Pages are numbers; `hash` stands for a page's name (`hash_of`), held or not.
pub(crate) trait Evictor {
    /// A page that is not here was asked for.
    fn missed(&mut self, _hash: u32) {}
    /// Whether a page is worth what would leave for it. A page refused a moment ago is let in.
    fn admits(&mut self, _hash: u32) -> bool {
        true
    }
    /// The same, without the benefit of the doubt for a page that comes back at once.
    fn is_worthy(&self, _hash: u32) -> bool {
        true
    }
    /// Adds a page; `is_wanted` if somebody asked that it be kept.
    fn insert(&mut self, page: PageId, hash: u32, is_wanted: bool) -> Node;
    /// The page was used.
    fn touch(&mut self, node: Node);
    /// The page left, or may not leave.
    fn remove(&mut self, node: Node, hash: u32);
    /// The page to lose next; it stays until it is removed.
    fn victim(&mut self) -> Option<PageId>;
}

/// A page's name in 32 well-mixed bits.
pub(crate) fn hash_of(key: &PageKey) -> u32 {
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * 0x9E37_79B9_7F4A_7C15;
        (product >> 64) as u64 ^ product as u64
    };
    let hash = mix(mix(mix(0x243F_6A88_85A3_08D3, key.file_id.0), key.version.0), key.page.0.into());
    (hash ^ hash >> 32) as u32
}

/// The evictor of a policy.
pub(crate) fn evictor(policy: EvictionPolicy) -> Box<dyn Evictor> {
    match policy {
        EvictionPolicy::ScanResistant => Box::new(scan_resistant::ScanResistant::new()),
        EvictionPolicy::Lru => Box::new(lru::Lru::new()),
        EvictionPolicy::Lfu => Box::new(lfu::Lfu::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hashbrown::HashMap;
    use proptest::prelude::*;

    const POLICIES: [EvictionPolicy; 3] = [EvictionPolicy::ScanResistant, EvictionPolicy::Lru, EvictionPolicy::Lfu];

    fn hash(page: u32) -> u32 {
        page.wrapping_mul(0x9E37_79B1)
    }

    fn drain(evictor: &mut dyn Evictor, mut held: HashMap<u32, Node>) -> Vec<u32> {
        let left = std::iter::from_fn(|| {
            let victim = evictor.victim()?;
            evictor.remove(held.remove(&victim).expect("a victim is held"), hash(victim));
            Some(victim)
        })
        .collect();
        assert!(held.is_empty(), "never a victim: {held:?}");
        left
    }

    #[test]
    fn what_was_not_used_leaves_first_and_everything_leaves_once() {
        for policy in [EvictionPolicy::Lru, EvictionPolicy::Lfu] {
            let mut evictor = evictor(policy);
            let mut held: HashMap<u32, Node> =
                (0..6).map(|page| (page, evictor.insert(page, hash(page), false))).collect();
            evictor.touch(held[&1]);
            evictor.touch(held[&0]);
            evictor.remove(held.remove(&4).unwrap(), hash(4));
            assert_eq!(drain(&mut *evictor, held), [2, 3, 5, 1, 0], "{policy:?}");
            let again = evictor.insert(7, hash(7), false);
            assert_eq!(evictor.victim(), Some(7));
            evictor.remove(again, hash(7));
            assert_eq!(evictor.victim(), None);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Use(u32),
        Load(u32),
        Drop(u32),
        Evict,
        Refuse(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let page = 0..400u32;
        prop_oneof![
            20 => page.clone().prop_map(Step::Use),
            2 => page.clone().prop_map(Step::Load),
            2 => page.clone().prop_map(Step::Drop),
            4 => Just(Step::Evict),
            2 => page.prop_map(Step::Refuse),
        ]
    }

    proptest! {
        #[test]
        fn every_page_that_is_held_is_a_victim_once(
            steps in proptest::collection::vec(step(), 1..2_000),
            which in 0..POLICIES.len(),
        ) {
            let mut evictor = evictor(POLICIES[which]);
            let mut held: HashMap<u32, Node> = HashMap::new();
            for step in steps {
                match step {
                    Step::Use(page) => match held.get(&page) {
                        Some(&node) => evictor.touch(node),
                        None => {
                            evictor.missed(hash(page));
                            held.insert(page, evictor.insert(page, hash(page), false));
                        }
                    },
                    Step::Load(page) if !held.contains_key(&page) => {
                        held.insert(page, evictor.insert(page, hash(page), true));
                    }
                    Step::Drop(page) => {
                        if let Some(node) = held.remove(&page) {
                            evictor.remove(node, hash(page));
                        }
                    }
                    Step::Evict => {
                        let victim = evictor.victim();
                        prop_assert_eq!(victim.is_none(), held.is_empty());
                        if let Some(victim) = victim {
                            let node = held.remove(&victim);
                            prop_assert!(node.is_some(), "{:?} is not held", victim);
                            evictor.remove(node.unwrap(), hash(victim));
                        }
                    }
                    Step::Refuse(page) if !held.contains_key(&page) => {
                        let first = evictor.admits(hash(page));
                        prop_assert!(first || evictor.admits(hash(page)), "who comes back at once is let in");
                    }
                    Step::Load(_) | Step::Refuse(_) => {}
                }
                // Asking changes nothing.
                prop_assert_eq!(evictor.victim(), evictor.victim());
            }
            drain(&mut *evictor, held);
        }
    }

    #[test]
    fn old_fame_fades_under_lfu() {
        let mut evictor = evictor(EvictionPolicy::Lfu);
        let nodes: Vec<Node> = (0..4).map(|page| evictor.insert(page, hash(page), false)).collect();
        for _ in 0..20 {
            evictor.touch(nodes[0]);
        }
        for _ in 0..2_000 {
            nodes[1..].iter().for_each(|&node| evictor.touch(node));
        }
        assert_eq!(evictor.victim(), Some(0));
    }
}
