//! openraft's log storage: entries that are not purged yet in memory, every change appended to the files by the
//! `journal-sync` thread. Calls come from raft's thread; readers share the memory.

use super::consensus::{Entry, LogId, Types, Vote};
use super::files;
use super::record::Record;
use super::writer::{Header, Pending, Waiter, Writer};
use crate::error::MasterError;
use crate::metrics::MasterMetrics;
use crossbeam::channel::{Sender, unbounded};
use forebay_base::metrics::PerCore;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::OpenOptions;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};

#[derive(Debug, Default)]
struct Memory {
    entries: BTreeMap<u64, (Entry, u64)>,
    bytes: u64,
    header: Header,
}

impl Memory {
    fn take(&mut self, record: Record, length: u64) {
        match record {
            Record::Entry(entry) => {
                let index = entry.log_id.index;
                // An entry that is written again was truncated before, or belongs to a purged part.
                self.forget(index..);
                self.bytes += length;
                self.entries.insert(index, (entry, length));
            }
            Record::Vote(vote) => self.header.vote = Some(vote),
            Record::Committed(committed) => self.header.committed = committed,
            Record::TruncateAfter(last) => self.forget(last.map_or(0, |last| last.index + 1)..),
            Record::Purge(purged) => {
                self.forget(..=purged.index);
                self.header.purged = Some(purged);
            }
        }
    }

    fn forget(&mut self, range: impl RangeBounds<u64>) {
        let gone: Vec<u64> = self.entries.range(range).map(|(index, _)| *index).collect();
        for index in gone {
            if let Some((_, length)) = self.entries.remove(&index) {
                self.bytes -= length;
            }
        }
    }

    fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, (entry, _))| entry.log_id).or(self.header.purged)
    }
}

/// The log. Clones share it.
#[derive(Clone)]
pub(super) struct LogStore {
    memory: Arc<Mutex<Memory>>,
    queue: Sender<Pending>,
}

impl LogStore {
    /// Recovers the log and starts its writer. `failure` is told when writing failed.
    pub(super) fn open(
        directory: &Path,
        failure: watch::Sender<Option<String>>,
        metrics: Arc<PerCore<MasterMetrics>>,
    ) -> Result<Self, MasterError> {
        let mut memory = Memory::default();
        let mut segments = files::recover(directory, |record| memory.take(record, 0))?;
        let file = match segments.last() {
            Some(segment) => OpenOptions::new().append(true).open(&segment.path)?,
            None => {
                let (file, segment) = files::create(directory, 1)?;
                segments.push(segment);
                file
            }
        };
        let (queue, incoming) = unbounded();
        let writer = Writer { directory: directory.to_path_buf(), sink: Box::new(file), segments, failure, metrics };
        std::thread::Builder::new().name("journal-sync".into()).spawn(move || writer.run(&incoming))?;
        Ok(Self { memory: Arc::new(Mutex::new(memory)), queue })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a log that lacks entries which the state, at `applied`, has not seen.
    pub(super) fn check_behind(&self, applied: Option<&LogId>) -> Result<(), MasterError> {
        let memory = self.memory();
        let (purged, applied) = (memory.header.purged.map_or(0, |id| id.index), applied.map_or(0, |id| id.index));
        if purged > applied {
            return Err(MasterError::Journal(format!(
                "the journal begins behind entry {purged} but the state ends at {applied}: the state directory was replaced or lost"
            )));
        }
        if memory.last().map_or(0, |id| id.index) < applied {
            return Err(MasterError::Journal(format!(
                "the journal ends before entry {applied} that the state holds: the journal directory was replaced or lost"
            )));
        }
        Ok(())
    }

    /// Bytes of entries since the last purge.
    pub(super) fn unpurged_bytes(&self) -> u64 {
        self.memory().bytes
    }

    fn send(&self, bytes: Vec<u8>, last_index: u64, waiter: Waiter) -> io::Result<()> {
        let header = self.memory().header.clone();
        let pending = Pending { bytes, last_index, header, waiter };
        self.queue.send(pending).map_err(|_| io::Error::other("the journal's writer ended"))
    }

    async fn write(&self, record: Record) -> io::Result<()> {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.memory().take(record, 0);
        let (sender, receiver) = oneshot::channel();
        self.send(bytes, 0, Waiter::Task(sender))?;
        receiver.await.map_err(|_| io::Error::other("the journal's writer ended"))?
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        Ok(self.memory().entries.range(range).map(|(_, (entry, _))| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.memory().header.vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let memory = self.memory();
        Ok(LogState { last_purged_log_id: memory.header.purged, last_log_id: memory.last() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write(Record::Vote(*vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut bytes = Vec::new();
        Record::Committed(committed).encode(&mut bytes);
        self.memory().header.committed = committed;
        // Durable with the next sync: a leader commits again what an older pointer leaves out.
        self.send(bytes, 0, Waiter::Nobody)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.memory().header.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let (mut bytes, mut last_index) = (Vec::new(), 0);
        for entry in entries {
            let start = bytes.len();
            let record = Record::Entry(entry);
            record.encode(&mut bytes);
            if let Record::Entry(entry) = &record {
                last_index = entry.log_id.index;
            }
            self.memory().take(record, (bytes.len() - start) as u64);
        }
        self.send(bytes, last_index, Waiter::Raft(callback))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.write(Record::TruncateAfter(last_log_id)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.write(Record::Purge(log_id)).await
    }
}
