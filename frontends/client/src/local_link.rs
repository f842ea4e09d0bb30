//! The connection to one worker's socket for files, and the thread that talks on it: it asks, renews and gives back.
//!
//! Invariants: one request at a time; a lease belongs to the connection that it came over, so when that breaks no file
//! of it is given to new readers; what is given back is kept until the thread has said so.

use crate::local_file::LocalFile;
use forebay_base::{ErrorKind, KindError};
use forebay_net::Identity;
use forebay_net::message::handout::{LEASE_GRANTED, LeaseFile, RenewLeases, ReturnLeases};
use forebay_net::transport::descriptors::DescriptorStream;
use hashbrown::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const RENEW: Duration = Duration::from_secs(10);
/// How long the thread leaves a lease that was given back lie, at most.
const TICK: Duration = Duration::from_secs(1);
/// One answer of the worker.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a connection that could not be made.
const RECONNECT_PAUSE: Duration = Duration::from_secs(2);
const ASKS_WAITING: usize = 256;
const RETURNS_AT_ONCE: usize = 1024;

/// What came of asking for a file.
pub(crate) enum Answer {
    /// The file.
    Granted(Arc<LocalFile>),
    /// One of the `LEASE_` states.
    Refused(u8),
    /// No connection, or an error.
    Failed,
}

struct Ask {
    ticket: Arc<[u8]>,
    reply: oneshot::Sender<Answer>,
}

/// Leases that nobody needs any more. Bounded by the leases there are.
#[derive(Default)]
pub(crate) struct Returned(Mutex<Vec<u64>>);

impl Returned {
    pub(crate) fn put(&self, lease: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(lease);
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A worker's socket for files.
pub(crate) struct LocalLink {
    path: PathBuf,
    asks: SyncSender<Ask>,
}

impl LocalLink {
    /// Starts the thread; it connects when something is asked, and ends with the link.
    pub(crate) fn start(path: PathBuf, identity: Identity) -> std::io::Result<LocalLink> {
        let (asks, asked) = mpsc::sync_channel(ASKS_WAITING);
        let own = path.clone();
        let talk = move || Talk { path, identity, connected: None, tried: None }.run(&asked);
        std::thread::Builder::new().name("local-files".into()).spawn(talk)?;
        Ok(LocalLink { path: own, asks })
    }

    /// Where the worker was when the link began.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Asks for a file; gives up waiting after `patience`.
    pub(crate) async fn ask(&self, ticket: Arc<[u8]>, patience: Duration) -> Answer {
        let (reply, answer) = oneshot::channel();
        match self.asks.try_send(Ask { ticket, reply }) {
            Ok(()) => match tokio::time::timeout(patience, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => Answer::Failed,
            },
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Answer::Failed,
        }
    }
}

struct Connected {
    stream: DescriptorStream,
    returned: Arc<Returned>,
    /// By lease: what its file hears of it.
    leases: HashMap<u64, Arc<AtomicBool>>,
    renewed: Instant,
}

/// The thread.
struct Talk {
    path: PathBuf,
    identity: Identity,
    connected: Option<Connected>,
    /// When a connection was tried in vain.
    tried: Option<Instant>,
}

impl Talk {
    fn run(mut self, asked: &Receiver<Ask>) {
        loop {
            let is_idle = self.connected.as_ref().is_none_or(|connected| connected.leases.is_empty());
            let ask = match is_idle {
                true => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => asked.recv_timeout(TICK),
            };
            match ask {
                // Who asked went on without it.
                Ok(ask) if ask.reply.is_closed() => {}
                Ok(ask) => {
                    let answer = self.lease(&ask.ticket);
                    // One that nobody waits for any more goes back with its drop.
                    let _ = ask.reply.send(answer);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Leases end with the connection.
                Err(RecvTimeoutError::Disconnected) => return self.lose("the client ended"),
            }
            if let Some(connected) = &mut self.connected
                && let Err(error) = connected.keep_up()
            {
                self.lose(&error.to_string());
            }
        }
    }

    fn lose(&mut self, why: &str) {
        let Some(connected) = self.connected.take() else { return };
        connected.leases.values().for_each(|gone| gone.store(true, Ordering::Relaxed));
        tracing::debug!(path = %self.path.display(), "leases of local files ended: {why}");
    }

    fn lease(&mut self, ticket: &[u8]) -> Answer {
        // The worker closes what was silent for long; that is seen only by asking.
        let was_connected = self.connected.is_some();
        match self.lease_once(ticket) {
            Answer::Failed if was_connected && self.connected.is_none() => self.lease_once(ticket),
            answer => answer,
        }
    }

    fn lease_once(&mut self, ticket: &[u8]) -> Answer {
        if self.connected.is_none() {
            if self.tried.is_some_and(|tried| tried.elapsed() < RECONNECT_PAUSE) {
                return Answer::Failed;
            }
            match DescriptorStream::connect(&self.path, &self.identity, PATIENCE) {
                Ok(stream) => {
                    let (returned, leases) = (Arc::default(), HashMap::new());
                    self.connected = Some(Connected { stream, returned, leases, renewed: Instant::now() });
                    self.tried = None;
                }
                Err(error) => {
                    tracing::debug!(path = %self.path.display(), %error, "no local files");
                    self.tried = Some(Instant::now());
                    return Answer::Failed;
                }
            }
        }
        let Some(connected) = &mut self.connected else { return Answer::Failed };
        match connected.lease(ticket) {
            Ok(answer) => answer,
            // The worker's own word about this file.
            Err(error) if matches!(error.kind, ErrorKind::Stale | ErrorKind::TicketRequired) => Answer::Failed,
            Err(error) => {
                self.lose(&error.to_string());
                Answer::Failed
            }
        }
    }
}

impl Connected {
    fn lease(&mut self, ticket: &[u8]) -> Result<Answer, KindError> {
        let (reply, descriptor) = self.stream.call(&LeaseFile { ticket: ticket.to_vec() })?;
        match (reply.state, descriptor) {
            (LEASE_GRANTED, Some(descriptor)) => {
                let gone: Arc<AtomicBool> = Arc::default();
                self.leases.insert(reply.lease_id, gone.clone());
                let (file, returned) = (File::from(descriptor), self.returned.clone());
                Ok(Answer::Granted(Arc::new(LocalFile::new(file, reply.size, reply.lease_id, returned, gone))))
            }
            // This process has no room for another descriptor.
            (LEASE_GRANTED, None) => {
                self.returned.put(reply.lease_id);
                Ok(Answer::Failed)
            }
            (state, _) => Ok(Answer::Refused(state)),
        }
    }

    /// Gives back and renews.
    fn keep_up(&mut self) -> Result<(), KindError> {
        let returned = self.returned.take();
        for lease_ids in returned.chunks(RETURNS_AT_ONCE) {
            lease_ids.iter().for_each(|lease| drop(self.leases.remove(lease)));
            self.stream.call(&ReturnLeases { lease_ids: lease_ids.to_vec() })?;
        }
        if self.renewed.elapsed() >= RENEW {
            let (reply, _) = self.stream.call(&RenewLeases::default())?;
            for lease in reply.gone {
                if let Some(gone) = self.leases.get(&lease) {
                    gone.store(true, Ordering::Relaxed);
                }
            }
            self.renewed = Instant::now();
        }
        Ok(())
    }
}
