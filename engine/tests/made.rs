//! A directory made by the generator is what a store leaves: it opens whole, and what has checksums is read.

use forebay_base::{ClusterId, Incarnation, PageIndex, ShardId};
use forebay_engine::bench::made::{LARGE_PAGES, Made, large, make, small};
use forebay_engine::{DirectoryConfig, EvictionPolicy, PageSlice, Store, StoreConfig, Tier};

#[test]
fn a_made_directory_is_served_at_once() {
    let base = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = StoreConfig {
        cluster_id: ClusterId(1),
        incarnation: Incarnation(1),
        shard: ShardId(0),
        shards: 1,
        page_bytes: 1 << 20,
        mem_capacity_bytes: 8 << 20,
        directories: vec![DirectoryConfig::new(Tier::Ssd, base.path(), 1 << 40)],
        eviction: EvictionPolicy::default(),
        buffer_memory_bytes: 8 << 20,
        verify_reads: true,
        scrub_bytes_per_second: 0,
    };
    make(&config, Made { large_files: 3, small_files: 40_000 }).unwrap();
    glommio::LocalExecutorBuilder::default().io_memory(64 << 10).make().unwrap().run(async {
        let (store, recovery) = Store::open(config.clone()).await.unwrap();
        assert_eq!((recovery.pages, recovery.dropped_pages), (3 * u64::from(LARGE_PAGES) + 40_000, 0));
        let first = large(0, 1 << 20);
        let zeros = |slice: Option<PageSlice>| slice.is_some_and(|slice| slice.iter().all(|byte| *byte == 0));
        assert!(
            zeros(store.read(&first, PageIndex(255), 4096, 8192).await),
            "{:?} {:?}",
            store.counters(),
            store.usage()
        );
        assert!(zeros(store.read(&small(63), PageIndex(0), 0, 1_000).await), "{:?}", store.counters());
        assert!(store.has_page(&large(2, 1 << 20), PageIndex(LARGE_PAGES - 1)));
        assert!(store.has_page(&small(39_999), PageIndex(0)) && !store.has_page(&small(40_000), PageIndex(0)));
        assert!(store.read(&small(39_999), PageIndex(0), 0, 10).await.is_none(), "no payload, so a miss");
        store.close().await;
    });
}
