//! One pass over the pinned paths: each file as it is known becomes a lease at the cores that own its blocks, in batches.
//! Owned by the keeper.
//!
//! Invariants: no store is asked; names, batches, calls under way and files to load are bounded.

use super::loading::Wanted;
use super::owners::{Core, Owners};
use super::{Context, Tally, is_covered};
use crate::jobs::walk::{Met, Walk};
use crate::links::LinkError;
use forebay_base::{FileId, WorkerId};
use forebay_net::message::data::{PIN_DONE, PIN_REFUSED, Pin, PinItem, PinReply};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Most items of a batch, and most ranges of blocks in it.
const BATCH_ITEMS: usize = 1024;
const BATCH_RANGES: usize = 1 << 16;
/// Batches under way.
const CALLS: usize = 16;
/// Longest that a batch may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most files that one pass has loaded; the next one finds the rest.
const WANTED_MAX: usize = 16_384;

/// What an item is of.
struct Note {
    root: usize,
    bytes: u64,
    /// Whether it may be loaded: what another path covers already is loaded there.
    file: Option<Wanted>,
}

#[derive(Default)]
struct Batch {
    items: Vec<PinItem>,
    notes: Vec<Note>,
    ranges: usize,
}

struct Answer {
    worker: WorkerId,
    notes: Vec<Note>,
    outcome: Result<PinReply, LinkError>,
}

/// What one path came to.
#[derive(Default)]
pub(super) struct Passed {
    pub(super) tally: Tally,
    pub(super) error: String,
}

/// A pass.
pub(super) struct Pass {
    context: Arc<Context>,
    owners: Owners,
    lease: Duration,
    wants: bool,
    /// Whatever lies there is left out.
    kept: BTreeSet<String>,
    batches: HashMap<Core, Batch>,
    calls: JoinSet<Answer>,
    /// Workers that did not answer: they are not waited for again.
    silent: HashSet<WorkerId>,
    passed: Vec<Passed>,
    wanted: HashMap<FileId, Wanted>,
}

impl Pass {
    /// Of leases that long, 0 to end them; with `wants` it collects files to load.
    pub(super) fn new(context: Arc<Context>, lease: Duration, wants: bool) -> Self {
        Self {
            owners: Owners::new(context.members.map()),
            context,
            lease,
            wants,
            kept: BTreeSet::new(),
            batches: HashMap::new(),
            calls: JoinSet::new(),
            silent: HashSet::new(),
            passed: Vec::new(),
            wanted: HashMap::new(),
        }
    }

    /// One that ends the leases of everything but what lies in other paths.
    pub(super) fn release(context: Arc<Context>, kept: BTreeSet<String>) -> Self {
        Self { kept, ..Self::new(context, Duration::ZERO, false) }
    }

    fn keeps(&self, path: &[u8]) -> bool {
        let path = String::from_utf8_lossy(path);
        !self.kept.is_empty() && (self.kept.contains(&*path) || is_covered(&path, |above| self.kept.contains(above)))
    }

    /// Goes over one path. `is_covered`: another path has the same files.
    pub(super) async fn path(&mut self, path: String, is_covered: bool) {
        let root = self.passed.len();
        self.passed.push(Passed::default());
        let mut walk = Walk::whole(Arc::clone(&self.context.tree), path, None);
        while let Some(met) = walk.next().await {
            match met {
                Met::File { place, .. } if self.keeps(&place.path) => {}
                Met::File { place, id, size, version } => {
                    let file = Wanted { path: place.path, id, size, version };
                    self.file(root, file, is_covered).await;
                }
                Met::Failed { place, error } => {
                    self.passed[root].error = format!("{}: {}", String::from_utf8_lossy(&place.path), error.message);
                }
            }
        }
    }

    async fn file(&mut self, root: usize, file: Wanted, is_covered: bool) {
        let tally = &mut self.passed[root].tally;
        tally.files += 1;
        tally.bytes += file.size;
        let parts = match self.owners.parts(file.id, file.size) {
            Ok(parts) => parts,
            Err(why) => {
                self.passed[root].error = format!("{}: {why}", String::from_utf8_lossy(&file.path));
                return;
            }
        };
        if parts.is_empty() && file.size > 0 {
            self.passed[root].error = "the cluster has no worker".into();
        }
        for (core, part) in parts {
            let may_load = self.wants && !is_covered;
            let note = Note { root, bytes: part.bytes, file: may_load.then(|| file.clone()) };
            let batch = self.batches.entry(core).or_default();
            batch.ranges += part.blocks.len();
            batch.notes.push(note);
            batch.items.push(PinItem {
                file_id: file.id.0,
                version: file.version,
                bytes: part.bytes,
                blocks: part.blocks,
            });
            if batch.items.len() >= BATCH_ITEMS || batch.ranges >= BATCH_RANGES {
                let batch = std::mem::take(batch);
                self.send(core, batch).await;
            }
        }
    }

    async fn send(&mut self, core: Core, batch: Batch) {
        while self.calls.len() >= CALLS {
            self.answered().await;
        }
        let (context, worker) = (Arc::clone(&self.context), self.owners.worker(core.0));
        let lease_ms = self.lease.as_millis() as u64;
        let Some(worker) = worker.filter(|_| !self.silent.contains(&core.0)) else { return };
        self.calls.spawn(async move {
            let request = Pin { items: batch.items, lease_ms };
            let outcome = context.links.call(&worker, core.1, &request, PATIENCE).await;
            Answer { worker: core.0, notes: batch.notes, outcome }
        });
    }

    async fn answered(&mut self) {
        let Some(Ok(Answer { worker, notes, outcome })) = self.calls.join_next().await else { return };
        let results = match outcome {
            Ok(reply) => reply.results,
            Err(LinkError { error, answered }) => {
                if !answered {
                    self.silent.insert(worker);
                }
                for note in notes {
                    self.passed[note.root].error.clone_from(&error.message);
                }
                return;
            }
        };
        for (note, result) in notes.into_iter().zip(results) {
            let tally = &mut self.passed[note.root].tally;
            match result.state {
                PIN_DONE => {
                    tally.pinned_bytes += note.bytes;
                    let missing = note.bytes.saturating_sub(result.cached_bytes);
                    tally.missing_bytes += missing;
                    if let Some(file) = note.file.filter(|_| missing > 0 && self.wanted.len() < WANTED_MAX) {
                        self.wanted.insert(file.id, file);
                    }
                }
                PIN_REFUSED => tally.refused_bytes += note.bytes,
                // A dead version: the next pass knows the live one.
                _ => {}
            }
        }
    }

    /// Sends what is left and waits for all answers: what each path came to, in their order, and what is to be loaded.
    pub(super) async fn end(mut self) -> (Vec<Passed>, Vec<Wanted>) {
        let rest: Vec<(Core, Batch)> = self.batches.drain().filter(|(_, batch)| !batch.items.is_empty()).collect();
        for (core, batch) in rest {
            self.send(core, batch).await;
        }
        while !self.calls.is_empty() {
            self.answered().await;
        }
        (self.passed, self.wanted.into_values().collect())
    }
}
