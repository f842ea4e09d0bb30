//! Whole local files handed to clients of the same host, over the worker's socket for descriptors.

use super::message;
use rkyv::{Archive, Deserialize, Serialize};

/// Asks for a whole local file under a lease.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct LeaseFile {
    /// The signed ticket.
    pub ticket: Vec<u8>,
}

/// `LeaseFileReply::state`: the descriptor comes with the reply.
pub const LEASE_GRANTED: u8 = 1;
/// `LeaseFileReply::state`: not all of the file is on one disk of this worker.
pub const LEASE_NOT_WHOLE: u8 = 2;
/// `LeaseFileReply::state`: it is being checked, or the worker has yet to hear of changes: ask again.
pub const LEASE_NOT_YET: u8 = 3;
/// `LeaseFileReply::state`: leases hold as much as they may.
pub const LEASE_NO_ROOM: u8 = 4;
/// `LeaseFileReply::state`: files of a page or less are never handed out.
pub const LEASE_SMALL: u8 = 5;

/// Answers `LeaseFile`. With `LEASE_GRANTED`, and only then, one descriptor (SCM_RIGHTS) comes with the frame's first byte.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaseFileReply {
    /// One of the `LEASE_` states.
    pub state: u8,
    /// The lease; 0 without one.
    pub lease_id: u64,
    /// Bytes of the file.
    pub size: u64,
}
message!(LeaseFile => LeaseFileReply);

/// Gives leases back.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ReturnLeases {
    /// At most `limits::BATCH_MAX`; others' and unknown ones are ignored.
    pub lease_ids: Vec<u64>,
}
message!(ReturnLeases => super::Empty);

/// Renews all leases of the connection.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct RenewLeases {
    /// Always 0.
    pub reserved: u8,
}

/// Answers `RenewLeases`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct RenewLeasesReply {
    /// Leases of this connection whose content has left the cache. What was handed out stays readable; nobody new should
    /// be given it, and the lease is to be returned when it is out of use.
    pub gone: Vec<u64>,
}
message!(RenewLeases => RenewLeasesReply);
