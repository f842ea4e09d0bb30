//! The journal's files: torn tails, damage, restart, a disk that fails.

use super::consensus::{Batch, Entry, LogId};
use super::record::Record;
use super::writer::{Header, Pending, Sink, Waiter, Writer};
use super::*;
use crate::feed::Feed;
use openraft::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;
use std::io::{self, Write};

fn entry(index: u64) -> Entry {
    let leader_id = LeaderId { term: 1, node_id: NODE_ID };
    let commands = Arc::new(vec![Command::Boot]);
    Entry { log_id: LogId { leader_id, index }, payload: EntryPayload::Normal(Batch { commands }) }
}

fn segment(directory: &Path, sequence: u64, indexes: std::ops::Range<u64>) -> std::path::PathBuf {
    let (mut file, segment) = files::create(directory, sequence).unwrap();
    for index in indexes {
        let mut bytes = Vec::new();
        Record::Entry(entry(index)).encode(&mut bytes);
        file.write_all(&bytes).unwrap();
    }
    segment.path
}

fn recovered(directory: &Path) -> Result<Vec<u64>, MasterError> {
    let mut indexes = Vec::new();
    files::recover(directory, |record| {
        if let Record::Entry(entry) = record {
            indexes.push(entry.log_id.index);
        }
    })?;
    Ok(indexes)
}

#[test]
fn a_torn_tail_is_cut_wherever_it_tears() {
    let whole = tempfile::tempdir().unwrap();
    let path = segment(whole.path(), 1, 0..3);
    let bytes = std::fs::read(&path).unwrap();
    let record = (bytes.len() - 16) / 3;
    for length in 0..=bytes.len() {
        let directory = tempfile::tempdir().unwrap();
        let torn = directory.path().join(path.file_name().unwrap());
        std::fs::write(&torn, &bytes[..length]).unwrap();
        let kept = length.saturating_sub(16) / record;
        assert_eq!(recovered(directory.path()).unwrap(), (0..kept as u64).collect::<Vec<_>>(), "cut at {length}");
        if length >= 16 {
            assert_eq!(std::fs::metadata(&torn).unwrap().len() as usize, 16 + kept * record);
        }
        // What is cut stays cut.
        assert_eq!(recovered(directory.path()).unwrap().len(), kept);
    }
    // Any flipped bit ends the log there.
    for at in (16..bytes.len()).step_by(5) {
        let directory = tempfile::tempdir().unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        std::fs::write(directory.path().join(path.file_name().unwrap()), &damaged).unwrap();
        assert_eq!(recovered(directory.path()).unwrap().len(), (at - 16) / record, "flipped at {at}");
    }
}

#[test]
fn damage_before_the_end_refuses_to_start() {
    let directory = tempfile::tempdir().unwrap();
    let first = segment(directory.path(), 1, 0..3);
    segment(directory.path(), 2, 3..5);
    assert_eq!(recovered(directory.path()).unwrap(), [0, 1, 2, 3, 4]);
    let mut bytes = std::fs::read(&first).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&first, &bytes).unwrap();
    let error = recovered(directory.path()).unwrap_err().to_string();
    assert!(error.contains("damaged at byte") && !error.contains('\n'), "{error}");
}

struct Failing(Arc<std::sync::atomic::AtomicBool>);

impl Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Failing {
    fn sync(&mut self) -> io::Result<()> {
        let fails = self.0.load(std::sync::atomic::Ordering::SeqCst);
        if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

#[test]
fn a_failed_sync_poisons_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let fails = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (failure, failed) = watch::channel(None);
    let (_, first) = files::create(directory.path(), 1).unwrap();
    let writer = Writer {
        directory: directory.path().to_path_buf(),
        sink: Box::new(Failing(Arc::clone(&fails))),
        segments: vec![first],
        failure,
        metrics: Arc::default(),
    };
    let (queue, incoming) = crossbeam::channel::unbounded();
    let thread = std::thread::spawn(move || writer.run(&incoming));
    let write = || {
        let (sender, receiver) = oneshot::channel();
        let pending =
            Pending { bytes: vec![1; 10], last_index: 1, header: Header::default(), waiter: Waiter::Task(sender) };
        queue.send(pending).unwrap();
        receiver.blocking_recv().unwrap()
    };
    assert!(write().is_ok() && failed.borrow().is_none());
    fails.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(write().is_err());
    fails.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(write().is_err(), "a sync that works again proves nothing about what was lost");
    assert!(failed.borrow().is_some());
    drop(queue);
    thread.join().unwrap();
}

fn start(directory: &Path) -> (Journal, Arc<Cores>, Arc<State>) {
    let state = Arc::new(State::open(&directory.join("state")).unwrap());
    let partitions = state.load(5, forebay_base::Incarnation(1), (0, 0)).unwrap();
    let cores = Arc::new(Cores::start(partitions, 2, Arc::new(Feed::default())).unwrap());
    let journal =
        Journal::start(&directory.join("journal"), "here", Arc::clone(&cores), Arc::clone(&state), Arc::default())
            .unwrap();
    (journal, cores, state)
}

#[test]
fn restarts_with_and_without_a_cut_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for boot in 1..=8u64 {
        let (journal, cores, state) = start(directory.path());
        let outcome = runtime.block_on(journal.propose(Command::Boot)).unwrap();
        assert_eq!(outcome, Outcome::Booted { boot });
        if boot % 3 == 0 {
            runtime.block_on(journal.flush()).unwrap();
            let flushed = state.position().applied.unwrap().index;
            assert_eq!(flushed, journal.applied_index());
        }
        drop(journal);
        drop((cores, state));
    }
    // With the state gone, a journal that was purged behind it must not start from nothing.
    std::fs::remove_dir_all(directory.path().join("state")).unwrap();
    let state = Arc::new(State::open(&directory.path().join("state")).unwrap());
    let partitions = state.load(5, forebay_base::Incarnation(1), (0, 0)).unwrap();
    let cores = Arc::new(Cores::start(partitions, 1, Arc::new(Feed::default())).unwrap());
    let Err(error) = Journal::start(&directory.path().join("journal"), "here", cores, state, Arc::default()) else {
        panic!("started without its state")
    };
    assert!(error.to_string().contains("state directory"), "{error}");
}
