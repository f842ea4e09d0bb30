//! The namespace's state in RocksDB, written behind as cuts (hard case 9): one atomic batch per cut, without a
//! write-ahead log of its own, holding the rows that changed and the log id they stand at. The journal is the WAL.
//!
//! Blocking; called from raft's blocking pool and at start only.

use crate::error::MasterError;
use crate::namespace::{DirtyRow, Partition};
use forebay_base::{Incarnation, PartitionId};
use openraft::type_config::alias::{LogIdOf, StoredMembershipOf};
use rocksdb::{BlockBasedOptions, Cache, DB, FlushOptions, IteratorMode, Options, WriteBatch, WriteOptions};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A point of the log.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Position {
    pub(crate) applied: Option<LogIdOf<crate::journal::Types>>,
    pub(crate) membership: StoredMembershipOf<crate::journal::Types>,
}

const POSITION_KEY: &[u8] = b"position";
/// Rows of partitions have two-byte prefixes below this one.
const ROWS_END: u8 = b'p';

/// The database.
pub(crate) struct State {
    db: DB,
    position: Mutex<Position>,
}

impl State {
    /// Opens or creates it.
    pub(crate) fn open(directory: &Path) -> Result<Self, MasterError> {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(4 << 20).map_err(MasterError::State)?);
        table.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(16 << 20);
        options.set_max_write_buffer_number(2);
        options.set_max_open_files(64);
        options.set_keep_log_file_num(2);
        options.set_max_background_jobs(2);
        let db = DB::open(&options, directory).map_err(MasterError::State)?;
        let position = match db.get(POSITION_KEY).map_err(MasterError::State)? {
            None => Position::default(),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| MasterError::Format(format!("state: the position row is damaged: {error}")))?,
        };
        Ok(Self { db, position: Mutex::new(position) })
    }

    /// The log id of the last cut.
    #[must_use]
    pub(crate) fn position(&self) -> Position {
        self.position.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All partitions as of the last cut.
    pub(crate) fn load(
        &self,
        count: u16,
        incarnation: Incarnation,
        owner: (u32, u32),
    ) -> Result<Vec<Partition>, MasterError> {
        let mut partitions: Vec<Partition> =
            (0..count).map(|number| Partition::new(PartitionId(number as u8), incarnation, count, owner)).collect();
        if self.position().applied.is_none() {
            // Never flushed: what new partitions hold is all there is, and all of it belongs into the first cut.
            return Ok(partitions);
        }
        for row in self.db.iterator(IteratorMode::Start) {
            let (key, value) = row.map_err(MasterError::State)?;
            if key.first().is_some_and(|first| *first < ROWS_END) {
                Partition::restore_row(&mut partitions, &key, &value)
                    .map_err(|error| MasterError::Format(error.to_string()))?;
            }
        }
        for partition in &mut partitions {
            partition.restored();
        }
        Ok(partitions)
    }

    /// Writes a cut and flushes it; when this returns it is durable.
    pub(crate) fn write_cut(&self, position: &Position, rows: Vec<DirtyRow>) -> Result<(), MasterError> {
        let mut batch = WriteBatch::default();
        for (key, value) in rows {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        let text = serde_json::to_vec(position).expect("a position is plain data");
        batch.put(POSITION_KEY, text);
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        self.db.write_opt(batch, &unlogged).map_err(MasterError::State)?;
        let mut wait = FlushOptions::default();
        wait.set_wait(true);
        self.db.flush_opt(&wait).map_err(MasterError::State)?;
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = position.clone();
        Ok(())
    }
}
