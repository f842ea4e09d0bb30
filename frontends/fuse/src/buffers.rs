//! One serving thread's request buffers. A large WRITE keeps the buffer that it was read into until it is answered, so
//! that its bytes are not copied; small ones are copied out.
//!
//! Invariant: at most `LENT_MAX` buffers are lent; beyond that the thread reads no further request before one is back.

use bytes::Bytes;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Large writes of one thread in flight.
const LENT_MAX: usize = 16;
/// Buffers kept for the next ones.
const KEPT_MAX: usize = 4;
/// Copying this costs less than another buffer.
const COPIED_BYTES_MAX: usize = 64 << 10;

/// The buffers.
pub(crate) struct Buffers {
    bytes: usize,
    state: Mutex<State>,
    returned: Notify,
}

#[derive(Default)]
struct State {
    free: Vec<Vec<u8>>,
    lent: usize,
}

/// Bytes of a request that still lie where they were read.
struct Lent {
    buffer: Vec<u8>,
    range: Range<usize>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut state = self.home.state();
        state.lent -= 1;
        if state.free.len() < KEPT_MAX {
            state.free.push(std::mem::take(&mut self.buffer));
        }
        drop(state);
        self.home.returned.notify_one();
    }
}

impl Buffers {
    /// Buffers of `bytes` each.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes, state: Mutex::default(), returned: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer to read into.
    pub(crate) fn take(&self) -> Vec<u8> {
        let free = self.state().free.pop();
        free.unwrap_or_else(|| vec![0; self.bytes])
    }

    /// The bytes of a request; `buffer` is another one afterwards if they are many.
    pub(crate) fn payload(self: &Arc<Self>, buffer: &mut Vec<u8>, range: Range<usize>) -> Bytes {
        if range.len() <= COPIED_BYTES_MAX {
            return Bytes::copy_from_slice(buffer.get(range).unwrap_or_default());
        }
        let full = std::mem::replace(buffer, self.take());
        self.state().lent += 1;
        Bytes::from_owner(Lent { buffer: full, range, home: self.clone() })
    }

    /// Waits while too many are lent. One task waits at a time.
    pub(crate) async fn room(&self) {
        while self.state().lent >= LENT_MAX {
            self.returned.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_payloads_keep_their_buffer_and_their_number_is_bounded() {
        let buffers = Buffers::new(1 << 20);
        let mut buffer = buffers.take();
        buffer[100..104].copy_from_slice(b"abcd");
        let place = buffer.as_ptr();
        let small = buffers.payload(&mut buffer, 100..104);
        assert_eq!((&small[..], buffer.as_ptr()), (&b"abcd"[..], place));
        let large = buffers.payload(&mut buffer, 100..200_100);
        assert_eq!((&large[..4], large.len(), large.as_ptr()), (&b"abcd"[..], 200_000, place.wrapping_add(100)));
        assert_ne!(buffer.as_ptr(), place);
        let mut held: Vec<Bytes> = (1..LENT_MAX).map(|_| buffers.payload(&mut buffer, 0..100_000)).collect();
        let mut room = std::pin::pin!(buffers.room());
        assert!(futures::poll!(room.as_mut()).is_pending());
        drop(large);
        room.await;
        let again = buffers.take();
        assert_eq!(again.as_ptr(), place);
        held.clear();
        let counts = {
            let state = buffers.state();
            (state.lent, state.free.len())
        };
        assert_eq!(counts, (0, KEPT_MAX));
        buffers.room().await;
    }
}
