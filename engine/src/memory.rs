//! Page memory of one core: buffers being filled, pages in memory, slices held by readers.
//!
//! Invariants: every byte allocated here is charged either to the MEM tier (by the store) or to the buffer budget (by
//! the pool), never to both; a charge ends when the last holder lets go. Full-page buffers are recycled, so that the
//! resident set stays at the budgets plus `SPARE_BUFFERS` pages.

use crate::Tier;
use crate::disk::{AlignedBuffer, ReadBytes, sleep};
use crate::signal::Signal;
use forebay_base::{UNIT_BYTES, unit_checksums};
use std::cell::{Cell, OnceCell, RefCell};
use std::ops::{Deref, DerefMut, Range};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Free page buffers kept for reuse.
const SPARE_BUFFERS: usize = 8;
/// After this long without one release, a waiter is let through: requests that hold pages while they wait for more
/// must not block each other for ever.
const STALL: Duration = Duration::from_secs(1);

/// Bytes rounded up to whole 4 KiB units.
pub(crate) fn whole_units(bytes: u64) -> u64 {
    bytes.next_multiple_of(UNIT_BYTES as u64)
}

/// The buffer budget and the free list.
pub(crate) struct Pool {
    page_bytes: usize,
    budget_bytes: u64,
    used_bytes: Cell<u64>,
    releases: Cell<u64>,
    waits: Cell<u64>,
    released: Signal,
    spare: RefCell<Vec<AlignedBuffer>>,
}

impl Pool {
    pub(crate) fn new(page_bytes: u32, budget_bytes: u64) -> Rc<Pool> {
        Rc::new(Pool {
            page_bytes: page_bytes as usize,
            // Less than two pages would let no fetch overlap a write.
            budget_bytes: budget_bytes.max(2 * u64::from(page_bytes)),
            used_bytes: Cell::new(0),
            releases: Cell::new(0),
            waits: Cell::new(0),
            released: Signal::default(),
            spare: RefCell::default(),
        })
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.get()
    }

    pub(crate) fn waits(&self) -> u64 {
        self.waits.get()
    }

    fn charge(&self, bytes: u64) {
        self.used_bytes.set(self.used_bytes.get() + bytes);
    }

    fn release(&self, bytes: u64) {
        self.used_bytes.set(self.used_bytes.get() - bytes);
        self.releases.set(self.releases.get() + 1);
        self.released.notify();
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.used_bytes.get() + bytes <= self.budget_bytes
    }

    fn buffer(&self, bytes: usize) -> AlignedBuffer {
        let spare = if bytes == self.page_bytes { self.spare.borrow_mut().pop() } else { None };
        spare.unwrap_or_else(|| AlignedBuffer::new(bytes))
    }

    fn take(self: &Rc<Self>, length: usize) -> PageBuf {
        let bytes = length.next_multiple_of(UNIT_BYTES);
        self.charge(bytes as u64);
        PageBuf {
            memory: PageMemory {
                buffer: Some(self.buffer(bytes)),
                length,
                charged: Cell::new(true),
                row: OnceCell::new(),
                pool: self.clone(),
            },
        }
    }

    /// A buffer if there is room for it now.
    pub(crate) fn try_page(self: &Rc<Self>, length: usize) -> Option<PageBuf> {
        self.has_room(whole_units(length as u64)).then(|| self.take(length))
    }

    /// A buffer for work that nobody waits for: only while half of the budget is free.
    pub(crate) fn spare_page(self: &Rc<Self>, length: usize) -> Option<PageBuf> {
        let calm = self.used_bytes.get() + whole_units(length as u64) <= self.budget_bytes / 2;
        calm.then(|| self.take(length))
    }

    /// A buffer as soon as there is room for it.
    pub(crate) async fn page(self: &Rc<Self>, length: usize) -> PageBuf {
        let bytes = whole_units(length as u64);
        if self.has_room(bytes) {
            return self.take(length);
        }
        self.waits.set(self.waits.get() + 1);
        loop {
            let before = self.releases.get();
            let room = pin!(self.released.until(|| self.has_room(bytes).then_some(())));
            let stalled = pin!(sleep(STALL));
            match futures::future::select(room, stalled).await {
                futures::future::Either::Right(_) if self.releases.get() != before => {}
                _ => return self.take(length),
            }
        }
    }

    /// Charges bytes that a disk of `tier` gave, for as long as a reader holds them. `row` is what they were compared with.
    pub(crate) fn disk_slice(
        self: &Rc<Self>,
        bytes: ReadBytes,
        row: Option<DiskRow>,
        range: Range<usize>,
        tier: Tier,
    ) -> PageSlice {
        let (start, length) = (range.start, range.len());
        let charge = bytes.len() as u64;
        self.charge(charge);
        let source = Source::Disk(Rc::new(DiskBytes { bytes, row, tier, charge, pool: self.clone() }));
        PageSlice { source, start: start as u32, length: length as u32 }
    }
}

/// A page's memory. Unique while it is filled, shared and immutable afterwards.
pub(crate) struct PageMemory {
    /// `None` only while it is dropped.
    buffer: Option<AlignedBuffer>,
    length: usize,
    /// Counts against the pool's budget, not against the MEM tier.
    charged: Cell<bool>,
    /// One checksum a unit, made when the page arrived.
    row: OnceCell<Rc<[u32]>>,
    pool: Rc<Pool>,
}

impl PageMemory {
    /// What it takes from a budget.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        whole_units(self.length as u64)
    }

    /// The whole buffer, zero behind the page's end.
    pub(crate) fn buffer(&self) -> &AlignedBuffer {
        self.buffer.as_ref().expect("held until drop")
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer().bytes()[..self.length]
    }

    /// The checksums of its units.
    pub(crate) fn row(&self) -> &Rc<[u32]> {
        self.row.get_or_init(|| unit_checksums(self.bytes()).collect())
    }

    /// Whether the units that hold a range are what they were when the page arrived.
    pub(crate) fn is_intact(&self, range: Range<usize>) -> bool {
        let first = range.start / UNIT_BYTES;
        let end = range.end.next_multiple_of(UNIT_BYTES).min(self.length);
        let units = unit_checksums(self.bytes().get(first * UNIT_BYTES..end).unwrap_or_default());
        units.zip(self.row().iter().skip(first)).all(|(now, then)| now == *then)
    }

    /// Moves the charge between the pool's budget (`true`) and the MEM tier, which keeps its own sum.
    pub(crate) fn charge_pool(&self, charged: bool) {
        if charged && !self.charged.replace(true) {
            self.pool.charge(self.allocated_bytes());
        } else if !charged && self.charged.replace(false) {
            self.pool.release(self.allocated_bytes());
        }
    }

    pub(crate) fn slice(self: &Rc<Self>, start: usize, length: usize) -> PageSlice {
        PageSlice { source: Source::Memory(self.clone()), start: start as u32, length: length as u32 }
    }
}

impl Drop for PageMemory {
    fn drop(&mut self) {
        if let Some(mut buffer) = self.buffer.take() {
            let mut spare = self.pool.spare.borrow_mut();
            if buffer.bytes().len() == self.pool.page_bytes
                && spare.len() < SPARE_BUFFERS
                && buffer.bytes_mut().is_some()
            {
                spare.push(buffer);
            }
        }
        self.charge_pool(false);
    }
}

/// A page being filled: 4 KiB-aligned and writable; its content is arbitrary until it is written.
pub struct PageBuf {
    memory: PageMemory,
}

impl PageBuf {
    /// Sums it up: from here on its bytes do not change.
    pub(crate) fn seal(mut self) -> Rc<PageMemory> {
        let length = self.memory.length;
        // What was in the buffer before must not reach a disk.
        self.whole()[length..].fill(0);
        self.memory.row();
        Rc::new(self.memory)
    }

    /// The same for a page whose checksums are known.
    pub(crate) fn seal_with(self, row: Option<Rc<[u32]>>) -> Rc<PageMemory> {
        if let Some(row) = row {
            let _ = self.memory.row.set(row);
        }
        self.seal()
    }

    fn whole(&mut self) -> &mut [u8] {
        let buffer = self.memory.buffer.as_mut().expect("held until drop");
        buffer.bytes_mut().expect("a page being filled has one owner")
    }
}

impl Deref for PageBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.bytes()
    }
}

impl DerefMut for PageBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        let length = self.memory.length;
        &mut self.whole()[..length]
    }
}

impl std::fmt::Debug for PageBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PageBuf({} bytes)", self.len())
    }
}

/// The checksums of a page of which a disk read brought a part.
pub(crate) struct DiskRow {
    pub(crate) row: Rc<[u32]>,
    /// Where in the page the part begins: at a unit.
    pub(crate) first: usize,
    pub(crate) page_length: usize,
}

struct DiskBytes {
    bytes: ReadBytes,
    row: Option<DiskRow>,
    tier: Tier,
    charge: u64,
    pool: Rc<Pool>,
}

impl Drop for DiskBytes {
    fn drop(&mut self) {
        self.pool.release(self.charge);
    }
}

#[derive(Clone)]
enum Source {
    Memory(Rc<PageMemory>),
    Disk(Rc<DiskBytes>),
}

/// Immutable bytes of one page; keeps their memory for as long as it lives.
#[derive(Clone)]
pub struct PageSlice {
    source: Source,
    start: u32,
    length: u32,
}

/// Checksums of whole units inside a range of a slice, as they were made when the page arrived.
#[derive(Clone, Debug)]
pub struct UnitSums {
    /// Where in the range the first of them begins.
    pub offset: usize,
    row: Rc<[u32]>,
    units: Range<usize>,
}

impl UnitSums {
    /// One for each unit.
    #[must_use]
    pub fn sums(&self) -> &[u32] {
        self.row.get(self.units.clone()).unwrap_or_default()
    }
}

impl PageSlice {
    /// What is known of the units that lie in `range` whole; the last unit of a page is whole at the page's end.
    #[must_use]
    pub fn checksums(&self, range: Range<usize>) -> Option<UnitSums> {
        let (row, first, page_length) = match &self.source {
            Source::Memory(memory) => (memory.row().clone(), 0, memory.length),
            Source::Disk(disk) => {
                let known = disk.row.as_ref()?;
                (known.row.clone(), known.first, known.page_length)
            }
        };
        let start = first + self.start as usize + range.start;
        let end = start + range.len();
        let from = start.div_ceil(UNIT_BYTES);
        let to = if end == page_length { end.div_ceil(UNIT_BYTES) } else { end / UNIT_BYTES };
        (from < to).then(|| UnitSums { offset: from * UNIT_BYTES - start, row, units: from..to })
    }

    /// Where the bytes came from.
    #[must_use]
    pub fn tier(&self) -> Tier {
        match &self.source {
            Source::Memory(_) => Tier::Mem,
            Source::Disk(disk) => disk.tier,
        }
    }
}

impl Deref for PageSlice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes: &[u8] = match &self.source {
            Source::Memory(memory) => memory.bytes(),
            Source::Disk(disk) => &disk.bytes,
        };
        &bytes[self.start as usize..(self.start + self.length) as usize]
    }
}

impl AsRef<[u8]> for PageSlice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for PageSlice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PageSlice({} bytes, {:?})", self.len(), self.tier())
    }
}
