//! The namespace against a map of paths, the cores against a plain sequential run, and cuts against both.

use super::*;
use crate::cores::Cores;
use crate::feed::Feed;
use forebay_base::{FileId, Incarnation, PartitionId, placement::partition_of_new_directory};
use forebay_net::message::namespace::{KIND_DIRECTORY, KIND_FILE};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

const COUNT: u16 = 7;

fn fresh() -> Vec<Partition> {
    (0..COUNT).map(|id| Partition::new(PartitionId(id as u8), Incarnation(1), COUNT, (0, 0))).collect()
}

fn boxed(partitions: Vec<Partition>) -> Partitions {
    partitions.into_iter().map(|partition| (partition.id().0, Box::new(partition))).collect()
}

#[derive(Clone, Debug)]
enum Act {
    Mount(u8),
    Unmount(u8),
    Upsert { place: u8, name: u8, directory: bool, content: u8 },
    Remove(u8),
    Create { place: u8, name: u8 },
    Move { from: u8, to: u8, name: u8 },
    Attributes(u8, u32),
    Stale(u8),
    Reap,
    Boot,
    UpdateMount(u8),
    SetPolicy(u8, u8),
    RemovePolicy(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0u8..4).prop_map(Act::Mount),
        1 => (0u8..4).prop_map(Act::Unmount),
        12 => (any::<u8>(), 0u8..6, prop::bool::weighted(0.3), 0u8..3)
            .prop_map(|(place, name, directory, content)| Act::Upsert { place, name, directory, content }),
        4 => any::<u8>().prop_map(Act::Remove),
        4 => (any::<u8>(), 0u8..6).prop_map(|(place, name)| Act::Create { place, name }),
        4 => (any::<u8>(), any::<u8>(), 0u8..6).prop_map(|(from, to, name)| Act::Move { from, to, name }),
        1 => (any::<u8>(), 0u32..0o1000).prop_map(|(place, mode)| Act::Attributes(place, mode)),
        1 => any::<u8>().prop_map(Act::Stale),
        1 => Just(Act::Reap),
        1 => Just(Act::Boot),
        1 => (0u8..4).prop_map(Act::UpdateMount),
        1 => (0u8..3, any::<u8>()).prop_map(|(path, value)| Act::SetPolicy(path, value)),
        1 => (0u8..3).prop_map(Act::RemovePolicy),
    ]
}

/// Path -> (kind, content); directories have content 0. Mount `n` is at `/m/n`.
type Model = BTreeMap<String, (u8, u8)>;

/// The content of a file that its store does not have yet.
const UNSAVED: u8 = 9;

struct World {
    partitions: Partitions,
    model: Model,
    log: Vec<Command>,
    outcomes: Vec<Outcome>,
}

impl World {
    fn entry(&self, directory: FileId, name: &str) -> Option<Dentry> {
        self.partitions[&directory.partition().0].entry(directory, name.as_bytes())
    }

    fn resolve(&self, path: &str) -> Option<FileId> {
        path.split('/')
            .filter(|name| !name.is_empty())
            .try_fold(FileId::ROOT, |at, name| Some(self.entry(at, name)?.file_id))
    }

    fn run(&mut self, command: Command) -> Outcome {
        let outcome = apply(&mut self.partitions, COUNT, &command);
        self.log.push(command);
        self.outcomes.push(outcome.clone());
        outcome
    }

    fn mount_command(&self, number: u8) -> Command {
        let mount = MountRecord {
            mount_id: 0,
            path: format!("/m/{number}"),
            root: 0,
            uri: format!("file:///{number}"),
            options: vec![],
            freshness_ms: 0,
            readonly: true,
            generation: 0,
        };
        let mut steps: Vec<Step> = Vec::new();
        let mut parent = FileId::ROOT;
        for name in ["m".to_string(), number.to_string()] {
            if let Some(entry) = steps.is_empty().then(|| self.entry(parent, &name)).flatten() {
                parent = entry.file_id;
                continue;
            }
            let home = partition_of_new_directory(parent, name.as_bytes(), COUNT);
            let next = self.partitions[&home.0].next_id();
            let drawn = steps.iter().filter(|step| FileId(step.id).partition() == home).count() as u64;
            steps.push(Step { parent: parent.0, name: name.into_bytes(), id: next.0 + drawn });
            parent = FileId(next.0 + drawn);
        }
        Command::AddMount { mount, steps, root: upsert("", 0, true, 0) }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Boot => drop(self.run(Command::Boot)),
            Act::UpdateMount(number) => {
                let path = format!("/m/{number}");
                let known = self.partitions[&0].mounts().find(|mount| mount.path == path).cloned();
                let Some(known) = known else { return };
                let next = MountRecord { readonly: !known.readonly, generation: known.generation + 1, ..known };
                let outcome = self.run(Command::UpdateMount(next.clone()));
                assert_eq!(outcome, Outcome::Mounted(next.clone()));
                // The same change again was meant for the mount as it was before.
                assert_eq!(self.run(Command::UpdateMount(next)), Outcome::Retry);
            }
            Act::SetPolicy(path, value) => {
                let record = PolicyRecord {
                    path: format!("/m/0/{path}"),
                    freshness_ms: Some(u64::from(*value)),
                    pin: value % 2 == 0,
                };
                assert!(matches!(self.run(Command::SetPolicy(record.clone())), Outcome::Done { .. }));
                assert!(self.partitions[&0].policies().any(|policy| *policy == record));
            }
            Act::RemovePolicy(path) => {
                let path = format!("/m/0/{path}");
                let known = self.partitions[&0].policies().any(|policy| policy.path == path);
                let outcome = self.run(Command::RemovePolicy { path });
                assert_eq!(matches!(outcome, Outcome::Done { .. }), known, "{outcome:?}");
            }
            Act::Mount(number) => {
                let exists = self.model.contains_key(&format!("/m/{number}"));
                let outcome = self.run(self.mount_command(*number));
                assert_eq!(matches!(outcome, Outcome::Mounted(_)), !exists, "{outcome:?}");
                self.model.insert("/m".into(), (KIND_DIRECTORY, 0));
                self.model.insert(format!("/m/{number}"), (KIND_DIRECTORY, 0));
            }
            Act::Unmount(number) => {
                let path = format!("/m/{number}");
                let (Some(above), Some(root)) = (self.resolve("/m"), self.resolve(&path)) else { return };
                let mount_id = self.partitions[&root.partition().0].inode(root).unwrap().mount_id;
                let removal = |parent: FileId, name: &str, id: FileId| Removal {
                    parent: parent.0,
                    name: name.as_bytes().to_vec(),
                    expected: id.0,
                };
                let mut chain = vec![removal(above, &number.to_string(), root)];
                self.model.retain(|other, _| !lies_in(other, &path));
                if self.model.len() == 1 {
                    chain.push(removal(FileId::ROOT, "m", above));
                    self.model.clear();
                }
                let outcome = self.run(Command::RemoveMount { mount_id, chain });
                assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
            }
            Act::Upsert { place, name, directory, content } => {
                let Some(at) = self.pick(*place, |path, kind| kind == KIND_DIRECTORY && path != "/m") else { return };
                let (id, name) = (self.resolve(&at).unwrap(), format!("n{name}"));
                let before = self.entry(id, &name);
                let expected = before.map_or(0, |entry| entry.file_id.0);
                let change = upsert(&name, expected, *directory, *content);
                let path = format!("{at}/{name}");
                let outcome = self.run(sync(id, vec![change.clone()], vec![]));
                let Outcome::Done { events } = outcome else { panic!("{outcome:?}") };
                let now = self.entry(id, &name).unwrap();
                match self.model.get(&path) {
                    Some((kind, old)) if *kind == change.kind => {
                        assert_eq!(now.file_id.0, expected, "the same file keeps its id");
                        // One that was never saved has the content of another version.
                        assert_eq!(events.len(), usize::from(*kind == KIND_FILE && old != content));
                    }
                    _ => assert_ne!(now.file_id.0, expected, "another kind is another file"),
                }
                if !directory || self.model.get(&path).is_some_and(|(kind, _)| *kind == KIND_FILE) {
                    self.model.retain(|other, _| !lies_in(other, &path));
                }
                self.model.insert(path, (change.kind, if *directory { 0 } else { *content }));
            }
            Act::Remove(place) => {
                let Some(path) = self.pick(*place, |path, _| path.matches('/').count() > 2) else { return };
                if self.has_unsaved_in(&path) {
                    return;
                }
                let (at, name) = path.rsplit_once('/').unwrap();
                let (id, child) = (self.resolve(at).unwrap(), self.resolve(&path).unwrap());
                let removal = Removal { parent: id.0, name: name.as_bytes().to_vec(), expected: child.0 };
                let outcome = self.run(sync(id, vec![], vec![removal.clone()]));
                if self.model[&path].1 == UNSAVED {
                    assert_eq!(outcome, Outcome::Retry, "a store cannot lack what it never had");
                    assert!(matches!(self.run(Command::DropUnsaved(removal)), Outcome::Done { .. }));
                } else {
                    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
                    assert_eq!(self.run(Command::DropUnsaved(removal)), Outcome::Retry);
                }
                self.model.retain(|other, _| !lies_in(other, &path));
            }
            Act::Create { place, name } => {
                let Some(at) = self.pick(*place, |path, kind| kind == KIND_DIRECTORY && path != "/m") else { return };
                let (directory, name) = (self.resolve(&at).unwrap().0, format!("n{name}"));
                let path = format!("{at}/{name}");
                let (mode, now_ms) = (0o600, 5);
                let new = NewFile { directory, name: name.into_bytes(), mode, uid: 1, gid: 2, now_ms };
                let outcome = self.run(Command::CreateFile(new));
                match self.model.entry(path) {
                    Entry::Occupied(_) => assert_eq!(outcome, Outcome::Retry),
                    Entry::Vacant(free) => {
                        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
                        free.insert((KIND_FILE, UNSAVED));
                    }
                }
            }
            Act::Move { from, to, name } => self.move_name(*from, *to, *name),
            Act::Attributes(place, mode) => {
                let Some(path) = self.pick(*place, |_, _| true) else { return };
                let id = self.resolve(&path).unwrap();
                let new =
                    NewAttributes { file_id: id.0, mode: Some(*mode), uid: None, gid: Some(7), mtime_ms: Some(9) };
                assert!(matches!(self.run(Command::SetAttributes(new)), Outcome::Done { .. }));
                let inode = self.partitions[&id.partition().0].inode(id).unwrap();
                assert_eq!((inode.mode, inode.gid, inode.mtime_ms, inode.own_mtime), (*mode, 7, 9, true));
            }
            Act::Stale(place) => {
                let Some(at) = self.pick(*place, |path, kind| kind == KIND_DIRECTORY && path != "/m") else { return };
                let id = self.resolve(&at).unwrap();
                let fine = upsert("zz", 0, true, 0);
                let command = sync(id, vec![fine, upsert("n0", 0xdead, false, 1)], vec![]);
                assert_eq!(self.run(command), Outcome::Retry);
                assert_eq!(self.entry(id, "zz"), None, "a refused command changed something");
            }
            Act::Reap => self.reap(),
        }
    }

    /// Whether a directory has a file that its store does not have: what the store says of it does not remove that.
    fn has_unsaved_in(&self, above: &str) -> bool {
        let lies = |path: &str| path.strip_prefix(above).is_some_and(|rest| rest.rfind('/') == Some(0));
        self.model.iter().any(|(path, (_, content))| *content == UNSAVED && lies(path))
    }

    fn move_name(&mut self, from: u8, to: u8, name: u8) {
        let Some(old) = self.pick(from, |path, _| path.matches('/').count() > 2) else { return };
        let Some(at) = self.pick(to, |path, kind| kind == KIND_DIRECTORY && path != "/m") else { return };
        let (above, old_name) = old.rsplit_once('/').unwrap();
        let new = format!("{at}/n{name}");
        let (parent, id) = (self.resolve(above).unwrap(), self.resolve(&old).unwrap());
        let directory = self.resolve(&at).unwrap();
        let replaced = self.resolve(&new).map_or(0, |id| id.0);
        let (kind, content) = self.model[&old];
        let moved = Move {
            from: Removal { parent: parent.0, name: old_name.as_bytes().to_vec(), expected: id.0 },
            directory: directory.0,
            name: format!("n{name}").into_bytes(),
            replaced,
            fingerprint: if kind == KIND_FILE { content.to_string() } else { String::new() },
            same_content: true,
        };
        let same_mount = old.split('/').nth(2) == at.split('/').nth(2);
        // What lies inside of what is moved, or the other way round, is refused before it is proposed.
        if lies_in(&at, &old) || lies_in(&old, &new) || self.has_unsaved_in(&new) {
            return;
        }
        let is_other_kind = self.model.get(&new).is_some_and(|(other, _)| *other != kind);
        let before = self.partitions[&id.partition().0].inode(id).unwrap().version;
        let outcome = self.run(Command::Move(moved));
        if !same_mount || is_other_kind {
            assert_eq!(outcome, Outcome::Retry);
            return;
        }
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        assert_eq!(self.resolve(&new), Some(id), "it keeps its id");
        assert_eq!(self.partitions[&id.partition().0].inode(id).unwrap().version, before);
        self.model.retain(|path, _| !lies_in(path, &new));
        let moved: Vec<(String, (u8, u8))> = self
            .model
            .iter()
            .filter(|(path, _)| lies_in(path, &old))
            .map(|(path, what)| (path.clone(), *what))
            .collect();
        self.model.retain(|path, _| !lies_in(path, &old));
        self.model.extend(moved.into_iter().map(|(path, what)| (path.replacen(&old, &new, 1), what)));
        let (mut keys, mut level) = (Vec::new(), vec![id]);
        while let Some(directory) = level.pop() {
            let home = &self.partitions[&directory.partition().0];
            let above = home.inode(directory).unwrap().store_key.clone();
            for (name, entry) in home.entries_after(directory, &[]) {
                let child = self.partitions[&entry.file_id.partition().0].inode(entry.file_id).unwrap();
                let new = format!("{above}/{}", std::str::from_utf8(name).unwrap());
                keys.push(NewKey { file_id: entry.file_id.0, old: child.store_key.clone(), new });
            }
            self.run(Command::SetKeys(std::mem::take(&mut keys)));
            let home = &self.partitions[&directory.partition().0];
            level.extend(home.entries_after(directory, &[]).map(|(_, entry)| entry.file_id));
        }
    }

    fn reap(&mut self) {
        loop {
            let Some(directory) = self.partitions.values().find_map(|partition| partition.orphans().next()) else {
                return;
            };
            let home = &self.partitions[&directory.partition().0];
            let children = home.entries_after(directory, &[]).take(2).map(|(name, entry)| Removal {
                parent: directory.0,
                name: name.to_vec(),
                expected: entry.file_id.0,
            });
            let part = Reap { directory: directory.0, children: children.collect(), tell: true };
            assert!(matches!(self.run(Command::Reap(part)), Outcome::Done { .. }));
        }
    }

    fn pick(&self, place: u8, fits: impl Fn(&str, u8) -> bool) -> Option<String> {
        let all: Vec<&String> =
            self.model.iter().filter(|(path, (kind, _))| fits(path, *kind)).map(|(path, _)| path).collect();
        (!all.is_empty()).then(|| all[usize::from(place) % all.len()].clone())
    }

    fn walk(&self, directory: FileId, at: &str, found: &mut Model) {
        for (name, entry) in self.partitions[&directory.partition().0].entries_after(directory, &[]) {
            let path = format!("{at}/{}", std::str::from_utf8(name).unwrap());
            let inode = self.partitions[&entry.file_id.partition().0].inode(entry.file_id).unwrap();
            assert_eq!((inode.kind, inode.parent), (entry.kind, directory.0));
            let above = self.partitions[&directory.partition().0].inode(directory).unwrap();
            if above.mount_id != 0 {
                assert_eq!(Some(&inode.store_key), above.child_key(name).as_ref(), "keys follow names");
            }
            let content = if inode.unsaved { UNSAVED } else { inode.fingerprint.parse().unwrap_or(0) };
            assert!(found.insert(path.clone(), (entry.kind, content)).is_none());
            if entry.kind == KIND_DIRECTORY {
                self.walk(entry.file_id, &path, found);
            }
        }
    }
}

fn upsert(name: &str, expected: u64, directory: bool, content: u8) -> Upsert {
    Upsert {
        name: name.as_bytes().to_vec(),
        expected,
        kind: if directory { KIND_DIRECTORY } else { KIND_FILE },
        size: 0,
        mtime_ms: 0,
        mode: 0o644,
        uid: 0,
        gid: 0,
        has_attributes: true,
        is_empty: false,
        fingerprint: if directory { String::new() } else { content.to_string() },
    }
}

fn sync(directory: FileId, upserts: Vec<Upsert>, removals: Vec<Removal>) -> Command {
    Command::SyncDirectory(SyncDirectory { directory: directory.0, upserts, removals, complete: false })
}

fn rows_of(partitions: &mut Partitions) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    partitions.values_mut().flat_map(|partition| partition.take_dirty()).collect()
}

/// Runs the log over cores, a cut after every `each` commands: the outcomes, and the rows of each cut.
fn over_cores(log: &[Command], threads: usize, each: usize) -> (Vec<Outcome>, Vec<Vec<DirtyRow>>) {
    let cores = Cores::start(fresh(), threads, Arc::new(Feed::default())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut outcomes, mut cuts) = (Vec::new(), Vec::new());
    for part in log.chunks(each) {
        let (sender, receiver) = std::sync::mpsc::channel();
        cores.dispatch(Arc::new(part.to_vec()), Box::new(move |done| sender.send(done).unwrap()), || {});
        cuts.push(runtime.block_on(cores.cut(|| ())).unwrap().1);
        outcomes.extend(receiver.recv().unwrap());
    }
    (outcomes, cuts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn same_log_same_state(acts in prop::collection::vec(act(), 1..80), each in 1usize..9, stop in any::<prop::sample::Index>()) {
        let mut world = World { partitions: boxed(fresh()), model: Model::new(), log: vec![], outcomes: vec![] };
        for act in &acts {
            world.act(act);
            let mut found = Model::new();
            world.walk(FileId::ROOT, "", &mut found);
            prop_assert_eq!(&found, &world.model);
        }
        let log = world.log.clone();
        if log.is_empty() {
            return Ok(());
        }
        let all = rows_of(&mut world.partitions);
        for threads in [1, 2, 3, 8] {
            let (outcomes, cuts) = over_cores(&log, threads, each);
            prop_assert_eq!(&outcomes, &world.outcomes);
            let mut merged = BTreeMap::new();
            let kill_after = stop.index(cuts.len());
            for (index, rows) in cuts.into_iter().enumerate() {
                merged.extend(rows);
                if index == kill_after {
                    // A crash behind this cut: what it left, and the log from there, give the same state.
                    let mut restored = fresh();
                    for (key, value) in &merged {
                        if let Some(value) = value {
                            Partition::restore_row(&mut restored, key, value).unwrap();
                        }
                    }
                    let mut restored = boxed(restored);
                    for command in log.iter().skip((index + 1) * each) {
                        apply(&mut restored, COUNT, command);
                    }
                    prop_assert!(restored == world.partitions);
                }
            }
            prop_assert_eq!(&merged, &all);
        }
        // What is detached can always be reaped to the end.
        world.reap();
        let inodes: u64 = world.partitions.values().map(|partition| partition.inode_count()).sum();
        prop_assert_eq!(inodes, world.model.len() as u64 + 1);
    }
}

#[test]
fn damaged_rows_are_errors() {
    let mut partitions = fresh();
    for key in [&b"i"[..], b"i\x63\0\0\0\0\0\0\0\0", b"x\0", b"e\0\0", b"h\0"] {
        assert!(Partition::restore_row(&mut partitions, key, b"junk").is_err(), "{key:?}");
    }
}
