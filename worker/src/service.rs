//! What one shard answers: bytes, loads, evictions, and what is held. Runs on the shard's executor; nothing here is `Send`.
//!
//! Invariants: bytes leave only under a valid ticket of their (file, version); a version that the feed called dead is
//! `Stale`; what concerns a file of another core is answered by that one.

mod explain;
mod load;
mod pin;
mod read;
mod session;
mod upload;
mod verify;

use crate::counters::{ShardCounters, ShardView};
use crate::feed::FeedWatch;
use crate::fetch::{Fetcher, PageFlight};
use crate::forward::Routes;
use crate::live::LiveVersions;
use crate::read_ahead::ReadAhead;
use crate::sessions::Sessions;
use crate::store_gate::StoreGate;
use crate::tickets::{Grant, Tickets};
use crate::uploads::Uploads;
use crate::within::{within, within_moving};
use ed25519_dalek::VerifyingKey;
use forebay_base::placement::shard_of;
use forebay_base::stall::{CoreTask, watched};
use forebay_base::{ErrorKind, FileId, KindError, ShardId, Version, limits, log, unix_now_ms};
use forebay_engine::{CachedPages, PageSlice, Store};
use forebay_net::message::cluster::{LogLevel, LogLevelReply};
use forebay_net::message::data::{
    BlockBytes, CacheStatus, CacheStatusReply, CachedBlocks, CachedBlocksReply, CachedBytes, Evict, EvictReply,
    Explain, Load, Pin, Read, Verify,
};
use forebay_net::message::handshake::Role;
use forebay_net::message::session::{
    EndSession, OpenSession, ReadSession, RenewSessions, ResizeSession, SaveSession, SyncSession, WriteSession,
};
use forebay_net::message::write::{AbortUpload, BeginUpload, FinishUpload, UploadPiece};
use forebay_net::ticket::VerifiedRoots;
use forebay_net::transport::glommio::{ShardReply, ShardService};
use forebay_net::{Op, Peer, decode};
use rkyv::util::AlignedVec;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use upload::mode_of;

/// How long a read waits for the feed that its ticket is ahead of.
const FEED_WAIT: Duration = Duration::from_secs(1);

/// Kept of a request's deadline for its answer.
const ANSWER_MARGIN: Duration = Duration::from_millis(250);

/// One connection.
#[derive(Default)]
pub(crate) struct Session {
    tickets: RefCell<Tickets>,
    receiving: upload::Receiving,
    opened: session::Opened,
}

/// One shard.
pub(crate) struct Service {
    pub(crate) shard: ShardId,
    pub(crate) shards: u16,
    pub(crate) page_bytes: u32,
    pub(crate) engine: Rc<Store>,
    /// `worker.eviction`.
    pub(crate) policy: String,
    pub(crate) fetcher: Rc<Fetcher>,
    pub(crate) gate: Arc<StoreGate>,
    pub(crate) uploads: Arc<Uploads>,
    pub(crate) sessions: Rc<Sessions>,
    pub(crate) view: Arc<ShardView>,
    pub(crate) live: Rc<RefCell<LiveVersions>>,
    pub(crate) read_ahead: RefCell<ReadAhead>,
    pub(crate) feed: FeedWatch,
    pub(crate) ticket_key: Arc<Mutex<VerifyingKey>>,
    pub(crate) roots: RefCell<VerifiedRoots>,
    pub(crate) routes: Routes,
}

impl ShardService for Service {
    type Session = Session;

    async fn call(
        &self,
        session: Rc<Session>,
        peer: Rc<Peer>,
        op: Op,
        body: AlignedVec,
        deadline: Duration,
    ) -> Result<ShardReply, KindError> {
        // Before the transport gives up, so that the answer can name the store that was too slow.
        let until = Instant::now() + deadline.saturating_sub((deadline / 10).min(ANSWER_MARGIN));
        self.answer_timed(&session, &peer, op, &body, until).await
    }
}

impl Service {
    /// Answers a request that is this core's own, counted and timed.
    pub(crate) async fn answer_timed(
        &self,
        session: &Session,
        peer: &Peer,
        op: Op,
        body: &[u8],
        until: Instant,
    ) -> Result<ShardReply, KindError> {
        let (began, number) = (Instant::now(), number_of(op));
        let _served = Served { counters: &self.view.counters, number, began }.begin();
        watched(CoreTask::Request(number), self.answer(session, peer, op, body, began, until)).await
    }

    async fn answer(
        &self,
        session: &Session,
        peer: &Peer,
        op: Op,
        body: &[u8],
        began: Instant,
        until: Instant,
    ) -> Result<ShardReply, KindError> {
        match op {
            Op::Read => self.read(session, peer, decode::<Read>(body)?, began, until).await,
            Op::Load => self.load(session, peer, decode::<Load>(body)?, until).await,
            Op::Evict => self.evict(peer, decode::<Evict>(body)?).await,
            Op::CacheStatus => self.cache_status(decode::<CacheStatus>(body)?),
            Op::Verify => self.verify(session, peer, decode::<Verify>(body)?, until).await,
            Op::Pin => self.pin(peer, decode::<Pin>(body)?, until).await,
            Op::CachedBlocks => Ok(self.cached_blocks(&decode::<CachedBlocks>(body)?)),
            Op::BeginUpload => self.begin_upload(session, decode::<BeginUpload>(body)?).await,
            Op::UploadPiece => self.upload_piece(session, decode::<UploadPiece>(body)?).await,
            Op::FinishUpload => self.finish_upload(session, peer, decode::<FinishUpload>(body)?).await,
            Op::AbortUpload => Ok(self.abort_upload(session, &decode::<AbortUpload>(body)?)),
            Op::OpenSession => self.open_session(session, decode::<OpenSession>(body)?).await,
            Op::WriteSession => self.write_session(session, decode::<WriteSession>(body)?).await,
            Op::ReadSession => self.read_session(session, decode::<ReadSession>(body)?).await,
            Op::ResizeSession => self.resize_session(session, decode::<ResizeSession>(body)?).await,
            Op::SyncSession => self.sync_session(session, decode::<SyncSession>(body)?).await,
            Op::SaveSession => self.save_session(session, peer, decode::<SaveSession>(body)?).await,
            Op::EndSession => self.end_session(session, decode::<EndSession>(body)?).await,
            Op::RenewSessions => self.renew_sessions(session, &decode::<RenewSessions>(body)?),
            Op::Explain => self.explain(&decode::<Explain>(body)?),
            Op::LogLevel => log_level(peer, decode::<LogLevel>(body)?),
            other => {
                let message = format!("operation {other:?}: a worker does not answer this");
                Err(KindError::new(ErrorKind::Unsupported, message))
            }
        }
    }
}

/// Its place in `OPS`.
fn number_of(op: Op) -> u8 {
    match op {
        Op::Read => 0,
        Op::Load => 1,
        Op::Evict => 2,
        Op::CacheStatus => 3,
        Op::CachedBlocks => 4,
        Op::Verify => 5,
        Op::UploadPiece => 6,
        Op::FinishUpload => 7,
        Op::Pin => 8,
        Op::WriteSession => 9,
        Op::ReadSession => 10,
        Op::SyncSession => 11,
        Op::SaveSession => 12,
        _ => 13,
    }
}

/// A request that is being answered: counted and timed, also when its deadline ends it.
struct Served<'a> {
    counters: &'a ShardCounters,
    number: u8,
    began: Instant,
}

impl Served<'_> {
    fn begin(self) -> Self {
        self.counters.in_flight.add(1);
        self
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.counters.in_flight.sub(1);
        self.counters.request_seconds.at(usize::from(self.number)).record_since(self.began);
    }
}

/// Shows or changes the log filter of the process.
fn log_level(peer: &Peer, request: LogLevel) -> Result<ShardReply, KindError> {
    if peer.role != Role::Admin {
        let message = format!("LogLevel: got role {:?}, want Admin", peer.role);
        return Err(KindError::new(ErrorKind::Denied, message));
    }
    if !request.filter.is_empty() {
        log::set_level(&request.filter).map_err(|problem| KindError::new(ErrorKind::Invalid, problem))?;
        tracing::info!(target: log::AUDIT, op = "LogLevel", role = ?peer.role, peer = peer.address, subject = request.filter, outcome = "done");
    }
    Ok(ShardReply::of(&LogLevelReply { filter: log::level() }))
}

fn cached_bytes(held: CachedPages) -> CachedBytes {
    let CachedPages { mem_bytes, ssd_bytes, hdd_bytes, any_bytes } = held;
    CachedBytes { mem_bytes, ssd_bytes, hdd_bytes, any_bytes }
}

fn check_batch(items: usize) -> Result<(), KindError> {
    if items <= limits::BATCH_MAX {
        return Ok(());
    }
    let message = format!("batch: got {items} items, want at most {}", limits::BATCH_MAX);
    Err(KindError::new(ErrorKind::Invalid, message))
}

impl Service {
    /// The core that owns the file, if it is another one; that is counted.
    fn other_owner(&self, file: FileId) -> Option<ShardId> {
        let owner = shard_of(file, self.shards);
        if owner == self.shard {
            return None;
        }
        self.view.counters.misrouted_requests.add(1);
        Some(owner)
    }

    /// The grant for a file, from the ticket given or from one that this connection presented before.
    async fn grant(
        &self,
        session: &Session,
        wanted: Option<(FileId, Version)>,
        ticket: &[u8],
        until: Instant,
    ) -> Result<Rc<Grant>, KindError> {
        let now = unix_now_ms();
        let held = wanted.and_then(|(file, version)| {
            let tickets = session.tickets.borrow();
            if ticket.is_empty() { tickets.get(file, version, now) } else { tickets.same(file, version, ticket, now) }
        });
        let grant = match held {
            Some(grant) => grant,
            None if ticket.is_empty() => {
                let message = "no valid ticket for this file and version on this connection: present one";
                return Err(KindError::new(ErrorKind::TicketRequired, message));
            }
            None => {
                let key = *self.ticket_key.lock().unwrap_or_else(PoisonError::into_inner);
                let grant = Rc::new(Grant::verify(ticket, &key, &mut self.roots.borrow_mut(), now)?);
                if wanted.is_some_and(|wanted| wanted != (grant.key.file_id, grant.key.version)) {
                    let message = "ticket: it is for another file or version than the one asked for";
                    return Err(KindError::new(ErrorKind::TicketRequired, message));
                }
                if grant.feed_position > self.feed.position() {
                    // A feed that does not come (the master is away) is no reason to refuse immutable bytes.
                    within(until.min(Instant::now() + FEED_WAIT), self.feed.reach(grant.feed_position)).await;
                }
                // What nobody asks for by file is not asked for again without a ticket.
                if wanted.is_some() {
                    session.tickets.borrow_mut().keep(grant.clone(), now);
                }
                if grant.store_away {
                    self.gate.pulse(grant.mount).told_away(Instant::now());
                }
                grant
            }
        };
        if self.live.borrow().is_dead(grant.key.file_id, grant.key.version) {
            self.view.counters.stale_reads.add(1);
            let message = format!("file {} version {}: it has a newer version", grant.key.file_id, grant.key.version);
            return Err(KindError::new(ErrorKind::Stale, message));
        }
        Ok(grant)
    }

    async fn evict(&self, peer: &Peer, request: Evict) -> Result<ShardReply, KindError> {
        if !matches!(peer.role, Role::Admin | Role::Master) {
            let message = format!("evict: got role {:?}, want Admin or Master", peer.role);
            return Err(KindError::new(ErrorKind::Denied, message));
        }
        check_batch(request.file_ids.len())?;
        let files = request.file_ids.len();
        let freed_bytes = self.engine.free_files(request.file_ids.into_iter().map(FileId)).await;
        self.view.counters.evict_bytes.add(freed_bytes);
        tracing::info!(target: log::AUDIT, op = "Evict", role = ?peer.role, peer = peer.address, files, freed_bytes, outcome = "done");
        Ok(ShardReply::of(&EvictReply { freed_bytes }))
    }

    fn cache_status(&self, request: CacheStatus) -> Result<ShardReply, KindError> {
        check_batch(request.files.len())?;
        let status = |&(file, version): &(u64, u64)| {
            let held = self.engine.cached(FileId(file), Version(version));
            cached_bytes(held)
        };
        Ok(ShardReply::of(&CacheStatusReply { files: request.files.iter().map(status).collect() }))
    }

    fn cached_blocks(&self, request: &CachedBlocks) -> ShardReply {
        let content = (FileId(request.file_id), Version(request.version));
        let held = self.engine.cached_groups(content, limits::BLOCK_BYTES, request.first_block);
        let end = held.len() <= limits::BATCH_MAX;
        let block = |(block, held): (u32, CachedPages)| BlockBytes { block, cached: cached_bytes(held) };
        let blocks = held.into_iter().take(limits::BATCH_MAX).map(block).collect();
        ShardReply::of(&CachedBlocksReply { blocks, end })
    }

    /// Waits for a page from the store as long as the request has and the mount's deadline allows.
    async fn landed(&self, grant: &Grant, flight: &PageFlight, patience: Patience) -> Result<PageSlice, KindError> {
        let pulse = self.gate.pulse(grant.mount);
        let end = || pulse.until(patience.asked, patience.came).min(patience.until);
        within_moving(end, flight.wait()).await.unwrap_or_else(|| Err(self.gate.too_late(grant, patience.asked)))
    }
}

/// How long one reader has waited and will wait.
#[derive(Clone, Copy)]
struct Patience {
    /// When it asked, here or elsewhere.
    asked: Instant,
    /// When it came here.
    came: Instant,
    /// The end of its request.
    until: Instant,
}

impl Patience {
    /// For a reader that has waited elsewhere for `waited_ms`.
    fn new(waited_ms: u32, until: Instant) -> Self {
        let came = Instant::now();
        let asked = came.checked_sub(Duration::from_millis(u64::from(waited_ms))).unwrap_or(came);
        Self { asked, came, until }
    }
}
