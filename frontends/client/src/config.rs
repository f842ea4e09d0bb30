//! What a client must know before it can reach a cluster. Plain data.

use forebay_base::KindError;
use forebay_base::settings::Settings;
use forebay_net::Secret;
use forebay_net::message::handshake::Role;
use std::path::PathBuf;
use std::time::Duration;

/// How to reach a cluster and how patient to be.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` of every master.
    pub masters: Vec<String>,
    /// The cluster's shared secret.
    pub secret: Secret,
    /// What this process is.
    pub role: Role,
    /// Directory of the Unix sockets of this host's processes.
    pub socket_dir: PathBuf,
    /// How long masters are tried, and the deadline of one call.
    pub rpc_timeout: Duration,
    /// How long one read goes on looking for a worker that serves it.
    pub io_timeout: Duration,
    /// Check the checksums of bytes that came over TCP.
    pub verify: bool,
}

impl ClientConfig {
    /// The client side of a process's settings. Reads the secret's file.
    pub fn new(settings: &Settings, role: Role) -> Result<Self, KindError> {
        Ok(Self {
            masters: settings.cluster.masters.clone(),
            secret: Secret::load(settings.cluster.secret_file.as_deref())?,
            role,
            socket_dir: settings.cluster.socket_dir.clone(),
            rpc_timeout: settings.cluster.rpc_timeout,
            io_timeout: settings.fuse.io_timeout,
            verify: true,
        })
    }
}
