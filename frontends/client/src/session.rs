//! A file while this process writes it: its content is at one worker until it is saved into the store. Shared by all handles
//! of the file; any thread.
//!
//! Nothing is sent before the first change; until then reads see the version that the file had. Invariants: what was
//! acknowledged is in the worker's session; if that is gone, every call fails from then on and nothing is begun anew, so
//! that nothing acknowledged is dropped silently; one save at a time.

use crate::client::Inner;
use crate::grant::Grant;
use crate::hold::Hold;
use crate::open_file::OpenFile;
use crate::session_keeper::Kept;
use crate::session_place::{self, Place};
use bytes::{Bytes, BytesMut};
use forebay_base::{ErrorKind, FileId, KindError, Version};
use forebay_net::message::change::{CreateFile, GrantSession, RecordSaved, SessionGrant};
use forebay_net::message::namespace::{Attr, OpenRead};
use forebay_net::message::session::{
    EndSession, ReadSession, ResizeSession, SaveSession, SyncSession, WriteSession as WriteBytes,
};
use forebay_net::message::write::PIECE_BYTES_MAX;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A store may have much to do before it has the whole file.
const SAVE_PATIENCE: Duration = Duration::from_secs(600);
/// A ticket that has less left is not presented again.
const TICKET_MARGIN: Duration = Duration::from_secs(5);

/// A file that is being written.
pub struct WriteSession {
    pub(crate) inner: Arc<Inner>,
    file: FileId,
    state: Mutex<State>,
    /// Where the session is, once it has begun.
    place: tokio::sync::Mutex<Option<Arc<Place>>>,
    saving: tokio::sync::Mutex<()>,
    base: tokio::sync::OnceCell<Arc<OpenFile>>,
    kept: Kept,
    _hold: Hold,
}

struct State {
    /// As of the grant, or of the last save.
    attr: Attr,
    size: u64,
    ticket: Vec<u8>,
    ticket_until: Instant,
    /// The content that was there does not count.
    truncated: bool,
    /// Grows with each change, before it is sent and when it is answered.
    changes: u64,
    /// What `changes` was when what the store has was read.
    saved: u64,
    never_saved: bool,
    /// The mark of a content that the store has and the namespace was not told of.
    unrecorded: Option<String>,
    /// Why nothing works any more.
    gone: Option<KindError>,
}

impl WriteSession {
    /// Makes a file that the store gets with the first save.
    pub(crate) async fn create(
        inner: &Arc<Inner>,
        parent: FileId,
        name: &[u8],
        (mode, uid, gid): (u32, u32, u32),
    ) -> Result<(Attr, Arc<Self>), KindError> {
        let asked = Instant::now();
        let client_id = inner.holds.client_id();
        let request = CreateFile { parent: parent.0, name: name.to_vec(), mode, uid, gid, client_id };
        let grant = inner.masters.call(&request).await?;
        Ok(Self::granted(inner, grant, asked, true))
    }

    /// Leave to write a file that is there.
    pub(crate) async fn of_file(inner: &Arc<Inner>, file: FileId) -> Result<(Attr, Arc<Self>), KindError> {
        let asked = Instant::now();
        let request = GrantSession { file_id: file.0, client_id: inner.holds.client_id(), base_version: 0 };
        let grant = inner.masters.call(&request).await?;
        Ok(Self::granted(inner, grant, asked, false))
    }

    fn granted(inner: &Arc<Inner>, grant: SessionGrant, asked: Instant, is_new: bool) -> (Attr, Arc<Self>) {
        let attr = grant.attr.clone();
        let state = State {
            size: attr.size,
            ticket_until: asked + Duration::from_millis(grant.ticket_life_ms),
            ticket: grant.ticket,
            truncated: is_new,
            changes: 0,
            saved: 0,
            never_saved: is_new,
            unrecorded: None,
            gone: None,
            attr: attr.clone(),
        };
        let session = Arc::new_cyclic(|this| Self {
            inner: inner.clone(),
            file: FileId(attr.file_id),
            state: Mutex::new(state),
            place: tokio::sync::Mutex::default(),
            saving: tokio::sync::Mutex::default(),
            base: tokio::sync::OnceCell::new(),
            kept: inner.sessions.keep(attr.file_id, this.clone()),
            _hold: inner.holds.take(attr.mount_id),
        });
        (attr, session)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which file.
    #[must_use]
    pub fn file_id(&self) -> FileId {
        self.file
    }

    /// The file as it was granted, or last saved; its size is `size`.
    #[must_use]
    pub fn attr(&self) -> Attr {
        self.state().attr.clone()
    }

    /// Bytes of the content now.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.state().size
    }

    /// Whether something is not in the store yet.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let state = self.state();
        state.changes != state.saved || state.never_saved || state.unrecorded.is_some()
    }

    /// The content becomes empty; what was there is not copied if nothing was changed yet.
    pub async fn truncate(&self) -> Result<(), KindError> {
        self.resize(0).await.map(drop)
    }

    /// Writes bytes; a gap before them reads as zeros. The size afterwards.
    pub async fn write(&self, offset: u64, bytes: &[u8]) -> Result<u64, KindError> {
        if bytes.is_empty() {
            return Ok(self.size());
        }
        let place = self.begun().await?;
        self.changed();
        let mut at = offset;
        for piece in bytes.chunks(PIECE_BYTES_MAX) {
            let request = WriteBytes { file_id: self.file.0, offset: at, bytes: piece.to_vec() };
            let stands = place.call(self, &request, self.patience()).await?;
            at += piece.len() as u64;
            let mut state = self.state();
            state.size = state.size.max(stands.size).max(at);
        }
        self.changed();
        Ok(self.size())
    }

    /// Reads bytes; fewer come back only at the end of the content.
    pub async fn read(&self, offset: u64, length: u32) -> Result<Bytes, KindError> {
        let place = self.place.lock().await.clone();
        let Some(place) = place else { return self.read_base(offset, length).await };
        let mut found = BytesMut::new();
        let mut left = length as usize;
        while left > 0 {
            let asked = left.min(PIECE_BYTES_MAX);
            let offset = offset.saturating_add(found.len() as u64);
            let request = ReadSession { file_id: self.file.0, offset, length: asked as u32 };
            let reply = place.call(self, &request, self.patience()).await?;
            if reply.bytes.len() > asked {
                return Err(KindError::new(ErrorKind::Corrupt, "ReadSession: more bytes than asked for"));
            }
            let is_end = reply.bytes.len() < asked;
            left -= reply.bytes.len();
            if found.is_empty() && (is_end || left == 0) {
                return Ok(reply.bytes.into());
            }
            found.extend_from_slice(&reply.bytes);
            if is_end {
                break;
            }
        }
        Ok(found.freeze())
    }

    /// Cuts the content, or lengthens it with zeros.
    pub async fn resize(&self, size: u64) -> Result<u64, KindError> {
        if size == 0 {
            self.state().truncated = true;
        }
        let place = self.begun().await?;
        self.changed();
        let request = ResizeSession { file_id: self.file.0, size };
        let stands = place.call(self, &request, self.patience()).await?;
        self.state().size = stands.size;
        self.changed();
        Ok(stands.size)
    }

    /// What was written is on the worker's disk, and comes into the store even if this process dies.
    pub async fn sync(&self) -> Result<(), KindError> {
        let place = match self.place.lock().await.clone() {
            Some(place) => place,
            None if self.is_dirty() => self.begun().await?,
            None => return self.alive(),
        };
        place.call(self, &SyncSession { file_id: self.file.0 }, self.patience() * 4).await.map(drop)
    }

    /// Puts the content into the store, and tells the namespace, unless nothing changed since the last time.
    pub async fn save(&self) -> Result<Attr, KindError> {
        let _saving = self.saving.lock().await;
        self.alive()?;
        if !self.is_dirty() {
            return Ok(self.attr());
        }
        let unrecorded = self.state().unrecorded.clone();
        if let Some(fingerprint) = unrecorded {
            self.record(fingerprint).await?;
            if !self.is_dirty() {
                return Ok(self.attr());
            }
        }
        let place = self.begun().await?;
        let changes = self.state().changes;
        let ticket = self.renewed_ticket().await?;
        let request = SaveSession { file_id: self.file.0, ticket };
        let fingerprint = place.save(self, &request, SAVE_PATIENCE).await?.fingerprint;
        {
            let mut state = self.state();
            (state.saved, state.never_saved, state.unrecorded) = (changes, false, Some(fingerprint.clone()));
        }
        self.record(fingerprint).await
    }

    /// The namespace takes over what the store has.
    async fn record(&self, fingerprint: String) -> Result<Attr, KindError> {
        let attr = self.inner.masters.call(&RecordSaved { file_id: self.file.0, fingerprint }).await?;
        let mut state = self.state();
        state.unrecorded = None;
        state.attr = attr.clone();
        Ok(attr)
    }

    /// Ends it: what was not saved is lost.
    pub async fn end(&self) -> Result<(), KindError> {
        let place = self.place.lock().await.take();
        let ended = match place {
            Some(place) if self.alive().is_ok() => {
                let patience = self.inner.config.rpc_timeout;
                place.call(self, &EndSession { file_id: self.file.0 }, patience).await.map(drop)
            }
            _ => Ok(()),
        };
        self.gone(&KindError::new(ErrorKind::Closed, "the write session has ended"));
        self.kept.ended();
        ended
    }

    /// Sends something, so that the session does not lapse.
    pub(crate) async fn renew(&self) {
        let Some(place) = self.place.lock().await.clone() else { return };
        let request = ReadSession { file_id: self.file.0, offset: 0, length: 0 };
        if let Err(error) = place.call(self, &request, self.inner.config.rpc_timeout).await {
            tracing::debug!(file = %self.file, %error, "a write session was not renewed");
        }
    }

    fn changed(&self) {
        self.state().changes += 1;
    }

    fn patience(&self) -> Duration {
        self.inner.config.io_timeout
    }

    pub(crate) fn alive(&self) -> Result<(), KindError> {
        self.state().gone.clone().map_or(Ok(()), Err)
    }

    /// From now on everything fails with this.
    pub(crate) fn gone(&self, why: &KindError) {
        self.state().gone.get_or_insert_with(|| why.clone());
    }

    /// A ticket that lets in.
    pub(crate) async fn ticket(&self) -> Result<Vec<u8>, KindError> {
        {
            let state = self.state();
            if Instant::now() + TICKET_MARGIN < state.ticket_until {
                return Ok(state.ticket.clone());
            }
        }
        self.renewed_ticket().await
    }

    /// A ticket made now: it names the content that may be replaced.
    async fn renewed_ticket(&self) -> Result<Vec<u8>, KindError> {
        let asked = Instant::now();
        let client_id = self.inner.holds.client_id();
        let request = GrantSession { file_id: self.file.0, client_id, base_version: self.attr().version };
        let grant = self.inner.masters.call(&request).await?;
        let mut state = self.state();
        state.ticket_until = asked + Duration::from_millis(grant.ticket_life_ms);
        state.ticket = grant.ticket;
        Ok(state.ticket.clone())
    }

    async fn base(&self) -> Result<Arc<OpenFile>, KindError> {
        let open = || async {
            let version = Version(self.attr().version);
            let asked = Instant::now();
            let request = OpenRead { files: vec![(self.file.0, version.0)] };
            let reply = self.inner.masters.call(&request).await?.files.into_iter().next();
            let reply = reply.ok_or_else(|| KindError::new(ErrorKind::Corrupt, "OpenRead: no answer for the file"))?;
            Ok(Arc::new(OpenFile::new(self.inner.clone(), Arc::new(Grant::new(reply, asked)?))))
        };
        self.base.get_or_try_init(open).await.cloned()
    }

    /// Before anything was changed: the version that was granted.
    async fn read_base(&self, offset: u64, length: u32) -> Result<Bytes, KindError> {
        self.alive()?;
        {
            let state = self.state();
            if state.truncated || offset >= state.size {
                return Ok(Bytes::new());
            }
        }
        Ok(self.base().await?.read(offset, length).await?.into_bytes())
    }

    /// Where the session is; it begins there if it has not yet, with the content that the file has.
    async fn begun(&self) -> Result<Arc<Place>, KindError> {
        self.alive()?;
        let mut held = self.place.lock().await;
        self.alive()?;
        if let Some(place) = &*held {
            return Ok(place.clone());
        }
        let (place, stands) = session_place::begin(self).await?;
        let copies = stands.is_new && !self.state().truncated && self.state().attr.size > 0;
        if copies && let Err(error) = self.copy_base(&place).await {
            // Half of it must not be taken for the file.
            let _ = place.once(&self.inner, &EndSession { file_id: self.file.0 }).await;
            return Err(error);
        }
        if !stands.is_new {
            // What a writer before this one left there: it counts, as what a killed program wrote does on a local disk.
            tracing::info!(file = %self.file, size = stands.size, "joined a write session that another writer left");
        }
        let truncated = self.state().truncated;
        if !stands.is_new && truncated {
            place.call(self, &ResizeSession { file_id: self.file.0, size: 0 }, self.patience()).await?;
        }
        {
            let mut state = self.state();
            state.size = match (stands.is_new, truncated) {
                (_, true) => 0,
                (true, false) => state.attr.size,
                (false, false) => stands.size,
            };
        }
        let place = Arc::new(place);
        *held = Some(place.clone());
        Ok(place)
    }

    async fn copy_base(&self, place: &Place) -> Result<(), KindError> {
        let (base, size) = (self.base().await?, self.attr().size);
        let mut offset = 0;
        while offset < size {
            let length = (size - offset).min(PIECE_BYTES_MAX as u64) as u32;
            let bytes = base.read(offset, length).await?;
            if bytes.len() != length as usize {
                return Err(KindError::new(ErrorKind::Corrupt, "the file is shorter than the master says"));
            }
            let request = WriteBytes { file_id: self.file.0, offset, bytes: bytes.to_vec() };
            place.call(self, &request, self.patience()).await?;
            offset += u64::from(length);
        }
        Ok(())
    }
}
