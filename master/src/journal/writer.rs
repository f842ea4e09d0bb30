//! The `journal-sync` thread: writes what has gathered, syncs once, then tells everyone who waited (group commit).
//!
//! Invariant: after a failed write or sync nothing is ever reported durable again.

use super::consensus::{LogId, Types, Vote};
use super::files::{self, Segment};
use super::record::Record;
use crate::metrics::MasterMetrics;
use crossbeam::channel::Receiver;
use forebay_base::metrics::PerCore;
use openraft::storage::IOFlushed;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{oneshot, watch};

/// A segment is closed when it is this long.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Most bytes written before one sync.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// Who waits for a write.
pub(super) enum Waiter {
    Nobody,
    Raft(IOFlushed<Types>),
    Task(oneshot::Sender<io::Result<()>>),
}

/// Records to write.
pub(super) struct Pending {
    pub(super) bytes: Vec<u8>,
    pub(super) last_index: u64,
    pub(super) header: Header,
    pub(super) waiter: Waiter,
}

/// What a new segment begins with; also says how far old ones may go.
#[derive(Clone, Debug, Default)]
pub(super) struct Header {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
}

impl Header {
    fn encode(&self, out: &mut Vec<u8>) {
        if let Some(vote) = &self.vote {
            Record::Vote(*vote).encode(out);
        }
        if let Some(purged) = self.purged {
            Record::Purge(purged).encode(out);
        }
        Record::Committed(self.committed).encode(out);
    }
}

/// Where bytes go: a file, or in tests one that fails.
pub(super) trait Sink: Write + Send {
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

impl Sink for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The thread's state.
pub(super) struct Writer {
    pub(super) directory: PathBuf,
    pub(super) sink: Box<dyn Sink>,
    /// Oldest first; the last one is being written.
    pub(super) segments: Vec<Segment>,
    pub(super) failure: watch::Sender<Option<String>>,
    pub(super) metrics: Arc<PerCore<MasterMetrics>>,
}

impl Writer {
    /// Runs until every sender is gone.
    pub(super) fn run(mut self, queue: &Receiver<Pending>) {
        let mut poison: Option<String> = None;
        while let Ok(first) = queue.recv() {
            let mut group = vec![first];
            let mut bytes = group[0].bytes.len();
            while bytes < GROUP_BYTES_MAX {
                let Ok(next) = queue.try_recv() else { break };
                bytes += next.bytes.len();
                group.push(next);
            }
            let result = match &poison {
                Some(reason) => Err(reason.clone()),
                None => self.commit(&group).map_err(|error| error.to_string()),
            };
            if let (Err(reason), None) = (&result, &poison) {
                tracing::error!("journal cannot be written: {reason}: no more changes are taken");
                poison = Some(reason.clone());
                self.failure.send_replace(Some(reason.clone()));
            }
            for write in group {
                let result = result.clone().map_err(io::Error::other);
                match write.waiter {
                    Waiter::Nobody => {}
                    Waiter::Raft(flushed) => flushed.io_completed(result),
                    Waiter::Task(sender) => drop(sender.send(result)),
                }
            }
        }
    }

    fn commit(&mut self, group: &[Pending]) -> io::Result<()> {
        let (began, mut lazy) = (Instant::now(), true);
        for write in group {
            self.sink.write_all(&write.bytes)?;
            let current = self.segments.last_mut().expect("there is always one");
            current.length += write.bytes.len() as u64;
            current.last_index = current.last_index.max(write.last_index);
            lazy &= matches!(write.waiter, Waiter::Nobody);
        }
        if !lazy {
            self.sink.sync()?;
            self.metrics.here().journal_sync_seconds.record_since(began);
        }
        let bytes: usize = group.iter().map(|write| write.bytes.len()).sum();
        self.metrics.here().journal_bytes.add(bytes as u64);
        let header = &group.last().expect("a group is never empty").header;
        let purged = header.purged.map_or(0, |log_id| log_id.index);
        let current = self.segments.last().expect("there is always one");
        let all_purged = current.last_index > 0 && current.last_index <= purged;
        if current.length >= SEGMENT_BYTES || all_purged {
            self.rotate(header)?;
        }
        while header.purged.is_some() && self.segments.len() > 1 && self.segments[0].last_index <= purged {
            files::remove(&self.directory, &self.segments[0])?;
            self.segments.remove(0);
        }
        Ok(())
    }

    fn rotate(&mut self, header: &Header) -> io::Result<()> {
        self.sink.sync()?;
        let sequence = self.segments.last().map_or(1, |segment| segment.sequence + 1);
        let (mut file, mut segment) = files::create(&self.directory, sequence)?;
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        file.write_all(&bytes)?;
        file.sync_data()?;
        segment.length += bytes.len() as u64;
        self.segments.push(segment);
        self.sink = Box::new(file);
        Ok(())
    }
}
