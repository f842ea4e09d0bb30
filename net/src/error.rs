//! What can go wrong between processes, before it becomes a `KindError`.

use crate::frame::FrameError;
use crate::message::BodyError;
use forebay_base::{ErrorKind, KindError};
use std::path::PathBuf;

/// A failure of the wire.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NetError {
    /// The secret's file cannot be read.
    #[error("cluster.secret_file: cannot read {}: {error}", path.display())]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The secret is too short or too long.
    #[error("cluster.secret_file: {}: got {bytes} bytes, want {min} to {max}", path.display())]
    SecretLength {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// Shortest.
        min: usize,
        /// Longest.
        max: usize,
    },
    /// The token of HTTP cannot be used.
    #[error("cluster.http_token_file: {}: {error}", path.display())]
    HttpTokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// Not an address.
    #[error("address: got \"{address}\", want host:port: {error}")]
    Address {
        /// What was given.
        address: String,
        /// Why it is none.
        error: String,
    },
    /// Another process listens there.
    #[error("port in use: {address} is taken by another process")]
    PortInUse {
        /// The address.
        address: String,
    },
    /// Another process listens on an HTTP address.
    #[error("{setting} {address}: is taken by another process: change {setting}")]
    HttpPortInUse {
        /// The setting that holds the address.
        setting: String,
        /// The address.
        address: String,
    },
    /// Listening for HTTP failed.
    #[error("{setting} {address}: cannot listen there: {error}")]
    HttpListen {
        /// The setting that holds the address.
        setting: String,
        /// The address.
        address: String,
        /// Why.
        error: String,
    },
    /// Another process answers on the Unix socket.
    #[error("socket in use: {} is served by another process", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket stands where the socket should be.
    #[error("socket path {}: a file that is not a socket is there, want nothing or a stale socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Listening failed.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        error: String,
    },
    /// Connecting failed.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// Where to.
        address: String,
        /// Why.
        error: String,
    },
    /// Connecting and the handshake took too long.
    #[error("cannot connect to {address}: no answer within {timeout_ms} ms")]
    ConnectTimeout {
        /// Where to.
        address: String,
        /// The limit.
        timeout_ms: u64,
    },
    /// The two sides hold different secrets.
    #[error("cluster secret does not match that of {address}")]
    SecretMismatch {
        /// The other side.
        address: String,
    },
    /// The two sides belong to different clusters.
    #[error("{address} belongs to cluster {theirs:032x}, this process to {ours:032x}")]
    ClusterMismatch {
        /// The other side.
        address: String,
        /// Its cluster.
        theirs: u128,
        /// Ours.
        ours: u128,
    },
    /// No wire version that both speak.
    #[error("wire version: {address} speaks {their_min} to {their_max}, this process {our_min} to {our_max}")]
    VersionMismatch {
        /// The other side.
        address: String,
        /// Its oldest.
        their_min: u8,
        /// Its newest.
        their_max: u8,
        /// Our oldest.
        our_min: u8,
        /// Our newest.
        our_max: u8,
    },
    /// A role number that does not exist.
    #[error("role: {address} claims {got}, want 1 to 4")]
    UnknownRole {
        /// The other side.
        address: String,
        /// The number.
        got: u8,
    },
    /// The server said no during the handshake.
    #[error("{address} refused the connection: {message}")]
    Refused {
        /// The server.
        address: String,
        /// Its error.
        kind: ErrorKind,
        /// Its message.
        message: String,
    },
    /// A frame of the handshake that was not the expected one.
    #[error("handshake: got op {got:#06x} (flags {flags:#04x}), want {want:#06x}")]
    UnexpectedFrame {
        /// Its op.
        got: u16,
        /// Its flags.
        flags: u8,
        /// The op that was due.
        want: u16,
    },
    /// A reply where a request was due.
    #[error("frame of op {op:#06x}: {what}")]
    Misuse {
        /// Its op.
        op: u16,
        /// What was wrong.
        what: &'static str,
    },
    /// A malformed frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A malformed body.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The connection broke.
    #[error("connection to {address} broke: {error}")]
    Broken {
        /// The other side.
        address: String,
        /// How.
        error: String,
    },
    /// No reply in time.
    #[error("{address} did not answer {op} within {deadline_ms} ms")]
    Timeout {
        /// The other side.
        address: String,
        /// The operation.
        op: String,
        /// The limit.
        deadline_ms: u64,
    },
    /// A body or payload larger than a frame may carry.
    #[error("{op}: {what} of {bytes} bytes, want at most {max}")]
    TooLarge {
        /// The operation.
        op: String,
        /// body or payload.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: u32,
    },
}

impl NetError {
    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            NetError::SecretFile { .. }
            | NetError::SecretLength { .. }
            | NetError::HttpTokenFile { .. }
            | NetError::Address { .. }
            | NetError::NotASocket { .. }
            | NetError::TooLarge { .. }
            | NetError::Misuse { .. }
            | NetError::UnexpectedFrame { .. } => ErrorKind::Invalid,
            NetError::PortInUse { .. } | NetError::HttpPortInUse { .. } | NetError::SocketInUse { .. } => {
                ErrorKind::Busy
            }
            NetError::SecretMismatch { .. } | NetError::ClusterMismatch { .. } | NetError::UnknownRole { .. } => {
                ErrorKind::Denied
            }
            NetError::VersionMismatch { .. } => ErrorKind::Unsupported,
            NetError::Refused { kind, .. } => *kind,
            NetError::Frame(_) | NetError::Body(_) => ErrorKind::Corrupt,
            NetError::Listen { .. }
            | NetError::HttpListen { .. }
            | NetError::Connect { .. }
            | NetError::ConnectTimeout { .. }
            | NetError::Broken { .. }
            | NetError::Timeout { .. } => ErrorKind::Unavailable,
        }
    }
}

impl From<NetError> for KindError {
    fn from(error: NetError) -> KindError {
        KindError::new(error.kind(), error.to_string())
    }
}
