//! Write sessions of one core: contents that programs change, until they are saved into their stores. One per core; nothing
//! here is `Send` but what the shared part holds.
//!
//! Invariants: one session a file; one that nobody asks anything of for `LAPSE` ends: it is saved first if it was ever synced since
//! the last save; a session lives on over a restart of the process.

mod content;
mod note;

use crate::counters::{SAVE_DONE, SAVE_FAILED, SAVE_LAPSED, ShardView};
use crate::masters::Masters;
use crate::uploads::{UploadRequest, Uploads};
use content::{Content, blocking};
use forebay_base::placement::shard_of;
use forebay_base::{ErrorKind, FileId, KindError, MountId, ShardId};
use forebay_net::message::change::RecordSaved;
use forebay_net::message::write::{FinishUploadReply, PIECE_BYTES_MAX};
use forebay_net::write_ticket::WriteTicket;
use forebay_ufs::WriteMode;
use futures::channel::oneshot;
use hashbrown::{HashMap, HashSet};
use note::{Note, content_path, this_boot};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// A session that sees no request for this long ends.
const LAPSE: Duration = Duration::from_secs(30);
/// How often that is looked for, and what could not be saved is tried again.
const LOOK_EACH: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(20);
/// Sessions of one core.
const SESSIONS_MAX: usize = 1024;
/// Requests of one core that are at the disk.
const UNDER_WAY: usize = 32;
/// How long a save waits for its share of memory.
const ROOM_PATIENCE: Duration = Duration::from_secs(300);
const ROOM_PAUSE: Duration = Duration::from_millis(100);

/// What all cores share.
pub(crate) struct SessionStore {
    pub(crate) directory: PathBuf,
    pub(crate) threads: Handle,
    pub(crate) uploads: Arc<Uploads>,
    pub(crate) masters: Arc<Masters>,
}

/// The sessions of a core.
pub(crate) struct Sessions {
    shared: Arc<SessionStore>,
    view: Arc<ShardView>,
    all: RefCell<HashMap<FileId, Rc<Live>>>,
    /// Whose staging file is being made.
    beginning: RefCell<HashSet<FileId>>,
    disk: Semaphore,
}

/// One session.
pub(crate) struct Live {
    pub(crate) file: FileId,
    /// Whose it is.
    client: u64,
    pub(crate) content: Arc<Content>,
    target: RefCell<Target>,
    /// Whether the disk is said to have something that the store does not.
    is_synced: Cell<bool>,
    touched: Cell<Instant>,
    /// When it may be saved by itself again.
    next_try: Cell<Option<Instant>>,
    saved: RefCell<Option<Saved>>,
    has_ended: Cell<bool>,
    /// What was acknowledged may be missing: the machine was started anew.
    is_doubtful: bool,
}

/// Where the content goes if the worker saves it by itself.
#[derive(Clone)]
struct Target {
    mount: MountId,
    key: String,
    mode: WriteMode,
}

/// A save that went well.
struct Saved {
    ticket: Vec<u8>,
    changes: u64,
    reply: FinishUploadReply,
}

impl Target {
    fn of(ticket: &WriteTicket) -> Self {
        let mode = crate::service::mode_of(ticket);
        Self { mount: MountId(ticket.mount_id), key: ticket.store_key.clone(), mode }
    }
}

impl Live {
    fn note(&self, is_synced: bool) -> Note {
        let Target { mount, key, mode } = self.target.borrow().clone();
        Note { file: self.file, client: self.client, mount, key, mode, is_synced, boot: this_boot() }
    }

    /// Whether it can be used.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// Somebody is there.
    pub(crate) fn touch(&self) {
        self.touched.set(Instant::now());
    }
}

/// Whether a store will never take it: the file changed meanwhile, or its mount is gone.
fn is_final(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Stale | ErrorKind::Exists | ErrorKind::NotFound | ErrorKind::Invalid)
}

/// Runs it to its end, also if whoever waits for it goes.
async fn to_its_end<T: 'static>(work: impl Future<Output = Result<T, KindError>> + 'static) -> Result<T, KindError> {
    let (done, ended) = oneshot::channel();
    glommio::spawn_local(async move {
        let _ = done.send(work.await);
    })
    .detach();
    ended.await.unwrap_or_else(|_| Err(KindError::new(ErrorKind::Closed, "the worker is ending")))
}

fn disk_error(doing: &str, error: &std::io::Error) -> KindError {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        _ => ErrorKind::Internal,
    };
    KindError::new(kind, format!("write session: {doing}: {error}"))
}

impl Sessions {
    /// Finds the sessions that an earlier process had at this core.
    pub(crate) async fn open(
        shared: Arc<SessionStore>,
        view: Arc<ShardView>,
        (shard, shards): (ShardId, u16),
    ) -> Result<Rc<Self>, KindError> {
        let directory = shared.directory.clone();
        let found = blocking(&shared.threads, move || {
            let notes = note::found(&directory, |file| shard_of(file, shards) == shard);
            let notes = notes.map_err(|error| disk_error("looking for earlier ones", &error))?;
            let opened = notes.into_iter().map(|note| {
                let file = File::options().read(true).write(true).open(content_path(&directory, note.file));
                file.and_then(Content::new).map(|content| (note, content))
            });
            Ok(opened.filter_map(Result::ok).collect::<Vec<_>>())
        });
        let boot = this_boot();
        let mut all = HashMap::new();
        for (note, content) in found.await? {
            let is_doubtful = note.boot != boot || boot.is_empty();
            tracing::info!(file = %note.file, bytes = content.size(), synced = note.is_synced, "a write session goes on after a restart");
            let live = Live {
                file: note.file,
                client: note.client,
                content,
                target: RefCell::new(Target { mount: note.mount, key: note.key, mode: note.mode }),
                is_synced: Cell::new(note.is_synced),
                touched: Cell::new(Instant::now()),
                next_try: Cell::default(),
                saved: RefCell::default(),
                has_ended: Cell::new(false),
                is_doubtful,
            };
            all.insert(note.file, Rc::new(live));
        }
        view.counters.sessions.add(all.len() as u64);
        Ok(Rc::new(Self {
            shared,
            view,
            all: RefCell::new(all),
            beginning: RefCell::default(),
            disk: Semaphore::new(UNDER_WAY),
        }))
    }

    /// Begins a session, or joins one; whether it began.
    pub(crate) async fn begin(
        self: &Rc<Self>,
        ticket: &WriteTicket,
        join_only: bool,
    ) -> Result<(Rc<Live>, bool), KindError> {
        let file = FileId(ticket.file_id);
        let found = self.all.borrow().get(&file).cloned();
        if let Some(live) = found {
            let kind = if join_only { ErrorKind::NotFound } else { ErrorKind::Overloaded };
            if live.is_doubtful {
                // Its writer may have been told of more than is here; the others wait until it is saved.
                let message = "this machine was started anew: what was synced of the session before is being saved";
                return Err(KindError::new(kind, message));
            }
            if live.has_ended() {
                return Err(KindError::new(kind, "the write session of this file is ending"));
            }
            if live.client != ticket.client_id {
                return self.after_another(live, ticket, join_only).await;
            }
            live.touch();
            if live.saved.borrow().is_none() {
                *live.target.borrow_mut() = Target::of(ticket);
            }
            return Ok((live, false));
        }
        if join_only {
            return Err(KindError::new(ErrorKind::NotFound, format!("file {file}: it has no write session here")));
        }
        if self.all.borrow().len() + self.beginning.borrow().len() >= SESSIONS_MAX {
            let message = format!("{SESSIONS_MAX} write sessions are open at this core");
            return Err(KindError::new(ErrorKind::Overloaded, message));
        }
        if !self.beginning.borrow_mut().insert(file) {
            return Err(KindError::new(ErrorKind::Overloaded, "the write session of this file is beginning"));
        }
        let (this, client, target) = (self.clone(), ticket.client_id, Target::of(ticket));
        let live = to_its_end(async move {
            let begun = this.begin_new(file, client, target).await;
            this.beginning.borrow_mut().remove(&file);
            begun
        });
        Ok((live.await?, true))
    }

    /// The master has given the file to another client than the one whose session is here: what that one was promised is saved
    /// when the session lapses, what it was not goes.
    async fn after_another(
        self: &Rc<Self>,
        live: Rc<Live>,
        ticket: &WriteTicket,
        join_only: bool,
    ) -> Result<(Rc<Live>, bool), KindError> {
        let file = live.file;
        if join_only {
            return Err(KindError::new(
                ErrorKind::NotFound,
                format!("file {file}: its write session is another client's"),
            ));
        }
        if live.is_synced.get() {
            let message = format!("file {file}: what another client wrote is being saved, try again");
            return Err(KindError::new(ErrorKind::Busy, message));
        }
        self.end(&live).await?;
        Box::pin(self.begin(ticket, false)).await
    }

    async fn begin_new(&self, file: FileId, client: u64, target: Target) -> Result<Rc<Live>, KindError> {
        let (mount, key, mode) = (target.mount, target.key.clone(), target.mode.clone());
        let directory = self.shared.directory.clone();
        let content = blocking(&self.shared.threads, move || {
            let make = || {
                let path = content_path(&directory, file);
                let opened = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
                Note { file, client, mount, key, mode, is_synced: false, boot: this_boot() }
                    .write(&directory, false)?;
                Content::new(opened)
            };
            make().map_err(|error: std::io::Error| disk_error("making its staging file", &error))
        });
        let live = Rc::new(Live {
            file,
            client,
            content: content.await?,
            target: RefCell::new(target),
            is_synced: Cell::new(false),
            touched: Cell::new(Instant::now()),
            next_try: Cell::default(),
            saved: RefCell::default(),
            has_ended: Cell::new(false),
            is_doubtful: false,
        });
        self.all.borrow_mut().insert(file, live.clone());
        self.view.counters.sessions.add(1);
        Ok(live)
    }

    /// Whether a file has a session.
    pub(crate) fn has(&self, file: FileId) -> bool {
        self.all.borrow().contains_key(&file)
    }

    pub(crate) async fn write(&self, live: &Live, offset: u64, bytes: Vec<u8>) -> Result<u64, KindError> {
        let _disk = self.at_disk().await?;
        let length = bytes.len() as u64;
        let size = live.content.write(&self.shared.threads, offset, bytes).await?;
        self.view.counters.session_bytes.add(length);
        Ok(size)
    }

    pub(crate) async fn read(&self, live: &Live, offset: u64, length: usize) -> Result<Vec<u8>, KindError> {
        let _disk = self.at_disk().await?;
        live.content.read(&self.shared.threads, offset, length).await
    }

    pub(crate) async fn resize(&self, live: &Live, size: u64) -> Result<u64, KindError> {
        let _disk = self.at_disk().await?;
        live.content.resize(&self.shared.threads, size).await
    }

    pub(crate) async fn sync(&self, live: &Live) -> Result<(), KindError> {
        let _disk = self.at_disk().await?;
        // Alone, so that no save puts the same content into the store and changes the note meanwhile.
        let alone = live.content.alone().await;
        let (note, directory) = (live.note(true), self.shared.directory.clone());
        live.content.sync(&self.shared.threads, alone, move || note.write(&directory, true)).await?;
        live.is_synced.set(true);
        Ok(())
    }

    async fn at_disk(&self) -> Result<tokio::sync::SemaphorePermit<'_>, KindError> {
        self.disk.acquire().await.map_err(|_| KindError::new(ErrorKind::Closed, "the worker is ending"))
    }

    /// Saves it under a ticket. Whoever asked may go: it goes on, and the same ticket again is told how it ended.
    pub(crate) async fn save(
        self: &Rc<Self>,
        live: &Rc<Live>,
        ticket: WriteTicket,
        raw: Vec<u8>,
    ) -> Result<FinishUploadReply, KindError> {
        let (this, live) = (self.clone(), live.clone());
        to_its_end(async move { this.save_under(&live, ticket, raw).await }).await
    }

    async fn save_under(&self, live: &Live, ticket: WriteTicket, raw: Vec<u8>) -> Result<FinishUploadReply, KindError> {
        let _alone = live.content.alone().await;
        let mut target = Target::of(&ticket);
        if live.has_ended() {
            return Err(KindError::new(ErrorKind::Closed, "the write session has ended"));
        }
        if let Some(saved) = live.saved.borrow().as_ref().filter(|saved| saved.ticket == raw) {
            if saved.changes == live.content.changes() {
                return Ok(saved.reply.clone());
            }
            target.mode = WriteMode::ReplaceOnly(forebay_base::Fingerprint(saved.reply.fingerprint.clone()));
        }
        let result = self.save_to(live, target, raw).await;
        self.view.counters.saves.at(if result.is_ok() { SAVE_DONE } else { SAVE_FAILED }).add(1);
        live.touch();
        result
    }

    /// For whoever is alone with the content.
    async fn save_to(&self, live: &Live, target: Target, raw: Vec<u8>) -> Result<FinishUploadReply, KindError> {
        live.content.check()?;
        let (size, changes) = (live.content.size(), live.content.changes());
        let until = Instant::now() + ROOM_PATIENCE;
        let lane = loop {
            let (mount, key, mode) = (target.mount, target.key.clone(), target.mode.clone());
            match self.shared.uploads.begin(UploadRequest { mount, key, mode, size: Some(size) }).await {
                Err(error) if error.kind == ErrorKind::Overloaded && Instant::now() < until => {
                    glommio::timer::sleep(ROOM_PAUSE).await;
                }
                begun => break begun?,
            }
        };
        let mut offset = 0;
        while offset < size {
            let content = live.content.clone();
            let bytes = blocking(&self.shared.threads, move || content.read_now(offset, PIECE_BYTES_MAX)).await?;
            offset += bytes.len() as u64;
            lane.piece(bytes.into()).await?;
        }
        let meta = lane.finish().await?;
        let reply = FinishUploadReply { size: meta.size, mtime_ms: meta.mtime_ms, fingerprint: meta.fingerprint.0 };
        let mode = WriteMode::ReplaceOnly(forebay_base::Fingerprint(reply.fingerprint.clone()));
        *live.target.borrow_mut() = Target { mode, ..target };
        *live.saved.borrow_mut() = Some(Saved { ticket: raw, changes, reply: reply.clone() });
        live.is_synced.set(false);
        let (note, directory) = (live.note(false), self.shared.directory.clone());
        let noted = blocking(&self.shared.threads, move || {
            note.write(&directory, false).map_err(|error| disk_error("noting a save", &error))
        });
        if let Err(error) = noted.await {
            // At worst the same content is offered to the store again, which refuses it.
            tracing::warn!(file = %live.file, %error, "a write session's save is not noted");
        }
        Ok(reply)
    }

    /// Ends it; what was not saved is lost.
    pub(crate) async fn end(self: &Rc<Self>, live: &Rc<Live>) -> Result<(), KindError> {
        let (this, live) = (self.clone(), live.clone());
        let ending = async move {
            let _alone = live.content.alone().await;
            this.remove(&live).await
        };
        to_its_end(ending).await
    }

    async fn remove(&self, live: &Rc<Live>) -> Result<(), KindError> {
        if live.has_ended.replace(true) {
            return Ok(());
        }
        live.content.close();
        let (directory, file) = (self.shared.directory.clone(), live.file);
        let removed = blocking(&self.shared.threads, move || {
            note::remove(&directory, file).map_err(|error| disk_error("removing its staging file", &error))
        });
        let removed = removed.await;
        // Only now may another begin under the same name.
        self.all.borrow_mut().remove(&file);
        self.view.counters.sessions.sub(1);
        removed
    }

    /// Ends what nobody asks for any more, for ever.
    pub(crate) async fn keep_looking(self: Rc<Self>) {
        let mut counted = 0;
        loop {
            let all: Vec<Rc<Live>> = self.all.borrow().values().cloned().collect();
            let staged: u64 = all.iter().map(|live| live.content.size()).sum();
            self.view.counters.staged_bytes.add(staged);
            self.view.counters.staged_bytes.sub(counted);
            counted = staged;
            for live in all {
                let is_lapsed = live.is_doubtful || live.touched.get().elapsed() >= LAPSE;
                let is_due = live.next_try.get().is_none_or(|next| next <= Instant::now());
                if is_lapsed && is_due {
                    self.lapse(&live).await;
                }
            }
            glommio::timer::sleep(LOOK_EACH).await;
        }
    }

    async fn lapse(&self, live: &Rc<Live>) {
        // Something goes on: it is not lapsed.
        let Some(_alone) = live.content.try_alone() else { return };
        if live.has_ended() {
            return;
        }
        let (before, is_broken) = (live.touched.get(), live.content.check().is_err());
        let saved = if live.is_synced.get() { self.save_lapsed(live).await } else { Ok(()) };
        match saved {
            Ok(()) => {}
            Err(error) if is_broken || is_final(error.kind) => {
                self.view.counters.saves.at(SAVE_FAILED).add(1);
                let key = live.target.borrow().key.clone();
                tracing::error!(file = %live.file, key, %error, "what a writer that is gone had synced is lost: it cannot be saved");
            }
            Err(error) => {
                tracing::warn!(file = %live.file, %error, "what a writer that is gone had synced is not saved yet");
                live.next_try.set(Some(Instant::now() + AGAIN));
                return;
            }
        }
        if live.touched.get() != before && !live.is_doubtful {
            // It is not gone after all.
            return;
        }
        if let Err(error) = self.remove(live).await {
            tracing::warn!(file = %live.file, %error, "a write session that lapsed is not removed");
        }
    }

    /// Saves what was synced, and tells the master.
    async fn save_lapsed(&self, live: &Live) -> Result<(), KindError> {
        let target = live.target.borrow().clone();
        let fingerprint = self.save_to(live, target, Vec::new()).await?.fingerprint;
        self.view.counters.saves.at(SAVE_LAPSED).add(1);
        let (masters, file_id) = (self.shared.masters.clone(), live.file.0);
        let told = self.shared.threads.spawn(async move { masters.call(&RecordSaved { file_id, fingerprint }).await });
        match told.await {
            Ok(Ok(_)) => tracing::info!(file = %live.file, "saved what a writer that is gone had synced"),
            // The store has it: the namespace finds it there by its freshness.
            Ok(Err(error)) => tracing::warn!(file = %live.file, %error, "the master was not told of a saved file"),
            Err(error) => tracing::warn!(file = %live.file, %error, "the master was not told of a saved file"),
        }
        Ok(())
    }
}
