//! Contents of small files that a walk will open next, fetched together. Shared by the session's threads.
//!
//! Invariants: a version's content never changes, so what is held is right for as long as it is held; at most
//! `BATCHES_MAX` batches of `BATCH_BYTES_MAX` are held, the oldest go first, each until all of it was read; nobody waits long for a batch, because its
//! reader can always ask for the file itself.

use super::names::Content;
use bytes::Bytes;
use forebay_client::{Client, Grant};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Files in a batch.
pub(super) const BATCH_FILES_MAX: usize = 64;
/// Their bytes.
const BATCH_BYTES_MAX: u64 = 2 << 20;
/// Larger files are worth a request of their own.
const FILE_BYTES_MAX: u64 = 256 << 10;
const BATCHES_MAX: usize = 8;
/// With those that were read, of which only the names are left.
const BATCHES_KNOWN_MAX: usize = 32;
/// What was read this lately is not fetched again for a thread of the same walk that lags behind.
const READ_LATELY: Duration = Duration::from_secs(1);
/// A batch this young is not given up for another one.
const YOUNG: Duration = Duration::from_secs(1);
/// How long after a batch began its readers stop waiting for it.
const WAIT: Duration = Duration::from_millis(200);

/// What a batch became; none until it has arrived.
type Arrival = watch::Receiver<Option<Vec<Option<Bytes>>>>;

/// The contents.
#[derive(Default)]
pub(super) struct Ahead(Mutex<State>);

#[derive(Default)]
struct State {
    by_content: HashMap<Content, Place>,
    batches: VecDeque<Batch>,
    next_serial: u64,
}

/// Where the bytes are.
#[derive(Clone, Copy)]
struct Place {
    serial: u64,
    index: usize,
    read: Option<Instant>,
}

impl Place {
    fn covers(&self) -> bool {
        self.read.is_none_or(|when| when.elapsed() < READ_LATELY)
    }
}

struct Batch {
    serial: u64,
    contents: Vec<Content>,
    unread: usize,
    /// None once all was read.
    arrival: Option<Arrival>,
    began: Instant,
}

impl Batch {
    /// Somebody is likely to want it still.
    fn is_young(&self) -> bool {
        self.arrival.is_some() && self.began.elapsed() < YOUNG
    }
}

impl Ahead {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All bytes of a content, if they were fetched ahead.
    pub(super) async fn get(&self, wanted: Content) -> Option<Bytes> {
        let (mut arrival, index, began) = {
            let state = self.state();
            let place = *state.by_content.get(&wanted)?;
            let batch = state.batches.iter().find(|batch| batch.serial == place.serial)?;
            (batch.arrival.clone()?, place.index, batch.began)
        };
        let content = |files: &Option<Vec<Option<Bytes>>>| files.as_ref()?.get(index).cloned().flatten();
        if arrival.borrow().is_some() {
            return content(&arrival.borrow());
        }
        let arrived =
            tokio::time::timeout(WAIT.saturating_sub(began.elapsed()), arrival.wait_for(Option::is_some)).await;
        content(&*arrived.ok()?.ok()?)
    }

    /// A content was read to its end: the kernel has it now.
    pub(super) fn read(&self, wanted: Content) {
        let mut state = self.state();
        let Some(place) = state.by_content.get_mut(&wanted) else { return };
        let (serial, again) = (place.serial, place.read.replace(Instant::now()).is_some());
        if !again && let Some(batch) = state.batches.iter_mut().find(|batch| batch.serial == serial) {
            batch.unread -= 1;
            if batch.unread == 0 {
                batch.arrival = None;
            }
        }
    }

    /// Fetches what follows in a walk unless half a batch of it is held already. `followers` are in the order of the
    /// walk, each with its grant as far as there is one; files without, and what is behind them, have to wait.
    pub(super) fn fetch(&self, client: &Client, followers: Vec<(Content, Option<Arc<Grant>>)>) {
        let (sender, grants) = {
            let mut state = self.state();
            let covered = |(content, _): &(Content, _)| state.by_content.get(content).is_some_and(Place::covers);
            let held = followers.iter().take_while(|follower| covered(follower)).count();
            if held > 0 && held >= followers.len().min(state.batch_length()) / 2 {
                return;
            }
            if state.batches.iter().filter(|batch| batch.is_young()).count() >= BATCHES_MAX {
                return;
            }
            let chosen = choose(followers.into_iter().filter(|follower| !covered(follower)));
            if chosen.len() < 2 {
                return;
            }
            let (sender, arrival) = watch::channel(None);
            let (contents, grants): (Vec<Content>, Vec<Arc<Grant>>) = chosen.into_iter().unzip();
            state.add(contents, arrival);
            (sender, grants)
        };
        let client = client.clone();
        tokio::spawn(async move {
            let files = client.read_whole(&grants).await;
            // Nobody may be left who wants them.
            let _ = sender.send(Some(files));
        });
    }
}

impl State {
    /// Files in the newest batch.
    fn batch_length(&self) -> usize {
        self.batches.back().map_or(BATCH_FILES_MAX, |batch| batch.contents.len())
    }

    fn add(&mut self, contents: Vec<Content>, arrival: Arrival) {
        let held = |batches: &VecDeque<Batch>| batches.iter().filter(|batch| batch.arrival.is_some()).count();
        while (self.batches.len() == BATCHES_KNOWN_MAX || held(&self.batches) >= BATCHES_MAX)
            && let Some(oldest) = self.batches.pop_front()
        {
            for content in oldest.contents {
                if self.by_content.get(&content).is_some_and(|place| place.serial == oldest.serial) {
                    self.by_content.remove(&content);
                }
            }
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        for (index, content) in contents.iter().enumerate() {
            self.by_content.insert(*content, Place { serial, index, read: None });
        }
        self.batches.push_back(Batch {
            serial,
            unread: contents.len(),
            contents,
            arrival: Some(arrival),
            began: Instant::now(),
        });
    }
}

/// The first ones that fit into a batch.
fn choose(followers: impl Iterator<Item = (Content, Option<Arc<Grant>>)>) -> Vec<(Content, Arc<Grant>)> {
    let mut room = BATCH_BYTES_MAX;
    let mut chosen = Vec::new();
    for (content, grant) in followers.take(BATCH_FILES_MAX) {
        let Some(grant) = grant else { break };
        let bytes = grant.attr().size;
        // Empty files are never read, large ones alone.
        if bytes == 0 || bytes > FILE_BYTES_MAX {
            continue;
        }
        if bytes > room {
            break;
        }
        room -= bytes;
        chosen.push((content, grant));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::{FileId, Version};

    impl Ahead {
        fn held(&self) -> (usize, usize) {
            let state = self.state();
            (state.batches.len(), state.by_content.len())
        }
    }

    fn file(id: u64) -> Content {
        (FileId(id), Version(1))
    }

    fn arrived(files: Vec<Option<Bytes>>) -> Arrival {
        watch::channel(Some(files)).1
    }

    #[tokio::test]
    async fn contents_are_found_until_they_are_read_or_too_old() {
        let ahead = Ahead::default();
        ahead.state().add(
            vec![file(5), file(6), file(7)],
            arrived(vec![Some(Bytes::from_static(b"five")), None, Some(Bytes::new())]),
        );
        assert_eq!(ahead.get(file(5)).await.as_deref(), Some(&b"five"[..]));
        assert_eq!((ahead.get(file(6)).await, ahead.get(file(8)).await), (None, None));
        [5, 5, 6, 9].into_iter().for_each(|id| ahead.read(file(id)));
        assert_eq!(ahead.get(file(5)).await.as_deref(), Some(&b"five"[..]));
        assert!(ahead.state().batches[0].arrival.is_some());
        ahead.read(file(7));
        assert!(ahead.state().batches[0].arrival.is_none());
        assert_eq!((ahead.get(file(5)).await, ahead.state().by_content[&file(5)].covers()), (None, true));
        for node in 100..120 {
            ahead.state().add(vec![file(node)], arrived(vec![Some(Bytes::from_static(b"x"))]));
        }
        assert_eq!(ahead.held(), (BATCHES_MAX, BATCHES_MAX));
        for node in 200..300 {
            ahead.state().add(vec![file(node)], arrived(vec![Some(Bytes::from_static(b"x"))]));
            ahead.read(file(node));
        }
        assert_eq!(ahead.held(), (BATCHES_KNOWN_MAX, BATCHES_KNOWN_MAX));
        for node in 100..120 {
            ahead.state().add(vec![file(node)], arrived(vec![Some(Bytes::from_static(b"x"))]));
        }
        assert!(ahead.held().0 <= BATCHES_KNOWN_MAX);
        assert!(ahead.get(file(111)).await.is_none() && ahead.get(file(112)).await.is_some());
    }

    #[tokio::test]
    async fn a_batch_that_does_not_come_is_not_waited_for() {
        let ahead = Ahead::default();
        let (sender, arrival) = watch::channel(None);
        ahead.state().add(vec![file(5)], arrival);
        assert_eq!(ahead.get(file(5)).await, None);
        sender.send(Some(vec![Some(Bytes::from_static(b"late"))])).expect("it is held");
        assert_eq!(ahead.get(file(5)).await.as_deref(), Some(&b"late"[..]));
        drop(sender);
        let (sender, arrival) = watch::channel(None);
        ahead.state().add(vec![file(6)], arrival);
        drop(sender);
        assert_eq!(ahead.get(file(6)).await, None);
    }
}
