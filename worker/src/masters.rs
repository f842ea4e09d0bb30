//! The worker's link to its masters: one connection, opened on demand, tried at each address in turn. Used by the
//! control thread and by the store threads.

use forebay_base::{ClusterId, ErrorKind, KindError};
use forebay_net::message::Message;
use forebay_net::transport::tokio::Connection;
use forebay_net::{Endpoint, Identity};
use std::time::Duration;
use tokio::sync::Mutex;

/// The masters of one cluster.
pub(crate) struct Masters {
    addresses: Vec<String>,
    identity: Identity,
    timeout: Duration,
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    connection: Option<Connection>,
    next: usize,
}

impl Masters {
    pub(crate) fn new(addresses: Vec<String>, identity: Identity, timeout: Duration) -> Self {
        Self { addresses, identity, timeout, link: Mutex::default() }
    }

    /// Asks the master that leads; tries each address once.
    pub(crate) async fn call<M: Message>(&self, request: &M) -> Result<M::Reply, KindError> {
        let mut last = KindError::new(ErrorKind::Unavailable, "cluster.masters is empty");
        for _ in 0..self.addresses.len() {
            match self.try_once(request).await {
                Ok(reply) => return Ok(reply),
                Err(error) if is_transient(error.kind) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// The cluster that the master says it is.
    pub(crate) async fn cluster_id(&self) -> Result<ClusterId, KindError> {
        let (connection, _) = self.connection().await?;
        Ok(connection.cluster_id())
    }

    async fn try_once<M: Message>(&self, request: &M) -> Result<M::Reply, KindError> {
        let (connection, address) = self.connection().await?;
        let result = connection.call(request, self.timeout).await;
        result.map_err(|error| {
            if is_transient(error.kind) && error.kind != ErrorKind::Overloaded {
                self.forget();
            }
            KindError::new(error.kind, format!("master {address}: {error}"))
        })
    }

    async fn connection(&self) -> Result<(Connection, String), KindError> {
        let mut link = self.link.lock().await;
        let address = self.addresses[link.next % self.addresses.len()].clone();
        if let Some(connection) = link.connection.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok((connection.clone(), address));
        }
        link.connection = None;
        match Connection::connect(&Endpoint::Tcp(address.clone()), &self.identity, self.timeout).await {
            Ok(connection) => {
                link.connection = Some(connection.clone());
                Ok((connection, address))
            }
            Err(error) => {
                link.next = link.next.wrapping_add(1);
                Err(KindError::new(error.kind, format!("master {address}: {error}")))
            }
        }
    }

    /// Drops the connection, so that the next call opens one to the next address. A held lock means that somebody
    /// else is already at it.
    fn forget(&self) {
        if let Ok(mut link) = self.link.try_lock() {
            link.connection = None;
            link.next = link.next.wrapping_add(1);
        }
    }
}

/// Whether waiting or another master may help.
pub(crate) fn is_transient(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::NotLeader | ErrorKind::Closed | ErrorKind::Overloaded)
}
