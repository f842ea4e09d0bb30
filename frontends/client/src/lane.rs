//! Which runtime a connection lives on, and the slot that holds one connection of a lane.
//!
//! A connection's I/O tasks run on the runtime that opened it. Threads that each have a current-thread runtime get a
//! lane each: their calls never cross threads. All threads of a multi-thread runtime share one lane.

use forebay_base::KindError;
use forebay_net::transport::tokio::Connection;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::Instant;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Mutex;

/// A runtime, as far as connections care.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Lane(Option<ThreadId>);

impl Lane {
    /// The lane of the calling task.
    pub(crate) fn current() -> Lane {
        match Handle::current().runtime_flavor() {
            RuntimeFlavor::CurrentThread => Lane(Some(std::thread::current().id())),
            _ => Lane(None),
        }
    }
}

/// An open connection with what callers need to know of it.
#[derive(Clone)]
pub(crate) struct Link {
    /// The connection.
    pub(crate) connection: Connection,
    /// Unique in this process: what tickets are remembered by.
    pub(crate) serial: u64,
    /// Whether the bytes stay inside this host's memory.
    pub(crate) is_unix: bool,
}

static NEXT_SERIAL: AtomicU64 = AtomicU64::new(1);

impl Link {
    /// Wraps a fresh connection.
    pub(crate) fn new(connection: Connection, is_unix: bool) -> Link {
        Link { connection, serial: NEXT_SERIAL.fetch_add(1, Ordering::Relaxed), is_unix }
    }
}

/// Holds at most one connection; concurrent callers share one attempt to open it.
#[derive(Default)]
pub(crate) struct Slot(Mutex<State>);

#[derive(Default)]
struct State {
    link: Option<Link>,
    failed: Option<(Instant, KindError)>,
}

impl Slot {
    /// The live connection, else what `connect` yields. Callers who waited for an attempt that failed share its error.
    pub(crate) async fn get(&self, connect: impl Future<Output = Result<Link, KindError>>) -> Result<Link, KindError> {
        let asked = Instant::now();
        let mut state = self.0.lock().await;
        if let Some(link) = state.link.as_ref().filter(|link| !link.connection.is_closed()) {
            return Ok(link.clone());
        }
        state.link = None;
        if let Some((when, error)) = &state.failed
            && *when >= asked
        {
            return Err(error.clone());
        }
        match connect.await {
            Ok(link) => {
                *state = State { link: Some(link.clone()), failed: None };
                Ok(link)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Forgets the connection with this serial, if it is still the one held.
    pub(crate) async fn forget(&self, serial: u64) {
        let mut state = self.0.lock().await;
        if state.link.as_ref().is_some_and(|link| link.serial == serial) {
            state.link = None;
        }
    }
}
