//! What keeps a mount from starting: one line each for people.

use forebay_base::{ErrorKind, KindError};
use std::path::PathBuf;

/// Why the mount could not be made or served.
#[derive(Debug, thiserror::Error)]
pub enum FuseError {
    /// The mount point cannot be used.
    #[error("fuse.mountpoint: got {path}, want {want}")]
    Mountpoint {
        /// The setting.
        path: PathBuf,
        /// What is wrong or allowed.
        want: String,
    },
    /// Something is mounted there and alive.
    #[error("fuse.mountpoint: {path} is already mounted by a running forebay-fuse; unmount it first: umount {path}")]
    AlreadyMounted {
        /// The setting.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("cannot mount {path}: {reason}")]
    Mount {
        /// The setting.
        path: PathBuf,
        /// What the kernel or fusermount3 said.
        reason: String,
    },
    /// The kernel's protocol is too old or its first words are wrong.
    #[error("the kernel's FUSE protocol: {0}")]
    Protocol(String),
    /// A system call failed.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// How it failed.
        error: std::io::Error,
    },
    /// The cluster cannot be reached.
    #[error("{0}")]
    Cluster(#[from] KindError),
}

impl FuseError {
    pub(crate) fn system(what: impl Into<String>, error: impl Into<std::io::Error>) -> Self {
        FuseError::System { what: what.into(), error: error.into() }
    }

    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            FuseError::Mountpoint { .. } => ErrorKind::Invalid,
            FuseError::AlreadyMounted { .. } => ErrorKind::Busy,
            FuseError::Mount { .. } | FuseError::System { .. } => ErrorKind::Internal,
            FuseError::Protocol(_) => ErrorKind::Unsupported,
            FuseError::Cluster(error) => error.kind,
        }
    }
}
