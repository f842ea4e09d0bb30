//! Single flight: one check per name or directory at a time; whoever comes later waits for the same answer. A flight
//! goes on when its waiters have gone.

use forebay_base::{ErrorKind, FileId, KindError};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use hashbrown::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What is being checked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum FlightKey {
    /// One name of a directory.
    Name(FileId, Vec<u8>),
    /// All names of a directory.
    Listing(FileId),
}

/// When the check began, or why it failed.
pub(crate) type Flight = Shared<BoxFuture<'static, Result<Instant, KindError>>>;

/// The flights in the air.
#[derive(Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<HashMap<FlightKey, Flight>>>);

impl Flights {
    /// Joins the flight of `key` or starts one on the current runtime.
    pub(crate) fn join<F>(&self, key: FlightKey, start: impl FnOnce() -> F) -> Flight
    where
        F: Future<Output = Result<(), KindError>> + Send + 'static,
    {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let (work, all, own) = (start(), self.clone(), key.clone());
        let task = tokio::spawn(async move {
            let began = Instant::now();
            let result = work.await;
            all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&own);
            result.map(|()| began)
        });
        let ended = |_| Err(KindError::new(ErrorKind::Closed, "the master is shutting down"));
        let flight = task.map(move |result| result.unwrap_or_else(ended)).boxed().shared();
        flights.insert(key, flight.clone());
        flight
    }
}
