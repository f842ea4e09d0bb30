//! The handler: names and attributes from the master, bytes through open files. Shared by the session's threads.
//!
//! Invariants: an inode number is a `FileId`, a node id is one version of it (hard case 14); what the kernel is told to
//! believe never outlives what the master allowed, counted from when the master was asked.

use super::ahead::Ahead;
use super::directory::{DOTS, Directory};
use super::edits::Edit;
use super::failures::Failures;
use super::grants::Grants;
use super::handles::Handles;
use super::names::Names;
use super::node_table::{Node, NodeTable};
use super::passthrough::{Passthrough, Way};
use super::walk::{WINDOW, Walks};
use super::writers::Writers;
use crate::dispatch::changes_content;
use crate::handler::{AttrChange, Backing, Caller, Content, Entry, Errno, Handler, NodeAttr, Opened, StatFs};
use crate::metrics::{CACHED, DIRECT, OpenedFiles, PASSED};
use crate::wire::{DirBuffer, FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE, FOPEN_NOFLUSH, FOPEN_PASSTHROUGH, ROOT_NODE};
use bytes::Bytes;
use forebay_base::{ErrorKind, FileId, KindError, limits};
use forebay_client::message::cluster::Report;
use forebay_client::message::namespace::Attr;
use forebay_client::{Client, OpenFile};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the file system needs to know of the settings.
#[derive(Clone, Copy, Debug)]
pub struct FilesystemOptions {
    /// Longest the kernel may believe anything.
    pub attr_timeout_max: Duration,
}

/// Forebay behind a mount.
pub struct Forebay {
    pub(super) client: Client,
    options: FilesystemOptions,
    pub(super) nodes: Arc<NodeTable>,
    pub(super) names: Arc<Names>,
    pub(super) grants: Grants,
    pub(super) walks: Walks,
    pub(super) ahead: Ahead,
    pub(super) writers: Arc<Writers>,
    passthrough: Passthrough,
    opened: OpenedFiles,
    pub(super) files: Handles<OpenNode>,
    directories: Handles<Directory>,
    capacity: tokio::sync::Mutex<Option<(Instant, StatFs)>>,
    failures: Arc<Failures>,
}

/// A handle.
pub(super) struct OpenNode {
    pub(super) node: u64,
    pub(super) open: Open,
}

/// What it is of.
pub(super) enum Open {
    Content {
        file: OpenFile,
        /// Counted by `passthrough`.
        is_counted: bool,
        /// Opened as one of many, in their directory's order: as it was then.
        walk: Option<Node>,
    },
    Edit(Arc<Edit>),
}

/// The one extended attribute there is, on files.
const CACHED_XATTR: &[u8] = b"user.forebay.cached";
/// On the root: whether the kernel reads local files by itself, and if not why.
const PASSTHROUGH_XATTR: &[u8] = b"user.forebay.passthrough";
/// A name is looked up again if its file was saved meanwhile.
const LOOKUP_TRIES: u32 = 3;
/// How long a statfs(2) answer is used again.
const CAPACITY_LIFE: Duration = Duration::from_secs(3);

impl Forebay {
    /// A file system over a connected client. The current runtime has to outlive the session.
    #[must_use]
    pub fn new(client: Client, options: FilesystemOptions) -> Self {
        let (nodes, names) = (Arc::new(NodeTable::new()), Arc::new(Names::new(options.attr_timeout_max)));
        let failures = Arc::new(Failures::new(nodes.clone()));
        Self {
            writers: Writers::new(client.clone(), nodes.clone(), names.clone(), failures.clone()),
            client,
            options,
            nodes,
            names,
            grants: Grants::default(),
            walks: Walks::default(),
            ahead: Ahead::default(),
            passthrough: Passthrough::default(),
            opened: OpenedFiles::default(),
            files: Handles::new(),
            directories: Handles::new(),
            capacity: tokio::sync::Mutex::new(None),
            failures,
        }
    }

    /// Lookups that were answered from listings.
    pub(crate) fn listed_lookups(&self) -> u64 {
        self.names.found()
    }

    /// Open files, open directories, and nodes that the kernel knows.
    pub(crate) fn counts(&self) -> [usize; 3] {
        [self.files.count(), self.directories.count(), self.nodes.count()]
    }

    /// Files opened, by how they are read.
    pub(crate) fn opened(&self) -> &OpenedFiles {
        &self.opened
    }

    /// Files that the kernel reads by itself now, and whether it can.
    pub(crate) fn backed(&self) -> (usize, bool) {
        (self.passthrough.backed(), self.passthrough.is_on())
    }

    /// How an open of a large file is served. It is counted from now on.
    async fn way(&self, id: u64, node: &Node, file: &OpenFile) -> Way {
        if let Some(way) = self.passthrough.join(id) {
            return way;
        }
        let local = file.local_file().await;
        // A longer file would show its end to readers, a shorter one would kill those that map it.
        self.passthrough.enter(id, local.filter(|local| local.size() == node.attr.size))
    }

    /// The client below.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn node(&self, id: u64) -> Result<Node, Errno> {
        self.nodes.get(id).ok_or(Errno::STALE)
    }

    /// How long the kernel may believe something that was asked for at `asked` and ends at `until`.
    fn valid_for(&self, until: Option<Instant>, asked: Instant) -> Duration {
        let most = asked.checked_add(self.options.attr_timeout_max);
        let until = until.into_iter().chain(most).min().unwrap_or(asked);
        until.saturating_duration_since(Instant::now())
    }

    pub(super) fn entry(&self, parent: u64, name: &[u8], attr: &Attr, asked: Instant) -> Entry {
        let file_id = FileId(attr.file_id);
        if let Some(writing) = self.writers.get(file_id) {
            let own = writing.attr();
            let node = self.nodes.look_up_session(parent, name, file_id, own);
            if writing.has_ended() {
                // Opening it answers ESTALE.
                self.nodes.end_session(file_id, own);
            }
            return Entry { node, attr: own, valid: Duration::ZERO };
        }
        let node = self.nodes.look_up(parent, name, attr, asked);
        let until = super::node_table::valid_until(attr, asked);
        Entry { node, attr: super::node_table::node_attr(attr), valid: self.valid_for(until, asked) }
    }

    /// The errno for a failure of `what` on a node; says in the log what a person should know.
    pub(super) fn failed(&self, what: &str, node: u64, error: &KindError) -> Errno {
        self.failures.errno(what, node, error)
    }

    /// Puts what was written into its store, for the mount is gone.
    pub async fn finish_writing(&self) {
        self.writers.end_all().await;
    }

    /// A handle is not used any more.
    pub(super) fn close_file(&self, handle: u64) {
        let Some(open) = self.files.remove(handle) else { return };
        self.nodes.update(open.node, |node| node.opens = node.opens.saturating_sub(1));
        match &open.open {
            Open::Content { is_counted, .. } if *is_counted => self.passthrough.leave(open.node),
            Open::Content { .. } => {}
            Open::Edit(edit) => self.close_edit(edit),
        }
    }

    async fn cached_text(&self, node: &Node) -> Result<Vec<u8>, KindError> {
        let held = self.client.cached(&[(node.file_id, node.version)]).await?;
        let held = held.first().copied().unwrap_or_default();
        let text = format!(
            "mem={} ssd={} hdd={} cached={} size={}",
            held.mem_bytes, held.ssd_bytes, held.hdd_bytes, held.any_bytes, node.attr.size
        );
        Ok(text.into_bytes())
    }

    async fn capacity(&self) -> Result<StatFs, KindError> {
        let mut held = self.capacity.lock().await;
        if let Some((when, stat)) = *held
            && when.elapsed() < CAPACITY_LIFE
        {
            return Ok(stat);
        }
        let report = self.client.master(&Report::default()).await?;
        let tiers = || report.workers.iter().filter(|worker| worker.live).flat_map(|worker| &worker.tiers);
        let capacity_bytes: u64 = tiers().map(|tier| tier.capacity_bytes).sum();
        let used_bytes: u64 = tiers().map(|tier| tier.used_bytes).sum();
        let stat = StatFs {
            capacity_bytes,
            free_bytes: capacity_bytes.saturating_sub(used_bytes),
            files: report.inodes,
            block_bytes: 4096,
            name_bytes_max: limits::NAME_BYTES_MAX as u32,
        };
        *held = Some((Instant::now(), stat));
        Ok(stat)
    }
}

impl Handler for Forebay {
    fn began(&self, backing: Result<Backing, String>) {
        self.passthrough.begin(backing);
    }

    async fn lookup(&self, parent: u64, name: &[u8]) -> Result<Entry, Errno> {
        if name.len() > limits::NAME_BYTES_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let directory = self.nodes.with(parent, |parent| parent.file_id).ok_or(Errno::STALE)?;
        if let Some((attr, asked)) = self.names.find(directory, name) {
            if !self.nodes.contradicts(&attr, asked) && !self.writers.is_outdated(FileId(attr.file_id), asked) {
                return Ok(self.entry(parent, name, &attr, asked));
            }
            self.names.forget(directory);
        }
        let mut tries = 0;
        loop {
            let asked = Instant::now();
            tries += 1;
            match self.client.lookup(directory, name).await {
                // A save came in between.
                Ok(attr) if self.writers.is_outdated(FileId(attr.file_id), asked) && tries < LOOKUP_TRIES => {}
                Ok(attr) => {
                    if let Some(after) = self.names.missed(directory, name, attr.valid_for_ms) {
                        self.list_ahead(directory, after);
                    }
                    return Ok(self.entry(parent, name, &attr, asked));
                }
                Err(error) => {
                    let what = format!("lookup of {} in it", String::from_utf8_lossy(name));
                    return Err(self.failed(&what, parent, &error));
                }
            }
        }
    }

    fn forget(&self, node: u64, lookups: u64) {
        self.nodes.forget(node, lookups);
    }

    async fn get_attr(&self, id: u64) -> Result<(NodeAttr, Duration), Errno> {
        let node = self.node(id)?;
        // What is open keeps its own content, so it keeps its own attributes too. What is not gets the file's as they are now:
        // ESTALE would be the only one for which the kernel looks the name up again, and opening may have to answer that.
        let own = Ok((node.attr, Duration::ZERO));
        if let Some(writing) = self.writers.get(node.file_id).filter(|_| node.is_session || node.opens == 0) {
            return Ok((writing.attr(), Duration::ZERO));
        }
        if (node.superseded || node.is_session) && node.opens > 0 {
            return own;
        }
        let asked = Instant::now();
        match self.client.get_attr(node.file_id).await {
            Ok(attr) if self.nodes.refresh(id, &attr, asked) => {
                let until = super::node_table::valid_until(&attr, asked);
                Ok((super::node_table::node_attr(&attr), self.valid_for(until, asked)))
            }
            Ok(attr) => {
                self.supersede(id, &node);
                if node.opens > 0 { own } else { Ok((super::node_table::node_attr(&attr), Duration::ZERO)) }
            }
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Stale) => {
                self.supersede(id, &node);
                if node.opens > 0 { own } else { Err(self.failed("stat", id, &error)) }
            }
            Err(error) => Err(self.failed("stat", id, &error)),
        }
    }

    async fn open(&self, id: u64, flags: u32) -> Result<Opened, Errno> {
        let node = self.node(id)?;
        if node.is_directory() {
            return Err(Errno::ISDIR);
        }
        // The kernel looks the name up again and opens the node of the new version.
        if node.superseded && !changes_content(flags) {
            return Err(Errno::STALE);
        }
        if node.is_session || changes_content(flags) || self.writers.get(node.file_id).is_some() {
            return self.open_edit(id, &node, flags).await;
        }
        let followers = self.following(&node, WINDOW).into_iter();
        let batch = self.walks.opened(node.file_id, followers.map(|(file, _)| file));
        let grant = self.grant(id, &node, batch).await?;
        let file = self.client.open_granted(grant);
        let is_counted = self.passthrough.counts() && node.attr.size > u64::from(file.attr().page_bytes);
        let way = if is_counted { self.way(id, &node, &file).await } else { Way::Served };
        // The content of a node never changes, so its pages may always stay.
        let (bits, backing_id, place) = match way {
            Way::Backed(backing_id) => (FOPEN_PASSTHROUGH, Some(backing_id), PASSED),
            Way::BackedDirect(backing_id) => (FOPEN_PASSTHROUGH | FOPEN_DIRECT_IO, Some(backing_id), DIRECT),
            Way::Served if flags & libc::O_DIRECT as u32 != 0 => (FOPEN_DIRECT_IO, None, DIRECT),
            Way::Served => (FOPEN_KEEP_CACHE, None, CACHED),
        };
        self.opened.count(place, node.attr.size);
        self.nodes.update(id, |node| node.opens += 1);
        let walk = (batch > 1).then_some(node);
        let handle = self.files.insert(OpenNode { node: id, open: Open::Content { file, is_counted, walk } });
        Ok(Opened { handle, flags: bits | FOPEN_NOFLUSH, backing_id })
    }

    async fn read(&self, id: u64, handle: u64, offset: u64, size: u32) -> Result<Content, Errno> {
        let open = self.files.get(handle).ok_or(Errno::BADF)?;
        let (file, walk) = match &open.open {
            Open::Content { file, walk, .. } => (file, walk),
            Open::Edit(edit) => {
                let read = edit.writing.read(offset, size).await;
                return read.map(Content::Memory).map_err(|error| self.failed("read", id, &error));
            }
        };
        if let Some(node) = walk {
            // Only a read shows that the kernel does not hold the files of this walk already.
            if offset == 0 {
                self.fetch_ahead(node);
            }
            if let Some(bytes) = self.taken_ahead((node.file_id, node.version), offset, size).await {
                return Ok(Content::Memory(bytes));
            }
        }
        match file.read(offset, size).await {
            Ok(bytes) => Ok(Content::Memory(bytes.into_bytes())),
            Err(error) => {
                if error.kind == ErrorKind::Stale
                    && let Some(node) = self.nodes.get(id)
                {
                    self.supersede(id, &node);
                }
                Err(self.failed("read", id, &error))
            }
        }
    }

    fn release(&self, handle: u64) {
        self.close_file(handle);
    }

    async fn open_dir(&self, id: u64) -> Result<Opened, Errno> {
        let node = self.directory(id)?;
        let handle = self.directories.insert(Directory::new(node.file_id));
        Ok(Opened { handle, flags: 0, backing_id: None })
    }

    async fn read_dir(&self, id: u64, handle: u64, offset: u64, buffer: &mut DirBuffer) -> Result<(), Errno> {
        let directory = self.directories.get(handle).ok_or(Errno::BADF)?;
        let mut at = offset;
        if at < DOTS {
            let node = self.node(id)?;
            let parent_ino = self.nodes.with(node.parent, |parent| parent.file_id.0).unwrap_or(node.file_id.0);
            for (name, ino) in [(&b"."[..], node.file_id.0), (b"..", parent_ino)].into_iter().skip(at as usize) {
                if !buffer.fits(name) {
                    return Ok(());
                }
                at += 1;
                let dot = Entry { node: 0, attr: NodeAttr { ino, ..node.attr }, valid: Duration::ZERO };
                buffer.push(name, &dot, at);
            }
        }
        let first = at - DOTS;
        let fill = |slice: super::directory::Slice<'_>| {
            for listed in slice.entries {
                if !buffer.fits(&listed.name) {
                    break;
                }
                at += 1;
                // The kernel looks it up itself if it changed since.
                let is_known = !self.writers.is_outdated(FileId(listed.attr.file_id), slice.asked);
                if buffer.plus() && is_known {
                    let entry = self.entry(id, &listed.name, &listed.attr, slice.asked);
                    buffer.push(&listed.name, &entry, at);
                } else {
                    let attr = super::node_table::node_attr(&listed.attr);
                    buffer.push(&listed.name, &Entry { node: 0, attr, valid: Duration::ZERO }, at);
                }
            }
        };
        let read = directory.read(&self.client, &self.names, first, offset == 0, fill);
        read.await.map_err(|error| self.failed("listing", id, &error))
    }

    fn release_dir(&self, handle: u64) {
        self.directories.remove(handle);
    }

    async fn stat_fs(&self) -> Result<StatFs, Errno> {
        self.capacity().await.map_err(|error| self.failed("statfs", ROOT_NODE, &error))
    }

    async fn get_xattr(&self, id: u64, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let node = self.node(id)?;
        if id == ROOT_NODE && name == PASSTHROUGH_XATTR {
            return Ok(self.passthrough.describe().into_bytes());
        }
        if name != CACHED_XATTR || node.is_directory() || node.is_session {
            return Err(Errno::NODATA);
        }
        self.cached_text(&node).await.map_err(|error| self.failed("getxattr", id, &error))
    }

    async fn list_xattr(&self, id: u64) -> Result<Vec<u8>, Errno> {
        let node = self.node(id)?;
        Ok(if node.is_directory() || node.is_session { Vec::new() } else { [CACHED_XATTR, b"\0"].concat() })
    }

    async fn set_attr(
        &self,
        node: u64,
        handle: Option<u64>,
        change: AttrChange,
    ) -> Result<(NodeAttr, Duration), Errno> {
        self.change_attr(node, handle, change).await
    }

    async fn make_node(&self, parent: u64, name: &[u8], mode: u32, caller: Caller) -> Result<Entry, Errno> {
        self.make_file(parent, name, mode, caller).await
    }

    async fn make_dir(&self, parent: u64, name: &[u8], mode: u32, caller: Caller) -> Result<Entry, Errno> {
        self.make_directory(parent, name, mode, caller).await
    }

    async fn create(
        &self,
        parent: u64,
        name: &[u8],
        mode: u32,
        flags: u32,
        caller: Caller,
    ) -> Result<(Entry, Opened), Errno> {
        self.create_file(parent, name, mode, flags, caller).await
    }

    async fn remove(&self, parent: u64, name: &[u8], is_directory: bool) -> Result<(), Errno> {
        self.remove_name(parent, name, is_directory).await
    }

    async fn rename(
        &self,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        self.rename_name(parent, name, new_parent, new_name, flags).await
    }

    async fn write(&self, _node: u64, handle: u64, offset: u64, data: Bytes) -> Result<(), Errno> {
        self.write_edit(handle, offset, &data).await
    }

    async fn flush(&self, handle: u64) -> Result<(), Errno> {
        self.flush_edit(handle).await
    }

    async fn sync(&self, handle: u64) -> Result<(), Errno> {
        self.sync_edit(handle).await
    }

    async fn allocate(&self, handle: u64, offset: u64, length: u64, mode: u32) -> Result<(), Errno> {
        self.allocate_edit(handle, offset, length, mode).await
    }
}
