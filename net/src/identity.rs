//! Who speaks on a connection: what this process says of itself, and what the handshake learned of the other side.

use crate::Secret;
use crate::message::handshake::Role;
use forebay_base::ClusterId;

/// What this process is and can prove.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What it claims to be.
    pub role: Role,
    /// Its cluster; 0 while unknown, which matches every cluster.
    pub cluster_id: ClusterId,
    /// The cluster's shared secret.
    pub secret: Secret,
}

/// The other side of a served connection, after it proved the secret.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it is.
    pub role: Role,
    /// Unique among the connections of this process.
    pub connection_id: u64,
    /// Its address, for people.
    pub address: String,
    /// Whether it came over a Unix socket: it runs on this host.
    pub is_unix: bool,
}
