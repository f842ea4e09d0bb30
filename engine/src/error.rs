//! The crate's error: why a store cannot be opened. Once open, trouble costs cache hits, never errors.

use forebay_base::{ClusterId, ErrorKind, Incarnation, KindError};
use std::io;
use std::path::PathBuf;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A setting that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The directory holds another cluster's cache.
    #[error("{path}: holds the cache of cluster {found:032x}, this is cluster {want:032x}; choose another directory, or empty this one with forebay worker --wipe-cache", path = path.display(), found = found.0, want = want.0)]
    ForeignCluster {
        /// The shard's directory.
        path: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// Who we are.
        want: ClusterId,
    },
    /// The directory was filled by a later state of the cluster than the master's.
    #[error("{path}: holds the cache of incarnation {found} of this cluster, the master's is {want}: its state is older than this cache; point cluster.masters at the right master, or empty it with forebay worker --wipe-cache", path = path.display())]
    LaterIncarnation {
        /// The shard's directory.
        path: PathBuf,
        /// Its incarnation.
        found: Incarnation,
        /// The master's.
        want: Incarnation,
    },
    /// Written by a later release.
    #[error("{path}: has disk format {found}, this release knows formats up to {known}; use the newer release, or empty it with forebay worker --wipe-cache", path = path.display())]
    NewerFormat {
        /// The shard's directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// Files are there, but nothing says that they are ours.
    #[error("{path}: {what}; if nothing in it is needed, empty it with forebay worker --wipe-cache, or remove it", path = path.display())]
    NotOurs {
        /// The shard's directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Another process uses the directory.
    #[error("{path}: in use by another process", path = path.display())]
    Locked {
        /// The shard's directory.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{path}: cannot {verb}: {source}", path = path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl EngineError {
    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            EngineError::Invalid(_)
            | EngineError::ForeignCluster { .. }
            | EngineError::LaterIncarnation { .. }
            | EngineError::NotOurs { .. } => ErrorKind::Invalid,
            EngineError::NewerFormat { .. } => ErrorKind::Unsupported,
            EngineError::Locked { .. } => ErrorKind::Busy,
            EngineError::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::StorageFull => ErrorKind::NoSpace,
                _ => ErrorKind::Unavailable,
            },
        }
    }
}

impl From<EngineError> for KindError {
    fn from(error: EngineError) -> Self {
        KindError::new(error.kind(), error.to_string())
    }
}
