//! Hello and proof: version range, cluster, role, and mutual proof of the shared secret without sending it.

use super::message;
use rkyv::{Archive, Deserialize, Serialize};

/// Who is speaking. Numbers are wire format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Role {
    /// FUSE, HDFS, S3, or the command line.
    Frontend = 1,
    /// A worker: may fetch the secrets of mounts.
    Worker = 2,
    /// A master.
    Master = 3,
    /// An operator's tool: may change mounts.
    Admin = 4,
}

impl Role {
    /// The role of a wire number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Role> {
        [Role::Frontend, Role::Worker, Role::Master, Role::Admin].into_iter().find(|role| *role as u8 == code)
    }
}

/// Opens a connection.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Oldest wire version the client speaks.
    pub version_min: u8,
    /// Newest one.
    pub version_max: u8,
    /// A `Role`.
    pub role: u8,
    /// The cluster the client belongs to; 0 if it does not know yet.
    pub cluster_id: u128,
    /// Random.
    pub nonce: [u8; 32],
}

/// Answers `Hello`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct HelloReply {
    /// The version both will use.
    pub version: u8,
    /// The server's cluster; 0 if it does not know yet.
    pub cluster_id: u128,
    /// Random.
    pub nonce: [u8; 32],
    /// HMAC-SHA256(secret, "forebay-server" | client nonce | server nonce | role).
    pub proof: [u8; 32],
}

/// The client's proof; the connection serves nothing before it.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Prove {
    /// HMAC-SHA256(secret, "forebay-client" | server nonce | client nonce | role).
    pub proof: [u8; 32],
}

message!(Hello => HelloReply);
message!(Prove => super::Empty);
