//! Single flight: one check per name or directory at a time; whoever comes later waits for the same answer. A flight
//! goes on when its waiters have gone.

use forebay_base::{ErrorKind, FileId, KindError};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use hashbrown::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
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
type Landing = Shared<BoxFuture<'static, Result<Instant, KindError>>>;

/// A check in the air.
#[derive(Clone)]
pub(crate) struct Flight {
    landing: Landing,
    steps: Steps,
}

impl Flight {
    /// Waits until it lands.
    pub(crate) async fn landed(&self) -> Result<Instant, KindError> {
        self.landing.clone().await
    }

    /// How far it has come.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.0.load(Ordering::Relaxed)
    }
}

/// How far a flight has come: the names that a listing has seen.
#[derive(Clone, Default)]
pub(crate) struct Steps(Arc<AtomicU64>);

impl Steps {
    /// Goes on.
    pub(crate) fn add(&self, steps: u64) {
        self.0.fetch_add(steps, Ordering::Relaxed);
    }
}

/// The flights in the air.
#[derive(Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<HashMap<FlightKey, Flight>>>);

impl Flights {
    /// Joins the flight of `key` or starts one on the current runtime.
    pub(crate) fn join<F>(&self, key: FlightKey, start: impl FnOnce(Steps) -> F) -> Flight
    where
        F: Future<Output = Result<(), KindError>> + Send + 'static,
    {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let steps = Steps::default();
        let (work, landing_of) = (start(steps.clone()), Landed { flights: self.clone(), key: key.clone() });
        let task = tokio::spawn(async move {
            // Also when the work panics or is dropped: nobody may join a flight that never lands.
            let _landed = landing_of;
            let began = Instant::now();
            work.await.map(|()| began)
        });
        let ended = |_| Err(KindError::new(ErrorKind::Closed, "the master is shutting down"));
        let landing = task.map(move |result| result.unwrap_or_else(ended)).boxed().shared();
        let flight = Flight { landing, steps };
        flights.insert(key, flight.clone());
        flight
    }
}

/// Takes a flight off the board.
struct Landed {
    flights: Flights,
    key: FlightKey,
}

impl Drop for Landed {
    fn drop(&mut self) {
        self.flights.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flight_that_panics_is_off_the_board() {
        let flights = Flights::default();
        let key = FlightKey::Listing(FileId(1));
        let flight = flights.join(key.clone(), |_| async { panic!("a fault of ours") });
        assert_eq!(flight.landed().await.unwrap_err().kind, ErrorKind::Closed);
        assert!(flights.join(key, |_| async { Ok(()) }).landed().await.is_ok());
    }
}
