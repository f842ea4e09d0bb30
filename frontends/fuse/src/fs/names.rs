//! What directories listed of late, so that looking up a directory's names one after another, in whatever order, costs
//! one call to the master for a thousand of them. Shared by the session's threads.
//!
//! Invariants: nothing is answered for longer than the master allowed, counted from when it was asked; the parts of a
//! directory never overlap, so nothing older shows behind something newer; at most `ENTRIES_MAX` entries are held, the
//! oldest parts go first; nothing that was asked for before `forget` is taken in after it, nor over what was asked later.

use super::node_table::valid_until;
use forebay_base::{FileId, Version};
use forebay_client::message::namespace::{Attr, Entry, KIND_FILE};
use hashbrown::HashMap;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One content of one file.
pub(super) type Content = (FileId, Version);

const ENTRIES_MAX: usize = 128 << 10;
/// Directories beyond the first so many have listed parts, or are swept.
const DIRECTORIES_MAX: usize = 4096;
/// Not worth remembering if it may be believed for less.
const VALID_MS_MIN: u64 = 500;
/// Lookups in a directory that make its listing worth asking for: the first time, and from then on.
const MISSES_FIRST: u32 = 4;
const MISSES: u32 = 32;
/// For directories whose listings were not used.
const MISSES_MAX: u32 = 4096;

/// The listings.
pub(super) struct Names {
    state: Mutex<State>,
    /// Whatever the master allows.
    life_max: Duration,
    found: AtomicU64,
}

struct State {
    directories: HashMap<FileId, Listed>,
    /// Parts by age.
    order: VecDeque<(FileId, u64)>,
    entries: usize,
    next_serial: u64,
    not_before: Instant,
    /// So many directories are swept.
    sweep_at: usize,
}

struct Listed {
    /// By the name in front of each part.
    parts: BTreeMap<Box<[u8]>, Part>,
    misses: u32,
    misses_wanted: u32,
    is_asking: bool,
}

struct Part {
    serial: u64,
    entries: Arc<Vec<Entry>>,
    end: bool,
    asked: Instant,
    hits: u32,
}

impl Default for Listed {
    fn default() -> Self {
        Self { parts: BTreeMap::new(), misses: 0, misses_wanted: MISSES_FIRST, is_asking: false }
    }
}

impl Part {
    fn place(&self, name: &[u8]) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.name.as_slice().cmp(name))
    }

    /// Whether names behind `name` are in it.
    fn reaches_behind(&self, name: &[u8]) -> bool {
        self.end || self.entries.last().is_some_and(|last| last.name.as_slice() > name)
    }

    fn is_worn_out(&self) -> bool {
        self.hits as usize * 2 >= self.entries.len()
    }
}

impl Listed {
    /// The part in which the name would be.
    fn around(&self, name: &[u8]) -> Option<&Part> {
        self.parts.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(name))).next_back().map(|(_, part)| part)
    }

    fn around_mut(&mut self, name: &[u8]) -> Option<&mut Part> {
        self.parts.range_mut::<[u8], _>((Bound::Unbounded, Bound::Excluded(name))).next_back().map(|(_, part)| part)
    }

    /// The parts that share names with those from behind `after` to `last`, or to the directory's end.
    fn overlapping(&self, after: &[u8], last: Option<&Entry>) -> Vec<Box<[u8]>> {
        let behind = last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.name.as_slice()));
        let mut found: Vec<Box<[u8]>> =
            self.parts.range::<[u8], _>((Bound::Included(after), behind)).map(|(after, _)| after.clone()).collect();
        let before = self.parts.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(after))).next_back();
        found.extend(before.filter(|(_, part)| part.reaches_behind(after)).map(|(before, _)| before.clone()));
        found
    }

    /// A part goes; whether it was worth asking for decides when the next one is asked for.
    fn judge(&mut self, part: &Part) {
        let useful = part.hits >= MISSES || part.is_worn_out();
        self.misses_wanted = if useful { MISSES } else { (self.misses_wanted * 2).min(MISSES_MAX) };
    }
}

impl State {
    fn listed(&mut self, directory: FileId) -> &mut Listed {
        if self.directories.len() >= self.sweep_at && !self.directories.contains_key(&directory) {
            self.sweep();
        }
        self.directories.entry(directory).or_default()
    }

    /// Forgets directories of which nothing is known. Not again before there are twice as many as are left.
    fn sweep(&mut self) {
        self.directories.retain(|_, listed| !listed.parts.is_empty() || listed.is_asking);
        self.sweep_at = DIRECTORIES_MAX.max(self.directories.len() * 2);
    }

    fn remove(&mut self, directory: FileId, after: &[u8]) {
        if let Some(listed) = self.directories.get_mut(&directory)
            && let Some(part) = listed.parts.remove(after)
        {
            self.entries -= part.entries.len();
            listed.judge(&part);
        }
    }

    fn remove_oldest(&mut self) -> bool {
        let Some((directory, serial)) = self.order.pop_front() else { return false };
        let after = self.directories.get(&directory).and_then(|listed| {
            listed.parts.iter().find(|(_, part)| part.serial == serial).map(|(after, _)| after.clone())
        });
        if let Some(after) = after {
            self.remove(directory, &after);
        }
        true
    }
}

impl Names {
    /// Nothing yet; nothing will be believed for longer than `life_max`.
    pub(super) fn new(life_max: Duration) -> Self {
        let state = State {
            directories: HashMap::new(),
            order: VecDeque::new(),
            entries: 0,
            next_serial: 0,
            not_before: Instant::now(),
            sweep_at: DIRECTORIES_MAX,
        };
        Self { state: Mutex::new(state), life_max, found: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_believed(&self, attr: &Attr, asked: Instant, now: Instant) -> bool {
        now.duration_since(asked) < self.life_max && valid_until(attr, asked).is_none_or(|until| now < until)
    }

    /// How many lookups were answered.
    pub(super) fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }

    /// A name as it was listed, and when that was asked for.
    pub(super) fn find(&self, directory: FileId, name: &[u8]) -> Option<(Attr, Instant)> {
        let mut state = self.state();
        let part = state.directories.get_mut(&directory)?.around_mut(name)?;
        let attr = &part.entries[part.place(name).ok()?].attr;
        if !self.is_believed(attr, part.asked, Instant::now()) {
            return None;
        }
        let found = (attr.clone(), part.asked);
        part.hits = part.hits.saturating_add(1);
        self.found.fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    /// The master had to be asked for a name that may be believed for `valid_ms`. Where a listing pays: the name behind
    /// which it should begin. The caller answers with `put` or `in_vain`.
    pub(super) fn missed(&self, directory: FileId, name: &[u8], valid_ms: u64) -> Option<Vec<u8>> {
        if valid_ms < VALID_MS_MIN {
            return None;
        }
        let mut state = self.state();
        let listed = state.listed(directory);
        listed.misses += 1;
        // Somebody went through a part and comes out at its end.
        let goes_on = match listed.around(name) {
            Some(part) if !part.reaches_behind(name) && part.is_worn_out() => {
                part.entries.last().map(|last| &last.name)
            }
            _ => None,
        };
        if listed.is_asking || (goes_on.is_none() && listed.misses < listed.misses_wanted) {
            return None;
        }
        let after = goes_on.cloned().unwrap_or_else(|| name[..name.len().saturating_sub(1)].to_vec());
        (listed.misses, listed.is_asking) = (0, true);
        listed.misses_wanted = listed.misses_wanted.max(MISSES);
        Some(after)
    }

    /// The listing that `missed` wanted could not be had.
    pub(super) fn in_vain(&self, directory: FileId) {
        if let Some(listed) = self.state().directories.get_mut(&directory) {
            listed.is_asking = false;
            listed.misses_wanted = (listed.misses_wanted * 2).min(MISSES_MAX);
        }
    }

    /// Takes in what the master listed behind `after`.
    pub(super) fn put(&self, directory: FileId, after: &[u8], entries: Arc<Vec<Entry>>, end: bool, asked: Instant) {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(listed) = state.directories.get_mut(&directory) {
            listed.is_asking = false;
        }
        let worth = asked > state.not_before && entries.iter().any(|entry| entry.attr.valid_for_ms >= VALID_MS_MIN);
        let in_order = entries.is_sorted_by(|a, b| a.name < b.name);
        if !worth || !in_order || entries.first().is_some_and(|first| first.name.as_slice() <= after) {
            return;
        }
        let listed = state.listed(directory);
        let overlapping = listed.overlapping(after, entries.last().filter(|_| !end));
        if overlapping.iter().any(|after| listed.parts.get(after).is_some_and(|part| part.asked > asked)) {
            return;
        }
        for after in overlapping {
            state.remove(directory, &after);
        }
        let serial = state.next_serial;
        state.next_serial += 1;
        state.entries += entries.len();
        state.order.push_back((directory, serial));
        let part = Part { serial, entries, end, asked, hits: 0 };
        state.listed(directory).parts.insert(after.into(), part);
        while (state.entries > ENTRIES_MAX || state.order.len() > ENTRIES_MAX) && state.remove_oldest() {}
    }

    /// Something in a directory is not as it was listed.
    pub(super) fn forget(&self, directory: FileId) {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(listed) = state.directories.get_mut(&directory)
            && (listed.is_asking || !listed.parts.is_empty())
        {
            state.not_before = Instant::now();
            let parts = std::mem::take(&mut listed.parts);
            state.entries -= parts.values().map(|part| part.entries.len()).sum::<usize>();
        }
    }

    /// Something is not as it was listed, somewhere.
    pub(super) fn forget_all(&self) {
        let mut state = self.state();
        state.not_before = Instant::now();
        state.entries = 0;
        state.order.clear();
        state.directories.values_mut().for_each(|listed| listed.parts.clear());
        state.sweep();
    }

    /// Whether nothing is remembered, nor on its way.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state();
        state.entries == 0 && !state.directories.values().any(|listed| listed.is_asking)
    }

    /// Files behind a name in its directory's order, as far as they are known and may be believed. None at all if the
    /// name stands for another content there.
    pub(super) fn following(&self, directory: FileId, name: &[u8], content: Content, count: usize) -> Vec<Content> {
        let state = self.state();
        let mut found = Vec::with_capacity(count);
        let Some(listed) = state.directories.get(&directory) else { return found };
        let Some(mut part) = listed.around(name) else { return found };
        let Ok(place) = part.place(name) else { return found };
        let of = |entry: &Entry| (FileId(entry.attr.file_id), Version(entry.attr.version));
        if of(&part.entries[place]) != content {
            return found;
        }
        let (now, mut place) = (Instant::now(), place + 1);
        // Directories between files are stepped over, but not without end.
        for _ in 0..count * 2 {
            if place == part.entries.len() {
                let next = part.entries.last().and_then(|last| listed.parts.get(last.name.as_slice()));
                let Some(next) = next.filter(|next| !next.entries.is_empty()) else { break };
                (part, place) = (next, 0);
            }
            let entry = &part.entries[place];
            place += 1;
            if entry.attr.kind == KIND_FILE && self.is_believed(&entry.attr, part.asked, now) {
                found.push(of(entry));
                if found.len() == count {
                    break;
                }
            }
        }
        found
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
