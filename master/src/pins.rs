//! What is pinned: paths in the journal (`policies.rs`), kept as leases of (file, version) at the cores that own the
//! blocks. One task of the leading master renews them at a third of the lease, lists what lies below the paths, and has
//! what is missing loaded.
//!
//! Invariants: renewing asks no store, so that pins live on while one is away; memory does not grow with the number of
//! files; what the master knows here is made anew after a restart.

mod keeper;
mod loading;
mod owners;
mod pass;

use crate::jobs::Context;
use forebay_net::message::namespace::PinInfo;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shorter leases would only keep everybody busy.
const LEASE_MIN: Duration = Duration::from_secs(1);
/// Longer ones would hold what nobody pins any more, after a master was lost.
const LEASE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Sums over the files of one path.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tally {
    files: u64,
    bytes: u64,
    pub(crate) pinned_bytes: u64,
    pub(crate) missing_bytes: u64,
    pub(crate) refused_bytes: u64,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.pinned_bytes += other.pinned_bytes;
        self.missing_bytes += other.missing_bytes;
        self.refused_bytes += other.refused_bytes;
    }
}

/// What is known of one pinned path.
#[derive(Default)]
struct Root {
    /// When its names were last read.
    listed: Option<Instant>,
    tally: Tally,
    is_complete: bool,
    checked_ms: u64,
    list_error: String,
    pass_error: String,
    load_error: String,
    /// It was said in the log that not all of it finds room.
    warned: bool,
}

type Roots = BTreeMap<String, Root>;

/// All pins.
pub(crate) struct Pins {
    context: Arc<Context>,
    lease: Duration,
    roots: Mutex<Roots>,
}

impl Pins {
    pub(crate) fn new(context: Arc<Context>, lease: Duration) -> Self {
        Self { context, lease: lease.clamp(LEASE_MIN, LEASE_MAX), roots: Mutex::default() }
    }

    fn roots(&self) -> MutexGuard<'_, Roots> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the pins, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        keeper::Keeper::new(self).run().await;
    }

    /// The pinned paths with what is known of them.
    pub(crate) fn list(&self) -> Vec<PinInfo> {
        let roots = self.roots();
        let info = |path: String| {
            let Some(root) = roots.get(&path) else { return PinInfo { path, ..PinInfo::default() } };
            let errors = [&root.list_error, &root.pass_error, &root.load_error];
            PinInfo {
                path,
                files: root.tally.files,
                bytes: root.tally.bytes,
                pinned_bytes: root.tally.pinned_bytes,
                missing_bytes: root.tally.missing_bytes,
                refused_bytes: root.tally.refused_bytes,
                is_complete: root.is_complete,
                checked_ms: root.checked_ms,
                last_error: errors.into_iter().find(|error| !error.is_empty()).cloned().unwrap_or_default(),
            }
        };
        self.context.tree.policies.pins().into_iter().map(info).collect()
    }

    /// Sums over all paths; what lies below two of them counts once.
    pub(crate) fn totals(&self) -> Tally {
        let roots = self.roots();
        let mut totals = Tally::default();
        let outermost = roots.iter().filter(|(path, _)| !is_covered(path, |above| roots.contains_key(above)));
        outermost.for_each(|(_, root)| totals.add(&root.tally));
        totals
    }
}

/// Whether another path that is known lies above.
fn is_covered(path: &str, is_known: impl Fn(&str) -> bool) -> bool {
    let mut above = path;
    while let Some(end) = above.rfind('/').filter(|_| above != "/") {
        above = if end == 0 { "/" } else { &above[..end] };
        if is_known(above) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_another_path_is_covered() {
        let covered = |path: &str, known: &[&str]| is_covered(path, |above| known.contains(&above));
        let known = ["/a", "/a/b", "/ab"];
        assert_eq!(known.map(|path| covered(path, &known)), [false, true, false]);
        assert!(covered("/x/y", &["/"]) && covered("/x", &["/"]) && !covered("/", &["/"]));
    }
}
