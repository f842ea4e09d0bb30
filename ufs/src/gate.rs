//! The mount's limit of work at once, and the deadline of each call. Shared by all tasks that use one store.
//!
//! Invariant: work that was given up but still runs (a thread blocked in a dead file system) keeps its permit, so that
//! a store that hangs holds at most `concurrency` threads.

use crate::{failure::Failure, options::StoreLimits};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Leave to use the store; held by whoever does the work, given back by dropping the last clone.
pub(crate) type Permit = Arc<OwnedSemaphorePermit>;

pub(crate) struct Gate {
    limits: StoreLimits,
    permits: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new(limits: StoreLimits) -> Self {
        let count = limits.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Gate { limits, permits: Arc::new(Semaphore::new(count)) }
    }

    pub(crate) fn limits(&self) -> &StoreLimits {
        &self.limits
    }

    /// When a call that begins now must have given up.
    pub(crate) fn deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.limits.deadline).unwrap_or(now + Duration::from_secs(3600))
    }

    pub(crate) async fn enter(&self, deadline: Instant) -> Result<Permit, Failure> {
        match tokio::time::timeout_at(deadline, self.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Arc::new(permit)),
            Ok(Err(_)) => Err(Failure::unavailable("the store is closed")),
            Err(_) => Err(Failure::unavailable(format!(
                "waited {:?} while {} other requests of this mount were under way; raise the option \"concurrency\" or \
                 find out why the store is slow",
                self.limits.deadline, self.limits.concurrency
            ))),
        }
    }

    /// Runs `work` until the deadline.
    pub(crate) async fn within<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout_at(deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(self.silent()),
        }
    }

    /// Runs blocking `work` on a thread that may block, until the deadline; its thread and permit stay taken until it
    /// ends.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        deadline: Instant,
        permit: Permit,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        match tokio::time::timeout_at(deadline, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => {
                Err(Failure::new(forebay_base::ErrorKind::Internal, format!("a store thread ended: {error}")))
            }
            Err(_) => Err(self.silent()),
        }
    }

    pub(crate) fn silent(&self) -> Failure {
        Failure::unavailable(format!("no answer within {:?}", self.limits.deadline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::ErrorKind;

    #[tokio::test]
    async fn a_hung_thread_keeps_its_permit_and_nobody_waits_beyond_the_deadline() {
        let limits = StoreLimits { concurrency: 1, deadline: Duration::from_millis(50), retries: 0 };
        let gate = Gate::new(limits);
        let permit = gate.enter(gate.deadline()).await.unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hung = gate.blocking(gate.deadline(), permit, move || {
            let _ = held.recv();
            Ok(())
        });
        assert_eq!(hung.await.unwrap_err().kind, ErrorKind::Unavailable);
        let full = gate.enter(gate.deadline()).await.unwrap_err();
        assert!(full.message.contains("concurrency"), "{}", full.message);
        drop(release);
        let later = Instant::now() + Duration::from_secs(10);
        assert!(gate.enter(later).await.is_ok());
    }
}
