//! The files that programs of this mount change: one write session for each, however many have it open, made before the
//! kernel opens it and ended behind the last close. Shared by the mount's threads.
//!
//! Invariants: a file has one session here at most, for a new one waits until the old one has ended; while it lives, lookups
//! give its node and nothing else; what was asked for before a file changed here is not told to the kernel after it.

use super::failures::Failures;
use super::names::Names;
use super::node_table::NodeTable;
use super::writing::Writing;
use forebay_base::{ErrorKind, FileId, KindError, Version};
use forebay_client::message::namespace::Attr;
use forebay_client::{Client, WriteSession};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// The sessions, and what is needed to begin and end them.
pub(super) struct Writers {
    client: Client,
    nodes: Arc<NodeTable>,
    names: Arc<Names>,
    failures: Arc<Failures>,
    /// What goes on when nobody waits for it.
    background: Handle,
    table: Mutex<Table>,
    /// Of a file, by its number: who begins or ends its session.
    doors: [tokio::sync::Mutex<()>; DOORS],
}

#[derive(Default)]
struct Table {
    living: HashMap<FileId, Arc<Writing>>,
    changed: HashMap<FileId, Instant>,
    order: VecDeque<FileId>,
    /// Files that are not in `changed` any more changed before this.
    forgotten: Option<Instant>,
}

const DOORS: usize = 64;
/// Files whose change is remembered.
const CHANGED_MAX: usize = 16 << 10;
/// How long a session waits for the kernel's next request.
const LINGER: Duration = Duration::from_secs(10);
/// How long another mount that has just closed the file may take to say so.
const BUSY_WAIT: Duration = Duration::from_secs(7);
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// Saves that nobody waits for are tried so often.
const SAVE_TRIES: u32 = 4;
const SAVE_PAUSE: Duration = Duration::from_secs(2);

impl Writers {
    /// None yet. What ends sessions runs on the current runtime.
    pub(super) fn new(client: Client, nodes: Arc<NodeTable>, names: Arc<Names>, failures: Arc<Failures>) -> Arc<Self> {
        Arc::new(Self {
            client,
            nodes,
            names,
            failures,
            background: Handle::current(),
            table: Mutex::default(),
            doors: std::array::from_fn(|_| tokio::sync::Mutex::default()),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn door(&self, file: FileId) -> &tokio::sync::Mutex<()> {
        &self.doors[file.0 as usize % DOORS]
    }

    /// The session of a file, if there is one.
    pub(super) fn get(&self, file: FileId) -> Option<Arc<Writing>> {
        self.table().living.get(&file).cloned()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Writing>> {
        self.table().living.values().cloned().collect()
    }

    /// Files that are being changed.
    pub(super) fn count(&self) -> usize {
        self.table().living.len()
    }

    /// Whether what was asked for at `asked` may be older than what is known here.
    pub(super) fn is_outdated(&self, file: FileId, asked: Instant) -> bool {
        let table = self.table();
        table.changed.get(&file).copied().or(table.forgotten).is_some_and(|changed| asked <= changed)
    }

    /// The namespace has something new of a file.
    pub(super) fn set_changed(&self, file: FileId) {
        let mut table = self.table();
        if table.changed.insert(file, Instant::now()).is_none() {
            table.order.push_back(file);
        }
        if table.order.len() > CHANGED_MAX
            && let Some(oldest) = table.order.pop_front()
        {
            let when = table.changed.remove(&oldest);
            table.forgotten = table.forgotten.max(when);
        }
    }

    /// Takes a session in that was begun just now; nobody has it open yet.
    pub(super) fn put(&self, attr: Attr, session: Arc<WriteSession>, is_new: bool) -> Arc<Writing> {
        let writing = Arc::new(Writing::new(self.client.clone(), attr, session, is_new));
        self.table().living.insert(writing.file_id, writing.clone());
        writing
    }

    /// The session of a file that is there; it waits a while for somebody to open it.
    pub(super) async fn begin(self: &Arc<Self>, file: FileId) -> Result<Arc<Writing>, KindError> {
        let _door = self.door(file).lock().await;
        if let Some(writing) = self.get(file) {
            return Ok(writing);
        }
        let began = Instant::now();
        let (attr, session) = loop {
            match self.client.write_session(file).await {
                Err(error) if error.kind == ErrorKind::Busy && began.elapsed() < BUSY_WAIT => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                begun => break begun?,
            }
        };
        let writing = self.put(attr, session, false);
        self.finish_later(writing.clone(), LINGER);
        Ok(writing)
    }

    /// Saves and ends a session once nobody uses it, behind everybody's back.
    pub(super) fn finish_later(self: &Arc<Self>, writing: Arc<Writing>, after: Duration) {
        let writers = self.clone();
        self.background.spawn(async move {
            tokio::time::sleep(after).await;
            writers.finish(&writing).await;
        });
    }

    /// Saves a session's content, and tells who asks next. Goes on if its caller does not wait.
    pub(super) async fn save(self: &Arc<Self>, writing: &Arc<Writing>) -> Result<(), KindError> {
        let (writers, writing) = (self.clone(), writing.clone());
        let saving = self.background.spawn(async move {
            let saved = writing.save(&writers.client).await;
            if !matches!(saved, Ok(false)) {
                writers.set_changed(writing.file_id);
                writers.forget_listing(writing.file_id);
            }
            saved.map(|_| ())
        });
        saving.await.unwrap_or_else(|error| Err(KindError::new(ErrorKind::Closed, format!("not saved: {error}"))))
    }

    fn forget_listing(&self, file: FileId) {
        let parent = self.nodes.session(file).and_then(|id| self.nodes.with(id, |node| node.parent));
        if let Some(directory) = parent.and_then(|parent| self.nodes.with(parent, |parent| parent.file_id)) {
            self.names.forget(directory);
        }
    }

    /// Ends a session that nobody writes to: with its content in the store, and with readers on that.
    async fn finish(self: &Arc<Self>, writing: &Arc<Writing>) {
        let _door = self.door(writing.file_id).lock().await;
        let is_here = self.get(writing.file_id).is_some_and(|held| Arc::ptr_eq(&held, writing));
        if !is_here || writing.is_in_use() {
            return;
        }
        let is_saved = self.save_at_last(writing).await;
        if let Some(attr) = writing.read_on() {
            match self.client.open(FileId(attr.file_id), Version(attr.version)).await {
                Ok(file) => writing.set_saved(file),
                // Their last close ends the session.
                Err(error) => tracing::debug!(file_id = attr.file_id, %error, "the session goes on for its readers"),
            }
        }
        {
            // In one step: a lookup finds a session that may be entered, or none.
            let mut table = self.table();
            if !writing.end() {
                return;
            }
            table.living.remove(&writing.file_id);
        }
        self.set_changed(writing.file_id);
        self.forget_listing(writing.file_id);
        self.nodes.end_session(writing.file_id, writing.attr());
        // What could not be saved is the worker's to keep, if it was synced.
        if is_saved {
            writing.close().await;
        }
    }

    async fn save_at_last(self: &Arc<Self>, writing: &Arc<Writing>) -> bool {
        for attempt in 1..=SAVE_TRIES {
            let Err(error) = self.save(writing).await else { return true };
            let node = self.nodes.session(writing.file_id).unwrap_or(0);
            writing.set_failed(self.failures.errno("saving", node, &error));
            if attempt == SAVE_TRIES || matches!(error.kind, ErrorKind::Stale | ErrorKind::Closed) {
                let path = self.nodes.path(node);
                tracing::error!(path, file_id = writing.file_id.0, "written content is given up: {error}");
                break;
            }
            tokio::time::sleep(SAVE_PAUSE).await;
        }
        false
    }

    /// Saves and ends all sessions: nobody can ask any more.
    pub(super) async fn end_all(self: &Arc<Self>) {
        let living = self.all();
        futures::future::join_all(living.iter().map(|writing| async move {
            writing.forget_opens();
            self.finish(writing).await;
        }))
        .await;
    }
}
