//! One partition's state and the rows it becomes in RocksDB. Owned by one core; another one only while they meet.
//!
//! Invariants: ids and versions are never drawn twice; every change goes through a method that marks the row dirty, so
//! that a cut is exactly the rows that changed since the last one.

use super::command::{MountRecord, PolicyRecord};
use super::job::{FAILURE, JOB, JobTable};
use super::{Dentry, Inode};
use forebay_base::{FileId, Incarnation, PartitionId, Version};
use forebay_net::message::Wire;
use forebay_net::message::namespace::KIND_DIRECTORY;
use hashbrown::{HashMap, HashSet};
use rkyv::{Archive, Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Partitions by number: those of one core, or all in a plain sequential run.
pub(crate) type Partitions = BTreeMap<u8, Box<Partition>>;

/// A row to write (`Some`) or delete (`None`) by key.
pub(crate) type DirtyRow = (Vec<u8>, Option<Vec<u8>>);

/// A row of RocksDB that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("state row {key}: {reason}")]
pub(crate) struct RowError {
    /// Its key, in hexadecimal.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) reason: String,
}

#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
struct Head {
    next_file: u64,
    next_version: u64,
    next_mount: u32,
    boot: u64,
    orphans: Vec<u64>,
    mounts: Vec<MountRecord>,
    policies: Vec<PolicyRecord>,
    moving: Vec<(u64, String, String)>,
}

#[derive(Debug, Default)]
struct Dirty {
    head: bool,
    inodes: HashSet<FileId>,
    entries: HashSet<(FileId, Box<[u8]>)>,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    id: PartitionId,
    incarnation: Incarnation,
    count: u16,
    pub(super) next_file: u64,
    next_version: u64,
    pub(super) next_mount: u32,
    pub(super) boot: u64,
    orphans: BTreeSet<FileId>,
    pub(super) mounts: BTreeMap<u32, MountRecord>,
    pub(super) jobs: JobTable,
    pub(super) policies: BTreeMap<String, PolicyRecord>,
    inodes: HashMap<FileId, Inode>,
    /// Those of `inodes` that their stores do not have yet; follows from them.
    unsaved: BTreeSet<FileId>,
    pub(super) moving: BTreeMap<FileId, (String, String)>,
    entries: HashMap<FileId, BTreeMap<Box<[u8]>, Dentry>>,
    dirty: Dirty,
}

impl PartialEq for Partition {
    /// Equality of state, whatever is dirty.
    fn eq(&self, other: &Self) -> bool {
        self.head() == other.head()
            && (self.id, self.incarnation, self.count) == (other.id, other.incarnation, other.count)
            && self.jobs == other.jobs
            && self.inodes == other.inodes
            && self.unsaved == other.unsaved
            && self.entries == other.entries
    }
}

const HEAD: u8 = b'h';
const INODE: u8 = b'i';
const ENTRY: u8 = b'e';

impl Partition {
    /// An empty partition of `count`; the first one holds the root directory, which `owner` owns.
    #[must_use]
    pub(crate) fn new(id: PartitionId, incarnation: Incarnation, count: u16, owner: (u32, u32)) -> Self {
        let mut partition = Self {
            id,
            incarnation,
            count,
            // 1 is the root; the same start everywhere keeps it simple.
            next_file: 2,
            next_version: 1,
            next_mount: 1,
            boot: 0,
            orphans: BTreeSet::new(),
            mounts: BTreeMap::new(),
            jobs: JobTable::default(),
            policies: BTreeMap::new(),
            inodes: HashMap::new(),
            unsaved: BTreeSet::new(),
            moving: BTreeMap::new(),
            entries: HashMap::new(),
            dirty: Dirty { head: true, ..Dirty::default() },
        };
        if id == FileId::ROOT.partition() {
            let root = Inode {
                parent: 0,
                mount_id: 0,
                kind: KIND_DIRECTORY,
                listed: true,
                detached: false,
                unsaved: false,
                own_mtime: false,
                version: 0,
                size: 0,
                mtime_ms: 0,
                mode: 0o755,
                uid: owner.0,
                gid: owner.1,
                store_key: String::new(),
                fingerprint: String::new(),
            };
            partition.put_inode(FileId::ROOT, root);
        }
        partition
    }

    /// Which one.
    #[must_use]
    pub(crate) fn id(&self) -> PartitionId {
        self.id
    }

    /// Inodes that live here.
    #[must_use]
    pub(crate) fn inode_count(&self) -> u64 {
        self.inodes.len() as u64
    }

    /// An inode.
    #[must_use]
    pub(crate) fn inode(&self, id: FileId) -> Option<&Inode> {
        self.inodes.get(&id)
    }

    /// What a name of a directory that lives here leads to.
    #[must_use]
    pub(crate) fn entry(&self, directory: FileId, name: &[u8]) -> Option<Dentry> {
        self.entries.get(&directory)?.get(name).copied()
    }

    /// How many names a directory has.
    #[must_use]
    pub(crate) fn entry_count(&self, directory: FileId) -> usize {
        self.entries.get(&directory).map_or(0, BTreeMap::len)
    }

    /// The names of a directory behind `after`, in order.
    pub(crate) fn entries_after(&self, directory: FileId, after: &[u8]) -> impl Iterator<Item = (&[u8], Dentry)> {
        let start = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        self.entries
            .get(&directory)
            .into_iter()
            .flat_map(move |names| names.range::<[u8], _>((start, Bound::Unbounded)))
            .map(|(name, entry)| (&name[..], *entry))
    }

    /// Directories whose subtrees are being removed.
    pub(crate) fn orphans(&self) -> impl Iterator<Item = FileId> {
        self.orphans.iter().copied()
    }

    /// Files that their stores do not have yet.
    pub(crate) fn unsaved(&self) -> impl Iterator<Item = FileId> {
        self.unsaved.iter().copied()
    }

    /// Mount and key of each of them.
    pub(crate) fn unsaved_keys(&self) -> impl Iterator<Item = (u32, String)> {
        let key = |id: &FileId| self.inodes.get(id).map(|inode| (inode.mount_id, inode.store_key.clone()));
        self.unsaved.iter().filter_map(key)
    }

    /// Whether a directory has such a file, as far as that lives here.
    pub(super) fn has_unsaved_in(&self, directory: FileId) -> bool {
        let lies = |id: &FileId| self.inodes.get(id).is_some_and(|inode| inode.parent == directory.0);
        self.unsaved.iter().any(lies)
    }

    /// Directories that were moved, with their old and new keys: what lies below them has not all got its new keys.
    pub(crate) fn moving(&self) -> impl Iterator<Item = (FileId, &str, &str)> {
        self.moving.iter().map(|(id, (old, new))| (*id, old.as_str(), new.as_str()))
    }

    /// The mount table; empty in every partition but the first.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = &MountRecord> {
        self.mounts.values()
    }

    /// The jobs; none in every partition but the first.
    pub(crate) fn jobs(&self) -> &JobTable {
        &self.jobs
    }

    /// The policies of paths; none in every partition but the first.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &PolicyRecord> {
        self.policies.values()
    }

    /// The id that the next new inode here will get.
    #[must_use]
    pub(crate) fn next_id(&self) -> FileId {
        FileId::new(self.id, self.incarnation, self.next_file)
    }

    /// The counter behind an id of this partition and incarnation.
    pub(super) fn counter_of(&self, id: FileId) -> Option<u64> {
        let counter = id.0 & ((1 << 40) - 1);
        (FileId::new(self.id, self.incarnation, counter) == id).then_some(counter)
    }

    pub(super) fn draw_file(&mut self) -> FileId {
        let id = self.next_id();
        self.next_file += 1;
        self.dirty.head = true;
        id
    }

    pub(super) fn draw_version(&mut self) -> Version {
        let version = Version::new(self.incarnation, self.next_version);
        self.next_version += 1;
        self.dirty.head = true;
        version
    }

    pub(super) fn mark_head(&mut self) {
        self.dirty.head = true;
    }

    pub(super) fn put_inode(&mut self, id: FileId, inode: Inode) {
        self.dirty.inodes.insert(id);
        self.note_unsaved(id, &inode);
        self.inodes.insert(id, inode);
    }

    fn note_unsaved(&mut self, id: FileId, inode: &Inode) {
        if inode.unsaved {
            self.unsaved.insert(id);
        }
    }

    /// It is in the store now.
    pub(super) fn set_saved(&mut self, id: FileId) {
        self.unsaved.remove(&id);
    }

    pub(super) fn inode_mut(&mut self, id: FileId) -> Option<&mut Inode> {
        let inode = self.inodes.get_mut(&id)?;
        self.dirty.inodes.insert(id);
        Some(inode)
    }

    pub(super) fn remove_inode(&mut self, id: FileId) {
        if self.inodes.remove(&id).is_some() {
            self.dirty.inodes.insert(id);
        }
        self.unsaved.remove(&id);
        if self.moving.remove(&id).is_some() {
            self.dirty.head = true;
        }
        self.entries.remove(&id);
    }

    pub(super) fn put_entry(&mut self, directory: FileId, name: &[u8], entry: Dentry) {
        self.dirty.entries.insert((directory, name.into()));
        self.entries.entry(directory).or_default().insert(name.into(), entry);
    }

    pub(super) fn remove_entry(&mut self, directory: FileId, name: &[u8]) {
        let Some(names) = self.entries.get_mut(&directory) else { return };
        if names.remove(name).is_some() {
            self.dirty.entries.insert((directory, name.into()));
        }
        if names.is_empty() {
            self.entries.remove(&directory);
        }
    }

    /// No name leads to this directory any more: an empty one goes at once, others wait for `Reap`.
    pub(super) fn detach(&mut self, id: FileId) {
        if self.entry_count(id) == 0 {
            self.remove_inode(id);
        } else if let Some(inode) = self.inode_mut(id) {
            inode.detached = true;
            self.orphans.insert(id);
            self.dirty.head = true;
        }
    }

    /// A detached directory lost names; the last one takes it along.
    pub(super) fn finish_reap(&mut self, id: FileId) {
        if self.entry_count(id) == 0 {
            self.remove_inode(id);
            self.orphans.remove(&id);
            self.dirty.head = true;
        }
    }

    pub(super) fn is_orphan(&self, id: FileId) -> bool {
        self.orphans.contains(&id)
    }

    fn head(&self) -> Head {
        Head {
            next_file: self.next_file,
            next_version: self.next_version,
            next_mount: self.next_mount,
            boot: self.boot,
            orphans: self.orphans.iter().map(|id| id.0).collect(),
            mounts: self.mounts.values().cloned().collect(),
            policies: self.policies.values().cloned().collect(),
            moving: self.moving.iter().map(|(id, (old, new))| (id.0, old.clone(), new.clone())).collect(),
        }
    }

    /// The rows that changed since the last call.
    pub(crate) fn take_dirty(&mut self) -> Vec<DirtyRow> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut rows = Vec::with_capacity(dirty.inodes.len() + dirty.entries.len() + 1);
        if dirty.head {
            rows.push((vec![HEAD, self.id.0], Some(self.head().to_bytes().to_vec())));
        }
        for id in dirty.inodes {
            let mut key = vec![INODE, self.id.0];
            key.extend_from_slice(&id.0.to_be_bytes());
            rows.push((key, self.inodes.get(&id).map(|inode| inode.to_bytes().to_vec())));
        }
        for (directory, name) in dirty.entries {
            let mut key = vec![ENTRY, self.id.0];
            key.extend_from_slice(&directory.0.to_be_bytes());
            key.extend_from_slice(&name);
            let value = self.entry(directory, &name).map(|entry| {
                let mut value = entry.file_id.0.to_le_bytes().to_vec();
                value.push(entry.kind);
                value
            });
            rows.push((key, value));
        }
        rows.extend(self.jobs.take_dirty(self.id.0));
        rows
    }

    /// Puts one row back at start. `partitions` are empty ones of the right number.
    pub(crate) fn restore_row(partitions: &mut [Partition], key: &[u8], value: &[u8]) -> Result<(), RowError> {
        let wrong = |reason: String| {
            let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
            RowError { key, reason }
        };
        let [kind, home, rest @ ..] = key else { return Err(wrong("the key is too short".into())) };
        let partition =
            partitions.get_mut(usize::from(*home)).ok_or_else(|| wrong(format!("there is no partition {home}")))?;
        let id = || -> Result<FileId, RowError> {
            let bytes = rest.first_chunk::<8>().ok_or_else(|| wrong("the key is too short".into()))?;
            Ok(FileId(u64::from_be_bytes(*bytes)))
        };
        match *kind {
            HEAD => {
                let head = Head::from_bytes(value).map_err(|error| wrong(error.to_string()))?;
                partition.next_file = head.next_file;
                partition.next_version = head.next_version;
                partition.next_mount = head.next_mount;
                partition.boot = head.boot;
                partition.orphans = head.orphans.into_iter().map(FileId).collect();
                partition.moving = head.moving.into_iter().map(|(id, old, new)| (FileId(id), (old, new))).collect();
                partition.policies = head.policies.into_iter().map(|policy| (policy.path.clone(), policy)).collect();
                partition.mounts = head.mounts.into_iter().map(|mount| (mount.mount_id, mount)).collect();
            }
            INODE => {
                let inode = Inode::from_bytes(value).map_err(|error| wrong(error.to_string()))?;
                let id = id()?;
                partition.note_unsaved(id, &inode);
                partition.inodes.insert(id, inode);
            }
            ENTRY => {
                let (Some(bytes), Some(kind)) = (value.first_chunk::<8>(), value.get(8)) else {
                    return Err(wrong("the value is too short".into()));
                };
                let entry = Dentry { file_id: FileId(u64::from_le_bytes(*bytes)), kind: *kind };
                partition.entries.entry(id()?).or_default().insert(rest[8..].into(), entry);
            }
            JOB | FAILURE => partition.jobs.restore_row(*kind, rest, value).map_err(wrong)?,
            other => return Err(wrong(format!("unknown kind {other}"))),
        }
        Ok(())
    }

    /// After the last `restore_row`: what is in RocksDB is not dirty.
    pub(crate) fn restored(&mut self) {
        self.dirty = Dirty::default();
        self.jobs.restored();
    }
}
