//! Hit ratios of every eviction policy over made traces: the same figures on every machine.

use forebay_engine::EvictionPolicy;
use forebay_engine::bench::ratios::{hit_ratio, traces};

pub(crate) fn show(capacity: usize) {
    println!("hit ratios of a cache of {capacity} pages; with a gate, a page that is not worth it is not put in");
    println!("| trace | lru | lfu | scan-resistant | scan-resistant with a gate |");
    println!("|---|---|---|---|---|");
    for trace in traces(capacity) {
        let ratio = |policy, has_gate| hit_ratio(policy, capacity, has_gate, &trace);
        println!(
            "| {} | {:.3} | {:.3} | {:.3} | {:.3} |",
            trace.name,
            ratio(EvictionPolicy::Lru, false),
            ratio(EvictionPolicy::Lfu, false),
            ratio(EvictionPolicy::ScanResistant, false),
            ratio(EvictionPolicy::ScanResistant, true),
        );
    }
}
