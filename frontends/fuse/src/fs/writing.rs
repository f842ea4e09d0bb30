//! One file that programs of this mount change: its write session, who has it open, and what the kernel is told of it.
//! Shared by the mount's threads.
//!
//! Invariants: one save at a time, and none of a file that was removed; attributes that were set while content waits are set
//! again once the store has that content; after `end` nobody enters any more.

use super::changes::ms_of;
use super::node_table::node_attr;
use crate::handler::{AttrChange, Errno, NodeAttr};
use bytes::Bytes;
use forebay_base::{ErrorKind, FileId, KindError, unix_now_ms};
use forebay_client::message::change::SetAttr;
use forebay_client::message::namespace::Attr;
use forebay_client::{Client, OpenFile, WriteSession};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file that is being changed.
pub(super) struct Writing {
    pub(super) file_id: FileId,
    client: Client,
    session: Mutex<Arc<WriteSession>>,
    state: Mutex<State>,
    /// Held by whoever saves, removes or renames the file.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// The content as it was saved last, for those that still read it after the session; none while somebody may write.
    saved: Mutex<Option<Arc<OpenFile>>>,
}

struct State {
    /// As the master said last; mode and owner are the file's, whatever its store makes of a new content.
    attr: Attr,
    /// The store does not have the file yet.
    is_new: bool,
    /// When it was written last, while that is not saved.
    written_ms: Option<u64>,
    /// What utimens(2) set, while that is not saved.
    set_mtime_ms: Option<u64>,
    writers: u32,
    readers: u32,
    is_removed: bool,
    has_ended: bool,
    failure: Option<Errno>,
}

impl Writing {
    /// `is_new`: the file was created just now.
    pub(super) fn new(client: Client, attr: Attr, session: Arc<WriteSession>, is_new: bool) -> Self {
        let state = State {
            attr,
            is_new,
            written_ms: is_new.then(unix_now_ms),
            set_mtime_ms: None,
            writers: 0,
            readers: 0,
            is_removed: false,
            has_ended: false,
            failure: None,
        };
        let file_id = FileId(state.attr.file_id);
        Self {
            file_id,
            client,
            session: Mutex::new(session),
            state: Mutex::new(state),
            turn: Arc::default(),
            saved: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saved(&self) -> MutexGuard<'_, Option<Arc<OpenFile>>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self) -> Arc<WriteSession> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does something with the session. If nothing was changed in it yet, and the file has another content or key than the one
    /// that it was granted with (its own new name or mode does that in some stores), it begins anew.
    async fn attempt<T>(&self, work: impl AsyncFn(&WriteSession) -> Result<T, KindError>) -> Result<T, KindError> {
        let session = self.session();
        match work(&session).await {
            Err(error) if error.kind == ErrorKind::Stale && !session.is_dirty() => {
                self.begin_anew(&session).await?;
                work(&self.session()).await
            }
            done => done,
        }
    }

    async fn begin_anew(&self, old: &Arc<WriteSession>) -> Result<(), KindError> {
        let _turn = self.turn.lock().await;
        if !Arc::ptr_eq(&self.session(), old) || self.state().is_removed {
            return Ok(());
        }
        let (attr, fresh) = self.client.write_session(self.file_id).await?;
        self.state().attr = attr;
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        if let Err(error) = old.end().await {
            tracing::debug!(file_id = self.file_id.0, %error, "a write session was not ended; it lapses");
        }
        Ok(())
    }

    /// Counts an open; false if the session has ended.
    pub(super) fn enter(&self, writes: bool) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        let count = if writes { &mut state.writers } else { &mut state.readers };
        *count += u32::from(!state.has_ended);
        if writes && !state.has_ended {
            *self.saved() = None;
        }
        !state.has_ended
    }

    /// An open is released; true when nobody may write any more.
    pub(super) fn leave(&self, writes: bool) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        let count = if writes { &mut state.writers } else { &mut state.readers };
        *count = count.saturating_sub(1);
        state.writers == 0
    }

    /// Nobody enters from now on: true if nobody may write, and those that read have what was saved.
    pub(super) fn end(&self) -> bool {
        let mut state = self.state();
        let may_end = state.writers == 0 && (state.readers == 0 || self.saved().is_some());
        state.has_ended |= may_end;
        may_end
    }

    /// Whether somebody may write still.
    pub(super) fn is_in_use(&self) -> bool {
        self.state().writers > 0
    }

    /// The mount is gone, and with it everybody who had the file open.
    pub(super) fn forget_opens(&self) {
        let mut state = self.state();
        (state.writers, state.readers) = (0, 0);
    }

    /// Whether it is too late to enter.
    pub(super) fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// The open handles that read, and the content that they should see, if the store has it.
    pub(super) fn read_on(&self) -> Option<Attr> {
        let state = self.state();
        (state.readers > 0 && !state.is_removed).then(|| state.attr.clone())
    }

    /// What those that read get from now on, unless somebody may write again.
    pub(super) fn set_saved(&self, file: OpenFile) {
        let state = self.state();
        if state.writers == 0 {
            *self.saved() = Some(Arc::new(file));
        }
    }

    /// What the kernel is told.
    pub(super) fn attr(&self) -> NodeAttr {
        let state = self.state();
        let mut attr = node_attr(&state.attr);
        if !state.has_ended {
            attr.size = self.session().size();
        }
        attr.mtime_ms = state.set_mtime_ms.or(state.written_ms).unwrap_or(attr.mtime_ms);
        attr.nlink = u32::from(!state.is_removed);
        attr
    }

    /// The file has no name any more: nothing of it is saved.
    pub(super) fn set_removed(&self) {
        self.state().is_removed = true;
    }

    /// Whether there is something that the store should have.
    pub(super) fn is_unsaved(&self) -> bool {
        let state = self.state();
        !state.is_removed && (state.is_new || state.set_mtime_ms.is_some() || self.session().is_dirty())
    }

    fn note_written(&self) {
        let mut state = self.state();
        state.written_ms = Some(unix_now_ms());
        state.set_mtime_ms = None;
    }

    /// Writes at an offset.
    pub(super) async fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), KindError> {
        self.attempt(async |session| session.write(offset, bytes).await).await?;
        self.note_written();
        Ok(())
    }

    /// Reads; from what was saved once the session is over.
    pub(super) async fn read(&self, offset: u64, size: u32) -> Result<Bytes, KindError> {
        if !self.has_ended() {
            let read = self.attempt(async |session| session.read(offset, size).await).await;
            if read.is_ok() || !self.has_ended() {
                return read;
            }
        }
        let saved = self.saved().clone();
        match saved {
            Some(saved) => Ok(saved.read(offset, size).await?.into_bytes()),
            None => Err(KindError::new(ErrorKind::Closed, "the write session has ended")),
        }
    }

    /// Cuts or lengthens.
    pub(super) async fn resize(&self, size: u64) -> Result<(), KindError> {
        if size == 0 {
            self.attempt(async |session| session.truncate().await).await?;
        } else {
            self.attempt(async |session| session.resize(size).await).await?;
        }
        self.note_written();
        Ok(())
    }

    /// Lengthens if it is shorter.
    pub(super) async fn reserve(&self, size: u64) -> Result<(), KindError> {
        if size > self.session().size() { self.resize(size).await } else { Ok(()) }
    }

    /// Durable at the worker, unless a save that nobody heard of has failed.
    pub(super) async fn sync(&self) -> Result<Result<(), KindError>, Errno> {
        if let Some(errno) = self.state().failure {
            return Err(errno);
        }
        Ok(self.session().sync().await)
    }

    /// Remembers that a save failed, for fsync(2).
    pub(super) fn set_failed(&self, errno: Errno) {
        self.state().failure = Some(errno);
    }

    /// Puts the content into the store if it is not there. True if the namespace has something new.
    pub(super) async fn save(&self, client: &Client) -> Result<bool, KindError> {
        let _turn = self.turn.lock().await;
        if !self.is_unsaved() {
            return Ok(false);
        }
        let is_new = self.state().is_new;
        if is_new || self.session().is_dirty() {
            let saved = match self.session().save().await {
                // Somebody else took its name away: there is nothing to keep.
                Err(error) if error.kind == ErrorKind::NotFound && self.is_gone(client).await => {
                    self.set_removed();
                    return Ok(true);
                }
                saved => saved?,
            };
            let missing = {
                let mut state = self.state();
                let mut attr = saved;
                let wanted = (state.attr.mode, state.attr.uid, state.attr.gid);
                let differs = (attr.mode, attr.uid, attr.gid) != wanted;
                let missing = SetAttr {
                    file_id: attr.file_id,
                    mode: Some(wanted.0),
                    uid: (attr.uid != wanted.1).then_some(wanted.1),
                    gid: (attr.gid != wanted.2).then_some(wanted.2),
                    mtime_ms: None,
                };
                (attr.mode, attr.uid, attr.gid) = wanted;
                state.attr = attr;
                (state.is_new, state.failure) = (false, None);
                if !self.session().is_dirty() {
                    state.written_ms = None;
                }
                differs.then_some(missing)
            };
            if let Some(missing) = missing {
                let attr = client.master(&missing).await?;
                self.state().attr = attr;
            }
        }
        self.set_pending_mtime(client).await?;
        Ok(true)
    }

    async fn is_gone(&self, client: &Client) -> bool {
        client.get_attr(self.file_id).await.is_err_and(|error| error.kind == ErrorKind::NotFound)
    }

    async fn set_pending_mtime(&self, client: &Client) -> Result<(), KindError> {
        let Some(mtime_ms) = self.state().set_mtime_ms else { return Ok(()) };
        let change = SetAttr { file_id: self.file_id.0, mode: None, uid: None, gid: None, mtime_ms: Some(mtime_ms) };
        let attr = client.master(&change).await?;
        let mut state = self.state();
        state.attr = attr;
        if state.set_mtime_ms == Some(mtime_ms) {
            state.set_mtime_ms = None;
        }
        Ok(())
    }

    /// Changes attributes but the size. A time that is set while content waits is set once that is saved.
    pub(super) async fn change(&self, client: &Client, change: &AttrChange) -> Result<(), KindError> {
        let _turn = self.turn.lock().await;
        let mtime_ms = change.mtime.map(ms_of);
        let waits = self.session().is_dirty() || self.state().is_new;
        if waits && mtime_ms.is_some() {
            self.state().set_mtime_ms = mtime_ms;
        }
        let request = SetAttr {
            file_id: self.file_id.0,
            mode: change.mode,
            uid: change.uid,
            gid: change.gid,
            mtime_ms: mtime_ms.filter(|_| !waits),
        };
        if request.mode.or(request.uid).or(request.gid).is_none() && request.mtime_ms.is_none() {
            return Ok(());
        }
        if self.state().is_removed {
            // Only those that have it open see it any more.
            let mut state = self.state();
            let attr = &mut state.attr;
            attr.mode = change.mode.unwrap_or(attr.mode);
            attr.uid = change.uid.unwrap_or(attr.uid);
            attr.gid = change.gid.unwrap_or(attr.gid);
            attr.mtime_ms = request.mtime_ms.unwrap_or(attr.mtime_ms);
            return Ok(());
        }
        let attr = client.master(&request).await?;
        self.state().attr = attr;
        Ok(())
    }

    /// Lets the worker drop the session.
    pub(super) async fn close(&self) {
        if let Err(error) = self.session().end().await {
            tracing::debug!(file_id = self.file_id.0, %error, "a write session was not ended; it lapses");
        }
    }
}
