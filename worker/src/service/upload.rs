//! Uploads as a shard serves them: pieces are put into order and handed to the store threads. An upload belongs to its
//! connection and ends with it.
//!
//! Invariants: a piece is handed on when all before it were; what waits for that is bounded; nothing is taken beyond the
//! size that was announced.

use super::{Service, Session};
use crate::counters::{UPLOAD_DONE, UPLOAD_FAILED, UPLOAD_GIVEN_UP};
use crate::uploads::{UploadLane, UploadRequest};
use forebay_base::{ErrorKind, Fingerprint, KindError, MountId, limits, log, unix_now_ms};
use forebay_net::message::Empty;
use forebay_net::message::write::{
    AbortUpload, BeginUpload, FinishUpload, FinishUploadReply, PIECE_BYTES_MAX, PIECES_WAITING_MAX, SIZE_UNKNOWN,
    UploadPiece,
};
use forebay_net::transport::glommio::ShardReply;
use forebay_net::{Peer, write_ticket, write_ticket::WriteTicket};
use forebay_ufs::WriteMode;
use futures::channel::oneshot;
use hashbrown::HashMap;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};

/// Most uploads of one connection.
const UPLOADS_MAX: usize = 64;

/// One connection's uploads.
#[derive(Default)]
pub(super) struct Receiving(RefCell<HashMap<u64, Option<Rc<Inbox>>>>);

/// An upload whose pieces come in.
struct Inbox {
    lane: UploadLane,
    mount: MountId,
    key: String,
    /// The most bytes that may come.
    bytes_max: u64,
    /// Bytes handed on.
    next: Cell<u64>,
    /// Where the piece that is being handed on ends at least: one beyond its offset.
    taken: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, oneshot::Sender<()>>>,
    view: Arc<crate::counters::ShardView>,
    outcome: Cell<usize>,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.view.counters.uploads_in_flight.sub(1);
        self.view.counters.uploads.at(self.outcome.get()).add(1);
    }
}

fn invalid(message: String) -> KindError {
    KindError::new(ErrorKind::Invalid, message)
}

/// What a ticket lets an upload replace.
pub(crate) fn mode_of(ticket: &WriteTicket) -> WriteMode {
    match (ticket.create_only, ticket.replaces.as_str()) {
        (true, _) => WriteMode::CreateOnly,
        (false, "") => WriteMode::Replace,
        (false, fingerprint) => WriteMode::ReplaceOnly(Fingerprint(fingerprint.to_string())),
    }
}

impl Receiving {
    fn get(&self, id: u64) -> Result<Rc<Inbox>, KindError> {
        let found = self.0.borrow().get(&id).cloned().flatten();
        found.ok_or_else(|| KindError::new(ErrorKind::Closed, format!("upload {id}: not on this connection, or ended")))
    }

    fn end(&self, id: u64) -> Option<Rc<Inbox>> {
        let inbox = self.0.borrow_mut().remove(&id).flatten();
        if let Some(inbox) = &inbox {
            // Whoever waits for a piece that will not come is told.
            inbox.waiting.borrow_mut().clear();
        }
        inbox
    }
}

/// Takes a number back if the upload does not begin.
struct Reserved<'a> {
    receiving: &'a Receiving,
    id: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut all = self.receiving.0.borrow_mut();
        if all.get(&self.id).is_some_and(Option::is_none) {
            all.remove(&self.id);
        }
    }
}

impl Service {
    pub(super) async fn begin_upload(&self, session: &Session, request: BeginUpload) -> Result<ShardReply, KindError> {
        let key = *self.ticket_key.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = write_ticket::verify(&request.ticket, &key, unix_now_ms())?;
        let id = request.upload_id;
        let receiving = &session.receiving;
        {
            let mut all = receiving.0.borrow_mut();
            if all.contains_key(&id) {
                return Err(invalid(format!("upload {id}: it has begun already")));
            }
            if all.len() >= UPLOADS_MAX {
                let message = format!("{UPLOADS_MAX} uploads are under way on this connection");
                return Err(KindError::new(ErrorKind::Overloaded, message));
            }
            all.insert(id, None);
        }
        let _reserved = Reserved { receiving, id };
        let size = Some(request.size).filter(|size| *size != SIZE_UNKNOWN);
        let upload = UploadRequest {
            mount: MountId(ticket.mount_id),
            key: ticket.store_key.clone(),
            mode: mode_of(&ticket),
            size,
        };
        let lane = match self.uploads.begin(upload).await {
            Ok(lane) => lane,
            Err(error) => {
                // One that there is no room for yet comes again.
                if error.kind != ErrorKind::Overloaded {
                    self.view.counters.uploads.at(UPLOAD_FAILED).add(1);
                }
                return Err(error);
            }
        };
        self.view.counters.uploads_in_flight.add(1);
        let inbox = Inbox {
            lane,
            mount: MountId(ticket.mount_id),
            key: ticket.store_key,
            bytes_max: size.unwrap_or(limits::FILE_BYTES_MAX),
            next: Cell::new(0),
            taken: Cell::new(0),
            waiting: RefCell::default(),
            view: self.view.clone(),
            outcome: Cell::new(UPLOAD_GIVEN_UP),
        };
        receiving.0.borrow_mut().insert(id, Some(Rc::new(inbox)));
        Ok(ShardReply::of(&Empty::default()))
    }

    pub(super) async fn upload_piece(&self, session: &Session, request: UploadPiece) -> Result<ShardReply, KindError> {
        let id = request.upload_id;
        let inbox = session.receiving.get(id)?;
        let length = request.bytes.len();
        if length == 0 || length > PIECE_BYTES_MAX {
            return Err(invalid(format!("upload {id}: got a piece of {length} bytes, want 1 to {PIECE_BYTES_MAX}")));
        }
        let end = request.offset.saturating_add(length as u64);
        if end > inbox.bytes_max {
            inbox.outcome.set(UPLOAD_FAILED);
            session.receiving.end(id);
            return Err(invalid(format!("upload {id}: got bytes up to {end}, want {} at most", inbox.bytes_max)));
        }
        inbox.turn(id, request.offset).await?;
        if let Err(error) = inbox.lane.piece(request.bytes.into()).await {
            inbox.outcome.set(UPLOAD_FAILED);
            session.receiving.end(id);
            return Err(error);
        }
        self.view.counters.upload_bytes.add(length as u64);
        inbox.went(length as u64);
        Ok(ShardReply::of(&Empty::default()))
    }

    pub(super) async fn finish_upload(
        &self,
        session: &Session,
        peer: &Peer,
        request: FinishUpload,
    ) -> Result<ShardReply, KindError> {
        let id = request.upload_id;
        let inbox = session.receiving.get(id)?;
        let got = inbox.next.get();
        if got != request.size {
            return Err(invalid(format!("upload {id}: got {got} bytes, want the {} of the whole file", request.size)));
        }
        session.receiving.end(id);
        let result = inbox.lane.finish().await;
        let outcome = match &result {
            Ok(_) => "done".to_string(),
            Err(error) => format!("failed ({}): {}", error.kind, error.message),
        };
        inbox.outcome.set(if result.is_ok() { UPLOAD_DONE } else { UPLOAD_FAILED });
        let (mount, subject) = (inbox.mount.0, &inbox.key);
        tracing::info!(target: log::AUDIT, op = "FinishUpload", role = ?peer.role, peer = peer.address, mount, subject, bytes = got, outcome);
        let meta = result?;
        let reply = FinishUploadReply { size: meta.size, mtime_ms: meta.mtime_ms, fingerprint: meta.fingerprint.0 };
        Ok(ShardReply::of(&reply))
    }

    pub(super) fn abort_upload(&self, session: &Session, request: &AbortUpload) -> ShardReply {
        session.receiving.end(request.upload_id);
        ShardReply::of(&Empty::default())
    }
}

impl Inbox {
    /// Waits until all before `offset` was handed on.
    async fn turn(&self, id: u64, offset: u64) -> Result<(), KindError> {
        let next = self.next.get();
        let wrong = || Err(invalid(format!("upload {id}: got the piece at {offset}, want the one at {next}")));
        if offset != next {
            let (come, turn) = oneshot::channel();
            {
                let mut waiting = self.waiting.borrow_mut();
                if offset < next || waiting.len() >= PIECES_WAITING_MAX || waiting.contains_key(&offset) {
                    return wrong();
                }
                waiting.insert(offset, come);
            }
            turn.await.map_err(|_| KindError::new(ErrorKind::Closed, format!("upload {id}: it has ended")))?;
        }
        if self.taken.get() > offset {
            return wrong();
        }
        self.taken.set(offset + 1);
        Ok(())
    }

    /// `length` bytes were handed on.
    fn went(&self, length: u64) {
        let next = self.next.get() + length;
        self.next.set(next);
        if let Some(turn) = self.waiting.borrow_mut().remove(&next) {
            let _ = turn.send(());
        }
    }
}
