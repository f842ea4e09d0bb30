//! What holds below paths instead of what their mount says: freshness, where the longest path wins, and pins.
//!
//! Invariants: one change at a time; the table in memory follows the journal's outcome; a policy acts only inside a
//! mount, at its path or below, so one without a mount is refused.

use crate::cores::Cores;
use crate::freshness::Bound;
use crate::journal::Journal;
use crate::mount_state::MountState;
use crate::mounts::{Mounts, components, refused};
use crate::namespace::command::TABLE;
use crate::namespace::{Command, Outcome, PolicyRecord, lies_in};
use forebay_base::{ErrorKind, KindError};
use forebay_net::message::namespace::PathPolicy;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Most policies of a cluster.
const POLICIES_MAX: usize = 10_000;

type Table = HashMap<String, PolicyRecord>;

/// The policies.
pub(crate) struct Policies {
    pub(crate) cores: Arc<Cores>,
    pub(crate) journal: Arc<Journal>,
    table: RwLock<Arc<Table>>,
    any_freshness: AtomicBool,
    changing: tokio::sync::Mutex<()>,
}

fn message(record: &PolicyRecord) -> PathPolicy {
    PathPolicy { path: record.path.clone(), freshness_ms: record.freshness_ms, pin: record.pin.then_some(true) }
}

/// Why a pin cannot be taken back.
fn not_pinned(table: &Table, path: &str) -> KindError {
    let above = std::iter::successors(path.rfind('/').map(|end| &path[..end]), |above| {
        above.rfind('/').map(|end| &above[..end])
    });
    let mut above = above.map(|above| if above.is_empty() { "/" } else { above });
    match above.find(|above| table.get(*above).is_some_and(|record| record.pin)) {
        Some(above) => {
            let message = format!("{path}: it is not pinned itself, {above} is and all below it: unpin {above}");
            KindError::new(ErrorKind::Invalid, message)
        }
        None => KindError::new(ErrorKind::NotFound, format!("{path}: it is not pinned")),
    }
}

impl Policies {
    pub(crate) fn new(cores: Arc<Cores>, journal: Arc<Journal>) -> Self {
        Self {
            cores,
            journal,
            table: RwLock::default(),
            any_freshness: AtomicBool::new(false),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// Takes what the namespace knows.
    pub(crate) async fn load(&self) -> Result<(), KindError> {
        let records: Vec<PolicyRecord> =
            self.cores.read(TABLE, |partition| partition.policies().cloned().collect()).await?;
        let table: Table = records.into_iter().map(|record| (record.path.clone(), record)).collect();
        let any_freshness = table.values().any(|record| record.freshness_ms.is_some());
        self.any_freshness.store(any_freshness, Ordering::Release);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        Ok(())
    }

    fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The freshness of `key` in a mount.
    pub(crate) fn bound(&self, mount: &MountState, key: &str) -> Bound {
        self.bound_with(mount, || key.to_string())
    }

    /// The same; without policies, the usual case, the key is not even made.
    pub(crate) fn bound_with(&self, mount: &MountState, key: impl FnOnce() -> String) -> Bound {
        if !self.any_freshness.load(Ordering::Acquire) {
            return mount.bound;
        }
        let (table, key, root) = (self.table(), key(), &mount.record.path);
        let path = if key.is_empty() { root.clone() } else { format!("{root}/{key}") };
        let mut above = path.as_str();
        loop {
            if let Some(ms) = table.get(above).and_then(|record| record.freshness_ms) {
                return Bound::from_ms(ms);
            }
            match above.rfind('/') {
                Some(end) if end >= root.len() => above = &above[..end],
                _ => return mount.bound,
            }
        }
    }

    /// The pinned paths.
    pub(crate) fn pins(&self) -> BTreeSet<String> {
        self.table().values().filter(|record| record.pin).map(|record| record.path.clone()).collect()
    }

    /// All policies in order of path.
    pub(crate) fn list(&self) -> Vec<PathPolicy> {
        let mut all: Vec<PathPolicy> = self.table().values().map(message).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }

    /// Sets what `policy` names and keeps the rest. Must run to its end: between journal and table it may not be dropped.
    pub(crate) async fn set(&self, mounts: &Mounts, policy: PathPolicy) -> Result<PathPolicy, KindError> {
        let _one_at_a_time = self.changing.lock().await;
        let wrong = |why: String| KindError::new(ErrorKind::Invalid, why);
        components(&policy.path)?;
        let table = self.table();
        let known = table.get(&policy.path);
        if policy.pin == Some(false) && !known.is_some_and(|record| record.pin) {
            return Err(not_pinned(&table, &policy.path));
        }
        let all = mounts.list();
        let only_unpins = policy.pin == Some(false) && policy.freshness_ms.is_none();
        if !only_unpins && !all.iter().any(|mount| lies_in(&policy.path, &mount.path)) {
            let paths: Vec<&str> = all.iter().map(|mount| mount.path.as_str()).collect();
            let want =
                if paths.is_empty() { "there is no mount".into() } else { format!("mounts: {}", paths.join(", ")) };
            return Err(wrong(format!("{}: it lies in no mount, want a path in one ({want})", policy.path)));
        }
        if known.is_none() && table.len() >= POLICIES_MAX {
            return Err(wrong(format!("there are {POLICIES_MAX} policies already: remove one")));
        }
        let freshness_ms = policy.freshness_ms.or_else(|| known.and_then(|record| record.freshness_ms));
        let pin = policy.pin.unwrap_or_else(|| known.is_some_and(|record| record.pin));
        let record = PolicyRecord { path: policy.path, freshness_ms, pin };
        let command = if freshness_ms.is_none() && !pin {
            Command::RemovePolicy { path: record.path.clone() }
        } else {
            Command::SetPolicy(record.clone())
        };
        match self.journal.propose(command).await? {
            Outcome::Done { .. } => {}
            other => return Err(refused(other)),
        }
        self.load().await?;
        tracing::info!("path policy of {}: freshness {:?}, pinned {}", record.path, record.freshness_ms, record.pin);
        Ok(message(&record))
    }

    /// Takes a path's policy away.
    pub(crate) async fn remove(&self, path: String) -> Result<(), KindError> {
        let _one_at_a_time = self.changing.lock().await;
        match self.journal.propose(Command::RemovePolicy { path: path.clone() }).await? {
            Outcome::Done { .. } => {}
            other => return Err(refused(other)),
        }
        self.load().await?;
        tracing::info!("path policy of {path} is removed");
        Ok(())
    }
}
