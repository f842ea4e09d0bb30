//! Why a master cannot start or go on. One line each, for people.

use std::path::PathBuf;

/// A master's own failures; what a caller did wrong is a `KindError`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterError {
    /// The journal's files.
    #[error("journal: {0}")]
    Journal(String),
    /// RocksDB.
    #[error("state: {0}")]
    State(rocksdb::Error),
    /// What is on disk makes no sense or belongs to other settings.
    #[error("{0}")]
    Format(String),
    /// `master.dir` cannot be used.
    #[error("master.dir {path}: {reason}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// Something could not be started: a listener, a runtime.
    #[error("{0}")]
    Start(String),
    /// The journal or the state failed while serving.
    #[error("stopped serving: {0}")]
    Failed(String),
    /// Input or output elsewhere.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}
