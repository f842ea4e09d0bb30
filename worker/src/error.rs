//! Why a worker does not start or does not go on: each is one line for people.

use forebay_base::{ClusterId, ErrorKind, KindError};
use std::path::PathBuf;

/// What ends a worker.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A directory cannot be used.
    #[error("{setting}: got {}, want a directory that this user can write: {reason}", path.display())]
    Directory {
        /// The setting that names it.
        setting: String,
        /// The directory.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another process holds the worker's directory.
    #[error("worker.dir: {} is held by another running worker; stop that one or choose another directory", path.display())]
    Held {
        /// The directory.
        path: PathBuf,
    },
    /// A file of the worker's small state cannot be understood.
    #[error("{}: got \"{got}\", want {want}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Its content.
        got: String,
        /// What belongs there.
        want: &'static str,
    },
    /// The directories belong to another cluster.
    #[error("worker.dir: {} belongs to cluster {held:032x}, the master is of cluster {found:032x}; point cluster.masters at the right master or choose a new directory", path.display(), held = held.0, found = found.0)]
    Cluster {
        /// The directory.
        path: PathBuf,
        /// The cluster written there.
        held: ClusterId,
        /// The master's.
        found: ClusterId,
    },
    /// A port cannot be listened on.
    #[error("worker.listen: got {address}, want a free address of this host: {reason}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// A setting cannot be followed on this host.
    #[error("{setting}: got {got}, want {want}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        got: String,
        /// What would do.
        want: String,
    },
    /// The secret cannot be loaded.
    #[error("cluster.secret_file: {0}")]
    Secret(KindError),
    /// A cache cannot be emptied.
    #[error("--wipe-cache: {0}")]
    Wipe(KindError),
    /// The metrics cannot be served.
    #[error("{0}")]
    Http(KindError),
    /// The master refuses this worker.
    #[error("the master refuses this worker: {0}")]
    Refused(KindError),
    /// A core ended although it was not asked to.
    #[error("core {shard} failed: {message}")]
    Shard {
        /// Which one.
        shard: u16,
        /// Why.
        message: String,
    },
    /// The system gives no thread or runtime.
    #[error("cannot start {what}: {reason}")]
    Runtime {
        /// What was to be started.
        what: &'static str,
        /// What the system said.
        reason: String,
    },
}

impl WorkerError {
    /// The kind, for callers that act on it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            WorkerError::Directory { .. } | WorkerError::State { .. } | WorkerError::Setting { .. } => {
                ErrorKind::Invalid
            }
            WorkerError::Held { .. } | WorkerError::Listen { .. } => ErrorKind::Busy,
            WorkerError::Cluster { .. } => ErrorKind::Denied,
            WorkerError::Secret(error)
            | WorkerError::Wipe(error)
            | WorkerError::Http(error)
            | WorkerError::Refused(error) => error.kind,
            WorkerError::Shard { .. } | WorkerError::Runtime { .. } => ErrorKind::Internal,
        }
    }
}
