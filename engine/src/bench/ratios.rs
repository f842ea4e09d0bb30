//! How often a policy hits, over made traces of uses. Deterministic: the same numbers on every machine.
//!
//! A trace is a list of pages of equal size. The cache is one tier: with a gate, as a disk with memory beside it, a page
//! that the policy does not admit is not put in; without one, as memory itself, each page asked for is put in.

use crate::EvictionPolicy;
use crate::evict::{self, Node, hash_of};
use crate::key::PageKey;
use forebay_base::{FileId, PageIndex, Version};
use hashbrown::HashMap;

/// A sequence of uses, of which the last ones count.
pub struct Trace {
    /// For people.
    pub name: &'static str,
    uses: Vec<u32>,
    /// What comes before these uses only warms the cache.
    counted_from: usize,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ word >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn shuffle(&mut self, pages: &mut [u32]) {
        for at in (1..pages.len()).rev() {
            pages.swap(at, self.below(at + 1));
        }
    }
}

/// `rounds` over `pages`, each page once a round, in a fresh order.
fn rounds(random: &mut Random, pages: std::ops::Range<u32>, rounds: usize) -> Vec<u32> {
    let mut order: Vec<u32> = pages.collect();
    let mut uses = Vec::with_capacity(order.len() * rounds);
    for _ in 0..rounds {
        random.shuffle(&mut order);
        uses.extend(&order);
    }
    uses
}

fn zipf(random: &mut Random, pages: usize, exponent: f64, uses: usize) -> Vec<u32> {
    let mut sums = Vec::with_capacity(pages);
    let mut sum = 0.0;
    for rank in 1..=pages {
        sum += (rank as f64).powf(-exponent);
        sums.push(sum);
    }
    let draw = |random: &mut Random| {
        let at = random.next() as f64 / u64::MAX as f64 * sum;
        sums.partition_point(|sum| *sum < at).min(pages - 1) as u32
    };
    (0..uses).map(|_| draw(random)).collect()
}

/// The traces for a cache of `capacity` pages.
#[must_use]
pub fn traces(capacity: usize) -> Vec<Trace> {
    let mut random = Random(5);
    let whole = |name, uses: Vec<u32>| {
        let counted_from = uses.len() / 2;
        Trace { name, uses, counted_from }
    };
    let part = |percent: usize| (capacity * 100 / percent) as u32;
    let mut traces = vec![
        whole("Zipf 0.8 over 20 times the cache", zipf(&mut random, 20 * capacity, 0.8, 60 * capacity)),
        whole("Zipf 1.0 over 20 times the cache", zipf(&mut random, 20 * capacity, 1.0, 60 * capacity)),
    ];
    // The hot set is not touched while the scan goes by, and is asked for once behind it.
    let hot = capacity as u32 * 8 / 10;
    let mut uses = rounds(&mut random, 0..hot, 4);
    uses.extend(1_000_000..1_000_000 + 10 * capacity as u32);
    let counted_from = uses.len();
    uses.extend(rounds(&mut random, 0..hot, 1));
    traces.push(Trace { name: "hot set behind a scan of 10 times the cache", uses, counted_from });
    let mut uses = rounds(&mut random, 0..hot, 4);
    let counted_from = uses.len();
    for page in 0..10 * capacity as u32 {
        uses.extend([random.below(hot as usize) as u32, 1_000_000 + page]);
    }
    traces.push(Trace { name: "hot set and a scan, turn about (at most 0.50)", uses, counted_from });
    for (name, percent) in
        [("looped epoch, cache of 50 %", 50), ("looped epoch, cache of 80 %", 80), ("looped epoch, cache of 95 %", 95)]
    {
        traces.push(whole(name, rounds(&mut random, 0..part(percent), 12)));
    }
    // Another working set: its fifth to eighth round count.
    let mut uses = rounds(&mut random, 0..part(110), 8);
    uses.extend(rounds(&mut random, 1_000_000..1_000_000 + part(110), 4));
    let counted_from = uses.len();
    uses.extend(rounds(&mut random, 1_000_000..1_000_000 + part(110), 4));
    traces.push(Trace { name: "working set moved, from the fifth round on", uses, counted_from });
    let mut uses = Vec::new();
    for step in 0..20 {
        let from = step * capacity as u32 / 10;
        uses.extend(rounds(&mut random, from..from + part(125), 5));
    }
    traces.push(whole("working set that shifts by 1/8 every 5 rounds", uses));
    traces
}

fn hash(page: u32) -> u32 {
    hash_of(&PageKey { file_id: FileId(1), version: Version(1), page: PageIndex(page) })
}

/// The share of the counted uses that hit.
#[must_use]
pub fn hit_ratio(policy: EvictionPolicy, capacity: usize, has_gate: bool, trace: &Trace) -> f64 {
    let mut evictor = evict::evictor(policy);
    let mut held: HashMap<u32, Node> = HashMap::new();
    let mut hits = 0;
    for (number, &page) in trace.uses.iter().enumerate() {
        if let Some(&node) = held.get(&page) {
            evictor.touch(node);
            hits += usize::from(number >= trace.counted_from);
            continue;
        }
        evictor.missed(hash(page));
        if held.len() >= capacity {
            if has_gate && !evictor.admits(hash(page)) {
                continue;
            }
            let Some(victim) = evictor.victim() else { continue };
            let Some(node) = held.remove(&victim) else { continue };
            evictor.remove(node, hash(victim));
        }
        held.insert(page, evictor.insert(page, hash(page), false));
    }
    hits as f64 / (trace.uses.len() - trace.counted_from) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use EvictionPolicy::{Lfu, Lru, ScanResistant};

    /// Least ratio of the default policy at a capacity of 2,000 pages: without a gate, with one; most of LRU's.
    const BOUNDS: [(f64, f64, f64); 9] = [
        (0.44, 0.44, 0.37),
        (0.69, 0.69, 0.66),
        (0.98, 0.98, 0.01),
        (0.49, 0.49, 0.28),
        (0.46, 0.49, 0.20),
        (0.76, 0.79, 0.55),
        (0.91, 0.94, 0.85),
        (0.95, 0.90, 1.0),
        (0.92, 0.92, 1.0),
    ];

    #[test]
    fn the_default_keeps_its_promises() {
        let traces = traces(2_000);
        assert_eq!(traces.len(), BOUNDS.len());
        for (trace, (open, gate, lru)) in traces.iter().zip(BOUNDS) {
            let ratio = |policy, has_gate| hit_ratio(policy, 2_000, has_gate, trace);
            let got = (ratio(ScanResistant, false), ratio(ScanResistant, true), ratio(Lru, false), ratio(Lfu, false));
            println!("{:<48} {got:.3?}", trace.name);
            assert!(got.0 >= open && got.1 >= gate && got.2 <= lru, "{}: {got:?}", trace.name);
        }
    }

    #[test]
    fn a_scan_writes_nothing_through_the_gate() {
        let mut evictor = evict::evictor(ScanResistant);
        for page in 0..1_000 {
            evictor.insert(page, hash(page), false);
        }
        let let_in = (1_000..11_000).filter(|&page| {
            // A page is read in eight pieces.
            (0..8).for_each(|_| evictor.missed(hash(page)));
            evictor.admits(hash(page))
        });
        assert!(let_in.count() < 20);
    }

    #[test]
    fn after_a_restart_the_loop_is_hit_as_before() {
        let (held, all) = (800u32, 1_000u32);
        let mut evictor = evict::evictor(ScanResistant);
        let mut places: HashMap<u32, Node> =
            (0..held).map(|page| (page, evictor.insert(page, hash(page), false))).collect();
        let mut hits = 0;
        for page in rounds(&mut Random(9), 0..all, 5) {
            if let Some(&node) = places.get(&page) {
                evictor.touch(node);
                hits += 1;
                continue;
            }
            evictor.missed(hash(page));
            if evictor.admits(hash(page)) {
                let victim = evictor.victim().unwrap();
                evictor.remove(places.remove(&victim).unwrap(), hash(victim));
                places.insert(page, evictor.insert(page, hash(page), false));
            }
        }
        assert!(hits > all * 5 * 77 / 100, "{hits}");
    }
}
