//! What became of each file that is under way, in the order of the walk. Owned by one job's task. Pure.
//!
//! Invariants: `done` counts exactly what lies at or before `place`; a file is counted once, when it and everything
//! before it has ended; answers to an earlier attempt at a file change nothing.

use crate::namespace::{JobFailure, JobPlace, JobTally};
use forebay_net::message::data::LoadResult;
use std::collections::VecDeque;

/// A file or failed directory under way. Numbers grow with the walk.
pub(super) type Seq = u64;

#[derive(Debug)]
struct Entry {
    place: JobPlace,
    attempt: u8,
    steps_left: u32,
    /// All steps were issued.
    issued: bool,
    bytes: JobTally,
    failed: Option<String>,
}

/// The ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    entries: VecDeque<Entry>,
    first: Seq,
    place: JobPlace,
    done: JobTally,
    /// All that is known, the files that lie behind an unfinished one too: for people who watch.
    seen: JobTally,
    failures: Vec<JobFailure>,
    last_error: String,
}

fn add(sum: &mut JobTally, other: &JobTally) {
    sum.fetched_bytes += other.fetched_bytes;
    sum.cached_bytes += other.cached_bytes;
    sum.verified_bytes += other.verified_bytes;
    sum.corrupt_pages += other.corrupt_pages;
}

fn take(sum: &mut JobTally, other: &JobTally) {
    sum.fetched_bytes -= other.fetched_bytes;
    sum.cached_bytes -= other.cached_bytes;
    sum.verified_bytes -= other.verified_bytes;
    sum.corrupt_pages -= other.corrupt_pages;
}

impl Ledger {
    /// Goes on from what the journal says.
    pub(crate) fn new(place: JobPlace, done: JobTally, last_error: String) -> Self {
        Self { entries: VecDeque::new(), first: 0, place, done, seen: done, failures: Vec::new(), last_error }
    }

    /// Files under way.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The walk met something; it has ended when its steps have.
    pub(super) fn open(&mut self, place: JobPlace) -> Seq {
        self.entries.push_back(Entry {
            place,
            attempt: 0,
            steps_left: 0,
            issued: false,
            bytes: JobTally::default(),
            failed: None,
        });
        self.first + self.entries.len() as u64 - 1
    }

    fn entry(&mut self, seq: Seq) -> Option<&mut Entry> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)
    }

    /// Whether an answer, or a step that waits, still counts.
    pub(super) fn is_current(&mut self, seq: Seq, attempt: u8) -> bool {
        self.entry(seq).is_some_and(|entry| entry.attempt == attempt && entry.failed.is_none())
    }

    /// A step of it goes out.
    pub(super) fn issue(&mut self, seq: Seq) {
        if let Some(entry) = self.entry(seq) {
            entry.steps_left += 1;
        }
    }

    /// There will be no more steps.
    pub(super) fn issued(&mut self, seq: Seq) {
        if let Some(entry) = self.entry(seq) {
            entry.issued = true;
            let over = entry.steps_left == 0 && entry.failed.is_none();
            self.ended(over);
        }
    }

    /// A step came to nothing and needs no other.
    pub(super) fn skipped(&mut self, seq: Seq, attempt: u8) {
        self.stepped(seq, attempt, &LoadResult::default());
    }

    /// A step is done.
    pub(super) fn stepped(&mut self, seq: Seq, attempt: u8, result: &LoadResult) {
        if !self.is_current(seq, attempt) {
            return;
        }
        let Some(entry) = self.entry(seq) else { return };
        let bytes = JobTally {
            fetched_bytes: result.fetched_bytes,
            cached_bytes: result.cached_bytes,
            verified_bytes: result.verified_bytes,
            corrupt_pages: u64::from(result.corrupt_pages),
            ..JobTally::default()
        };
        add(&mut entry.bytes, &bytes);
        entry.steps_left -= 1;
        let over = entry.issued && entry.steps_left == 0;
        add(&mut self.seen, &bytes);
        self.ended(over);
    }

    fn ended(&mut self, over: bool) {
        if over {
            self.seen.files += 1;
            self.settle();
        }
    }

    /// It failed, for the reason given.
    pub(super) fn fail(&mut self, seq: Seq, attempt: u8, reason: String) {
        if !self.is_current(seq, attempt) {
            return;
        }
        let Some(entry) = self.entry(seq) else { return };
        let bytes = std::mem::take(&mut entry.bytes);
        entry.failed = Some(reason.clone());
        take(&mut self.seen, &bytes);
        self.seen.failed += 1;
        self.last_error = reason;
        self.settle();
    }

    /// Starts a file anew, because its content changed; the attempt to use from now on.
    pub(super) fn restart(&mut self, seq: Seq) -> Option<u8> {
        let entry = self.entry(seq)?;
        let bytes = std::mem::take(&mut entry.bytes);
        entry.attempt = entry.attempt.wrapping_add(1);
        entry.steps_left = 0;
        entry.issued = false;
        let attempt = entry.attempt;
        take(&mut self.seen, &bytes);
        Some(attempt)
    }

    fn settle(&mut self) {
        while let Some(front) = self.entries.front() {
            if front.failed.is_none() && !(front.issued && front.steps_left == 0) {
                return;
            }
            let Some(entry) = self.entries.pop_front() else { return };
            self.first += 1;
            match entry.failed {
                Some(reason) => {
                    self.done.failed += 1;
                    self.failures.push(JobFailure { path: entry.place.path.clone(), reason });
                }
                None => {
                    self.done.files += 1;
                    add(&mut self.done, &entry.bytes);
                }
            }
            self.place = entry.place;
        }
    }

    /// Nothing more comes: what has ended counts now, whatever lies before it.
    pub(super) fn close(&mut self) {
        for entry in std::mem::take(&mut self.entries) {
            self.first += 1;
            match entry.failed {
                Some(reason) => {
                    self.done.failed += 1;
                    self.failures.push(JobFailure { path: entry.place.path, reason });
                }
                None if entry.issued && entry.steps_left == 0 => {
                    self.done.files += 1;
                    add(&mut self.done, &entry.bytes);
                }
                None => {}
            }
        }
    }

    /// Where everything before is done, what that is, and what last went wrong.
    pub(crate) fn settled(&self) -> (&JobPlace, JobTally, &str) {
        (&self.place, self.done, &self.last_error)
    }

    /// For people who watch.
    pub(super) fn seen(&self) -> JobTally {
        self.seen
    }

    /// Something went wrong that is no failure of a file.
    pub(crate) fn note(&mut self, message: String) {
        self.last_error = message;
    }

    /// What failed since the last call, at most `most`; the others come next time.
    pub(crate) fn take_failures(&mut self, most: usize) -> Vec<JobFailure> {
        self.failures.drain(..self.failures.len().min(most)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(number: u64) -> JobPlace {
        JobPlace { root: 0, path: format!("/f{number:03}").into_bytes() }
    }

    fn result(bytes: u64) -> LoadResult {
        LoadResult { fetched_bytes: bytes, cached_bytes: 1, ..LoadResult::default() }
    }

    #[test]
    fn nothing_counts_before_what_lies_in_front_of_it() {
        let mut ledger = Ledger::new(JobPlace::default(), JobTally::default(), String::new());
        let (first, second) = (ledger.open(place(1)), ledger.open(place(2)));
        for seq in [first, second] {
            ledger.issue(seq);
            ledger.issued(seq);
        }
        ledger.stepped(second, 0, &result(10));
        assert_eq!((ledger.settled().1.files, ledger.seen().files), (0, 1));
        assert_eq!(ledger.settled().0.path, b"");
        let attempt = ledger.restart(first).unwrap();
        ledger.stepped(first, 0, &result(99));
        ledger.issue(first);
        ledger.issued(first);
        assert_eq!(ledger.settled().1.files, 0, "an answer to the earlier attempt");
        ledger.stepped(first, attempt, &result(5));
        let (at, done, _) = ledger.settled();
        assert_eq!((at.path.as_slice(), done.files, done.fetched_bytes), (b"/f002".as_slice(), 2, 15));
        assert_eq!(ledger.seen(), done);
    }

    proptest! {
        #[test]
        fn any_order_of_answers_gives_the_same_totals(order in Just((0..60usize).collect::<Vec<_>>()).prop_shuffle()) {
            let mut ledger = Ledger::new(JobPlace::default(), JobTally::default(), String::new());
            let mut steps = Vec::new();
            for number in 0..20u64 {
                let seq = ledger.open(place(number));
                for _ in 0..3 {
                    ledger.issue(seq);
                    steps.push(seq);
                }
                ledger.issued(seq);
            }
            for index in order {
                let seq = steps[index];
                if seq % 5 == 4 {
                    ledger.fail(seq, 0, "gone".into());
                } else {
                    ledger.stepped(seq, 0, &result(7));
                }
            }
            let (at, done, _) = ledger.settled();
            prop_assert_eq!(at.path.as_slice(), b"/f019");
            prop_assert_eq!((done.files, done.failed, done.fetched_bytes, done.cached_bytes), (16, 4, 16 * 21, 16 * 3));
            prop_assert_eq!(ledger.seen(), done);
            let failures = ledger.take_failures(100);
            let paths: Vec<Vec<u8>> = failures.into_iter().map(|failure| failure.path).collect();
            prop_assert_eq!(paths, [4, 9, 14, 19].map(|number| place(number).path).to_vec());
        }
    }
}
