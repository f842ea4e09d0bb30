//! The socket on which this worker hands whole local files to clients of its host: a thread that accepts and one for each
//! connection, plain ones, since no runtime here can pass descriptors. Cores are asked by message.
//!
//! Invariants: a file leaves only under a valid ticket of its (file, version), as bytes do; leases belong to their
//! connection and end with it, also when it says nothing for `SILENCE_MAX`; everything is bounded.

use crate::feed::FeedWatch;
use crate::live::LiveVersions;
use crate::shard::Command;
use crate::tickets::Grant;
use ed25519_dalek::VerifyingKey;
use forebay_base::placement::shard_of;
use forebay_base::{ErrorKind, KindError, limits, unix_now_ms};
use forebay_engine::{FileKey, NotLent, Store};
use forebay_net::message::handout::{
    LEASE_GRANTED, LEASE_NO_ROOM, LEASE_NOT_WHOLE, LEASE_NOT_YET, LEASE_SMALL, LeaseFile, LeaseFileReply, RenewLeases,
    RenewLeasesReply, ReturnLeases,
};
use forebay_net::message::{Empty, Wire};
use forebay_net::ticket::VerifiedRoots;
use forebay_net::transport::descriptors::{DescriptorListener, DescriptorStream, Request};
use forebay_net::{Identity, Op, Peer, decode};
use hashbrown::{HashMap, HashSet};
use rkyv::util::AlignedVec;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// Leases of one connection.
const LEASES_MAX: usize = 4096;
/// A connection that says nothing for so long has lost its leases; clients renew every 10 s.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const STACK_BYTES: usize = 256 << 10;
/// After an accept that failed: descriptors may be short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a core is asked.
pub(crate) enum Order {
    /// Hand a file out.
    Lend { key: FileKey, lease: u64, holder: u64, reply: oneshot::Sender<Result<File, Refusal>> },
    /// Leases were given back.
    GiveBack { leases: Vec<u64>, holder: u64 },
    /// A connection is gone.
    GiveAllBack { holder: u64 },
    /// Which leases of a connection are of contents that left.
    Gone { holder: u64, reply: oneshot::Sender<Vec<u64>> },
}

/// Why a core hands nothing out.
pub(crate) enum Refusal {
    /// The version is dead.
    Stale,
    /// The engine's reason.
    NotLent(NotLent),
}

/// Does what the socket's threads ask, on the core.
pub(crate) fn obey(order: Order, engine: &Rc<Store>, live: &LiveVersions) {
    match order {
        Order::Lend { key, reply, .. } if live.is_dead(key.file_id, key.version) => {
            let _ = reply.send(Err(Refusal::Stale));
        }
        Order::Lend { key, lease, holder, reply } => {
            let engine = engine.clone();
            glommio::spawn_local(async move {
                let lent = engine.lend(&key, lease, holder).await.map_err(Refusal::NotLent);
                if reply.send(lent).is_err() {
                    // The connection is gone, and with it whoever would give it back.
                    engine.give_back(lease, holder);
                }
            })
            .detach();
        }
        Order::GiveBack { leases, holder } => leases.into_iter().for_each(|lease| engine.give_back(lease, holder)),
        Order::GiveAllBack { holder } => engine.give_all_back(holder),
        Order::Gone { holder, reply } => drop(reply.send(engine.gone_leases(holder))),
    }
}

/// What the threads share.
pub(crate) struct Handout {
    pub(crate) identity: Identity,
    pub(crate) ticket_key: Arc<Mutex<VerifyingKey>>,
    pub(crate) feed: FeedWatch,
    /// Weak, so that the cores still see when their channel is to end.
    pub(crate) cores: Vec<mpsc::WeakSender<Command>>,
    pub(crate) next_lease: AtomicU64,
    pub(crate) connections: AtomicUsize,
}

impl Handout {
    /// Binds the socket and serves it until the process ends; the socket's file goes with what is returned.
    pub(crate) fn start(self, path: &Path) -> Result<DescriptorListener, KindError> {
        let listener = DescriptorListener::bind(path)?;
        let failed = |error: io::Error| KindError::new(ErrorKind::Internal, format!("{}: {error}", path.display()));
        let acceptor = listener.acceptor().map_err(failed)?;
        let shared = Arc::new(self);
        let accept = move || shared.accept(&acceptor);
        std::thread::Builder::new().name("files".into()).stack_size(STACK_BYTES).spawn(accept).map_err(failed)?;
        Ok(listener)
    }

    fn accept(self: Arc<Self>, acceptor: &UnixListener) {
        loop {
            let stream = match acceptor.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "no connection for files");
                    std::thread::sleep(ACCEPT_PAUSE);
                    continue;
                }
            };
            if self.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                // Closed: the client reads its bytes the usual way.
                self.connections.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let shared = self.clone();
            let serve = move || {
                shared.serve(stream);
                shared.connections.fetch_sub(1, Ordering::Relaxed);
            };
            if std::thread::Builder::new().name("files-peer".into()).stack_size(STACK_BYTES).spawn(serve).is_err() {
                self.connections.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn serve(&self, stream: UnixStream) {
        let (mut stream, peer) = match DescriptorStream::accept(stream, &self.identity, SILENCE_MAX) {
            Ok(accepted) => accepted,
            Err(error) => return tracing::debug!(%error, "a client for files is not let in"),
        };
        tracing::debug!(peer = peer.address, role = ?peer.role, "a client for files");
        let mut session = Session { shared: self, peer, roots: VerifiedRoots::default(), leases: HashMap::new() };
        loop {
            match stream.next() {
                Ok(Some(request)) => {
                    if let Err(error) = session.answer(&mut stream, &request) {
                        break tracing::debug!(peer = session.peer.address, %error, "a client for files is lost");
                    }
                }
                Ok(None) => break,
                Err(error) => break tracing::debug!(peer = session.peer.address, %error, "a client for files is lost"),
            }
        }
    }

    fn send(&self, core: usize, order: Order) -> Result<(), KindError> {
        let closed = || KindError::new(ErrorKind::Closed, "the worker is ending");
        let sender = self.cores.get(core).and_then(mpsc::WeakSender::upgrade).ok_or_else(closed)?;
        sender.blocking_send(Command::Handout(order)).map_err(|_| closed())
    }
}

/// One connection. Its leases end with it.
struct Session<'a> {
    shared: &'a Handout,
    peer: Peer,
    roots: VerifiedRoots,
    /// The core of each lease.
    leases: HashMap<u64, usize>,
}

impl Session<'_> {
    fn answer(&mut self, stream: &mut DescriptorStream, request: &Request) -> Result<(), forebay_net::NetError> {
        let body = &request.body;
        let result = match request.op {
            Op::LeaseFile => match decode::<LeaseFile>(body).and_then(|asked| self.lease(&asked)) {
                Ok((reply, Some(file))) => return stream.answer(request, Ok(reply.to_bytes()), Some(file.as_fd())),
                other => other.map(|(reply, _)| reply.to_bytes()),
            },
            Op::ReturnLeases => decode::<ReturnLeases>(body).and_then(|asked| self.give_back(asked)),
            Op::RenewLeases => decode::<RenewLeases>(body).and_then(|_| self.renew()),
            other => {
                let message = format!("operation {other:?}: the socket for files does not answer this");
                Err(KindError::new(ErrorKind::Unsupported, message))
            }
        };
        stream.answer(request, result, None)
    }

    fn lease(&mut self, asked: &LeaseFile) -> Result<(LeaseFileReply, Option<File>), KindError> {
        let refused = |state: u8| Ok((LeaseFileReply { state, ..LeaseFileReply::default() }, None));
        let key = *self.shared.ticket_key.lock().unwrap_or_else(PoisonError::into_inner);
        let grant = Grant::verify(&asked.ticket, &key, &mut self.roots, unix_now_ms())?;
        if grant.feed_position > self.shared.feed.position() {
            return refused(LEASE_NOT_YET);
        }
        if self.leases.len() >= LEASES_MAX {
            return refused(LEASE_NO_ROOM);
        }
        let core = usize::from(shard_of(grant.key.file_id, self.shared.cores.len() as u16).0);
        let lease = self.shared.next_lease.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        self.shared.send(core, Order::Lend { key: grant.key, lease, holder: self.peer.connection_id, reply })?;
        match answer.blocking_recv() {
            Ok(Ok(file)) => {
                self.leases.insert(lease, core);
                let reply = LeaseFileReply { state: LEASE_GRANTED, lease_id: lease, size: grant.key.size_bytes };
                Ok((reply, Some(file)))
            }
            Ok(Err(Refusal::Stale)) => {
                let message =
                    format!("file {} version {}: it has a newer version", grant.key.file_id, grant.key.version);
                Err(KindError::new(ErrorKind::Stale, message))
            }
            Ok(Err(Refusal::NotLent(why))) => refused(match why {
                NotLent::Small => LEASE_SMALL,
                NotLent::NotWhole => LEASE_NOT_WHOLE,
                NotLent::NotYet => LEASE_NOT_YET,
                NotLent::NoRoom => LEASE_NO_ROOM,
            }),
            Err(_) => Err(KindError::new(ErrorKind::Closed, "the worker is ending")),
        }
    }

    fn give_back(&mut self, asked: ReturnLeases) -> Result<AlignedVec, KindError> {
        if asked.lease_ids.len() > limits::BATCH_MAX {
            let message = format!("batch: got {} leases, want at most {}", asked.lease_ids.len(), limits::BATCH_MAX);
            return Err(KindError::new(ErrorKind::Invalid, message));
        }
        let mut by_core: HashMap<usize, Vec<u64>> = HashMap::new();
        for lease in asked.lease_ids {
            if let Some(core) = self.leases.remove(&lease) {
                by_core.entry(core).or_default().push(lease);
            }
        }
        for (core, leases) in by_core {
            self.shared.send(core, Order::GiveBack { leases, holder: self.peer.connection_id })?;
        }
        Ok(Empty::default().to_bytes())
    }

    fn cores(&self) -> HashSet<usize> {
        self.leases.values().copied().collect()
    }

    /// That it was heard of is the renewal.
    fn renew(&self) -> Result<AlignedVec, KindError> {
        let mut gone = Vec::new();
        for core in self.cores() {
            let (reply, answer) = oneshot::channel();
            self.shared.send(core, Order::Gone { holder: self.peer.connection_id, reply })?;
            gone.extend(answer.blocking_recv().unwrap_or_default());
        }
        Ok(RenewLeasesReply { gone }.to_bytes())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        for core in self.cores() {
            // A core that is gone holds nothing.
            let _ = self.shared.send(core, Order::GiveAllBack { holder: self.peer.connection_id });
        }
    }
}
