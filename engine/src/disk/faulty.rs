//! A disk in memory that fails: on demand, or as a plan and a seed say. Errors, a full disk, lost and misdirected writes,
//! rot, syncs that lie, slow and stalled operations; and a cut at any moment, after which each unit is in any of the
//! states that it had since its last sync.

mod file;
mod open;
mod plan;

pub(crate) use plan::{Happened, Plan};

use super::{Access, Disk, DiskFile, Entry, simulated};
use async_trait::async_trait;
use file::{FileState, Image};
use open::FaultyFile;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

const UNIT: usize = 4096;

/// SplitMix64.
#[derive(Clone)]
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

type SharedFile = Rc<RefCell<FileState>>;

/// What fails from now on.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) read_errno: Option<i32>,
    pub(crate) write_errno: Option<i32>,
    pub(crate) sync_errno: Option<i32>,
    pub(crate) capacity_bytes: Option<u64>,
    /// The power fails at this many more changing operations.
    pub(crate) cut_after: Option<u64>,
}

#[derive(Clone)]
pub(crate) struct FaultyDisk {
    files: Rc<RefCell<BTreeMap<PathBuf, SharedFile>>>,
    unlinked: Rc<RefCell<Vec<(PathBuf, SharedFile)>>>,
    pub(crate) faults: Rc<Cell<Faults>>,
    pub(crate) plan: Rc<Cell<Plan>>,
    happened: Rc<Cell<Happened>>,
    dead: Rc<Cell<bool>>,
    seed: Rc<RefCell<Seed>>,
    locked: Rc<Cell<bool>>,
}

fn errno(code: Option<i32>) -> io::Result<()> {
    code.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
}

impl FaultyDisk {
    pub(crate) fn new(seed: u64) -> FaultyDisk {
        FaultyDisk {
            files: Rc::default(),
            unlinked: Rc::default(),
            faults: Rc::default(),
            plan: Rc::new(Cell::new(Plan { tears: true, ..Plan::default() })),
            happened: Rc::default(),
            dead: Rc::default(),
            seed: Rc::new(RefCell::new(Seed(seed))),
            locked: Rc::default(),
        }
    }

    /// The power fails: nothing that is under way goes on.
    pub(crate) fn cut(&self) {
        self.dead.set(true);
    }

    /// The disk as the next start finds it after a power cut.
    pub(crate) fn after_crash(&self) -> FaultyDisk {
        let tears = self.plan.get().tears;
        self.next(true, |state, seed| state.after_cut(seed, tears))
    }

    /// The disk as the next start finds it when the process died.
    pub(crate) fn after_kill(&self) -> FaultyDisk {
        self.next(false, |state, _| state.after_kill())
    }

    fn next(&self, is_cut: bool, left: impl Fn(&FileState, &mut Seed) -> FileState) -> FaultyDisk {
        self.dead.set(true);
        let mut seed = self.seed.borrow().clone();
        let next = FaultyDisk::new(seed.next());
        next.plan.set(self.plan.get());
        next.happened.set(self.happened.get());
        let mut files = next.files.borrow_mut();
        let revived = self.unlinked.borrow().clone();
        let revived = revived.into_iter().filter(|_| is_cut).map(|(path, state)| (path, state, true));
        let there = self.files.borrow().clone();
        for (path, state, was_unlinked) in revived.chain(there.into_iter().map(|(path, state)| (path, state, false))) {
            let state = state.borrow();
            if is_cut && (was_unlinked || !state.is_durable) && seed.below(2) == 0 {
                continue;
            }
            files.insert(path, Rc::new(RefCell::new(left(&state, &mut seed))));
        }
        drop(files);
        next
    }

    /// A clean end: the next start may lock it again.
    pub(crate) fn unlock(&self) {
        self.locked.set(false);
    }

    /// Flips one bit in what is allocated of a file, as `seed` says; `false` if there is nothing.
    pub(crate) fn flip_bit(&self, seed: &mut Seed, wanted: impl Fn(&Path) -> bool) -> bool {
        let files = self.files.borrow();
        let candidates: Vec<_> =
            files.iter().filter(|(path, file)| wanted(path) && !file.borrow().now.units.is_empty()).collect();
        if candidates.is_empty() {
            return false;
        }
        let (_, file) = candidates[seed.below(candidates.len() as u64) as usize];
        let mut file = file.borrow_mut();
        let units: Vec<u64> = file.now.units.keys().copied().collect();
        let unit = units[seed.below(units.len() as u64) as usize];
        let byte = seed.below(UNIT as u64) as usize;
        let bit = 1 << seed.below(8);
        let state = &mut *file;
        for image in [&mut state.now, &mut state.durable] {
            if let Some(unit) = image.units.get_mut(&unit) {
                Rc::make_mut(unit)[byte] ^= bit;
            }
        }
        self.count(|happened| happened.flipped_bits += 1);
        true
    }

    fn count(&self, change: impl FnOnce(&mut Happened)) {
        let mut happened = self.happened.get();
        change(&mut happened);
        self.happened.set(happened);
    }

    pub(crate) fn happened(&self) -> Happened {
        self.happened.get()
    }

    /// Whether a unit of a file was written and is not synced.
    pub(crate) fn is_pending(&self, path: &Path, unit: u64) -> bool {
        self.files.borrow().get(path).is_some_and(|file| file.borrow().pending.contains_key(&unit))
    }

    /// Whether anything of a file was written and is not synced.
    pub(crate) fn is_unsynced(&self, path: &Path) -> bool {
        self.files.borrow().get(path).is_some_and(|file| !file.borrow().pending.is_empty())
    }

    /// Makes a file longer, or gives a unit of it space, behind the engine's back.
    pub(crate) fn leave(&self, path: &Path, length: Option<u64>, unit: Option<u64>) {
        let files = self.files.borrow();
        let mut file = files.get(path).expect("a file of that name").borrow_mut();
        if let Some(length) = length {
            file.set_length(length);
        }
        if let Some(unit) = unit {
            file.put(unit, Some(Rc::new([7; UNIT])));
            let length = file.now.length.max((unit + 1) * UNIT as u64);
            file.set_length(length);
        }
        file.sync();
    }

    pub(crate) fn length(&self, path: &Path) -> u64 {
        self.files.borrow().get(path).map_or(0, |file| file.borrow().now.length)
    }

    /// What each file takes.
    pub(crate) fn allocated_files(&self) -> Vec<(PathBuf, u64)> {
        let files = self.files.borrow();
        files.iter().map(|(path, file)| (path.clone(), file.borrow().now.units.len() as u64 * UNIT as u64)).collect()
    }

    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.files.borrow().values().map(|file| file.borrow().now.units.len() as u64 * UNIT as u64).sum()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.get()
    }

    /// Lets others run: for a time that the plan allows, or as often as the seed says.
    async fn pause(&self) {
        if simulated::is_active() {
            let plan = self.plan.get();
            let most = plan.latency.as_micros() as u64 / 2 + 1;
            let (mut time, stalls) = {
                let mut seed = self.seed.borrow_mut();
                (Duration::from_micros(seed.below(most)), seed.hits(plan.stall))
            };
            if stalls {
                self.count(|happened| happened.stalls += 1);
                time = Duration::from_secs(300);
            }
            simulated::sleep(time).await;
            if self.dead.get() {
                // Nobody learns anything any more.
                std::future::pending::<()>().await;
            }
            return;
        }
        let mut turns = self.seed.borrow_mut().below(4);
        poll_fn(|context| {
            if turns == 0 {
                return Poll::Ready(());
            }
            turns -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Whether something of these odds happens now.
    fn hits(&self, odds: u32) -> bool {
        self.seed.borrow_mut().hits(odds)
    }

    fn fails(&self, odds: u32) -> io::Result<()> {
        if self.hits(odds) {
            self.count(|happened| happened.errors += 1);
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }

    fn rot(&self) {
        if self.hits(self.plan.get().rot) {
            let mut seed = Seed(self.seed.borrow_mut().next());
            self.flip_bit(&mut seed, |_| true);
        }
    }

    /// Another place on this disk.
    fn elsewhere(&self, state: &SharedFile) -> (SharedFile, u64) {
        let files = self.files.borrow();
        let mut seed = self.seed.borrow_mut();
        let others: Vec<&SharedFile> = files.values().collect();
        let other = match seed.below(2) {
            0 if !others.is_empty() => others[seed.below(others.len() as u64) as usize].clone(),
            _ => state.clone(),
        };
        let units = other.borrow().now.length.div_ceil(UNIT as u64);
        let allocated: Vec<u64> = other.borrow().now.units.keys().copied().collect();
        let unit = match seed.below(4) {
            0 if units > 0 => seed.below(units),
            _ if !allocated.is_empty() => allocated[seed.below(allocated.len() as u64) as usize],
            _ => 0,
        };
        (other, unit)
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead.get() { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }

    /// One changing operation.
    fn change(&self) -> io::Result<()> {
        self.alive()?;
        let mut faults = self.faults.get();
        if let Some(left) = faults.cut_after {
            if left == 0 {
                self.dead.set(true);
            }
            faults.cut_after = Some(left.saturating_sub(1));
            self.faults.set(faults);
        }
        // The last operation before the cut still happens in memory: it counts as written and not synced.
        Ok(())
    }
}

#[async_trait(?Send)]
impl Disk for FaultyDisk {
    async fn open(&self, path: &Path, access: Access) -> io::Result<Rc<dyn DiskFile>> {
        self.pause().await;
        self.alive()?;
        let mut files = self.files.borrow_mut();
        let state = match (files.get(path), access) {
            (Some(state), _) => state.clone(),
            (None, Access::Read) => return Err(io::ErrorKind::NotFound.into()),
            (None, Access::Write) => {
                errno(self.faults.get().write_errno)?;
                files.entry(path.to_owned()).or_default().clone()
            }
        };
        Ok(Rc::new(FaultyFile { disk: self.clone(), state }))
    }

    async fn unlink(&self, path: &Path) -> io::Result<()> {
        self.pause().await;
        self.change()?;
        errno(self.faults.get().write_errno)?;
        self.fails(self.plan.get().write_error)?;
        if let Some(state) = self.files.borrow_mut().remove(path) {
            self.unlinked.borrow_mut().push((path.to_owned(), state));
        }
        Ok(())
    }

    async fn seal(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        self.alive()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.alive()?;
        let files = self.files.borrow();
        let inside = files.iter().filter(|(name, _)| name.parent() == Some(path));
        Ok(inside
            .map(|(name, file)| Entry {
                name: name.file_name().unwrap().to_string_lossy().into_owned(),
                length_bytes: file.borrow().now.length,
                allocated_bytes: file.borrow().now.units.len() as u64 * UNIT as u64,
                is_lent: false,
            })
            .collect())
    }

    fn wipe(&self, path: &Path, keep: &[&str]) -> io::Result<()> {
        let kept = |name: &Path| keep.iter().any(|keep| *name == path.join(keep));
        self.files.borrow_mut().retain(|name, _| !name.starts_with(path) || kept(name));
        Ok(())
    }

    fn read_whole(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let files = self.files.borrow();
        let Some(file) = files.get(path) else { return Ok(None) };
        let mut bytes: Vec<u8> = file.borrow().now.units.values().flat_map(|unit| unit.iter().copied()).collect();
        bytes.truncate(file.borrow().now.length as usize);
        Ok(Some(bytes))
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut image = Image { length: bytes.len() as u64, ..Image::default() };
        for (unit, chunk) in bytes.chunks(UNIT).enumerate() {
            let mut whole = [0; UNIT];
            whole[..chunk.len()].copy_from_slice(chunk);
            image.units.insert(unit as u64, Rc::new(whole));
        }
        self.files.borrow_mut().insert(path.to_owned(), Rc::new(RefCell::new(FileState::whole(image))));
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Box<dyn Any>>> {
        Ok((!self.locked.replace(true)).then(|| Box::new(()) as Box<dyn Any>))
    }
}
