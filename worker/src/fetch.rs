//! The miss path of one shard: joins or starts the fetch of pages, copies what arrives into page buffers, and wakes the
//! readers of each page as soon as it is whole.
//!
//! Invariants: a page enters the engine whole or not at all; at most `slots_max` requests to one mount are under way, of
//! which read-ahead may hold half; loading may hold most of them, but takes none while a reader waits for one; each holds one page buffer at a time and none before its store has answered, so
//! requests cannot wait for each other's buffers and a silent store keeps nothing from the others.

use crate::counters::ShardView;
use crate::flight::{Duty, Flight, Flights};
use crate::live::LiveVersions;
use crate::plan;
use crate::store_gate::{FetchRequest, StoreGate};
use crate::tickets::Grant;
use crate::within::within_moving;
use forebay_base::stall::{CoreTask, watched};
use forebay_base::{ErrorKind, KindError, MountId, PageIndex};
use forebay_engine::{FileKey, PageSlice, Store};
use futures::stream::{self, StreamExt, TryStreamExt};
use hashbrown::HashMap;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A page being fetched.
pub(crate) type PageFlight = Rc<Flight<PageSlice>>;

/// Why pages are fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// A reader waits.
    Demand,
    /// A reader will probably ask: given up when there is much to do.
    Ahead,
}

/// One shard's fetches.
pub(crate) struct Fetcher {
    engine: Rc<Store>,
    gate: Arc<StoreGate>,
    view: Arc<ShardView>,
    live: Rc<RefCell<LiveVersions>>,
    flights: Rc<Flights<PageSlice>>,
    slots_max: usize,
    slots: RefCell<HashMap<MountId, MountSlots>>,
    page_bytes: u32,
}

/// What one mount may have under way.
#[derive(Clone)]
struct MountSlots {
    all: Arc<Semaphore>,
    ahead: Arc<Semaphore>,
    load: Arc<Semaphore>,
    /// Fetches that readers wait for and that wait for a slot.
    waiting: Rc<Cell<usize>>,
}

/// A slot, and the share of slots that it counts in.
type Slot = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// How often loading looks whether readers have left a slot.
const LOAD_LOOKS_EVERY: Duration = Duration::from_millis(2);
/// Requests of one loaded range that are under way together.
const LOAD_RUNS: usize = 16;

/// Mounts whose idle slots are kept.
const IDLE_MOUNTS_MAX: usize = 64;

impl Fetcher {
    /// `buffer_bytes` is the shard's budget for pages in flight.
    pub(crate) fn new(
        engine: Rc<Store>,
        gate: Arc<StoreGate>,
        view: Arc<ShardView>,
        live: Rc<RefCell<LiveVersions>>,
        buffer_bytes: u64,
        page_bytes: u32,
    ) -> Rc<Self> {
        // A request holds one page buffer and about as much in its channel.
        let slots_max = (buffer_bytes / (2 * u64::from(page_bytes))).clamp(2, 256) as usize;
        Rc::new(Self {
            engine,
            gate,
            view,
            live,
            flights: Rc::default(),
            slots_max,
            slots: RefCell::default(),
            page_bytes,
        })
    }

    /// The flights of those pages that the engine lacks; true beside those that this call started.
    pub(crate) fn demand(self: &Rc<Self>, grant: &Rc<Grant>, pages: Range<u32>) -> Vec<(u32, PageFlight, bool)> {
        let mut flights = Vec::new();
        let mut duties = Vec::new();
        for page in pages {
            if self.engine.has_page(&grant.key, PageIndex(page)) {
                continue;
            }
            let (flight, duty) = self.flights.join(grant.key, PageIndex(page));
            flights.push((page, flight, duty.is_some()));
            duties.extend(duty.map(|duty| (page, duty)));
        }
        self.start(grant, duties, Purpose::Demand);
        flights
    }

    /// The flight of one page whether or not the engine claims to hold it: for pages that turned out unreadable.
    pub(crate) fn demand_page(self: &Rc<Self>, grant: &Rc<Grant>, page: u32) -> PageFlight {
        let (flight, duty) = self.flights.join(grant.key, PageIndex(page));
        self.start(grant, duty.map(|duty| (page, duty)).into_iter().collect(), Purpose::Demand);
        flight
    }

    /// The flight of a page that is under way.
    pub(crate) fn under_way(&self, key: FileKey, page: u32) -> Option<PageFlight> {
        self.flights.get(key, PageIndex(page))
    }

    /// Fetches what is missing of `bytes` as far as there is room for it now; nobody waits.
    pub(crate) fn ahead(self: &Rc<Self>, grant: &Rc<Grant>, bytes: &Range<u64>) {
        let missing = plan::pages_of(bytes, self.page_bytes).filter(|&page| {
            !self.engine.has_page(&grant.key, PageIndex(page)) && self.under_way(grant.key, page).is_none()
        });
        for run in plan::runs(missing, plan::run_pages_max(&grant.fingerprint)) {
            let slots = self.slots_of(grant.mount);
            if slots.ahead.available_permits() == 0 || slots.all.available_permits() == 0 {
                return;
            }
            let duties: Vec<_> = run
                .filter_map(|page| self.flights.join(grant.key, PageIndex(page)).1.map(|duty| (page, duty)))
                .collect();
            self.view.counters.read_ahead_pages.add(duties.len() as u64);
            self.start(grant, duties, Purpose::Ahead);
        }
    }

    /// Fetches what the engine lacks of `pages` and waits for it; gives the bytes that this call fetched.
    pub(crate) async fn load(
        self: &Rc<Self>,
        grant: &Rc<Grant>,
        pages: Range<u32>,
        until: Instant,
    ) -> Result<u64, KindError> {
        let missing = pages.filter(|page| !self.engine.keep_page(&grant.key, PageIndex(*page)));
        let runs = plan::runs(missing, plan::run_pages_max(&grant.fingerprint));
        let loads = stream::iter(runs).map(|run| self.load_run(grant, run, until)).buffer_unordered(LOAD_RUNS);
        loads.try_fold(0, |sum, fetched| async move { Ok(sum + fetched) }).await
    }

    async fn load_run(self: &Rc<Self>, grant: &Rc<Grant>, run: Range<u32>, until: Instant) -> Result<u64, KindError> {
        let (asked, pulse) = (Instant::now(), self.gate.pulse(grant.mount));
        let end = || pulse.until_patiently(asked).min(until);
        let slot = within_moving(end, self.load_slot(grant.mount)).await;
        let slot = slot.ok_or_else(|| self.gate.too_late(grant, asked))?;
        // Joined with the slot in hand and not before: a reader must not wait for a fetch that gives way to readers.
        let (mut flights, mut duties, mut fetched) = (Vec::new(), Vec::new(), 0);
        for page in run.clone() {
            if self.engine.keep_page(&grant.key, PageIndex(page)) {
                continue;
            }
            let (flight, duty) = self.flights.join(grant.key, PageIndex(page));
            flights.push(flight);
            if let Some(duty) = duty {
                let bytes = plan::bytes_of_page(page, self.page_bytes, grant.key.size_bytes);
                fetched += bytes.end - bytes.start;
                duties.push((page, duty));
            }
        }
        if !duties.is_empty() {
            let (fetcher, grant) = (self.clone(), grant.clone());
            // On its own, so that readers who joined get their pages if this call is given up.
            glommio::spawn_local(watched(CoreTask::Fetch, async move {
                let runs = plan::runs(duties.iter().map(|(page, _)| *page), plan::run_pages_max(&grant.fingerprint));
                let mut duties = duties.into_iter().map(|(_, duty)| duty);
                for run in runs {
                    let own = duties.by_ref().take(run.len()).collect();
                    fetcher.run_in_slot(&grant, run, own, true).await;
                }
                drop(slot);
            }))
            .detach();
        }
        for flight in flights {
            within_moving(end, flight.wait()).await.unwrap_or_else(|| Err(self.gate.too_late(grant, asked)))?;
        }
        // Some may have come for readers, and may be in memory only.
        for page in run {
            self.engine.keep_page(&grant.key, PageIndex(page));
        }
        Ok(fetched)
    }

    /// A slot that no reader is waiting for.
    async fn load_slot(&self, mount: MountId) -> Slot {
        loop {
            let slots = self.slots_of(mount);
            // Held by whoever looks next, in turn.
            if let Ok(share) = slots.load.acquire_owned().await {
                loop {
                    let free = slots.waiting.get() == 0;
                    if let Some(slot) = free.then(|| slots.all.clone().try_acquire_owned().ok()).flatten() {
                        return (share, slot);
                    }
                    glommio::timer::sleep(LOAD_LOOKS_EVERY).await;
                }
            }
        }
    }

    fn start(self: &Rc<Self>, grant: &Rc<Grant>, duties: Vec<(u32, Duty<PageSlice>)>, purpose: Purpose) {
        if duties.is_empty() {
            return;
        }
        let runs = plan::runs(duties.iter().map(|(page, _)| *page), plan::run_pages_max(&grant.fingerprint));
        let slots = self.slots_of(grant.mount);
        let mut duties = duties.into_iter().map(|(_, duty)| duty);
        for run in runs {
            let own: Vec<_> = duties.by_ref().take(run.len()).collect();
            // Taken here and not in the task, so that the next look at `available_permits` sees it.
            let permits = match purpose {
                Purpose::Demand => None,
                Purpose::Ahead => {
                    let Ok(share) = slots.ahead.clone().try_acquire_owned() else { return };
                    let Ok(slot) = slots.all.clone().try_acquire_owned() else { return };
                    Some((share, slot))
                }
            };
            let (fetcher, grant) = (self.clone(), grant.clone());
            let work = async move { fetcher.run(&grant, run, own, permits).await };
            glommio::spawn_local(watched(CoreTask::Fetch, work)).detach();
        }
    }

    async fn run(&self, grant: &Grant, run: Range<u32>, duties: Vec<Duty<PageSlice>>, permits: Option<Slot>) {
        match permits {
            Some(_permits) => self.run_in_slot(grant, run, duties, false).await,
            None => match self.slot(grant).await {
                Ok(_slot) => self.run_in_slot(grant, run, duties, false).await,
                Err(error) => self.fail(duties.into_iter(), &error),
            },
        }
    }

    /// Pages that are wanted are kept on SSD in any case.
    async fn run_in_slot(&self, grant: &Grant, run: Range<u32>, duties: Vec<Duty<PageSlice>>, is_wanted: bool) {
        let counters = &self.view.counters;
        let (_under_way, since) = (counters.fetches.enter(), Instant::now());
        let mut duties = duties.into_iter();
        if let Err(error) = self.fill(grant, run, &mut duties, is_wanted).await {
            self.fail(duties, &error);
        }
        counters.fetch_seconds.record_since(since);
    }

    fn fail(&self, duties: std::vec::IntoIter<Duty<PageSlice>>, error: &KindError) {
        self.view.counters.store_failures.add(1);
        for duty in duties {
            duty.land(Err(error.clone()));
        }
    }

    /// Waits for its turn among the mount's requests, no longer than the store may stay silent.
    async fn slot(&self, grant: &Grant) -> Result<OwnedSemaphorePermit, KindError> {
        let (asked, pulse) = (Instant::now(), self.gate.pulse(grant.mount));
        let _waiting = self.view.counters.fetches_waiting.enter();
        let slots = self.slots_of(grant.mount);
        slots.waiting.set(slots.waiting.get() + 1);
        let slot = within_moving(|| pulse.until_patiently(asked), slots.all.acquire_owned()).await;
        slots.waiting.set(slots.waiting.get() - 1);
        self.view.counters.fetch_wait_seconds.record_since(asked);
        match slot {
            Some(Ok(slot)) => Ok(slot),
            Some(Err(_)) => Err(KindError::new(ErrorKind::Closed, "the worker is ending")),
            None => Err(self.gate.too_late(grant, asked)),
        }
    }

    /// Fetches a run; lands the pages that arrived whole and leaves the other duties to the caller.
    async fn fill(
        &self,
        grant: &Grant,
        run: Range<u32>,
        duties: &mut std::vec::IntoIter<Duty<PageSlice>>,
        is_wanted: bool,
    ) -> Result<(), KindError> {
        let size = grant.key.size_bytes;
        let start = plan::bytes_of_page(run.start, self.page_bytes, size).start;
        let end = plan::bytes_of_page(run.end - 1, self.page_bytes, size).end;
        let wrong_length = |arrived: u64| {
            let (store, key) = (self.gate.name(grant.mount), &grant.store_key);
            let message = format!("{store}: read \"{key}\": got {arrived} bytes, want {} from {start}", end - start);
            KindError::new(ErrorKind::Corrupt, message)
        };
        let mut chunks = self.gate.fetch(FetchRequest {
            mount: grant.mount,
            key: grant.store_key.clone(),
            fingerprint: grant.fingerprint.clone(),
            range: start..end,
        });
        let mut chunk = bytes::Bytes::new();
        let mut arrived = 0u64;
        for page in run {
            let mut next_chunk = async |arrived: &mut u64| {
                let chunk = chunks.recv().await.ok_or_else(|| wrong_length(*arrived))??;
                *arrived += chunk.len() as u64;
                self.view.counters.store_read_bytes.add(chunk.len() as u64);
                Ok::<_, KindError>(chunk)
            };
            if chunk.is_empty() {
                chunk = next_chunk(&mut arrived).await?;
            }
            let held = plan::bytes_of_page(page, self.page_bytes, size);
            let mut buf = self.engine.new_page((held.end - held.start) as u32).await;
            let mut filled = 0;
            while filled < buf.len() {
                if chunk.is_empty() {
                    chunk = next_chunk(&mut arrived).await?;
                }
                let part = chunk.split_to(chunk.len().min(buf.len() - filled));
                buf[filled..filled + part.len()].copy_from_slice(&part);
                filled += part.len();
            }
            // The last page is landed only when the store has confirmed the end of the stream: until then it may
            // still say that the content changed while it was read.
            if duties.len() == 1 {
                match chunks.recv().await {
                    None if chunk.is_empty() => {}
                    Some(Err(error)) => return Err(error),
                    _ => return Err(wrong_length(arrived + 1)),
                }
            }
            if self.live.borrow().is_dead(grant.key.file_id, grant.key.version) {
                return Err(KindError::new(ErrorKind::Stale, "the file has a newer version"));
            }
            let slice = if is_wanted {
                self.engine.insert_wanted(&grant.key, PageIndex(page), buf).await
            } else {
                self.engine.insert(&grant.key, PageIndex(page), buf).await
            };
            if let Some(duty) = duties.next() {
                duty.land(Ok(slice));
            }
        }
        Ok(())
    }

    fn slots_of(&self, mount: MountId) -> MountSlots {
        let mut slots = self.slots.borrow_mut();
        if slots.len() > IDLE_MOUNTS_MAX {
            slots.retain(|_, slots| slots.all.available_permits() < self.slots_max);
        }
        let fresh = || MountSlots {
            all: Arc::new(Semaphore::new(self.slots_max)),
            ahead: Arc::new(Semaphore::new(self.slots_max / 2)),
            load: Arc::new(Semaphore::new((self.slots_max - self.slots_max.div_ceil(8)).max(1))),
            waiting: Rc::default(),
        };
        slots.entry(mount).or_insert_with(fresh).clone()
    }
}
