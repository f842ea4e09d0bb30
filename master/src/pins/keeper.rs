//! When pins are renewed, listed and loaded. One task of the leading master.
//!
//! Invariants: one listing at a time in each mount, so that a slow store delays nothing else; one round of loading at a
//! time, further apart while rounds achieve nothing.

use super::loading::{self, Loaded, Wanted};
use super::pass::Pass;
use super::{Context, Pins, Root, Tally, is_covered};
use crate::jobs::walk::{Met, Walk};
use crate::namespace::lies_in;
use forebay_base::{ByteSize, unix_now_ms};
use hashbrown::HashSet;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How often it looks whether there is something to do.
const TICK: Duration = Duration::from_millis(250);
/// Names below pinned paths are read again when they are older than this, and than the mount's freshness.
const LIST_EVERY: Duration = Duration::from_secs(300);
/// Longest wait between rounds of loading that achieve nothing.
const LOAD_WAIT_MAX: Duration = Duration::from_secs(900);

/// A listing that ended.
struct Looked {
    mount: String,
    root: String,
    error: String,
}

/// When the next round of loading may begin.
struct Pace {
    not_before: Instant,
    wait: Duration,
    /// Missing when the last round began.
    missing_bytes: u64,
    /// A round has ended since the last pass.
    is_over: bool,
}

/// The task's state.
pub(super) struct Keeper {
    pins: Arc<Pins>,
    passed: Option<Instant>,
    /// Epoch of the map and registrations at the last pass.
    members: (u64, u64),
    listings: JoinSet<Looked>,
    listed_mounts: HashSet<String>,
    loading: JoinSet<Loaded>,
    pace: Pace,
}

impl Keeper {
    pub(super) fn new(pins: Arc<Pins>) -> Self {
        let pace = Pace { not_before: Instant::now(), wait: Duration::ZERO, missing_bytes: u64::MAX, is_over: false };
        Self {
            pins,
            passed: None,
            members: (0, 0),
            listings: JoinSet::new(),
            listed_mounts: HashSet::new(),
            loading: JoinSet::new(),
            pace,
        }
    }

    fn context(&self) -> Arc<Context> {
        Arc::clone(&self.pins.context)
    }

    pub(super) async fn run(mut self) {
        loop {
            tokio::time::sleep(TICK).await;
            let context = self.context();
            if !context.journal.is_leader() {
                continue;
            }
            let paths = context.tree.policies.pins();
            if paths.is_empty() && self.pins.roots().is_empty() {
                continue;
            }
            let members = (context.members.epoch(), context.members.arrivals());
            let mut is_due = self.follow(&paths).await;
            if members != self.members {
                self.members = members;
                self.load_soon();
                is_due = true;
            }
            is_due |= self.look(&paths);
            is_due |= self.loaded();
            is_due |= self.passed.is_none_or(|passed| passed.elapsed() >= self.pins.lease / 3);
            if is_due {
                self.passed = Some(Instant::now());
                self.pass(&paths).await;
            }
        }
    }

    /// What missing files waited for has changed.
    fn load_soon(&mut self) {
        (self.pace.not_before, self.pace.wait) = (Instant::now(), Duration::ZERO);
    }

    /// Takes new paths in and lets go of what is not pinned any more.
    async fn follow(&mut self, paths: &BTreeSet<String>) -> bool {
        let gone: Vec<String> = {
            let mut roots = self.pins.roots();
            let known = roots.len();
            for path in paths {
                roots.entry(path.clone()).or_default();
            }
            let gone: Vec<String> = roots.keys().filter(|path| !paths.contains(*path)).cloned().collect();
            if gone.is_empty() && roots.len() == known {
                return false;
            }
            gone.iter().for_each(|path| drop(roots.remove(path)));
            gone
        };
        self.load_soon();
        if !gone.is_empty() {
            // It may be loading what is not wanted any more.
            self.loading.shutdown().await;
            let mut release = Pass::release(self.context(), paths.clone());
            for path in gone.into_iter().filter(|path| !is_covered(path, |above| paths.contains(above))) {
                release.path(path, true).await;
            }
            release.end().await;
        }
        true
    }

    /// Starts listings that are due and takes in what has ended; says whether something has.
    fn look(&mut self, paths: &BTreeSet<String>) -> bool {
        let mut ended = false;
        while let Some(looked) = self.listings.try_join_next() {
            ended = true;
            let Ok(Looked { mount, root, error }) = looked else {
                self.listed_mounts.clear();
                continue;
            };
            self.listed_mounts.remove(&mount);
            if let Some(root) = self.pins.roots().get_mut(&root) {
                (root.listed, root.list_error) = (Some(Instant::now()), error);
            }
        }
        let roots = self.pins.roots();
        let is_due = |path: &&String| {
            roots.get(*path).is_some_and(|root| root.listed.is_none_or(|listed| listed.elapsed() >= LIST_EVERY))
        };
        let due: Vec<(&String, bool)> =
            paths.iter().filter(is_due).map(|path| (path, roots[path].listed.is_none())).collect();
        if due.is_empty() {
            return ended;
        }
        let mounts = self.pins.context.tree.mounts.list();
        for (path, is_new) in due {
            // One that is mounted inside another mount's path, or none at all.
            let above = mounts.iter().filter(|mount| lies_in(path, &mount.path));
            let mount = above.map(|mount| mount.path.clone()).max_by_key(String::len).unwrap_or_default();
            if self.listed_mounts.insert(mount.clone()) {
                self.listings.spawn(look(Arc::clone(&self.pins.context), mount, path.clone(), is_new));
            }
        }
        ended
    }

    /// Takes a round of loading in that has ended.
    fn loaded(&mut self) -> bool {
        let Some(loaded) = self.loading.try_join_next() else { return false };
        self.pace.is_over = true;
        let mut roots = self.pins.roots();
        roots.values_mut().for_each(|root| root.load_error.clear());
        let Ok(Loaded { failures, stuck }) = loaded else { return true };
        for failure in failures {
            let path = String::from_utf8_lossy(&failure.path).into_owned();
            for (_, root) in roots.iter_mut().filter(|(above, _)| lies_in(&path, above)) {
                root.load_error = format!("{path}: {}", failure.reason);
            }
        }
        if let Some(why) = stuck {
            roots.values_mut().for_each(|root| root.load_error.clone_from(&why));
        }
        true
    }

    /// Renews all pins.
    async fn pass(&mut self, paths: &BTreeSet<String>) {
        // What was listed before the pass began is in it.
        let complete: HashSet<String> = {
            let roots = self.pins.roots();
            paths.iter().filter(|path| roots.get(*path).is_some_and(|root| root.listed.is_some())).cloned().collect()
        };
        let mut pass = Pass::new(self.context(), self.pins.lease, self.loading.is_empty());
        for path in paths {
            pass.path(path.clone(), is_covered(path, |above| paths.contains(above))).await;
        }
        let (passed, wanted) = pass.end().await;
        {
            let mut roots = self.pins.roots();
            for (path, passed) in paths.iter().zip(passed) {
                let Some(root) = roots.get_mut(path) else { continue };
                root.tally = passed.tally;
                root.pass_error = passed.error;
                root.is_complete = complete.contains(path);
                root.checked_ms = unix_now_ms();
                if root.tally.missing_bytes == 0 {
                    root.load_error.clear();
                }
                warn_once(path, root);
            }
        }
        self.start_loading(self.pins.totals(), wanted);
    }

    fn start_loading(&mut self, totals: Tally, wanted: Vec<Wanted>) {
        let (now, missing) = (Instant::now(), totals.missing_bytes);
        if std::mem::take(&mut self.pace.is_over) {
            let helped = missing == 0 || missing < self.pace.missing_bytes;
            let longer = (self.pace.wait * 2).clamp(self.pins.lease / 3, LOAD_WAIT_MAX.max(self.pins.lease / 3));
            self.pace.wait = if helped { Duration::ZERO } else { longer };
            self.pace.not_before = now + self.pace.wait;
        }
        if wanted.is_empty() || now < self.pace.not_before || !self.loading.is_empty() {
            return;
        }
        self.pace.missing_bytes = missing;
        self.loading.spawn(loading::load(self.context(), wanted));
    }
}

/// Reads the names below a pinned path.
async fn look(context: Arc<Context>, mount: String, root: String, is_new: bool) -> Looked {
    let now = Instant::now();
    let since = if is_new { now } else { now.checked_sub(LIST_EVERY).unwrap_or(now) };
    let mut walk = Walk::whole(Arc::clone(&context.tree), root.clone(), Some(since));
    let mut error = String::new();
    while let Some(met) = walk.next().await {
        if let Met::Failed { place, error: why } = met {
            error = format!("{}: {}", String::from_utf8_lossy(&place.path), why.message);
        }
    }
    Looked { mount, root, error }
}

fn warn_once(path: &str, root: &mut Root) {
    let Tally { bytes, refused_bytes, .. } = root.tally;
    let is_short = refused_bytes > 0;
    if is_short && !root.warned {
        let (refused, bytes) = (ByteSize(refused_bytes), ByteSize(bytes));
        tracing::warn!("{path}: {refused} of {bytes} cannot be pinned: pins may hold 80 % of the cache of each core");
    }
    root.warned = is_short;
}
