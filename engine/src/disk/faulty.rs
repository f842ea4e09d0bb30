//! A disk in memory that fails on demand: errors, a full disk, a cut at any operation, and at the cut every write that
//! was not synced is kept, lost or torn at a 512-byte boundary, as the seed says.

use super::{Access, AlignedBuffer, Disk, DiskFile, Entry, ReadBytes};
use async_trait::async_trait;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;

const UNIT: usize = 4096;
type Unit = Box<[u8; UNIT]>;

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

#[derive(Clone, Default)]
struct Image {
    units: BTreeMap<u64, Unit>,
    length: u64,
}

#[derive(Default)]
struct FileState {
    now: Image,
    durable: Image,
    is_durable: bool,
    pending: BTreeSet<u64>,
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
            dead: Rc::default(),
            seed: Rc::new(RefCell::new(Seed(seed))),
            locked: Rc::default(),
        }
    }

    /// The disk as the next start finds it.
    pub(crate) fn after_crash(&self) -> FaultyDisk {
        self.dead.set(true);
        let mut seed = self.seed.borrow().clone();
        let next = FaultyDisk::new(seed.next());
        let mut files = next.files.borrow_mut();
        let everything = self.files.borrow().clone();
        let revived = self.unlinked.borrow().clone();
        let revived = revived.into_iter().map(|(path, state)| (path, state, true));
        for (path, state, was_unlinked) in
            revived.chain(everything.into_iter().map(|(path, state)| (path, state, false)))
        {
            let state = state.borrow();
            if (was_unlinked || !state.is_durable) && seed.below(2) == 0 {
                continue;
            }
            let mut image = state.durable.clone();
            for &unit in &state.pending {
                match (seed.below(3), state.now.units.get(&unit)) {
                    (0, _) => {}
                    (1, Some(new)) => {
                        image.units.insert(unit, new.clone());
                    }
                    (1, None) => {
                        image.units.remove(&unit);
                    }
                    (_, new) => {
                        let cut = 512 * (1 + seed.below(7)) as usize;
                        let mut torn = image.units.get(&unit).cloned().unwrap_or_else(|| Box::new([0; UNIT]));
                        torn[..cut].copy_from_slice(&new.map_or([0; UNIT], |new| **new)[..cut]);
                        image.units.insert(unit, torn);
                    }
                }
            }
            if seed.below(2) == 0 {
                image.length = state.now.length;
            }
            image.units.retain(|&unit, _| unit * (UNIT as u64) < image.length);
            let file = FileState { now: image.clone(), durable: image, is_durable: true, pending: BTreeSet::new() };
            files.insert(path, Rc::new(RefCell::new(file)));
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
        for image in [true, false] {
            let image = if image { &mut file.now } else { &mut file.durable };
            if let Some(unit) = image.units.get_mut(&unit) {
                unit[byte] ^= bit;
            }
        }
        true
    }

    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.files.borrow().values().map(|file| file.borrow().now.units.len() as u64 * UNIT as u64).sum()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.get()
    }

    /// Lets others run, as often as the seed says.
    async fn pause(&self) {
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
            let mut whole = Box::new([0; UNIT]);
            whole[..chunk.len()].copy_from_slice(chunk);
            image.units.insert(unit as u64, whole);
        }
        let file = FileState { now: image.clone(), durable: image, is_durable: true, pending: BTreeSet::new() };
        self.files.borrow_mut().insert(path.to_owned(), Rc::new(RefCell::new(file)));
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Box<dyn Any>>> {
        Ok((!self.locked.replace(true)).then(|| Box::new(()) as Box<dyn Any>))
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    state: SharedFile,
}

#[async_trait(?Send)]
impl DiskFile for FaultyFile {
    async fn read_at(&self, offset: u64, length: usize) -> io::Result<ReadBytes> {
        self.disk.pause().await;
        self.disk.alive()?;
        errno(self.disk.faults.get().read_errno)?;
        assert!(offset.is_multiple_of(UNIT as u64) && length.is_multiple_of(UNIT), "unaligned read: {offset} {length}");
        let state = self.state.borrow();
        let mut bytes = vec![0; length];
        for (place, unit) in bytes.chunks_mut(UNIT).zip(offset / UNIT as u64..) {
            if let Some(unit) = state.now.units.get(&unit) {
                place.copy_from_slice(&**unit);
            }
        }
        bytes.truncate(state.now.length.saturating_sub(offset) as usize);
        Ok(ReadBytes::memory(&bytes))
    }

    async fn write_at(&self, offset: u64, buffer: &AlignedBuffer) -> io::Result<()> {
        self.disk.pause().await;
        let bytes = buffer.bytes();
        assert!(
            offset.is_multiple_of(UNIT as u64) && bytes.len().is_multiple_of(UNIT),
            "unaligned write: {offset} {}",
            bytes.len()
        );
        self.disk.change()?;
        let faults = self.disk.faults.get();
        errno(faults.write_errno)?;
        for (chunk, unit) in bytes.chunks(UNIT).zip(offset / UNIT as u64..) {
            let is_new = !self.state.borrow().now.units.contains_key(&unit);
            let full = faults.capacity_bytes.is_some_and(|most| self.disk.allocated_bytes() + UNIT as u64 > most);
            if is_new && full {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            let mut state = self.state.borrow_mut();
            state.now.units.insert(unit, Box::new(chunk.try_into().unwrap()));
            state.now.length = state.now.length.max((unit + 1) * UNIT as u64);
            state.pending.insert(unit);
        }
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        self.disk.pause().await;
        self.disk.change()?;
        if self.disk.dead.get() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        errno(self.disk.faults.get().sync_errno)?;
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        for unit in std::mem::take(&mut state.pending) {
            match state.now.units.get(&unit) {
                Some(new) => state.durable.units.insert(unit, new.clone()),
                None => state.durable.units.remove(&unit),
            };
        }
        state.durable.length = state.now.length;
        state.is_durable = true;
        Ok(())
    }

    async fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.pause().await;
        self.disk.change()?;
        errno(self.disk.faults.get().write_errno)?;
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.now.length = length;
        let beyond: Vec<u64> = state.now.units.range(length.div_ceil(UNIT as u64)..).map(|(&unit, _)| unit).collect();
        for unit in beyond {
            state.now.units.remove(&unit);
            state.pending.insert(unit);
        }
        Ok(())
    }

    async fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.pause().await;
        self.disk.change()?;
        errno(self.disk.faults.get().write_errno)?;
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let units = offset / UNIT as u64..(offset + length).div_ceil(UNIT as u64);
        let gone: Vec<u64> = state.now.units.range(units).map(|(&unit, _)| unit).collect();
        for unit in gone {
            state.now.units.remove(&unit);
            state.pending.insert(unit);
        }
        Ok(())
    }
}
