//! What a seed makes of a world: its disks, what goes wrong, and the tasks that use the store in it.

use super::checks::{OnSsd, accounted, all_dropped, assert_found, flushed, on_ssd, waiting};
use super::*;
use crate::disk::faulty::{Faults, Happened, Plan};
use crate::disk::simulated::{drop_others, now, sleep, spawn};
use hashbrown::HashMap;
use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

/// What happened in a run, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lived {
    pub(super) cuts: u64,
    pub(super) kills: u64,
    pub(super) stops: u64,
    pub(super) refused: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) corrupt: u64,
    pub(super) found_after_cut: u64,
    pub(super) scrubbed_bytes: u64,
    pub(super) scrub_bad_pages: u64,
    pub(super) happened: Happened,
}

impl Lived {
    pub(super) fn add(&mut self, other: &Lived) {
        self.cuts += other.cuts;
        self.kills += other.kills;
        self.stops += other.stops;
        self.refused += other.refused;
        self.hits += other.hits;
        self.misses += other.misses;
        self.corrupt += other.corrupt;
        self.found_after_cut += other.found_after_cut;
        self.scrubbed_bytes += other.scrubbed_bytes;
        self.scrub_bad_pages += other.scrub_bad_pages;
        self.happened.add(other.happened);
    }
}

/// What a run's disks do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// What they say. Units of 4 KiB are whole or not there.
    Honest,
    /// What they say, and a cut tears units.
    Tearing,
    /// They report errors.
    Failing,
    /// They have less room than was said.
    Full,
    /// They say that they wrote or synced, and did not.
    Lying,
    /// Bits turn over.
    Rotting,
    /// Reads and writes go elsewhere.
    Misdirecting,
    /// All of that.
    Everything,
}

const KINDS: [Kind; 10] = [
    Kind::Honest,
    Kind::Tearing,
    Kind::Honest,
    Kind::Failing,
    Kind::Full,
    Kind::Lying,
    Kind::Honest,
    Kind::Rotting,
    Kind::Misdirecting,
    Kind::Everything,
];

impl Kind {
    /// What was on SSD when it ended is there in the next life.
    pub(super) fn keeps(self) -> bool {
        matches!(self, Kind::Honest | Kind::Tearing)
    }

    /// What is on the disk is what was meant to be there.
    fn is_truthful(self) -> bool {
        !matches!(self, Kind::Lying | Kind::Misdirecting | Kind::Everything)
    }

    fn plan(self, random: &mut Seed) -> Plan {
        let mut plan = Plan {
            latency: Duration::from_micros([20, 400, 20_000][random.below(3) as usize]),
            stall: if random.below(3) == 0 { 300 } else { 0 },
            ..Plan::default()
        };
        let all = self == Kind::Everything;
        plan.tears = all || self == Kind::Tearing;
        if all || self == Kind::Failing {
            plan.read_error = [0, 2_000, 20_000][random.below(3) as usize];
            plan.write_error = [0, 500, 2_000][random.below(3) as usize];
            plan.sync_error = [500, 5_000][random.below(2) as usize];
        }
        if all || self == Kind::Lying {
            plan.lying_sync = [20_000, 300_000, 1_000_000][random.below(3) as usize];
            plan.lost_write = [0, 5_000, 50_000][random.below(3) as usize];
        }
        if all || self == Kind::Rotting {
            plan.rot = [2_000, 20_000][random.below(2) as usize];
        }
        if all || self == Kind::Misdirecting {
            plan.misdirected_write = [2_000, 20_000][random.below(2) as usize];
            plan.misdirected_read = [0, 20_000][random.below(2) as usize];
        }
        plan
    }
}

/// Contents that took the place of others under the same version.
type Marks = Rc<RefCell<HashMap<(u64, u64), u128>>>;

/// Shared by the tasks of one life.
struct World {
    store: Rc<Store>,
    marks: Marks,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

impl World {
    fn key(&self, random: &mut Seed) -> (FileKey, PageIndex) {
        let (file, version) = (random.below(14), 1 + random.below(2));
        let key = key(file, version, self.marks.borrow().get(&(file, version)).copied().unwrap_or(0));
        let pages = key.size_bytes.div_ceil(u64::from(PAGE)) as u32;
        let page = match random.below(6) {
            0 => pages - 1,
            1 => 254 + random.below(4) as u32,
            _ => random.below(5) as u32,
        };
        (key, PageIndex(page.min(pages - 1)))
    }

    async fn step(&self, random: &mut Seed, held: &mut Vec<(PageSlice, Vec<u8>)>) {
        let store = &self.store;
        let (key, page) = self.key(random);
        match random.below(100) {
            0..40 => {
                let (from, length) = match random.below(3) {
                    0 => (0, PAGE),
                    _ => (random.below(u64::from(PAGE)) as u32, 1 + random.below(u64::from(PAGE)) as u32),
                };
                let hit = check(store, &key, page, from, length).await;
                let count = if hit { &self.hits } else { &self.misses };
                count.set(count.get() + 1);
                if !hit && random.below(3) > 0 {
                    insert(store, &key, page).await;
                }
            }
            40..72 => insert(store, &key, page).await,
            72..78 => {
                let whole = content(&key, page);
                if let Some(slice) = store.read(&key, page, 0, whole.len() as u32).await {
                    held.push((slice, whole));
                }
            }
            78..81 => {
                let keep = (random.below(2) == 0).then(|| Version(1 + random.below(2)));
                store.evict_file(key.file_id, keep).await;
            }
            81..84 => store.drop_page(&key, page),
            84 => {
                *self.marks.borrow_mut().entry((key.file_id.0, key.version.0)).or_default() += 1;
            }
            85..89 => {
                let (file_id, version) = (key.file_id, key.version);
                let until = now() + Duration::from_millis(random.below(50));
                store.pin(Pin { file_id, version, bytes: key.size_bytes.min(4 * u64::from(PAGE)), until });
            }
            89 => store.unpin(key.file_id, key.version),
            90 => store.expire_pins(now()),
            91..93 => {
                let before = waiting(store);
                store.flush().await;
                flushed(store, &before);
            }
            93..95 => {
                store.check_page(&key, page).await;
            }
            95 => {
                let cached = store.cached(key.file_id, key.version);
                assert!(cached.any_bytes == 0 || store.files().contains(&(key.file_id, key.version)));
            }
            _ => sleep(Duration::from_micros(random.below(30_000))).await,
        }
        if held.len() > 3 || random.below(4) == 0 {
            // What a reader holds stays as it was.
            for (slice, whole) in held.drain(..) {
                assert!(*slice == *whole, "held bytes changed");
            }
        }
    }
}

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Stop,
    Kill,
    Cut,
}

struct Life<'a> {
    kind: Kind,
    config: &'a StoreConfig,
    disks: &'a mut Vec<FaultyDisk>,
    random: &'a mut Seed,
    lived: &'a mut Lived,
    marks: Marks,
}

/// A run: some lives on the same disks.
pub(super) async fn live(seed: u64) -> Lived {
    let mut random = Seed(seed);
    let kind = KINDS[random.below(KINDS.len() as u64) as usize];
    let sizes: &[u64] = [&[80u64][..], &[24], &[20, 40], &[30, 20, 20], &[4096], &[]][random.below(6) as usize];
    let bytes = |pages: u64| pages * u64::from(PAGE);
    let mem = bytes([0, 3, 8][random.below(3) as usize]);
    let eviction = if random.below(2) == 0 { EvictionPolicy::Lru } else { EvictionPolicy::Lfu };
    let mut disks: Vec<FaultyDisk> = sizes.iter().map(|_| new_disk(kind, &mut random)).collect();
    let mut lived = Lived::default();
    tell(|| format!("{kind:?} {:?}", disks.iter().map(|disk| disk.plan.get()).collect::<Vec<_>>()));
    let marks = Marks::default();
    let mut before: Option<(StoreConfig, OnSsd)> = None;
    for _ in 0..2 + random.below(3) {
        // Other capacities, and perhaps a directory that is left out this time.
        let scale = [2, 2, 2, 1, 3][random.below(5) as usize];
        let mut capacities: Vec<u64> = sizes.iter().map(|&pages| bytes(pages) * scale / 2).collect();
        let left_out = if sizes.len() > 1 && random.below(5) == 0 { capacities.pop() } else { None };
        let scrub_bytes_per_second = [0, 100 << 10, 100 << 20][random.below(3) as usize];
        let config = StoreConfig { scrub_bytes_per_second, ..config(mem, &capacities, eviction) };
        let mut used: Vec<FaultyDisk> = disks.drain(..capacities.len()).collect();
        let life = Life {
            kind,
            config: &config,
            disks: &mut used,
            random: &mut random,
            lived: &mut lived,
            marks: marks.clone(),
        };
        let expected = before.take().filter(|(then, _)| {
            let room = |at: usize| config.directories.get(at).map_or(0, |directory| directory.capacity_bytes);
            then.directories.iter().enumerate().all(|(at, directory)| room(at) >= directory.capacity_bytes)
        });
        let end = life.spend(expected.map(|(_, pages)| pages)).await;
        if left_out.is_none() {
            before = Some((config, end));
        }
        used.append(&mut disks);
        disks = used;
    }
    for disk in &disks {
        lived.happened.add(disk.happened());
    }
    lived
}

fn new_disk(kind: Kind, random: &mut Seed) -> FaultyDisk {
    let disk = FaultyDisk::new(random.next());
    disk.plan.set(kind.plan(random));
    disk
}

impl Life<'_> {
    /// Opens the directories. One that is refused is emptied, as its owner would.
    async fn open(&mut self) -> Rc<Store> {
        for (number, directory) in self.config.directories.iter().enumerate() {
            let path = Directory::shard_path(&directory.path, 0);
            self.disks[number].unlock();
            let taken = Directory::take(&self.disks[number], &path, self.config);
            if let Err(error) = &taken {
                assert!(!self.kind.keeps() && self.kind != Kind::Failing, "{:?}: {error}", self.kind);
                self.lived.refused += 1;
                self.lived.happened.add(self.disks[number].happened());
                self.disks[number] = new_disk(self.kind, self.random);
            }
        }
        let (store, recovery) = super::open(self.config, self.disks).await;
        tell(|| format!("opened: {recovery:?}, {:?}", store.usage()));
        store
    }

    /// One life; returns what was on SSD when it ended.
    async fn spend(mut self, expected: Option<OnSsd>) -> OnSsd {
        if self.kind == Kind::Full || self.kind == Kind::Everything {
            for (disk, directory) in self.disks.iter().zip(&self.config.directories) {
                let room = 32 * 4096 + directory.capacity_bytes / 100 * (30 + self.random.below(80));
                disk.faults.set(Faults { capacity_bytes: Some(room.max(disk.allocated_bytes())), ..Faults::default() });
            }
        }
        let store = self.open().await;
        if self.kind.is_truthful() {
            accounted(&store, self.disks, self.kind);
        }
        if let Some(expected) = expected.filter(|_| self.kind.keeps()) {
            self.lived.found_after_cut += assert_found(&store, &expected).await;
        }
        let world = Rc::new(World {
            store: store.clone(),
            marks: self.marks.clone(),
            hits: Cell::default(),
            misses: Cell::default(),
        });
        let left = Rc::new(Cell::new(0u64));
        for _ in 0..1 + self.random.below(3) {
            left.set(left.get() + 1);
            let (world, left, mut random) = (world.clone(), left.clone(), Seed(self.random.next()));
            spawn(async move {
                let mut held = Vec::new();
                for _ in 0..20 + random.below(60) {
                    world.step(&mut random, &mut held).await;
                    assert!(within_capacity(&world.store), "{:?}", world.store.usage());
                }
                left.set(left.get() - 1);
            });
        }
        let end = [End::Stop, End::Kill, End::Cut, End::Cut][self.random.below(4) as usize];
        if end == End::Stop || self.random.below(8) == 0 {
            while left.get() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        } else {
            let most = [200, 5_000, 100_000, 1_000_000][self.random.below(4) as usize];
            sleep(Duration::from_micros(self.random.below(most))).await;
        }
        let remains = self.end(end, &store, &world).await;
        tell(|| format!("{:?} at {:?}: {} pages on SSD, {:?}", end, now(), remains.len(), store.usage()));
        let weak = Rc::downgrade(&store);
        drop((world, store));
        all_dropped(&weak, end == End::Stop).await;
        remains
    }

    async fn end(&mut self, end: End, store: &Rc<Store>, world: &World) -> OnSsd {
        let remains = if end == End::Stop {
            store.flush().await;
            let counters = store.counters();
            assert_eq!((counters.buffer_bytes, counters.write_queue_pages), (0, 0), "held when all is done");
            if self.kind.is_truthful() {
                accounted(store, self.disks, self.kind);
            }
            let remains = on_ssd(store, |_, _| true);
            store.close().await;
            remains
        } else {
            // Of a unit that a cut may tear nothing is promised.
            let torn = end == End::Cut && self.kind == Kind::Tearing;
            on_ssd(store, |directory, (file, unit)| {
                let path: &Path = &store.directories[usize::from(directory)].path_of(file);
                !torn || !self.disks[usize::from(directory)].is_pending(path, unit)
            })
        };
        // Two contents under one version, in two directories: either may be the one that stays.
        let marks = self.marks.borrow();
        let remains: OnSsd =
            remains.into_iter().filter(|(key, _)| !marks.contains_key(&(key.file_id.0, key.version.0))).collect();
        let counters = store.counters();
        self.lived.corrupt += counters.corrupt_units;
        self.lived.scrubbed_bytes += counters.scrubbed_bytes;
        self.lived.scrub_bad_pages += counters.scrub_bad_pages;
        self.lived.hits += world.hits.get();
        self.lived.misses += world.misses.get();
        match end {
            End::Stop => self.lived.stops += 1,
            End::Kill => self.lived.kills += 1,
            End::Cut => self.lived.cuts += 1,
        }
        if end != End::Stop {
            self.disks.iter().for_each(FaultyDisk::cut);
            drop_others();
        }
        for disk in self.disks.iter_mut() {
            match end {
                End::Stop => {}
                End::Kill => *disk = disk.after_kill(),
                End::Cut => *disk = disk.after_crash(),
            }
        }
        remains
    }
}

/// Says what goes on when one seed is run again.
fn tell(what: impl Fn() -> String) {
    if std::env::var_os("FOREBAY_TEST_SEED").is_some() {
        eprintln!("{}", what());
    }
}

fn within_capacity(store: &Store) -> bool {
    let given_up = |number: usize| number > 0 && store.directories[number - 1].bad.get();
    let usage = store.usage();
    usage.iter().enumerate().all(|(number, usage)| usage.used_bytes <= usage.capacity_bytes || given_up(number))
}
