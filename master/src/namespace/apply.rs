//! Applies one command to the partitions it names: checks everything first, then changes. Pure, deterministic.
//!
//! Invariant: only partitions in `Command::partitions` are looked at, although a core may hold others; what would need
//! another one is `Retry` on every replica alike.

use super::change;
use super::command::{Event, TABLE};
use super::job::JobTable;
use super::{
    Command, Dentry, Inode, MountRecord, Outcome, Partition, Partitions, PolicyRecord, Reap, Removal, Step,
    SyncDirectory, Upsert,
};
use forebay_base::{ErrorKind, FileId, KindError, PartitionId, placement::partition_of_new_directory};
use forebay_net::message::namespace::{KIND_DIRECTORY, KIND_FILE};

/// Why nothing changed.
pub(super) enum Refusal {
    Retry,
    Refused(ErrorKind, String),
}

/// The partitions a command named.
pub(super) struct Touched<'a> {
    all: &'a mut Partitions,
    named: &'a [u8],
}

impl Touched<'_> {
    pub(super) fn get(&self, id: PartitionId) -> Result<&Partition, Refusal> {
        if !self.named.contains(&id.0) {
            return Err(Refusal::Retry);
        }
        self.all.get(&id.0).map(|partition| &**partition).ok_or(Refusal::Retry)
    }

    pub(super) fn home(&self, id: FileId) -> Result<&Partition, Refusal> {
        self.get(id.partition())
    }

    /// For the second half of a command, when `home` has said yes.
    pub(super) fn change(&mut self, id: PartitionId) -> &mut Partition {
        self.all.get_mut(&id.0).expect("the check before found it")
    }

    pub(super) fn change_home(&mut self, id: FileId) -> &mut Partition {
        self.change(id.partition())
    }

    /// A directory that a name leads to.
    pub(super) fn directory(&self, id: FileId) -> Result<&Inode, Refusal> {
        match self.home(id)?.inode(id) {
            Some(inode) if inode.is_directory() && !inode.detached => Ok(inode),
            _ => Err(Refusal::Refused(ErrorKind::NotFound, format!("directory {id} does not exist any more"))),
        }
    }

    pub(super) fn expect(&self, directory: FileId, name: &[u8], expected: u64) -> Result<(), Refusal> {
        let found = self.home(directory)?.entry(directory, name).map_or(0, |entry| entry.file_id.0);
        if found == expected { Ok(()) } else { Err(Refusal::Retry) }
    }

    /// Removes a name and what it leads to.
    pub(super) fn remove(&mut self, directory: FileId, name: &[u8], events: &mut Vec<Event>) {
        let Some(entry) = self.change_home(directory).entry(directory, name) else { return };
        self.change_home(directory).remove_entry(directory, name);
        let home = self.change_home(entry.file_id);
        if entry.kind == KIND_DIRECTORY {
            home.detach(entry.file_id);
        } else {
            home.remove_inode(entry.file_id);
            events.push((entry.file_id.0, 0));
        }
    }
}

/// Applies `command`. `partitions` holds at least those that it names; `count` is how many there are in all.
pub(crate) fn apply(partitions: &mut Partitions, count: u16, command: &Command) -> Outcome {
    let named = command.partitions(count);
    let mut touched = Touched { all: partitions, named: &named };
    let result = match command {
        Command::Boot => boot(&mut touched),
        Command::AddMount { mount, steps, root } => add_mount(&mut touched, mount, steps, root),
        Command::RemoveMount { mount_id, chain } => remove_mount(&mut touched, *mount_id, chain),
        Command::SyncDirectory(sync) => sync_directory(&mut touched, count, sync),
        Command::Reap(reap_part) => reap(&mut touched, reap_part),
        Command::PutJob { spec, submitted_by, now_ms } => jobs(&mut touched, |jobs| {
            let (id, joined) = jobs.put(spec, submitted_by, *now_ms)?;
            Ok(Outcome::Job { id, joined })
        }),
        Command::JobProgress(step) => jobs(&mut touched, |jobs| jobs.step(step).map(|()| NOTHING_DIED)),
        Command::EndJob { step, state, now_ms } => {
            jobs(&mut touched, |jobs| jobs.end(step, *state, *now_ms).map(|()| NOTHING_DIED))
        }
        Command::UpdateMount(mount) => update_mount(&mut touched, mount),
        Command::SetPolicy(policy) => set_policy(&mut touched, policy),
        Command::RemovePolicy { path } => remove_policy(&mut touched, path),
        Command::CreateFile(new) => change::create_file(&mut touched, new),
        Command::DropUnsaved(removal) => change::drop_unsaved(&mut touched, removal),
        Command::Move(moved) => change::move_name(&mut touched, moved),
        Command::SetKeys(keys) => change::set_keys(&mut touched, keys),
        Command::KeysSet { directory } => change::keys_set(&mut touched, FileId(*directory)),
        Command::SetAttributes(new) => change::set_attributes(&mut touched, new),
    };
    match result {
        Ok(outcome) => outcome,
        Err(Refusal::Retry) => Outcome::Retry,
        Err(Refusal::Refused(kind, message)) => Outcome::Refused { code: kind.code(), message },
    }
}

const NOTHING_DIED: Outcome = Outcome::Done { events: Vec::new() };

fn jobs(
    touched: &mut Touched<'_>,
    change: impl FnOnce(&mut JobTable) -> Result<Outcome, KindError>,
) -> Result<Outcome, Refusal> {
    touched.get(TABLE)?;
    change(&mut touched.change(TABLE).jobs).map_err(|error| Refusal::Refused(error.kind, error.message))
}

fn boot(touched: &mut Touched<'_>) -> Result<Outcome, Refusal> {
    touched.get(TABLE)?;
    let table = touched.change(TABLE);
    table.boot += 1;
    table.mark_head();
    Ok(Outcome::Booted { boot: table.boot })
}

/// Whether `path` is `above` or lies under it.
#[must_use]
pub(crate) fn lies_in(path: &str, above: &str) -> bool {
    path == above || above == "/" || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// Why `path` cannot be mounted beside `others`.
pub(crate) fn mount_conflict<'a>(
    path: &str,
    others: impl Iterator<Item = &'a MountRecord>,
) -> Option<(ErrorKind, String)> {
    for other in others {
        if other.path == path {
            return Some((ErrorKind::Exists, format!("mount path {path}: {} is mounted there already", other.uri)));
        }
        if lies_in(path, &other.path) {
            return Some((ErrorKind::Invalid, format!("mount path {path}: lies inside the mount {}", other.path)));
        }
        if lies_in(&other.path, path) {
            return Some((ErrorKind::Invalid, format!("mount path {path}: lies above the mount {}", other.path)));
        }
    }
    None
}

fn add_mount(
    touched: &mut Touched<'_>,
    mount: &MountRecord,
    steps: &[Step],
    root: &Upsert,
) -> Result<Outcome, Refusal> {
    if let Some((kind, message)) = mount_conflict(&mount.path, touched.get(TABLE)?.mounts()) {
        return Err(Refusal::Refused(kind, message));
    }
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
        return Err(Refusal::Refused(ErrorKind::Exists, format!("mount path {}: it exists already", mount.path)));
    };
    let above = FileId(first.parent);
    if touched.directory(above)?.mount_id != 0 {
        return Err(Refusal::Retry);
    }
    touched.expect(above, &first.name, 0)?;
    for (index, step) in steps.iter().enumerate() {
        let home = touched.home(FileId(step.id))?;
        let drawn_before = home.counter_of(FileId(step.id)).is_none_or(|counter| counter < home.next_file);
        let twice = steps[..index].iter().any(|other| other.id == step.id);
        if drawn_before || twice || (index > 0 && step.parent != steps[index - 1].id) {
            return Err(Refusal::Retry);
        }
    }
    let table = touched.change(TABLE);
    let record = MountRecord { mount_id: table.next_mount, root: last.id, ..mount.clone() };
    table.next_mount += 1;
    table.mounts.insert(record.mount_id, record.clone());
    table.mark_head();
    let owner = touched.directory(above).map(|inode| (inode.uid, inode.gid))?;
    for step in steps {
        let id = FileId(step.id);
        let is_root = step.id == last.id;
        let home = touched.change_home(id);
        let counter = home.counter_of(id).expect("checked above");
        home.next_file = home.next_file.max(counter + 1);
        home.mark_head();
        home.put_inode(
            id,
            Inode {
                parent: step.parent,
                mount_id: if is_root { record.mount_id } else { 0 },
                kind: KIND_DIRECTORY,
                listed: !is_root,
                detached: false,
                unsaved: false,
                own_mtime: false,
                version: 0,
                size: if is_root { root.size } else { 0 },
                mtime_ms: root.mtime_ms,
                mode: if is_root { root.mode } else { 0o755 },
                uid: if is_root { root.uid } else { owner.0 },
                gid: if is_root { root.gid } else { owner.1 },
                store_key: String::new(),
                fingerprint: String::new(),
            },
        );
        let entry = Dentry { file_id: id, kind: KIND_DIRECTORY };
        touched.change_home(FileId(step.parent)).put_entry(FileId(step.parent), &step.name, entry);
    }
    Ok(Outcome::Mounted(record))
}

fn remove_mount(touched: &mut Touched<'_>, mount_id: u32, chain: &[Removal]) -> Result<Outcome, Refusal> {
    let Some(record) = touched.get(TABLE)?.mounts.get(&mount_id) else {
        return Err(Refusal::Refused(ErrorKind::NotFound, format!("mount {mount_id} does not exist")));
    };
    if chain.first().is_none_or(|removal| removal.expected != record.root) {
        return Err(Refusal::Retry);
    }
    for (index, removal) in chain.iter().enumerate() {
        touched.expect(FileId(removal.parent), &removal.name, removal.expected)?;
        if index > 0 {
            let id = FileId(removal.expected);
            let emptied = chain[index - 1].parent == id.0 && touched.home(id)?.entry_count(id) == 1;
            if !emptied || id == FileId::ROOT || touched.directory(id)?.mount_id != 0 {
                return Err(Refusal::Retry);
            }
        }
        touched.home(FileId(removal.expected))?;
    }
    let table = touched.change(TABLE);
    table.mounts.remove(&mount_id);
    table.mark_head();
    let mut events = Vec::new();
    for removal in chain {
        touched.remove(FileId(removal.parent), &removal.name, &mut events);
    }
    Ok(Outcome::Done { events })
}

fn update_mount(touched: &mut Touched<'_>, mount: &MountRecord) -> Result<Outcome, Refusal> {
    let gone = || Refusal::Refused(ErrorKind::NotFound, format!("mount {} does not exist", mount.path));
    let known = touched.get(TABLE)?.mounts.get(&mount.mount_id).ok_or_else(gone)?;
    if known.path != mount.path || known.generation.checked_add(1) != Some(mount.generation) {
        return Err(Refusal::Retry);
    }
    let record = MountRecord { root: known.root, uri: known.uri.clone(), ..mount.clone() };
    let table = touched.change(TABLE);
    table.mounts.insert(record.mount_id, record.clone());
    table.mark_head();
    Ok(Outcome::Mounted(record))
}

fn set_policy(touched: &mut Touched<'_>, policy: &PolicyRecord) -> Result<Outcome, Refusal> {
    touched.get(TABLE)?;
    let table = touched.change(TABLE);
    table.policies.insert(policy.path.clone(), policy.clone());
    table.mark_head();
    Ok(Outcome::Done { events: Vec::new() })
}

fn remove_policy(touched: &mut Touched<'_>, path: &str) -> Result<Outcome, Refusal> {
    if !touched.get(TABLE)?.policies.contains_key(path) {
        return Err(Refusal::Refused(ErrorKind::NotFound, format!("{path}: no policy is set there")));
    }
    let table = touched.change(TABLE);
    table.policies.remove(path);
    table.mark_head();
    Ok(Outcome::Done { events: Vec::new() })
}

fn sync_directory(touched: &mut Touched<'_>, count: u16, sync: &SyncDirectory) -> Result<Outcome, Refusal> {
    let directory = FileId(sync.directory);
    touched.directory(directory)?;
    for upsert in &sync.upserts {
        touched.expect(directory, &upsert.name, upsert.expected)?;
        if upsert.expected != 0 {
            touched.home(FileId(upsert.expected))?;
        }
        if upsert.kind == KIND_DIRECTORY {
            touched.get(partition_of_new_directory(directory, &upsert.name, count))?;
        }
    }
    for removal in &sync.removals {
        if removal.parent != sync.directory {
            return Err(Refusal::Retry);
        }
        touched.expect(directory, &removal.name, removal.expected)?;
        let id = FileId(removal.expected);
        let home = touched.home(id)?;
        if home.inode(id).is_some_and(|inode| inode.unsaved) || home.has_unsaved_in(id) {
            // It, or a file in it, was created since the store was asked.
            return Err(Refusal::Retry);
        }
    }
    let mut events = Vec::new();
    for upsert in &sync.upserts {
        sync_name(touched, count, directory, upsert, &mut events);
    }
    for removal in &sync.removals {
        touched.remove(directory, &removal.name, &mut events);
    }
    if sync.complete && touched.directory(directory).is_ok_and(|inode| !inode.listed) {
        let inode = touched.change_home(directory).inode_mut(directory).expect("checked above");
        inode.listed = true;
    }
    Ok(Outcome::Done { events })
}

fn sync_name(touched: &mut Touched<'_>, count: u16, directory: FileId, upsert: &Upsert, events: &mut Vec<Event>) {
    let current = touched.change_home(directory).entry(directory, &upsert.name);
    if let Some(entry) = current.filter(|entry| entry.kind == upsert.kind) {
        let home = touched.change_home(entry.file_id);
        // What was never saved is empty in its version, whatever it replaces in the store.
        let changed =
            home.inode(entry.file_id).is_some_and(|inode| inode.unsaved || inode.fingerprint != upsert.fingerprint);
        let version = if changed && upsert.kind == KIND_FILE { home.draw_version().0 } else { 0 };
        home.set_saved(entry.file_id);
        let Some(inode) = home.inode_mut(entry.file_id) else { return };
        inode.size = upsert.size;
        if changed || !inode.own_mtime {
            (inode.mtime_ms, inode.own_mtime) = (upsert.mtime_ms, false);
        }
        if upsert.has_attributes {
            (inode.mode, inode.uid, inode.gid) = (upsert.mode, upsert.uid, upsert.gid);
        }
        inode.unsaved = false;
        if version != 0 {
            inode.version = version;
            inode.fingerprint.clone_from(&upsert.fingerprint);
            events.push((entry.file_id.0, version));
        }
        return;
    }
    touched.remove(directory, &upsert.name, events);
    let (mount_id, store_key) = {
        let parent = touched.change_home(directory).inode(directory).expect("checked above");
        // A store's names are text; what is not has no key and is never proposed.
        let Some(key) = parent.child_key(&upsert.name) else { return };
        (parent.mount_id, key)
    };
    let is_directory = upsert.kind == KIND_DIRECTORY;
    let home = touched.change(if is_directory {
        partition_of_new_directory(directory, &upsert.name, count)
    } else {
        directory.partition()
    });
    let id = home.draw_file();
    let version = if is_directory { 0 } else { home.draw_version().0 };
    home.put_inode(
        id,
        Inode {
            parent: directory.0,
            mount_id,
            kind: upsert.kind,
            listed: is_directory && upsert.is_empty,
            detached: false,
            unsaved: false,
            own_mtime: false,
            version,
            size: upsert.size,
            mtime_ms: upsert.mtime_ms,
            mode: upsert.mode,
            uid: upsert.uid,
            gid: upsert.gid,
            store_key,
            fingerprint: if is_directory { String::new() } else { upsert.fingerprint.clone() },
        },
    );
    touched.change_home(directory).put_entry(directory, &upsert.name, Dentry { file_id: id, kind: upsert.kind });
}

fn reap(touched: &mut Touched<'_>, part: &Reap) -> Result<Outcome, Refusal> {
    let directory = FileId(part.directory);
    if !touched.home(directory)?.is_orphan(directory) {
        return Err(Refusal::Retry);
    }
    for child in &part.children {
        if child.parent != part.directory {
            return Err(Refusal::Retry);
        }
        touched.expect(directory, &child.name, child.expected)?;
        touched.home(FileId(child.expected))?;
    }
    let mut events = Vec::new();
    for child in &part.children {
        touched.remove(directory, &child.name, &mut events);
    }
    touched.change_home(directory).finish_reap(directory);
    if !part.tell {
        events.clear();
    }
    Ok(Outcome::Done { events })
}
