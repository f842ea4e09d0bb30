//! One request from its arrival to its answer: counted, timed and, where it changes something, written down. Dropped
//! without an answer it counts as failed: the server gives up on what its deadline ends.

use crate::audit;
use crate::metrics::MasterMetrics;
use forebay_base::metrics::PerCore;
use forebay_base::{ErrorKind, KindError};
use forebay_net::{Op, Peer};
use std::time::Instant;

/// A request that is being answered.
pub(crate) struct Served<'a> {
    metrics: &'a PerCore<MasterMetrics>,
    peer: &'a Peer,
    op: Op,
    began: Instant,
    audit: Option<audit::Entry>,
    failed: bool,
}

impl<'a> Served<'a> {
    pub(crate) fn begin(metrics: &'a PerCore<MasterMetrics>, peer: &'a Peer, op: Op, body: &[u8]) -> Self {
        metrics.here().in_flight.add(1);
        let audit = audit::Entry::of(op, body);
        Self { metrics, peer, op, began: Instant::now(), audit, failed: true }
    }

    /// Takes note of the answer.
    pub(crate) fn end<T>(mut self, result: &Result<T, KindError>) {
        self.failed = result.is_err();
        if let Some(entry) = self.audit.take() {
            entry.write(self.peer, result);
        }
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        let counters = self.metrics.here();
        counters.in_flight.sub(1);
        counters.request_seconds.at(self.op.index()).record_since(self.began);
        counters.failed_requests.add(u64::from(self.failed));
        if let Some(entry) = self.audit.take() {
            let message = "not done within its deadline, it may still happen";
            entry.write::<()>(self.peer, &Err(KindError::new(ErrorKind::Unavailable, message)));
        }
    }
}
