//! The server masters run: one task per connection, one per request, replies batched by one writer per connection.
//!
//! Invariants: a connection serves nothing before the client's proof; at most `IN_FLIGHT_MAX` requests of a connection
//! run, beyond it nothing is read from it; a request runs no longer than its deadline.

use super::frames::{Frame, FrameReader, write_one, write_queue};
use crate::handshake::{ServerHandshake, fresh_nonce};
use crate::message::handshake::{Hello, Prove, Role};
use crate::message::{Empty, Op, Wire};
use crate::metrics::connected;
use crate::transport::reply::{self, Outgoing};
use crate::transport::socket_path::{self, SocketFile};
use crate::transport::{
    CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, IN_FLIGHT_MAX, deadline_of, listen_error, next_connection_id, set_tcp_options,
};
use crate::{Endpoint, Flags, Identity, NET_METRICS, NetError, Peer};
use forebay_base::{ErrorKind, KindError};
use futures::FutureExt;
use rkyv::util::AlignedVec;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// How long requests under way may take when the server shuts down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Replies that wait for the writer.
const QUEUE_FRAMES: usize = 64;

/// What a server does with requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. The future is dropped when `deadline` has passed.
    fn call(
        &self,
        peer: Arc<Peer>,
        op: Op,
        body: AlignedVec,
        deadline: Duration,
    ) -> impl Future<Output = Result<AlignedVec, KindError>> + Send;
}

/// A listening server.
pub struct Server {
    local_address: String,
    closing: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Listens and serves from now on, on the current runtime. `host:0` picks a free port.
    pub async fn bind<S: Service>(
        endpoint: &Endpoint,
        identity: Identity,
        service: Arc<S>,
    ) -> Result<Server, KindError> {
        let name = endpoint.to_string();
        let (closing, closed) = watch::channel(false);
        let shared = Arc::new(Shared { identity, service });
        let (local_address, accepting) = match endpoint {
            Endpoint::Tcp(address) => {
                let listener =
                    TcpListener::bind(address.as_str()).await.map_err(|error| listen_error(&name, &error))?;
                set_tcp_options(&listener).map_err(|error| listen_error(&name, &error))?;
                let local = listener.local_addr().map_err(|error| listen_error(&name, &error))?.to_string();
                (local, tokio::spawn(accept_tcp(listener, shared, closed)))
            }
            Endpoint::Unix(path) => {
                socket_path::clear(path)?;
                let listener = UnixListener::bind(path).map_err(|error| listen_error(&name, &error))?;
                let file = SocketFile(path.clone());
                (path.display().to_string(), tokio::spawn(accept_unix(listener, file, shared, closed)))
            }
        };
        Ok(Server { local_address, closing, accepting })
    }

    /// `host:port` with the real port, or the socket's path.
    #[must_use]
    pub fn local_address(&self) -> String {
        self.local_address.clone()
    }

    /// Stops listening and reading, lets requests under way end for 2 s, then closes everything.
    pub async fn shutdown(mut self) {
        self.closing.send_replace(true);
        if let Err(error) = (&mut self.accepting).await {
            tracing::error!(address = %self.local_address, %error, "server task failed");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Shared<S> {
    identity: Identity,
    service: Arc<S>,
}

async fn accept_tcp<S: Service>(listener: TcpListener, shared: Arc<Shared<S>>, mut closed: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let closing = closed.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closed.wait_for(|closed| *closed) => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let (read, write) = stream.into_split();
                admit(&mut connections, read, write, address.to_string(), false, &shared, &closing).await;
            }
            Err(error) => accept_failed(&error).await,
        }
    }
    drop(listener);
    end(connections).await;
}

async fn accept_unix<S: Service>(
    listener: UnixListener,
    file: SocketFile,
    shared: Arc<Shared<S>>,
    mut closed: watch::Receiver<bool>,
) {
    let name = format!("unix:{}", file.0.display());
    let mut connections = JoinSet::new();
    let closing = closed.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closed.wait_for(|closed| *closed) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (read, write) = stream.into_split();
                admit(&mut connections, read, write, name.clone(), true, &shared, &closing).await;
            }
            Err(error) => accept_failed(&error).await,
        }
    }
    drop((listener, file));
    end(connections).await;
}

/// Each connection ends by itself within the grace; those still shaking hands are cut.
async fn end(mut connections: JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE + Duration::from_millis(500), all).await.is_err() {
        connections.shutdown().await;
    }
}

/// Out of descriptors or memory: what frees them needs time to run.
async fn accept_failed(error: &std::io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn admit<S, R, W>(
    connections: &mut JoinSet<()>,
    read: R,
    mut write: W,
    address: String,
    is_unix: bool,
    shared: &Arc<Shared<S>>,
    closing: &watch::Receiver<bool>,
) where
    S: Service,
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    while connections.try_join_next().is_some() {}
    if connections.len() >= CONNECTIONS_MAX {
        tracing::warn!(%address, "refused a connection: {CONNECTIONS_MAX} are open");
        NET_METRICS.refused.add(1);
        let message = format!("{CONNECTIONS_MAX} connections are open already");
        let refusal = reply::reply(Op::Hello as u16, 0, 0, Err(KindError::new(ErrorKind::Overloaded, message)));
        // Small enough for the socket's own buffer; if not, the client sees the connection close.
        let _ = tokio::time::timeout(Duration::from_millis(10), write_one(&mut write, &refusal)).await;
        return;
    }
    let (shared, closing) = (shared.clone(), closing.clone());
    connections.spawn(async move {
        if let Err(error) = serve(read, write, &address, is_unix, &shared, closing).await {
            tracing::debug!(%address, %error, "connection ended");
        }
    });
}

async fn serve<S, R, W>(
    read: R,
    mut write: W,
    address: &str,
    is_unix: bool,
    shared: &Arc<Shared<S>>,
    mut closing: watch::Receiver<bool>,
) -> Result<(), NetError>
where
    S: Service,
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: String| NetError::Broken { address: address.into(), error };
    let mut frames = FrameReader::new(read, address.to_string());
    let handshake = shake_hands(&mut frames, &mut write, address, &shared.identity);
    let shaken = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(shaken) => shaken,
        Err(_) => Err(broken("no handshake in time".into())),
    };
    let shaken = shaken.inspect_err(|_| NET_METRICS.failed_handshakes.add(1));
    let Some(role) = shaken? else { return Ok(()) };
    let _counted = connected();
    frames.end_handshake(0);
    let peer = Arc::new(Peer { role, connection_id: next_connection_id(), address: address.into(), is_unix });
    let (queue, queued) = mpsc::channel(QUEUE_FRAMES);
    let mut writer = tokio::spawn(write_queue(write, queued));
    let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut requests = JoinSet::new();
    let ended = loop {
        let permit = room.clone().acquire_owned().await.expect("nobody closes the semaphore");
        while requests.try_join_next().is_some() {}
        let frame = tokio::select! {
            frame = frames.next() => frame,
            _ = &mut writer => break Err(broken("the other side does not read".into())),
            _ = closing.wait_for(|closing| *closing) => break Ok(()),
        };
        match frame {
            Ok(Some(frame)) => {
                if let Err(error) = check_request(&frame) {
                    break Err(error);
                }
                let (shared, peer, queue) = (shared.clone(), peer.clone(), queue.clone());
                requests.spawn(async move {
                    let reply = answer(&shared, peer, frame).await;
                    // Fails only when the connection is gone.
                    let _ = queue.send(reply).await;
                    drop(permit);
                });
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if ended.is_ok() {
        // The other side, or this server, stops asking: what was asked is still answered.
        let finish = async {
            while requests.join_next().await.is_some() {}
            drop(queue);
            let _ = (&mut writer).await;
        };
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, finish).await;
    }
    writer.abort();
    ended
}

fn check_request(frame: &Frame) -> Result<(), NetError> {
    let op = frame.header.op;
    if frame.header.flags.contains(Flags::REPLY) {
        return Err(NetError::Misuse { op, what: "got a reply, want a request" });
    }
    Ok(())
}

async fn answer<S: Service>(shared: &Shared<S>, peer: Arc<Peer>, frame: Frame) -> Outgoing {
    let (code, request_id) = (frame.header.op, frame.header.request_id);
    let deadline = deadline_of(frame.header.deadline_ms_or_status);
    let result = match Op::from_code(code) {
        None | Some(Op::Hello | Op::Prove) => {
            Err(KindError::new(ErrorKind::Unsupported, format!("op {code:#06x}: not offered here")))
        }
        Some(op) => {
            let call = AssertUnwindSafe(shared.service.call(peer, op, frame.body, deadline)).catch_unwind();
            match tokio::time::timeout(deadline, call).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => {
                    Err(KindError::new(ErrorKind::Internal, format!("{op:?}: the request's handler panicked")))
                }
                Err(_) => {
                    let message = format!("{op:?}: not done within its deadline of {} ms", deadline.as_millis());
                    Err(KindError::new(ErrorKind::Unavailable, message))
                }
            }
        }
    };
    reply::reply(code, request_id, 0, result)
}

/// `None` when the client went away before its proof.
async fn shake_hands<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    frames: &mut FrameReader<R>,
    write: &mut W,
    address: &str,
    identity: &Identity,
) -> Result<Option<Role>, NetError> {
    let handshake = ServerHandshake::new(identity, address, fresh_nonce());
    let Some((request_id, hello)) = expect::<Hello, R>(frames).await? else { return Ok(None) };
    let (reply, challenge) = match handshake.on_hello(&hello) {
        Ok(good) => good,
        Err(error) => return refuse(write, Op::Hello, request_id, error).await,
    };
    send(write, address, reply::reply(Op::Hello as u16, request_id, 0, Ok(reply.to_bytes()))).await?;
    let Some((request_id, prove)) = expect::<Prove, R>(frames).await? else { return Ok(None) };
    let role = match handshake.on_prove(&challenge, &prove) {
        Ok(role) => role,
        Err(error) => {
            tracing::warn!(%address, "refused a client: its cluster secret does not match");
            return refuse(write, Op::Prove, request_id, error).await;
        }
    };
    send(write, address, reply::reply(Op::Prove as u16, request_id, 0, Ok(Empty::default().to_bytes()))).await?;
    Ok(Some(role))
}

async fn expect<M: crate::Message, R: AsyncRead + Unpin>(
    frames: &mut FrameReader<R>,
) -> Result<Option<(u64, M)>, NetError> {
    let Some(frame) = frames.next().await? else { return Ok(None) };
    check_request(&frame)?;
    if frame.header.op != M::OP as u16 {
        let (got, flags) = (frame.header.op, frame.header.flags.0);
        return Err(NetError::UnexpectedFrame { got, flags, want: M::OP as u16 });
    }
    Ok(Some((frame.header.request_id, M::from_bytes(&frame.body)?)))
}

async fn send<W: AsyncWrite + Unpin>(write: &mut W, address: &str, frame: Outgoing) -> Result<(), NetError> {
    write_one(write, &frame)
        .await
        .map_err(|error| NetError::Broken { address: address.into(), error: error.to_string() })
}

/// Tells the client why, then ends the connection with that error.
async fn refuse<W: AsyncWrite + Unpin, T>(
    write: &mut W,
    op: Op,
    request_id: u64,
    error: NetError,
) -> Result<T, NetError> {
    let reply = reply::reply(op as u16, request_id, 0, Err(error.clone().into()));
    let _ = write_one(write, &reply).await;
    Err(error)
}
