//! When each directory was last listed and each file last asked for: the leader's own memory, not journaled. After a
//! restart everything counts as unchecked.
//!
//! Locks are held for a look only, never over I/O. Bounded: a full table is emptied, which costs checks, not truth.

use forebay_base::FileId;
use hashbrown::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const SHARDS: usize = 16;
/// Most ids in one shard's table.
const IDS_MAX: usize = 1 << 16;

/// A mount's freshness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bound {
    /// What was loaded once is believed for ever.
    Never,
    /// What was checked this long ago is believed.
    Within(Duration),
}

impl Bound {
    pub(crate) fn from_ms(ms: u64) -> Self {
        if ms == u64::MAX { Bound::Never } else { Bound::Within(Duration::from_millis(ms)) }
    }

    /// Milliseconds that what was checked at `checked` may still be believed by a request of `asked`; `None` when it
    /// must be checked again. `loaded` says that it was checked at some time, before a restart perhaps.
    pub(crate) fn valid_ms(self, checked: Option<Instant>, loaded: bool, asked: Instant) -> Option<u64> {
        match self {
            Bound::Never => (loaded || checked.is_some()).then_some(u64::MAX),
            Bound::Within(span) => {
                let checked = checked?;
                let Some(end) = checked.checked_add(span) else { return Some(u64::MAX) };
                (end >= asked).then(|| end.saturating_duration_since(Instant::now()).as_millis() as u64)
            }
        }
    }
}

/// How long ago a check may have begun that is still held against what programs changed meanwhile.
const CHANGES_KEPT: Duration = Duration::from_secs(120);
/// Most names in one shard's table of changes.
const CHANGES_MAX: usize = 1 << 14;

/// A name of a directory.
type Name = (FileId, Box<[u8]>);

#[derive(Default)]
struct Tables {
    listed: HashMap<FileId, Instant>,
    asked: HashMap<FileId, Instant>,
    /// Names that programs change now (how many at once), or changed: what a store said before counts no more.
    changes: HashMap<Name, (u32, Instant)>,
    /// Of changes before this nothing is known any more.
    forgotten: Option<Instant>,
}

/// A name that is being changed, until this is dropped.
pub(crate) struct Changing<'a> {
    freshness: &'a Freshness,
    name: Name,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let mut tables = self.freshness.shard(self.name.0);
        if let Some((active, at)) = tables.changes.get_mut(&self.name) {
            (*active, *at) = (active.saturating_sub(1), Instant::now());
        }
    }
}

/// The tables.
#[derive(Default)]
pub(crate) struct Freshness {
    shards: [Mutex<Tables>; SHARDS],
}

impl Freshness {
    fn shard(&self, id: FileId) -> MutexGuard<'_, Tables> {
        let shard = (id.0 ^ (id.0 >> 56)) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When all names of `directory` were last read from the store.
    pub(crate) fn listed(&self, directory: FileId) -> Option<Instant> {
        self.shard(directory).listed.get(&directory).copied()
    }

    /// When the store was last asked for `id` itself.
    pub(crate) fn asked(&self, id: FileId) -> Option<Instant> {
        self.shard(id).asked.get(&id).copied()
    }

    /// When `id`, a name of `parent`, was last checked in either way.
    pub(crate) fn checked(&self, id: FileId, parent: FileId) -> Option<Instant> {
        self.asked(id).max(self.listed(parent))
    }

    /// A program is about to change a name.
    pub(crate) fn changing(&self, directory: FileId, name: &[u8]) -> Changing<'_> {
        let name: Name = (directory, name.into());
        let mut tables = self.shard(directory);
        if tables.changes.len() >= CHANGES_MAX {
            let now = Instant::now();
            tables.changes.retain(|_, (active, at)| *active > 0 || now.duration_since(*at) < CHANGES_KEPT / 2);
            if tables.changes.len() >= CHANGES_MAX {
                tables.changes.retain(|_, (active, _)| *active > 0);
                tables.forgotten = Some(now);
            } else {
                tables.forgotten = now.checked_sub(CHANGES_KEPT / 2).max(tables.forgotten);
            }
        }
        tables.changes.entry(name.clone()).or_insert((0, Instant::now())).0 += 1;
        drop(tables);
        Changing { freshness: self, name }
    }

    /// Whether a program changes the name, or did since `began`: the namespace knows better than what was asked then.
    pub(crate) fn changed_since(&self, directory: FileId, name: &[u8], began: Instant) -> bool {
        let tables = self.shard(directory);
        if tables.changes.is_empty() {
            return false;
        }
        tables.changes.get(&(directory, name.into()) as &Name).is_some_and(|(active, at)| *active > 0 || *at >= began)
    }

    /// Whether changes of a directory's names since `began` may have been forgotten.
    pub(crate) fn forgot_since(&self, directory: FileId, began: Instant) -> bool {
        self.shard(directory).forgotten.is_some_and(|forgotten| forgotten >= began)
    }

    pub(crate) fn set_listed(&self, directory: FileId, at: Instant) {
        put(&mut self.shard(directory).listed, directory, at);
    }

    pub(crate) fn set_asked(&self, id: FileId, at: Instant) {
        put(&mut self.shard(id).asked, id, at);
    }
}

fn put(table: &mut HashMap<FileId, Instant>, id: FileId, at: Instant) {
    if table.len() >= IDS_MAX && !table.contains_key(&id) {
        table.clear();
    }
    let known = table.entry(id).or_insert(at);
    *known = at.max(*known);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        let now = Instant::now();
        let earlier = now - Duration::from_secs(5);
        assert_eq!(Bound::Never.valid_ms(None, true, now), Some(u64::MAX));
        assert_eq!(Bound::Never.valid_ms(None, false, now), None);
        assert_eq!(Bound::from_ms(0).valid_ms(Some(earlier), true, now), None);
        assert_eq!(Bound::from_ms(0).valid_ms(Some(now), true, now), Some(0));
        assert!(Bound::from_ms(6_000).valid_ms(Some(earlier), true, now).is_some_and(|left| left <= 1_000));
        assert_eq!(Bound::from_ms(4_000).valid_ms(Some(earlier), true, now), None);
        let freshness = Freshness::default();
        assert!(!freshness.changed_since(FileId(7), b"a", earlier));
        let changing = freshness.changing(FileId(7), b"a");
        assert!(
            freshness.changed_since(FileId(7), b"a", Instant::now())
                && !freshness.changed_since(FileId(7), b"b", earlier)
        );
        drop(changing);
        assert!(freshness.changed_since(FileId(7), b"a", earlier));
        assert!(!freshness.changed_since(FileId(7), b"a", Instant::now() + Duration::from_secs(1)));
        for number in 0..CHANGES_MAX as u32 * 2 {
            drop(freshness.changing(FileId(7), &number.to_le_bytes()));
        }
        assert!(freshness.shard(FileId(7)).changes.len() <= CHANGES_MAX && freshness.forgot_since(FileId(7), now));
        freshness.set_listed(FileId(7), earlier);
        freshness.set_asked(FileId(9), now);
        assert_eq!(freshness.checked(FileId(9), FileId(7)), Some(now));
        assert_eq!(freshness.checked(FileId(8), FileId(7)), Some(earlier));
    }
}
