//! Keeps write sessions alive: tells the master each 5 s which files this client writes, and the workers each 10 s. One task
//! a client; it ends with the client.

use crate::client::Inner;
use crate::session::WriteSession;
use forebay_base::limits;
use forebay_net::message::change::HoldSessions;
use futures::StreamExt;
use hashbrown::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

const TELL: Duration = Duration::from_secs(5);
/// Workers are told with each so-many-th telling.
const RENEW_EACH: u32 = 2;
/// Sessions that are renewed at once.
const UNDER_WAY: usize = 16;

/// The live sessions of a client, by a number of its own.
#[derive(Default)]
pub(crate) struct Sessions {
    live: Mutex<Live>,
    changed: Notify,
}

#[derive(Default)]
struct Live {
    next: u64,
    all: HashMap<u64, (u64, Weak<WriteSession>)>,
}

/// One session's place among them; gives it back when dropped.
pub(crate) struct Kept {
    sessions: Arc<Sessions>,
    number: u64,
}

impl Sessions {
    pub(crate) fn keep(self: &Arc<Self>, file_id: u64, session: Weak<WriteSession>) -> Kept {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let number = live.next;
        live.next += 1;
        live.all.insert(number, (file_id, session));
        Kept { sessions: self.clone(), number }
    }

    fn snapshot(&self) -> (Vec<u64>, Vec<Arc<WriteSession>>) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file_ids: Vec<u64> = live.all.values().map(|(file_id, _)| *file_id).collect();
        file_ids.sort_unstable();
        file_ids.dedup();
        (file_ids, live.all.values().filter_map(|(_, session)| session.upgrade()).collect())
    }
}

impl Kept {
    /// The master hears soon that it is not held any more.
    pub(crate) fn ended(&self) {
        let mut live = self.sessions.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.all.remove(&self.number).is_some() {
            self.sessions.changed.notify_one();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.ended();
    }
}

/// Runs until the client is gone.
pub(crate) async fn keep_renewed(client: Weak<Inner>, sessions: Arc<Sessions>) {
    let (mut round, mut told) = (0u32, false);
    loop {
        let is_early = timeout(TELL, sessions.changed.notified()).await.is_ok();
        let Some(inner) = client.upgrade() else { return };
        let (file_ids, live) = sessions.snapshot();
        if !file_ids.is_empty() || told {
            let held = !file_ids.is_empty();
            // More than fit are not held: the master would refuse all of them.
            let file_ids = file_ids.into_iter().take(limits::BATCH_MAX).collect();
            let request = HoldSessions { client_id: inner.holds.client_id(), file_ids };
            match inner.masters.call(&request).await {
                // The master may take an early word for one that crossed a grant: it hears it once more.
                Ok(_) => told = held || is_early,
                Err(error) => tracing::debug!(%error, "the master was not told of files that are written"),
            }
        }
        if is_early {
            drop(live);
            drop(inner);
            // Many that end at once are told of together.
            tokio::time::sleep(Duration::from_millis(300)).await;
            continue;
        }
        round = round.wrapping_add(1);
        if round.is_multiple_of(RENEW_EACH) {
            futures::stream::iter(live)
                .for_each_concurrent(UNDER_WAY, |session| async move { session.renew().await })
                .await;
        }
    }
}
