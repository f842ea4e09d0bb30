//! What a heartbeat says of the worker: tiers and counters summed over its cores. Used by the control thread.

use crate::counters::{self, HDD, MEM, SSD, STORE, ShardView};
use forebay_base::metrics::{Exposition, process};
use forebay_engine::Tier;
use forebay_net::NET_METRICS;
use forebay_net::message::cluster::{TierUsage, WorkerCounters};
use std::path::Path;
use std::sync::Arc;

/// Capacity and use by tier and directory, in a fixed order.
pub(crate) fn tiers(views: &[Arc<ShardView>]) -> Vec<TierUsage> {
    let mut tiers: Vec<TierUsage> = Vec::new();
    for part in views.iter().flat_map(|view| view.published().usage) {
        let (tier, directory) = (tier_name(part.tier), configured(&part.path).display().to_string());
        let trouble = part.trouble.unwrap_or_default();
        match tiers.iter_mut().find(|sum| sum.tier == tier && sum.directory == directory) {
            Some(sum) => {
                sum.capacity_bytes += part.capacity_bytes;
                sum.used_bytes += part.used_bytes;
                sum.pinned_bytes += part.pinned_bytes;
                sum.leased_bytes += part.leased_bytes;
                if sum.trouble.is_empty() {
                    sum.trouble = trouble;
                }
            }
            None => tiers.push(TierUsage {
                tier: tier.into(),
                directory,
                capacity_bytes: part.capacity_bytes,
                used_bytes: part.used_bytes,
                pinned_bytes: part.pinned_bytes,
                leased_bytes: part.leased_bytes,
                trouble,
            }),
        }
    }
    tiers
}

/// What a tier is called.
pub(crate) fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Mem => "MEM",
        Tier::Ssd => "SSD",
        Tier::Hdd => "HDD",
    }
}

/// The directory that is set, from the one that a core made in it.
pub(crate) fn configured(path: &Path) -> &Path {
    let own = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("shard-"));
    path.parent().filter(|_| own).unwrap_or(path)
}

/// What the worker has done.
pub(crate) fn counters(views: &[Arc<ShardView>]) -> WorkerCounters {
    let mut sum = WorkerCounters { resident_bytes: process::resident_bytes(), ..WorkerCounters::default() };
    for view in views {
        let (own, published) = (&view.counters, view.published());
        let has_disk = published.usage.iter().any(|part| part.tier != Tier::Mem);
        sum.mem_hit_bytes += own.read_bytes.at(MEM).get();
        sum.ssd_hit_bytes += own.read_bytes.at(SSD).get();
        sum.hdd_hit_bytes += own.read_bytes.at(HDD).get();
        sum.miss_bytes += own.read_bytes.at(STORE).get();
        sum.store_read_bytes += own.store_read_bytes.get();
        sum.misrouted_requests += own.misrouted_requests.get();
        // What leaves memory is still held where there is a disk tier.
        let engine = &published.engine;
        let of_disks = engine.evicted_pages + engine.evicted_hdd_pages;
        sum.evicted_pages += if has_disk { of_disks } else { engine.evicted_mem_pages };
        sum.corrupt_units += engine.corrupt_units;
    }
    sum
}

/// The metrics of this process: counters summed over its cores, and what its engines said last.
pub(crate) fn exposition(views: &[Arc<ShardView>]) -> String {
    let mut text = Exposition::default();
    process::expose(&mut text, "worker");
    text.table(views.iter().map(|view| &view.counters));
    let tiers = tiers(views);
    let labels: Vec<[&str; 2]> = tiers.iter().map(|tier| [&*tier.tier, &*tier.directory]).collect();
    let by_tier = |number: fn(&TierUsage) -> f64| {
        labels.iter().zip(&tiers).map(move |(labels, tier)| (&labels[..], number(tier)))
    };
    text.computed(&counters::TIER_CAPACITY, by_tier(|tier| tier.capacity_bytes as f64));
    text.computed(&counters::TIER_USED, by_tier(|tier| tier.used_bytes as f64));
    text.computed(&counters::TIER_PINNED, by_tier(|tier| tier.pinned_bytes as f64));
    text.computed(&counters::TIER_LEASED, by_tier(|tier| tier.leased_bytes as f64));
    text.computed(&counters::TIER_TROUBLE, by_tier(|tier| f64::from(u8::from(!tier.trouble.is_empty()))));
    let engines: Vec<_> = views.iter().map(|view| view.published().engine).collect();
    counters::expose_engine(&mut text, &engines);
    text.number(&counters::STALLS, views.iter().map(|view| view.watch.stalls()).sum::<u64>() as f64);
    text.number(&counters::CORES, views.len() as f64);
    text.table([&*NET_METRICS]);
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Published;
    use forebay_engine::{DirectoryUsage, EngineCounters};

    fn part(tier: Tier, path: &str, used_bytes: u64, trouble: Option<&str>) -> DirectoryUsage {
        let trouble = trouble.map(Into::into);
        DirectoryUsage {
            tier,
            path: path.into(),
            capacity_bytes: 100,
            used_bytes,
            pinned_bytes: used_bytes / 2,
            leased_bytes: used_bytes / 4,
            trouble,
        }
    }

    #[test]
    fn cores_are_summed_by_directory_and_trouble_shows() {
        let views = [Arc::new(ShardView::default()), Arc::new(ShardView::default())];
        views[0].publish(Published {
            usage: vec![
                part(Tier::Mem, "", 1, None),
                part(Tier::Ssd, "/a/shard-0", 2, None),
                part(Tier::Ssd, "/b/shard-0", 4, None),
            ],
            engine: EngineCounters { evicted_pages: 3, evicted_mem_pages: 90, ..EngineCounters::default() },
        });
        views[1].publish(Published {
            usage: vec![part(Tier::Mem, "", 8, None), part(Tier::Ssd, "/a/shard-1", 16, Some("full"))],
            engine: EngineCounters { evicted_pages: 4, ..EngineCounters::default() },
        });
        views[1].counters.read_bytes.at(STORE).add(5);
        let tiers = tiers(&views);
        let seen: Vec<_> = tiers.iter().map(|t| (&*t.tier, &*t.directory, t.used_bytes, t.capacity_bytes)).collect();
        assert_eq!(seen, [("MEM", "", 9, 200), ("SSD", "/a", 18, 200), ("SSD", "/b", 4, 100)]);
        assert_eq!((tiers[1].pinned_bytes, tiers[1].trouble.as_str()), (9, "full"));
        let counters = counters(&views);
        assert_eq!((counters.evicted_pages, counters.miss_bytes), (7, 5));
        assert!(counters.resident_bytes > 1 << 20);
    }
}
