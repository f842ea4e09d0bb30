//! Which mounts this process has files open in, and the task that keeps the master told of it.
//!
//! The master is told at once when the set of held mounts changes (at most every 300 ms) and again every 5 s. At the end
//! it is told that nothing is held. Invariant: one telling at a time, so that the master hears them in order.

use crate::client::Inner;
use forebay_net::message::namespace::HoldMounts;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

const RENEW: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(300);
const LAST_WORD: Duration = Duration::from_secs(1);

/// Open files by mount.
pub(crate) struct Holds {
    client_id: u64,
    open: Mutex<BTreeMap<u32, u64>>,
    changed: Notify,
    telling: tokio::sync::Mutex<Told>,
}

/// What the master was told last.
#[derive(Default)]
struct Told {
    mounts: Vec<u32>,
    at: Option<Instant>,
    /// Whether the master may believe that something is held.
    doubt: bool,
    closed: bool,
}

/// One open file's share; given back when dropped.
pub(crate) struct Hold {
    holds: Arc<Holds>,
    mount_id: u32,
}

impl Holds {
    pub(crate) fn new(client_id: u64) -> Self {
        Self {
            client_id,
            open: Mutex::new(BTreeMap::new()),
            changed: Notify::new(),
            telling: tokio::sync::Mutex::default(),
        }
    }

    /// Who this client is to the master.
    pub(crate) fn client_id(&self) -> u64 {
        self.client_id
    }

    /// Counts one more open file.
    pub(crate) fn take(self: &Arc<Self>, mount_id: u32) -> Hold {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(mount_id).or_insert(0);
        *count += 1;
        if *count == 1 {
            self.changed.notify_one();
        }
        Hold { holds: self.clone(), mount_id }
    }

    fn snapshot(&self) -> Vec<(u32, u64)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(mount, count)| (*mount, *count)).collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut open = self.holds.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.mount_id) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.mount_id);
                self.holds.changed.notify_one();
            }
        }
    }
}

/// Runs until the client is gone or has said its last word.
pub(crate) async fn keep_told(client: Weak<Inner>, holds: Arc<Holds>) {
    loop {
        let _ = timeout(RENEW, holds.changed.notified()).await;
        let Some(inner) = client.upgrade() else { return };
        let mut told = holds.telling.lock().await;
        if told.closed {
            return;
        }
        let open = holds.snapshot();
        let mounts: Vec<u32> = open.iter().map(|(mount, _)| *mount).collect();
        if mounts == told.mounts && (mounts.is_empty() || told.at.is_some_and(|at| at.elapsed() < RENEW)) {
            continue;
        }
        told.doubt |= !open.is_empty();
        let request = HoldMounts { client_id: holds.client_id, open_files: open };
        match inner.masters.call(&request).await {
            Ok(_) => {
                told.doubt = !mounts.is_empty();
                (told.mounts, told.at) = (mounts, Some(Instant::now()));
            }
            Err(error) => tracing::debug!(%error, "the master was not told of open files"),
        }
        drop((told, inner));
        tokio::time::sleep(PAUSE).await;
    }
}

/// The last word: nothing is held any more. Gives up after `LAST_WORD`; the master then forgets by itself.
pub(crate) async fn tell_closed(inner: &Inner) {
    let holds = &inner.holds;
    let tell = async {
        let mut told = holds.telling.lock().await;
        told.closed = true;
        if told.doubt {
            let request = HoldMounts { client_id: holds.client_id, open_files: Vec::new() };
            match inner.masters.call(&request).await {
                Ok(_) => told.doubt = false,
                Err(error) => tracing::debug!(%error, "the master was not told that nothing is open"),
            }
        }
    };
    if timeout(LAST_WORD, tell).await.is_err() {
        tracing::debug!("the master was not told in time that nothing is open");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_are_counted_and_given_back() {
        let holds = Arc::new(Holds::new(1));
        let (a, b, c) = (holds.take(1), holds.take(1), holds.take(2));
        assert_eq!(holds.snapshot(), [(1, 2), (2, 1)]);
        drop((a, c));
        assert_eq!(holds.snapshot(), [(1, 1)]);
        drop(b);
        assert!(holds.snapshot().is_empty());
    }
}
