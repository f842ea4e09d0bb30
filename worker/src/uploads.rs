//! Whole files on their way into stores: the store threads' side. A shard hands pieces through a short channel, so that a
//! slow store slows whoever sends them.
//!
//! Invariants: what all uploads of this worker hold in memory is bounded (`upload_memory`); an upload that nobody
//! finishes is given up: when its shard's end is dropped, or when nothing comes for `IDLE`; one that nobody waits for any
//! more gets no name.

use crate::leftovers::{Leftovers, Note};
use crate::store_gate::StoreGate;
use crate::upload_memory::{PIECES_UNDER_WAY, UploadMemory};
use bytes::Bytes;
use forebay_base::{ErrorKind, KindError, MountId, limits};
use forebay_ufs::{ObjectMeta, StoreError, Upload, WriteMode};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// An upload that gets no piece and no end for this long is given up.
const IDLE: Duration = Duration::from_secs(30);
/// What all uploads of the process hold, in KiB.
const MEMORY_KIB: u32 = 128 << 10;

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
    memory: UploadMemory,
}

impl Uploads {
    pub(crate) fn new(gate: Arc<StoreGate>, leftovers: Arc<Leftovers>) -> Arc<Self> {
        Arc::new(Self { gate, leftovers, memory: UploadMemory::new(MEMORY_KIB) })
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
            if let Some(size) = request.size.filter(|size| *size > limits::FILE_BYTES_MAX) {
                let message = format!("{size} bytes: a file has at most {} bytes", limits::FILE_BYTES_MAX);
                return Err(KindError::new(ErrorKind::Invalid, message));
            }
            let store = self.gate.open_store(request.mount).await?;
            let held = self.memory.take(request.size, store.upload_memory_bytes(request.size)).await?;
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
                finish(upload, note, done).await;
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

/// Finishes it, unless whoever asked goes away before the store names it: the client may have begun it anew elsewhere.
async fn finish(mut upload: Box<dyn Upload>, note: Note, mut done: oneshot::Sender<Result<ObjectMeta, KindError>>) {
    let gone = Arc::new(AtomicBool::new(done.is_closed()));
    upload.unless(gone.clone());
    let finished = {
        let mut finishing = pin!(upload.finish());
        tokio::select! {
            finished = &mut finishing => finished,
            () = done.closed() => {
                gone.store(true, Ordering::Release);
                finishing.await
            }
        }
    };
    if finished.is_ok() {
        // On error what is left, if anything, is removed by its note.
        note.done();
    }
    match done.send(finished.map_err(upload_error)) {
        Err(Ok(_)) => tracing::info!("a file got its name after whoever asked for it had gone"),
        Err(Err(error)) => tracing::debug!(%error, "an upload ended after whoever asked for it had gone"),
        Ok(()) => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_ufs::StoreLimits;

    #[tokio::test]
    async fn a_finish_that_nobody_waits_for_names_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("made");
        let limits = StoreLimits { concurrency: 4, deadline: Duration::from_secs(20), retries: 0 };
        let store = forebay_ufs::open(&format!("file://{}", data.display()), &[], limits).expect("a good URI");
        let leftovers = Leftovers::open(&dir.path().join("notes")).expect("made");
        for (is_there, want) in [(false, "newer"), (true, "older")] {
            std::fs::write(data.join("f"), "newer").expect("written");
            let mut upload = store.begin_upload("f", WriteMode::Replace, None).await.expect("begun");
            upload.write(Bytes::from_static(b"older")).await.expect("taken");
            let (done, finished) = oneshot::channel();
            let asker = is_there.then_some(finished);
            finish(upload, leftovers.note(), done).await;
            if let Some(finished) = asker {
                finished.await.expect("an answer").expect("a good one");
            }
            assert_eq!(std::fs::read_to_string(data.join("f")).expect("read"), want);
        }
    }
}
