//! Node ids: what the kernel calls an inode is one version of one file here, or the write session of one. Shared by the session's threads.
//!
//! Invariants: a node id stands for one (FileId, Version), or one session, for ever and is never reused; of the nodes of one
//! file's contents only the newest is live, the others are superseded and stay until the kernel forgets them; the root is node 1 and stays.

use crate::handler::NodeAttr;
use crate::wire::ROOT_NODE;
use forebay_base::{FileId, Version};
use forebay_client::message::namespace::{Attr, KIND_DIRECTORY};
use hashbrown::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A node as it is known now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Which file; `st_ino`.
    pub file_id: FileId,
    /// Which content of it; 0 for a directory.
    pub version: Version,
    /// Attributes as last heard.
    pub attr: NodeAttr,
    /// Where the name below was last seen.
    pub parent: u64,
    /// Its last name, for people.
    pub name: Box<[u8]>,
    /// When the master was asked for what is known of it.
    pub asked: Instant,
    /// Until when the attributes may be believed; none means for ever.
    pub valid_until: Option<Instant>,
    /// It is of a write session, whose content changes.
    pub is_session: bool,
    /// A newer version of the file is known, or the session is over.
    pub superseded: bool,
    /// Open handles.
    pub opens: u32,
    lookups: u64,
}

/// The table.
#[derive(Debug)]
pub struct NodeTable(Mutex<State>);

#[derive(Debug)]
struct State {
    nodes: HashMap<u64, Node>,
    live: HashMap<FileId, u64>,
    sessions: HashMap<FileId, u64>,
    next_id: u64,
}

impl Node {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.attr.mode & S_IFMT == S_IFDIR
    }
}

const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
/// Programs that ask `st_blksize` read in pieces of this.
const PREFERRED_IO_BYTES: u32 = 512 << 10;

/// The kernel's view of the master's attributes.
pub(super) fn node_attr(attr: &Attr) -> NodeAttr {
    let directory = attr.kind == KIND_DIRECTORY;
    NodeAttr {
        ino: attr.file_id,
        size: if directory { 4096 } else { attr.size },
        mtime_ms: attr.mtime_ms,
        mode: (attr.mode & 0o7777) | if directory { S_IFDIR } else { S_IFREG },
        nlink: attr.nlink.max(1),
        uid: attr.uid,
        gid: attr.gid,
        preferred_io_bytes: PREFERRED_IO_BYTES,
    }
}

/// When attributes that were asked for at `asked` end; none for never.
pub(super) fn valid_until(attr: &Attr, asked: Instant) -> Option<Instant> {
    match attr.valid_for_ms {
        u64::MAX => None,
        ms => asked.checked_add(Duration::from_millis(ms)),
    }
}

impl Default for NodeTable {
    fn default() -> Self {
        Self::new()
    }
}

impl NodeTable {
    /// A table that knows the root.
    #[must_use]
    pub fn new() -> Self {
        let attr = NodeAttr {
            ino: FileId::ROOT.0,
            size: 4096,
            mtime_ms: 0,
            mode: S_IFDIR | 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            preferred_io_bytes: PREFERRED_IO_BYTES,
        };
        let root = Node {
            file_id: FileId::ROOT,
            version: Version(0),
            attr,
            parent: ROOT_NODE,
            name: Box::default(),
            asked: Instant::now(),
            valid_until: Some(Instant::now()),
            is_session: false,
            superseded: false,
            opens: 0,
            lookups: 1,
        };
        let nodes = HashMap::from([(ROOT_NODE, root)]);
        let live = HashMap::from([(FileId::ROOT, ROOT_NODE)]);
        Self(Mutex::new(State { nodes, live, sessions: HashMap::new(), next_id: ROOT_NODE + 1 }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node of what the master said when asked at `asked`, counted as looked up once. Another version than the live
    /// one gets a node of its own, and the older of the two is superseded.
    pub fn look_up(&self, parent: u64, name: &[u8], attr: &Attr, asked: Instant) -> u64 {
        let (file_id, version) = (FileId(attr.file_id), Version(attr.version));
        let mut state = self.state();
        let state = &mut *state;
        let mut is_old = false;
        if let Some(id) = state.live.get(&file_id)
            && let Some(node) = state.nodes.get_mut(id)
        {
            if node.version == version {
                node.lookups += 1;
                if asked >= node.asked {
                    // The master's word counts, whatever a worker or an earlier answer said.
                    node.superseded = false;
                    node.attr = node_attr(attr);
                    node.valid_until = valid_until(attr, asked);
                    node.asked = asked;
                }
                if *id != ROOT_NODE && (node.parent != parent || *node.name != *name) {
                    (node.parent, node.name) = (parent, name.into());
                }
                return *id;
            }
            is_old = asked < node.asked;
            node.superseded |= !is_old;
        }
        let id = state.next_id;
        state.next_id += 1;
        let node = Node {
            file_id,
            version,
            attr: node_attr(attr),
            parent,
            name: name.into(),
            asked,
            valid_until: valid_until(attr, asked),
            is_session: false,
            superseded: is_old,
            opens: 0,
            lookups: 1,
        };
        state.nodes.insert(id, node);
        if !is_old {
            state.live.insert(file_id, id);
        }
        id
    }

    /// The node of a file's write session, counted as looked up once.
    pub(super) fn look_up_session(&self, parent: u64, name: &[u8], file_id: FileId, attr: NodeAttr) -> u64 {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(id) = state.sessions.get(&file_id)
            && let Some(node) = state.nodes.get_mut(id)
        {
            node.lookups += 1;
            (node.attr, node.parent, node.name) = (attr, parent, name.into());
            return *id;
        }
        let id = state.next_id;
        state.next_id += 1;
        let now = Instant::now();
        let node = Node {
            file_id,
            version: Version(0),
            attr,
            parent,
            name: name.into(),
            asked: now,
            valid_until: Some(now),
            is_session: true,
            superseded: false,
            opens: 0,
            lookups: 1,
        };
        state.nodes.insert(id, node);
        state.sessions.insert(file_id, id);
        id
    }

    /// The node of a file's session, if the kernel knows it.
    pub(super) fn session(&self, file: FileId) -> Option<u64> {
        self.state().sessions.get(&file).copied()
    }

    /// A session is over: its node keeps these attributes for those that have it open, and nobody opens it any more.
    pub(super) fn end_session(&self, file: FileId, attr: NodeAttr) {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(node) = state.sessions.remove(&file).and_then(|id| state.nodes.get_mut(&id)) {
            (node.superseded, node.attr) = (true, attr);
        }
    }

    /// Takes lookups back; a node without any goes.
    pub fn forget(&self, id: u64, lookups: u64) {
        let mut state = self.state();
        let state = &mut *state;
        let Some(node) = state.nodes.get_mut(&id) else { return };
        node.lookups = node.lookups.saturating_sub(lookups);
        if node.lookups == 0 && id != ROOT_NODE {
            let file_id = node.file_id;
            state.nodes.remove(&id);
            for index in [&mut state.live, &mut state.sessions] {
                if index.get(&file_id) == Some(&id) {
                    index.remove(&file_id);
                }
            }
        }
    }

    /// A node as it is now.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Node> {
        self.state().nodes.get(&id).cloned()
    }

    /// Looks at a node without copying it.
    pub fn with<R>(&self, id: u64, look: impl FnOnce(&Node) -> R) -> Option<R> {
        self.state().nodes.get(&id).map(look)
    }

    /// Changes a node.
    pub(super) fn update(&self, id: u64, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.state().nodes.get_mut(&id) {
            change(node);
        }
    }

    /// Takes new attributes of the same content in; another version supersedes the node. True when it is live.
    pub fn refresh(&self, id: u64, attr: &Attr, asked: Instant) -> bool {
        let mut state = self.state();
        let Some(node) = state.nodes.get_mut(&id) else { return false };
        if node.superseded || node.version != Version(attr.version) {
            node.superseded = true;
            return false;
        }
        node.attr = node_attr(attr);
        node.valid_until = valid_until(attr, asked);
        node.asked = node.asked.max(asked);
        true
    }

    /// Somebody said just now that the node's version is not live any more.
    pub(super) fn supersede(&self, id: u64) {
        if let Some(node) = self.state().nodes.get_mut(&id) {
            node.superseded = true;
            node.asked = Instant::now();
        }
    }

    /// The live node of a file, if it is of this version.
    pub(super) fn live(&self, file: FileId, version: Version) -> Option<u64> {
        let state = self.state();
        state.live.get(&file).copied().filter(|id| state.nodes.get(id).is_some_and(|node| node.version == version))
    }

    /// Whether something newer is known of a file than what the master said when asked at `asked`.
    pub(super) fn contradicts(&self, attr: &Attr, asked: Instant) -> bool {
        let state = self.state();
        let live = state.live.get(&FileId(attr.file_id)).and_then(|id| state.nodes.get(id));
        live.is_some_and(|node| asked < node.asked && (node.superseded || node.version != Version(attr.version)))
    }

    /// The path by which a node was last seen, for people.
    #[must_use]
    pub fn path(&self, id: u64) -> String {
        const DEPTH_MAX: usize = 256;
        let state = self.state();
        let mut names = Vec::new();
        let mut at = id;
        for _ in 0..DEPTH_MAX {
            match state.nodes.get(&at) {
                Some(node) if at != ROOT_NODE => {
                    names.push(String::from_utf8_lossy(&node.name).into_owned());
                    at = node.parent;
                }
                Some(_) => break,
                None => {
                    names.push("...".into());
                    break;
                }
            }
        }
        names.reverse();
        format!("/{}", names.join("/"))
    }

    /// How many nodes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().nodes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn attr(file_id: u64, version: u64) -> Attr {
        Attr {
            file_id,
            version,
            size: 1,
            mtime_ms: 0,
            block_bytes: 1,
            page_bytes: 1,
            mode: 0o444,
            uid: 0,
            gid: 0,
            nlink: 1,
            mount_id: 1,
            kind: 1,
            valid_for_ms: 1000,
        }
    }

    #[test]
    fn a_new_version_is_a_new_node_and_the_old_one_stays_until_forgotten() {
        let table = NodeTable::new();
        let now = Instant::now();
        let old = table.look_up(1, b"f", &attr(9, 1), now);
        assert_eq!(table.look_up(1, b"f", &attr(9, 1), now), old);
        let new = table.look_up(1, b"f", &attr(9, 2), now);
        assert_ne!(old, new);
        assert!(table.get(old).unwrap().superseded && !table.get(new).unwrap().superseded);
        assert_eq!(table.get(old).unwrap().attr.ino, table.get(new).unwrap().attr.ino);
        table.forget(old, 2);
        assert!(table.get(old).is_none());
        assert_eq!(table.look_up(1, b"f", &attr(9, 2), now), new);
        assert!(!table.refresh(new, &attr(9, 3), now) && table.get(new).unwrap().superseded);
        table.forget(1, u64::MAX);
        assert!(table.get(1).is_some());
    }

    #[test]
    fn an_answer_that_comes_late_does_not_make_an_old_version_live() {
        let table = NodeTable::new();
        let early = Instant::now();
        let late = early + Duration::from_millis(5);
        let new = table.look_up(1, b"f", &attr(9, 2), late);
        assert!(table.contradicts(&attr(9, 1), early) && !table.contradicts(&attr(9, 2), early));
        assert!(!table.contradicts(&attr(9, 3), late));
        let old = table.look_up(1, b"f", &attr(9, 1), early);
        assert_ne!(old, new);
        assert!(table.get(old).unwrap().superseded && !table.get(new).unwrap().superseded);
        assert_eq!((table.live(FileId(9), Version(2)), table.live(FileId(9), Version(1))), (Some(new), None));
        table.supersede(new);
        assert_eq!(table.look_up(1, b"f", &attr(9, 2), early), new);
        assert!(table.get(new).unwrap().superseded);
        table.look_up(1, b"f", &attr(9, 2), Instant::now() + Duration::from_secs(1));
        assert!(!table.get(new).unwrap().superseded);
    }

    #[test]
    fn a_session_has_a_node_beside_those_of_contents() {
        let table = NodeTable::new();
        let now = Instant::now();
        let content = table.look_up(1, b"f", &attr(9, 1), now);
        let own = node_attr(&attr(9, 1));
        let session = table.look_up_session(1, b"f", FileId(9), own);
        assert_ne!(content, session);
        assert_eq!(
            (table.look_up_session(1, b"g", FileId(9), own), table.session(FileId(9))),
            (session, Some(session))
        );
        assert_eq!((table.path(session).as_str(), table.look_up(1, b"f", &attr(9, 1), now)), ("/g", content));
        table.end_session(FileId(9), NodeAttr { size: 77, ..own });
        let ended = table.get(session).unwrap();
        assert!(ended.superseded && ended.is_session && ended.attr.size == 77);
        assert!(!table.get(content).unwrap().superseded);
        let next = table.look_up_session(1, b"f", FileId(9), own);
        assert_ne!(next, session);
        table.forget(session, 2);
        assert_eq!((table.get(session), table.session(FileId(9))), (None, Some(next)));
        table.forget(next, 1);
        assert_eq!(table.session(FileId(9)), None);
    }

    #[test]
    fn paths_are_for_people() {
        let table = NodeTable::new();
        let now = Instant::now();
        let dir = table.look_up(1, b"data", &attr(5, 0), now);
        let file = table.look_up(dir, b"a.bin", &attr(6, 1), now);
        assert_eq!(table.path(file), "/data/a.bin");
        assert_eq!(table.path(1), "/");
        table.forget(dir, 1);
        assert_eq!(table.path(file), "/.../a.bin");
    }

    proptest! {
        /// Against a model that keeps (file, version) -> lookups: ids are unique, counts right, nothing leaks.
        #[test]
        fn it_behaves_like_a_list_of_nodes(steps in proptest::collection::vec((0u8..2, 2u64..6, 1u64..4), 1..200)) {
            let table = NodeTable::new();
            let now = Instant::now();
            let mut model: BTreeMap<u64, (u64, u64, u64)> = BTreeMap::new();
            let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
            for (action, file, number) in steps {
                if action == 0 {
                    let id = table.look_up(1, b"f", &attr(file, number), now);
                    let entry = model.entry(id).or_insert((file, number, 0));
                    prop_assert_eq!((entry.0, entry.1), (file, number));
                    entry.2 += 1;
                    newest.insert(file, id);
                } else if let Some((&id, &(file, _, lookups))) = model.iter().nth(file as usize % model.len().max(1)) {
                    let taken = number.min(lookups);
                    table.forget(id, taken);
                    if taken == lookups {
                        model.remove(&id);
                        if newest.get(&file) == Some(&id) {
                            newest.remove(&file);
                        }
                    } else if let Some(entry) = model.get_mut(&id) {
                        entry.2 -= taken;
                    }
                }
                prop_assert_eq!(table.count(), model.len() + 1);
                for (id, (file, version, lookups)) in &model {
                    let node = table.get(*id).expect("the model has it");
                    prop_assert_eq!((node.file_id.0, node.version.0, node.lookups), (*file, *version, *lookups));
                    prop_assert_eq!(node.superseded, newest.get(file) != Some(id));
                }
            }
        }
    }
}
