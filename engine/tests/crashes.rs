//! Real crashes: a process killed with SIGKILL again and again, and ext4 and xfs on a loop device that are cut off while the
//! store writes, with and without their log flushed, then unmounted, mounted and opened again. Every byte is compared, and what
//! a flush had acknowledged is there. Needs root, loop devices, e2fsprogs and xfsprogs: without them it fails and says so.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use forebay_base::{ClusterId, FileId, FingerprintHash, Incarnation, PageIndex, ShardId, Version};
use forebay_engine::{DirectoryConfig, EvictionPolicy, FileKey, Pin, Store, StoreConfig, Tier};
use glommio::LocalExecutorBuilder;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PAGE: u32 = 64 << 10;
const CAPACITY: u64 = 24 << 20;
/// Pages of files from here on are pinned once they are whole: what is acknowledged of them does not leave.
const KEPT: u64 = 1000;
const KEPT_MAX: u64 = 60;
const FILES: u64 = 200;
const KILLS: u32 = 40;
const CUTS_EACH: u32 = 4;
const DIRECTORY_VARIABLE: &str = "FOREBAY_TEST_CRASH_DIRECTORY";

fn run<T>(test: impl Future<Output = T>) -> T {
    LocalExecutorBuilder::default().io_memory(1 << 20).make().unwrap().run(test)
}

fn config(path: &Path) -> StoreConfig {
    StoreConfig {
        cluster_id: ClusterId(42),
        incarnation: Incarnation(1),
        shard: ShardId(0),
        shards: 1,
        page_bytes: PAGE,
        mem_capacity_bytes: 2 << 20,
        directories: vec![DirectoryConfig::new(Tier::Ssd, path, CAPACITY)],
        eviction: EvictionPolicy::Lru,
        buffer_memory_bytes: 4 << 20,
        verify_reads: true,
        scrub_bytes_per_second: 8 << 20,
    }
}

/// Longest time in which a load meets a disk that was cut off.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

/// Small files, and large ones with odd ends.
fn key(file: u64, version: u64) -> FileKey {
    let page = u64::from(PAGE);
    let size_bytes = match file % 5 {
        0 => 1 + file * 13,
        1 => page,
        2 => 3 * page + 4097,
        3 => page + 1,
        _ => 30_000,
    };
    let fingerprint = FingerprintHash(u128::from(file ^ version << 32));
    FileKey { file_id: FileId(file), version: Version(version), fingerprint, size_bytes }
}

fn pages(key: &FileKey) -> u32 {
    key.size_bytes.div_ceil(u64::from(PAGE)) as u32
}

fn content(key: &FileKey, page: u32) -> Vec<u8> {
    let seed = (key.file_id.0 << 20 ^ key.version.0 << 8 ^ u64::from(page)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..u64::from(key.page_length(PageIndex(page), PAGE))).map(|at| (seed.wrapping_add(at * at) >> 7) as u8).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB) >> 11) % end
    }
}

async fn insert(store: &Store, key: &FileKey) {
    for page in 0..pages(key) {
        let bytes = content(key, page);
        let mut buffer = store.new_page(bytes.len() as u32).await;
        buffer.copy_from_slice(&bytes);
        store.insert(key, PageIndex(page), buffer).await;
    }
}

/// The right bytes or nothing; how many pages were there.
async fn check(store: &Store, key: &FileKey) -> u32 {
    let mut there = 0;
    for page in 0..pages(key) {
        let whole = content(key, page);
        if let Some(read) = store.read(key, PageIndex(page), 0, whole.len() as u32).await {
            assert!(*read == *whole, "wrong bytes: {key:?} page {page}, {:?}", read.tier());
            there += 1;
        }
    }
    there
}

fn keep(store: &Store, key: &FileKey) {
    let until = Instant::now() + Duration::from_secs(3600);
    store.pin(Pin { file_id: key.file_id, version: key.version, bytes: 5 * u64::from(PAGE), until });
}

/// Reads, writes, evicts and flushes until `over`; `acknowledge` hears of each kept file that is on the disk whole.
async fn load(store: Rc<Store>, seed: u64, over: impl Fn() -> bool + 'static, acknowledge: impl Fn(u64)) {
    let over = Rc::new(over);
    let tasks: Vec<_> = (0..3)
        .map(|task| {
            let (store, over, mut random) = (store.clone(), over.clone(), Random(seed * 7 + task));
            glommio::spawn_local(async move {
                while !over() {
                    let key = key(random.below(FILES), 1 + random.below(2));
                    match random.below(10) {
                        0 => drop(store.evict_file(key.file_id, None).await),
                        1..6 => insert(&store, &key).await,
                        _ => drop(check(&store, &key).await),
                    }
                }
            })
        })
        .collect();
    let mut random = Random(seed);
    while !over() {
        let key = key(KEPT + random.below(KEPT_MAX), 1);
        keep(&store, &key);
        insert(&store, &key).await;
        store.flush().await;
        if store.cached(key.file_id, key.version).ssd_bytes == key.size_bytes {
            acknowledge(key.file_id.0);
        }
        // Once all of them are there nothing else waits for anything here, and nobody else would run.
        glommio::timer::sleep(Duration::from_millis(1)).await;
    }
    for task in tasks {
        task.await;
    }
}

/// Opens what a crash left. Everything is right, and what was acknowledged is there. Pages found are returned.
async fn examine(path: &Path, acknowledged: &BTreeSet<u64>) -> (Rc<Store>, u32) {
    let (store, recovery) = Store::open(config(path)).await.unwrap();
    for file in KEPT..KEPT + KEPT_MAX {
        keep(&store, &key(file, 1));
    }
    let mut found = 0;
    for file in 0..FILES {
        found += check(&store, &key(file, 1)).await + check(&store, &key(file, 2)).await;
    }
    for file in KEPT..KEPT + KEPT_MAX {
        let key = key(file, 1);
        let there = check(&store, &key).await;
        found += there;
        let want = if acknowledged.contains(&file) { pages(&key) } else { 0 };
        assert!(there >= want, "{there} pages of {key:?} are there, all were acknowledged; {recovery:?}");
    }
    assert_eq!(
        store.counters().corrupt_units,
        0,
        "the order of writes is right, so nothing needs a checksum to be caught"
    );
    let usage = &store.usage()[1];
    assert!(usage.used_bytes <= usage.capacity_bytes && usage.trouble.is_none(), "{usage:?}");
    (store, found)
}

/// Closes the store, and lets the executor close its files, which it does by and by.
async fn end(store: Rc<Store>) {
    store.close().await;
    drop(store);
    glommio::timer::sleep(Duration::from_millis(200)).await;
}

/// What `killed_again_and_again` starts and kills; by itself it has nothing to do.
#[test]
fn load_until_killed() {
    let Some(path) = std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from) else { return };
    let seed = u64::from(std::process::id());
    run(async {
        let (store, _) = Store::open(config(&path)).await.unwrap();
        for file in KEPT..KEPT + KEPT_MAX {
            keep(&store, &key(file, 1));
        }
        let say = |file| {
            let mut out = std::io::stdout().lock();
            writeln!(out, "\nkept {file}").and_then(|()| out.flush()).unwrap();
        };
        load(store, seed, || false, say).await;
    });
}

#[test]
fn killed_again_and_again() {
    let base = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut random = Random(5);
    let mut acknowledged = BTreeSet::new();
    let mut found = 0;
    for _ in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["load_until_killed", "--exact", "--nocapture"])
            .env(DIRECTORY_VARIABLE, base.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listener = std::thread::spawn(move || {
            let lines = lines.map_while(Result::ok);
            lines.filter_map(|line| line.strip_prefix("kept ")?.parse().ok()).collect::<Vec<u64>>()
        });
        std::thread::sleep(Duration::from_millis(60 + random.below(400)));
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(listener.join().unwrap());
        found = run(async {
            let (store, found) = examine(base.path(), &acknowledged).await;
            end(store).await;
            found
        });
    }
    eprintln!("{KILLS} kills, {} files acknowledged and there, {found} pages found after the last", acknowledged.len());
    assert!(acknowledged.len() > 20 && found > 50, "the load did too little");
}

fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{name} does not run ({error}): install it"));
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A file system on a loop device; unmounted when it is dropped, whatever happened.
struct Disk {
    image: PathBuf,
    mountpoint: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Disk {
    fn make(kind: &str) -> Disk {
        let temporary = tempfile::Builder::new().prefix("forebay-cut-").tempdir().unwrap();
        let (image, mountpoint) = (temporary.path().join("image"), temporary.path().join("disk"));
        std::fs::File::create(&image).unwrap().set_len(320 << 20).unwrap();
        std::fs::create_dir(&mountpoint).unwrap();
        let force = if kind == "xfs" { "-f" } else { "-F" };
        tool(&format!("mkfs.{kind}"), &["-q", force, &image.to_string_lossy()]);
        let disk = Disk { image, mountpoint, _temporary: temporary };
        disk.mount();
        disk
    }

    fn mount(&self) {
        tool("mount", &["-o", "loop", &self.image.to_string_lossy(), &self.mountpoint.to_string_lossy()]);
    }

    fn unmount(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        // The kernel may hold a file of the ring for a moment longer.
        while !Command::new("umount").arg(&self.mountpoint).output().unwrap().status.success() {
            assert!(Instant::now() < until, "cannot unmount {}: {:?}", self.mountpoint.display(), open_files());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What this process has open.
fn open_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect()
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mountpoint).output();
    }
}

fn cut_while_it_writes(kind: &str) {
    let disk = Disk::make(kind);
    let cache = disk.mountpoint.join("cache");
    let mut random = Random(9);
    let acknowledged = RefCell::new(BTreeSet::new());
    let (cuts, found) = (Cell::new(0), Cell::new(0));
    for command in ["shutdown", "shutdown -f"] {
        for _ in 0..CUTS_EACH {
            let over = Arc::new(AtomicBool::new(false));
            let (mountpoint, wait) = (disk.mountpoint.clone(), Duration::from_millis(50 + random.below(900)));
            let told = over.clone();
            let cut = move || {
                std::thread::sleep(wait);
                tool("xfs_io", &["-x", "-c", command, &mountpoint.to_string_lossy()]);
                std::thread::sleep(Duration::from_millis(100));
                told.store(true, Ordering::Relaxed);
            };
            let kept = acknowledged.borrow().clone();
            run(async {
                let (store, pages) = examine(&cache, &kept).await;
                found.set(pages);
                let acknowledge = |file| {
                    acknowledged.borrow_mut().insert(file);
                };
                let cutter = std::thread::spawn(cut);
                // On until the store has noticed: nothing may be on its way to the disk at the very moment.
                let (seen, noticed) = (store.clone(), Cell::new(None::<Instant>));
                let is_over = move || {
                    let cut = over.load(Ordering::Relaxed).then(|| noticed.get().unwrap_or_else(Instant::now));
                    noticed.set(cut);
                    cut.is_some_and(|cut| seen.usage()[1].trouble.is_some() || cut.elapsed() > NOTICED_WITHIN)
                };
                load(store.clone(), random.below(1 << 40), is_over, acknowledge).await;
                cutter.join().unwrap();
                let usage = &store.usage()[1];
                assert!(usage.trouble.is_some(), "cut off? {usage:?}");
                end(store).await;
            });
            cuts.set(cuts.get() + 1);
            disk.unmount();
            disk.mount();
        }
    }
    let kept = acknowledged.borrow().clone();
    run(async {
        let (store, pages) = examine(&cache, &kept).await;
        found.set(pages);
        end(store).await;
    });
    disk.unmount();
    let (cuts, found, kept) = (cuts.get(), found.get(), kept.len());
    eprintln!("{kind}: {cuts} cuts, {kept} files acknowledged and there, {found} pages found after the last");
    assert!(kept > 20 && found > 50, "the load did too little");
}

#[test]
fn ext4_cut_off_while_it_writes() {
    cut_while_it_writes("ext4");
}

#[test]
fn xfs_cut_off_while_it_writes() {
    cut_while_it_writes("xfs");
}
