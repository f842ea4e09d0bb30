//! What all uploads of the process may hold in memory: each takes its share before it begins and gives it back when it
//! ends.
//!
//! Invariant: nobody waits for a share longer than `WAIT`; who comes first is served first, so that a large share is not
//! passed over for ever.

use forebay_base::{ByteSize, ErrorKind, KindError};
use forebay_net::message::write::{PIECE_BYTES_MAX, PIECES_WAITING_MAX};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pieces between shard and store, per upload.
pub(crate) const PIECES_UNDER_WAY: usize = 2;
/// Pieces of an upload: those that wait for their turn, between shard and store, and one in hand on either side.
const PIECES_BYTES: u64 = (PIECES_WAITING_MAX + PIECES_UNDER_WAY + 2) as u64 * PIECE_BYTES_MAX as u64;
/// What an upload counts for at least.
const LEAST_KIB: u64 = 512;
/// Then the client is told to ask again, here or elsewhere, and is not taken for lost meanwhile.
const WAIT: Duration = Duration::from_secs(2);

/// The memory, and what is left of it.
pub(crate) struct UploadMemory {
    kib: u32,
    free: Arc<Semaphore>,
    wait: Duration,
}

impl UploadMemory {
    pub(crate) fn new(kib: u32) -> Self {
        Self { kib, free: Arc::new(Semaphore::new(kib as usize)), wait: WAIT }
    }

    /// The share of an upload of `size` bytes of which the store holds up to `store_bytes`. `Unsupported` if there never
    /// is as much, `Overloaded` if there is not now.
    pub(crate) async fn take(&self, size: Option<u64>, store_bytes: u64) -> Result<OwnedSemaphorePermit, KindError> {
        // No byte is held twice.
        let bytes = size.unwrap_or(u64::MAX).min(store_bytes.saturating_add(PIECES_BYTES));
        let all = ByteSize(u64::from(self.kib) << 10);
        let kib = match u32::try_from(bytes.div_ceil(1 << 10).max(LEAST_KIB)) {
            Ok(kib) if kib <= self.kib => kib,
            _ => {
                let size = size.map_or("a file of unknown size".to_string(), |size| format!("a file of {size} bytes"));
                let want = ByteSize(bytes);
                let message = format!("{size} takes {want} of memory on its way into this store, a worker has {all}");
                return Err(KindError::new(ErrorKind::Unsupported, message));
            }
        };
        match tokio::time::timeout(self.wait, self.free.clone().acquire_many_owned(kib)).await {
            Ok(Ok(share)) => Ok(share),
            Ok(Err(_)) => Err(KindError::new(ErrorKind::Closed, "the worker is ending")),
            Err(_) => {
                let message = format!("other uploads of this worker hold the {all} of memory that it has for them");
                Err(KindError::new(ErrorKind::Overloaded, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn memory(mib: u32) -> UploadMemory {
        UploadMemory { wait: Duration::from_millis(50), ..UploadMemory::new(mib << 10) }
    }

    #[tokio::test]
    async fn beyond_the_bound_uploads_are_told_to_come_again() {
        let memory = memory(64);
        // Each wants 24 MiB at the store and 8 MiB of pieces.
        let first = memory.take(Some(100 * MIB), 24 * MIB).await.expect("half of it");
        let second = memory.take(None, 24 * MIB).await.expect("the other half");
        for size in [Some(100 * MIB), Some(1), None] {
            let full = memory.take(size, 24 * MIB).await.expect_err("nothing is left");
            assert_eq!(full.kind, ErrorKind::Overloaded, "{full}");
        }
        drop(first);
        let third = memory.take(Some(20 * MIB), 20 * MIB).await.expect("20 MiB of 32");
        let small = memory.take(Some(12 * MIB), 12 * MIB).await.expect("no more than its size");
        assert_eq!(memory.take(Some(0), 0).await.expect_err("full").kind, ErrorKind::Overloaded);
        drop((second, third, small));
        assert_eq!(memory.free.available_permits(), 64 << 10);
    }

    #[tokio::test]
    async fn twelve_at_once_all_have_their_turn() {
        let memory = Arc::new(memory(64));
        let uploads = (0..12).map(|_| {
            let memory = memory.clone();
            tokio::spawn(async move {
                loop {
                    match memory.take(Some(20 * MIB), 20 * MIB).await {
                        Ok(_share) => return tokio::time::sleep(Duration::from_millis(60)).await,
                        Err(error) => assert_eq!(error.kind, ErrorKind::Overloaded, "{error}"),
                    }
                }
            })
        });
        let all = tokio::time::timeout(Duration::from_secs(30), futures::future::try_join_all(uploads));
        all.await.expect("all ended").expect("none failed");
    }

    #[tokio::test]
    async fn what_never_fits_is_refused_at_once() {
        let memory = memory(64);
        for store_bytes in [65 * MIB, u64::MAX] {
            let refused = memory.take(Some(1 << 40), store_bytes).await.expect_err("more than there is");
            assert_eq!(refused.kind, ErrorKind::Unsupported, "{refused}");
            assert!(refused.message.contains("1099511627776") && refused.message.contains("64"), "{refused}");
        }
        assert!(memory.take(Some(1 << 40), 56 * MIB).await.is_ok());
    }
}
