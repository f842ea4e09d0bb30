//! Whole files on their way into stores: the store threads' side. A shard hands pieces through a short channel, so that a
//! slow store slows whoever sends them.
//!
//! Invariants: what all uploads of this worker hold in memory is bounded, beyond it new ones wait; an upload that nobody
//! finishes is given up: when its shard's end is dropped, or when nothing comes for `IDLE`.

use crate::leftovers::{Leftovers, Note};
use crate::store_gate::StoreGate;
use bytes::Bytes;
use forebay_base::{ErrorKind, KindError, MountId};
use forebay_ufs::{ObjectMeta, StoreError, Upload, WriteMode};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// An upload that gets no piece and no end for this long is given up.
const IDLE: Duration = Duration::from_secs(30);
/// Pieces between shard and store, per upload.
const PIECES_UNDER_WAY: usize = 2;
/// What all uploads of the process hold, in KiB.
const MEMORY_KIB: u32 = 128 << 10;
/// What an upload counts for at least and at most: also its pieces wait somewhere.
const LEAST_KIB: u32 = 512;

/// What to write.
pub(crate) struct UploadRequest {
    pub(crate) mount: MountId,
    pub(crate) key: String,
    pub(crate) mode: WriteMode,
    /// Unless it is not known yet.
    pub(crate) size: Option<u64>,
}

enum Step {
    Piece(Bytes),
    Finish(oneshot::Sender<Result<ObjectMeta, KindError>>),
}

/// Why an upload ended before its time.
type Ended = Arc<Mutex<Option<KindError>>>;

/// A shard's end of an upload; dropping it gives the upload up.
pub(crate) struct UploadLane {
    steps: mpsc::Sender<Step>,
    ended: Ended,
}

impl UploadLane {
    /// Hands a piece on; waits while the store is behind.
    pub(crate) async fn piece(&self, bytes: Bytes) -> Result<(), KindError> {
        self.steps.send(Step::Piece(bytes)).await.map_err(|_| self.why())
    }

    /// All pieces were handed on: the file as the store has it.
    pub(crate) async fn finish(&self) -> Result<ObjectMeta, KindError> {
        let (done, finished) = oneshot::channel();
        self.steps.send(Step::Finish(done)).await.map_err(|_| self.why())?;
        finished.await.unwrap_or_else(|_| Err(self.why()))
    }

    fn why(&self) -> KindError {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.clone().unwrap_or_else(|| KindError::new(ErrorKind::Closed, "the worker is ending"))
    }
}

/// All uploads of a worker; shared by its shards.
pub(crate) struct Uploads {
    gate: Arc<StoreGate>,
    leftovers: Arc<Leftovers>,
    memory: Arc<Semaphore>,
}

impl Uploads {
    pub(crate) fn new(gate: Arc<StoreGate>, leftovers: Arc<Leftovers>) -> Arc<Self> {
        Arc::new(Self { gate, leftovers, memory: Arc::new(Semaphore::new(MEMORY_KIB as usize)) })
    }

    /// Begins an upload, when there is room for it.
    pub(crate) async fn begin(self: &Arc<Self>, request: UploadRequest) -> Result<UploadLane, KindError> {
        let (steps, coming) = mpsc::channel(PIECES_UNDER_WAY);
        let (ready, begun) = oneshot::channel();
        let ended = Ended::default();
        let (uploads, told) = (self.clone(), ended.clone());
        self.gate.runtime().spawn(async move {
            if let Err(error) = uploads.run(request, ready, coming).await {
                tracing::debug!(%error, "an upload ended early");
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        });
        let closed = || KindError::new(ErrorKind::Closed, "the worker is ending");
        begun.await.unwrap_or_else(|_| Err(closed()))?;
        Ok(UploadLane { steps, ended })
    }

    async fn run(
        &self,
        request: UploadRequest,
        mut ready: oneshot::Sender<Result<(), KindError>>,
        coming: mpsc::Receiver<Step>,
    ) -> Result<(), KindError> {
        let beginning = async {
            let store = self.gate.open_store(request.mount).await?;
            let bytes = store.upload_memory_bytes(request.size);
            let kib = u32::try_from(bytes >> 10).unwrap_or(MEMORY_KIB).clamp(LEAST_KIB, MEMORY_KIB);
            let closed = |_| KindError::new(ErrorKind::Closed, "the worker is ending");
            let held = self.memory.clone().acquire_many_owned(kib).await.map_err(closed)?;
            let upload = store.begin_upload(&request.key, request.mode, request.size).await;
            upload.map(|upload| (upload, held)).map_err(upload_error)
        };
        let begun = tokio::select! {
            // Whoever asked has gone.
            () = ready.closed() => return Ok(()),
            begun = beginning => begun,
        };
        let (upload, _held) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                let _ = ready.send(Err(error));
                return Ok(());
            }
        };
        let mut note = self.leftovers.note();
        note.set(request.mount, upload.leftover());
        if ready.send(Ok(())).is_err() {
            return give_up(upload, note).await;
        }
        take(upload, note, request.mount, coming).await
    }
}

/// Takes steps until the upload has ended in one way or another.
async fn take(
    mut upload: Box<dyn Upload>,
    mut note: Note,
    mount: MountId,
    mut coming: mpsc::Receiver<Step>,
) -> Result<(), KindError> {
    loop {
        match tokio::time::timeout(IDLE, coming.recv()).await {
            Ok(Some(Step::Piece(bytes))) => {
                let written = upload.write(bytes).await;
                note.set(mount, upload.leftover());
                if let Err(error) = written {
                    give_up(upload, note).await?;
                    return Err(upload_error(error));
                }
            }
            Ok(Some(Step::Finish(done))) => {
                let finished = upload.finish().await;
                if finished.is_ok() {
                    // On error what is left, if anything, is removed by its note.
                    note.done();
                }
                let _ = done.send(finished.map_err(upload_error));
                return Ok(());
            }
            Ok(None) => return give_up(upload, note).await,
            Err(_) => {
                give_up(upload, note).await?;
                let message = format!("the upload was given up: nothing came for {IDLE:?}");
                return Err(KindError::new(ErrorKind::Unavailable, message));
            }
        }
    }
}

/// Removes what the store has; the note keeps what could not be removed.
async fn give_up(upload: Box<dyn Upload>, note: Note) -> Result<(), KindError> {
    match upload.abort().await {
        Ok(()) => note.done(),
        Err(error) => tracing::warn!(%error, "an upload could not be aborted yet"),
    }
    Ok(())
}

/// A store's error as writers get it.
fn upload_error(error: StoreError) -> KindError {
    KindError::new(error.kind, error.to_string())
}
