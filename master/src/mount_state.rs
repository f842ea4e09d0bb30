//! One mount as this master runs it: its record, its open store, and whether that store answers.

use crate::freshness::Bound;
use crate::namespace::MountRecord;
use forebay_base::metrics::Metric;
use forebay_base::{ErrorKind, KindError};
use forebay_net::message::namespace::MountInfo;
use forebay_ufs::{StoreError, UnderStore};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After a failure the store is left alone this long.
const REST: Duration = Duration::from_millis(1500);
/// A store that could not be opened is tried again this long after the first failure, then twice as long each time.
const REOPEN_FIRST: Duration = Duration::from_secs(1);
const REOPEN_LONGEST: Duration = Duration::from_secs(30);
/// Somebody who asks makes it be tried again at once, but not more often than this.
const REOPEN_LEAST: Duration = Duration::from_millis(500);
/// One log line per this long while a store is away.
const LOG_EACH: Duration = Duration::from_secs(10);

/// How secrets are shown.
const HIDDEN: &str = "***";

#[derive(Default)]
struct Trouble {
    message: String,
    rest_until: Option<Instant>,
    logged: Option<Instant>,
}

/// Moves that are remembered.
const MOVES_MAX: usize = 1024;

/// A directory whose key changed, or changes.
struct KeyMove {
    number: u64,
    old: String,
    new: String,
    over: Option<Instant>,
}

/// Whether `key` is `above` or lies under it.
fn lies_below(key: &str, above: &str) -> bool {
    key.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A directory that gets another key, until this is dropped.
pub(crate) struct Moving<'a> {
    mount: &'a MountState,
    number: u64,
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        if let Some(moved) = self.mount.moves().iter_mut().find(|moved| moved.number == self.number) {
            moved.over = Some(Instant::now());
        }
    }
}

/// Opens the mount's store.
pub(crate) type Reopen = Box<dyn Fn() -> Result<Arc<dyn UnderStore>, StoreError> + Send + Sync>;

/// A mount.
pub(crate) struct MountState {
    pub(crate) record: MountRecord,
    pub(crate) bound: Bound,
    reopen: Reopen,
    store: Mutex<Opening>,
    trouble: Mutex<Trouble>,
    moves: Mutex<Vec<KeyMove>>,
    /// Programs' changes: whoever moves a directory is alone, so that no key changes under another one's hands.
    pub(crate) order: tokio::sync::RwLock<()>,
    pub(crate) calls: Metric,
    pub(crate) failures: Metric,
}

/// The store, or why there is none.
struct Opening {
    store: Result<Arc<dyn UnderStore>, KindError>,
    tried: Instant,
    pause: Duration,
}

fn unopened(error: StoreError) -> KindError {
    KindError::new(ErrorKind::Unavailable, error.to_string())
}

/// Whether an error means that the store is away, not that it said no.
pub(crate) fn is_outage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Overloaded)
}

impl MountState {
    pub(crate) fn new(record: MountRecord, store: Result<Arc<dyn UnderStore>, StoreError>, reopen: Reopen) -> Self {
        let store = store.map_err(unopened);
        let trouble = match &store {
            Ok(_) => Trouble::default(),
            Err(error) => Trouble { message: error.message.clone(), ..Trouble::default() },
        };
        let store = Mutex::new(Opening { store, tried: Instant::now(), pause: REOPEN_FIRST });
        Self {
            bound: Bound::from_ms(record.freshness_ms),
            record,
            reopen,
            store,
            trouble: Mutex::new(trouble),
            moves: Mutex::default(),
            order: tokio::sync::RwLock::default(),
            calls: Metric::default(),
            failures: Metric::default(),
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store; opened again if that failed before, unless it was tried a moment ago.
    pub(crate) fn store(&self) -> Result<Arc<dyn UnderStore>, KindError> {
        self.store_after(REOPEN_LEAST)
    }

    /// Tries again to open a store that could not be opened, when it is time for that. The store, if it is open now.
    pub(crate) fn reopened(&self) -> Option<Arc<dyn UnderStore>> {
        let pause = {
            let opening = self.opening();
            if opening.store.is_ok() {
                return None;
            }
            opening.pause
        };
        self.store_after(pause).ok()
    }

    fn opening(&self) -> MutexGuard<'_, Opening> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store_after(&self, pause: Duration) -> Result<Arc<dyn UnderStore>, KindError> {
        {
            let mut opening = self.opening();
            if opening.store.is_ok() || opening.tried.elapsed() < pause {
                return opening.store.clone();
            }
            // Others hear of the last failure meanwhile.
            opening.tried = Instant::now();
        }
        let store = (self.reopen)().map_err(unopened);
        let mut opening = self.opening();
        match &store {
            Ok(_) => tracing::info!("store {} of mount {} is open now", self.record.uri, self.record.path),
            Err(error) => {
                opening.pause = (opening.pause * 2).min(REOPEN_LONGEST);
                self.trouble().message.clone_from(&error.message);
            }
        }
        opening.store.clone_from(&store);
        store
    }

    /// Whether the store did not answer last time.
    pub(crate) fn in_trouble(&self) -> bool {
        !self.trouble().message.is_empty()
    }

    /// Fails while the store is left alone after a failure.
    pub(crate) fn may_ask(&self) -> Result<(), KindError> {
        let trouble = self.trouble();
        match trouble.rest_until {
            Some(until) if Instant::now() < until => {
                Err(KindError::new(ErrorKind::Unavailable, trouble.message.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Takes note of what the store said.
    pub(crate) fn heard<T>(&self, result: Result<T, StoreError>) -> Result<T, KindError> {
        self.calls.add(1);
        match result {
            Err(error) if is_outage(error.kind) => {
                self.failures.add(1);
                self.failed(error.to_string());
                Err(KindError::new(ErrorKind::Unavailable, error.to_string()))
            }
            Err(error) => {
                self.answered();
                Err(KindError::new(error.kind, error.to_string()))
            }
            Ok(value) => {
                self.answered();
                Ok(value)
            }
        }
    }

    fn answered(&self) {
        let mut trouble = self.trouble();
        if !trouble.message.is_empty() {
            tracing::info!("store {} of mount {} answers again", self.record.uri, self.record.path);
            *trouble = Trouble::default();
        }
    }

    /// The store did not answer.
    pub(crate) fn failed(&self, message: String) {
        let mut trouble = self.trouble();
        let now = Instant::now();
        if trouble.logged.is_none_or(|logged| now.duration_since(logged) >= LOG_EACH) {
            tracing::warn!(
                "store {} of mount {} does not answer, serving what is known: {message}",
                self.record.uri,
                self.record.path
            );
            trouble.logged = Some(now);
        }
        trouble.rest_until = Some(now + REST);
        trouble.message = message;
    }

    /// A directory is about to get another key.
    pub(crate) fn moving(&self, old: &str, new: &str) -> Moving<'_> {
        let mut moves = self.moves();
        if moves.len() >= MOVES_MAX {
            // The oldest that is over: whatever was asked before it has had its answer long ago.
            if let Some(at) = moves.iter().position(|other| other.over.is_some()) {
                moves.remove(at);
            }
        }
        let number = moves.last().map_or(0, |last| last.number + 1);
        moves.push(KeyMove { number, old: old.to_string(), new: new.to_string(), over: None });
        Moving { mount: self, number }
    }

    /// Whether a key lies where a directory got another key since `began`, or gets one now.
    pub(crate) fn moved_since(&self, key: &str, began: Instant) -> bool {
        let concerns = |moved: &KeyMove| lies_below(key, &moved.old) || lies_below(key, &moved.new);
        self.moves().iter().any(|moved| moved.over.is_none_or(|over| over >= began) && concerns(moved))
    }

    fn moves(&self) -> MutexGuard<'_, Vec<KeyMove>> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What people see of it.
    pub(crate) fn info(&self) -> MountInfo {
        let shown = |(name, value): &(String, String)| {
            let value = if forebay_ufs::is_secret_option(name) { HIDDEN.to_string() } else { value.clone() };
            (name.clone(), value)
        };
        MountInfo {
            mount_id: self.record.mount_id,
            path: self.record.path.clone(),
            uri: self.record.uri.clone(),
            options: self.record.options.iter().map(shown).collect(),
            freshness_ms: self.record.freshness_ms,
            readonly: self.record.readonly,
            trouble: self.trouble().message.clone(),
        }
    }
}
