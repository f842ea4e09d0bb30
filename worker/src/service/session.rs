//! Write sessions as a shard serves them. A connection may use those for which it presented a ticket.

use super::{Service, Session, check_batch};
use crate::sessions::Live;
use forebay_base::placement::shard_of;
use forebay_base::{ErrorKind, FileId, KindError, log, unix_now_ms};
use forebay_net::message::Empty;
use forebay_net::message::session::{
    EndSession, OpenSession, ReadSession, RenewSessions, ResizeSession, SaveSession, SessionBytes, SessionState,
    SyncSession, WriteSession,
};
use forebay_net::message::write::PIECE_BYTES_MAX;
use forebay_net::transport::glommio::ShardReply;
use forebay_net::write_ticket::WriteTicket;
use forebay_net::{Peer, write_ticket};
use hashbrown::HashMap;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::PoisonError;

/// The sessions that a connection may use.
#[derive(Default)]
pub(super) struct Opened(RefCell<HashMap<u64, Rc<Live>>>);

impl Opened {
    fn keep(&self, live: &Rc<Live>) {
        let mut all = self.0.borrow_mut();
        all.retain(|_, live| !live.has_ended());
        all.insert(live.file.0, live.clone());
    }

    /// One that was presented here and goes on.
    fn get(&self, file_id: u64) -> Result<Rc<Live>, KindError> {
        let found = self.0.borrow().get(&file_id).filter(|live| !live.has_ended()).cloned();
        let live = found.ok_or_else(|| {
            let message = format!("file {file_id}: no write session was opened on this connection, or it has ended");
            KindError::new(ErrorKind::TicketRequired, message)
        })?;
        live.touch();
        Ok(live)
    }
}

fn invalid(message: String) -> KindError {
    KindError::new(ErrorKind::Invalid, message)
}

fn stands(size: u64, is_new: bool) -> ShardReply {
    ShardReply::of(&SessionState { size, is_new })
}

fn done() -> ShardReply {
    ShardReply::of(&Empty::default())
}

impl Service {
    fn session_ticket(&self, bytes: &[u8]) -> Result<WriteTicket, KindError> {
        let key = *self.ticket_key.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = write_ticket::verify(bytes, &key, unix_now_ms())?;
        if ticket.file_id == 0 {
            return Err(KindError::new(
                ErrorKind::TicketRequired,
                "write ticket: it is for an upload, not for a session",
            ));
        }
        let file = FileId(ticket.file_id);
        let owner = shard_of(file, self.shards);
        if owner != self.shard {
            return Err(invalid(format!(
                "file {file}: core {owner} of this worker has its write session, not {}",
                self.shard
            )));
        }
        Ok(ticket)
    }

    pub(super) async fn open_session(&self, session: &Session, request: OpenSession) -> Result<ShardReply, KindError> {
        let ticket = self.session_ticket(&request.ticket)?;
        let (live, is_new) = self.sessions.begin(&ticket, request.join_only).await?;
        session.opened.keep(&live);
        Ok(stands(live.content.size(), is_new))
    }

    pub(super) async fn write_session(
        &self,
        session: &Session,
        request: WriteSession,
    ) -> Result<ShardReply, KindError> {
        let live = session.opened.get(request.file_id)?;
        let length = request.bytes.len();
        if length > PIECE_BYTES_MAX {
            return Err(invalid(format!("WriteSession: got {length} bytes, want at most {PIECE_BYTES_MAX}")));
        }
        let size = match length {
            0 => live.content.size(),
            _ => self.sessions.write(&live, request.offset, request.bytes).await?,
        };
        Ok(stands(size, false))
    }

    pub(super) async fn read_session(&self, session: &Session, request: ReadSession) -> Result<ShardReply, KindError> {
        let live = session.opened.get(request.file_id)?;
        let length = request.length as usize;
        if length > PIECE_BYTES_MAX {
            return Err(invalid(format!(
                "ReadSession: got a length of {length} bytes, want at most {PIECE_BYTES_MAX}"
            )));
        }
        let bytes = match length {
            0 => Vec::new(),
            _ => self.sessions.read(&live, request.offset, length).await?,
        };
        Ok(ShardReply::of(&SessionBytes { bytes }))
    }

    pub(super) async fn resize_session(
        &self,
        session: &Session,
        request: ResizeSession,
    ) -> Result<ShardReply, KindError> {
        let live = session.opened.get(request.file_id)?;
        Ok(stands(self.sessions.resize(&live, request.size).await?, false))
    }

    pub(super) async fn sync_session(&self, session: &Session, request: SyncSession) -> Result<ShardReply, KindError> {
        let live = session.opened.get(request.file_id)?;
        self.sessions.sync(&live).await?;
        Ok(done())
    }

    pub(super) async fn save_session(
        &self,
        session: &Session,
        peer: &Peer,
        request: SaveSession,
    ) -> Result<ShardReply, KindError> {
        let live = session.opened.get(request.file_id)?;
        let ticket = self.session_ticket(&request.ticket)?;
        if ticket.file_id != request.file_id {
            return Err(KindError::new(ErrorKind::TicketRequired, "write ticket: it is for another file"));
        }
        let (mount, subject) = (ticket.mount_id, ticket.store_key.clone());
        let result = self.sessions.save(&live, ticket, request.ticket).await;
        let outcome = match &result {
            Ok(_) => "done".to_string(),
            Err(error) => format!("failed ({}): {}", error.kind, error.message),
        };
        let bytes = live.content.size();
        tracing::info!(target: log::AUDIT, op = "SaveSession", role = ?peer.role, peer = peer.address, mount, subject, bytes, outcome);
        result.map(|reply| ShardReply::of(&reply))
    }

    pub(super) async fn end_session(&self, session: &Session, request: EndSession) -> Result<ShardReply, KindError> {
        match session.opened.get(request.file_id) {
            Ok(live) => self.sessions.end(&live).await?,
            Err(_) if !self.sessions.has(FileId(request.file_id)) => {}
            Err(error) => return Err(error),
        }
        Ok(done())
    }

    pub(super) fn renew_sessions(&self, session: &Session, request: &RenewSessions) -> Result<ShardReply, KindError> {
        check_batch(request.file_ids.len())?;
        for file_id in &request.file_ids {
            // Those of others are passed over.
            let _ = session.opened.get(*file_id);
        }
        Ok(done())
    }
}
