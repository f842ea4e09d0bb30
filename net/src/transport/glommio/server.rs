//! A shard's server: its TCP port, its Unix socket, one local task per connection.

use super::connection::{serve, turn_away};
use super::{ShardService, listener};
use crate::transport::socket_path::{self, SocketFile};
use crate::transport::{CONNECTIONS_MAX, RECEIVE_BUFFER_BYTES, listen_error};
use crate::{Identity, NetError};
use forebay_base::KindError;
use futures::future::{Either, LocalBoxFuture, select};
use futures::stream::{FuturesUnordered, LocalBoxStream};
use futures::{AsyncRead, AsyncWrite, StreamExt};
use glommio::net::{Preallocated, TcpListener, UnixListener};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// A listening shard. It serves while `run` is polled; dropping it closes everything.
pub struct ShardServer {
    tcp_address: String,
    running: LocalBoxFuture<'static, ()>,
}

impl ShardServer {
    /// Listens on `tcp` (`host:port`, port 0 picks a free one) and, if given, on a Unix socket. Called on the shard's
    /// executor.
    pub fn bind<S: ShardService>(
        tcp: &str,
        unix: Option<&Path>,
        identity: Identity,
        service: Rc<S>,
    ) -> Result<ShardServer, KindError> {
        let (tcp_listener, tcp_address) = listener::listen(tcp)?;
        let unix_listener = match unix {
            None => None,
            Some(path) => {
                socket_path::clear(path)?;
                let listener = UnixListener::bind(path)
                    .map_err(|error| listen_error(&format!("unix:{}", path.display()), &error.into()))?;
                Some((listener, SocketFile(path.into())))
            }
        };
        let running = Box::pin(accept(tcp_listener, unix_listener, Rc::new(identity), service));
        Ok(ShardServer { tcp_address, running })
    }

    /// `host:port` with the real port.
    #[must_use]
    pub fn tcp_address(&self) -> String {
        self.tcp_address.clone()
    }

    /// Serves until dropped.
    pub async fn run(self) {
        self.running.await;
    }
}

/// A stream of either kind, with what its `Peer` needs.
struct Accepted {
    stream: Box<dyn Duplex>,
    address: String,
    is_unix: bool,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

fn accept_tcp(listener: &TcpListener) -> LocalBoxStream<'_, std::io::Result<Accepted>> {
    listener
        .incoming()
        .map(|accepted| {
            let stream = accepted?;
            let address = stream.peer_addr()?.to_string();
            let stream = Box::new(stream.buffered_with(Preallocated::new(RECEIVE_BUFFER_BYTES)));
            Ok(Accepted { stream, address, is_unix: false })
        })
        .boxed_local()
}

fn accept_unix<'a>(listener: &'a UnixListener, file: &'a SocketFile) -> LocalBoxStream<'a, std::io::Result<Accepted>> {
    let address = format!("unix:{}", file.0.display());
    listener
        .incoming()
        .map(move |accepted| {
            let stream = Box::new(accepted?.buffered_with(Preallocated::new(RECEIVE_BUFFER_BYTES)));
            Ok(Accepted { stream, address: address.clone(), is_unix: true })
        })
        .boxed_local()
}

async fn accept<S: ShardService>(
    tcp: TcpListener,
    unix: Option<(UnixListener, SocketFile)>,
    identity: Rc<Identity>,
    service: Rc<S>,
) {
    let unix = unix.as_ref();
    let mut arriving = futures::stream::select(
        accept_tcp(&tcp),
        unix.map_or_else(|| futures::stream::pending().boxed_local(), |(listener, file)| accept_unix(listener, file)),
    );
    // Dropping a task cancels it, so that all connections end with this future.
    let mut connections: FuturesUnordered<glommio::Task<()>> = FuturesUnordered::new();
    loop {
        let accepted = if connections.is_empty() {
            arriving.next().await
        } else {
            match select(arriving.next(), connections.next()).await {
                Either::Left((accepted, _)) => accepted,
                Either::Right(_) => continue,
            }
        };
        match accepted {
            None => return,
            Some(Err(error)) => {
                // Out of descriptors or memory: what frees them needs time to run.
                tracing::warn!(%error, "cannot accept a connection");
                glommio::timer::sleep(Duration::from_millis(100)).await;
            }
            Some(Ok(Accepted { stream, address, .. })) if connections.len() >= CONNECTIONS_MAX => {
                tracing::warn!(%address, "refused a connection: {CONNECTIONS_MAX} are open");
                crate::NET_METRICS.refused.add(1);
                turn_away(stream, &address).await;
            }
            Some(Ok(Accepted { stream, address, is_unix })) => {
                let (identity, service) = (identity.clone(), service.clone());
                connections.push(glommio::spawn_local(async move {
                    let name = address.clone();
                    if let Err(error) = serve(stream, address, is_unix, identity, service).await {
                        log_end(&name, &error);
                    }
                }));
            }
        }
    }
}

fn log_end(address: &str, error: &NetError) {
    tracing::debug!(%address, %error, "connection ended");
}
