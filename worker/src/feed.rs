//! How far the worker has read the feed of dead versions. The control thread sets it; shards wait on it and ask for more.

use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// A shard's end.
#[derive(Clone)]
pub(crate) struct FeedWatch {
    position: watch::Receiver<u64>,
    pull: Arc<Notify>,
}

/// The control thread's end.
pub(crate) struct FeedPosition {
    position: watch::Sender<u64>,
    pull: Arc<Notify>,
}

impl FeedPosition {
    pub(crate) fn new() -> Self {
        Self { position: watch::Sender::new(0), pull: Arc::default() }
    }

    /// For a shard.
    pub(crate) fn watch(&self) -> FeedWatch {
        FeedWatch { position: self.position.subscribe(), pull: self.pull.clone() }
    }

    /// Publishes: every shard has taken the events up to here.
    pub(crate) fn publish(&self, position: u64) {
        self.position.send_replace(position);
    }

    /// Where it stands.
    pub(crate) fn get(&self) -> u64 {
        *self.position.borrow()
    }

    /// Waits until a shard asks for the feed now.
    pub(crate) async fn asked(&self) {
        self.pull.notified().await;
    }
}

impl FeedWatch {
    /// Where the feed stands.
    pub(crate) fn position(&self) -> u64 {
        *self.position.borrow()
    }

    /// Asks for the feed and waits until it stands at `wanted`.
    pub(crate) async fn reach(&self, wanted: u64) {
        self.pull.notify_one();
        let _ = self.position.clone().wait_for(|position| *position >= wanted).await;
    }
}
