//! Loads what is pinned and not cached, as a job does: behind everything that readers wait for. A task of its own for one
//! round of files.

use crate::jobs::Context;
use crate::jobs::ledger::Ledger;
use crate::jobs::walk::Met;
use crate::jobs::work::Work;
use crate::namespace::{JobFailure, JobPlace, JobTally};
use forebay_base::FileId;
use std::sync::Arc;
use std::time::Duration;

/// How often waiting steps are looked at.
const TICK: Duration = Duration::from_millis(20);
/// Failures told by name.
const FAILURES: usize = 100;

/// A file to load.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) path: Vec<u8>,
    pub(super) id: FileId,
    pub(super) size: u64,
    pub(super) version: u64,
}

/// What came of a round.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) failures: Vec<JobFailure>,
    /// Why the rest was given up.
    pub(super) stuck: Option<String>,
}

/// Loads the files.
pub(super) async fn load(context: Arc<Context>, wanted: Vec<Wanted>) -> Loaded {
    let ledger = Ledger::new(JobPlace::default(), JobTally::default(), String::new());
    let mut work = Work::new(context, ledger, 0, 1, false);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut wanted, mut at_end, mut loaded) = (wanted.into_iter(), false, Loaded::default());
    loop {
        while !at_end && work.wants_more() {
            match wanted.next() {
                Some(Wanted { path, id, size, version }) => {
                    work.met(Met::File { place: JobPlace { root: 0, path }, id, size, version });
                }
                None => at_end = true,
            }
        }
        work.go_on();
        if at_end && work.is_idle() {
            break;
        }
        let came = tokio::select! {
            came = work.next() => work.came(came).map_err(|error| error.message),
            _ = tick.tick() => Ok(()),
        };
        let failures = work.ledger.take_failures(usize::MAX);
        let room = FAILURES - loaded.failures.len();
        loaded.failures.extend(failures.into_iter().take(room));
        loaded.stuck = came.err().or_else(|| work.stuck());
        if loaded.stuck.is_some() {
            break;
        }
    }
    loaded
}
