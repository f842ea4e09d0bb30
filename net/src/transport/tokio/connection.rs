//! The client's side of one connection. Shared by any number of tasks; one task writes, one reads.
//!
//! Invariants: every call ends by its deadline; a call's entry in `pending` is gone when the call is; when the
//! connection dies, all calls waiting on it and all later ones fail with `Unavailable`.

use super::frames::{Frame, FrameReader, write_one, write_queue};
use crate::handshake::{ClientHandshake, fresh_nonce, kind_of_status};
use crate::message::handshake::HelloReply;
use crate::message::{Empty, Message, Op, Wire};
use crate::transport::reply::{self, Outgoing};
use crate::transport::{HANDSHAKE_TIMEOUT, set_tcp_options};
use crate::{Endpoint, Flags, Identity, NetError};
use bytes::Bytes;
use forebay_base::{ClusterId, ErrorKind, KindError, limits};
use rkyv::util::AlignedVec;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// Requests waiting for the writer; a caller beyond it waits within its deadline.
const QUEUE_FRAMES: usize = 1024;

/// A connection to a server. Clones share it; it closes when the last one is dropped.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Outgoing>,
    reader: AbortHandle,
    cluster_id: ClusterId,
    next_request_id: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer ends by itself when its queue closes.
        self.reader.abort();
    }
}

/// What the connection's tasks share with its callers.
struct Shared {
    address: String,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    calls: HashMap<u64, oneshot::Sender<Result<Frame, KindError>>>,
    died_of: Option<String>,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        // The map is consistent between any two statements, so a panic elsewhere does not spoil it.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self, error: &str) -> KindError {
        NetError::Broken { address: self.address.clone(), error: error.into() }.into()
    }

    /// Fails everything that waits; the first reason stays.
    fn die(&self, reason: &str) {
        let calls = {
            let mut pending = self.pending();
            pending.died_of.get_or_insert_with(|| reason.into());
            std::mem::take(&mut pending.calls)
        };
        for (_, call) in calls {
            // A caller that has given up needs no answer.
            let _ = call.send(Err(self.broken(reason)));
        }
    }
}

/// Takes a call's entry out of `pending` however the call ends.
struct Entry<'a> {
    shared: &'a Shared,
    request_id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.shared.pending().calls.remove(&self.request_id);
    }
}

impl Connection {
    /// Connects and proves the secret, all within `timeout`.
    pub async fn connect(endpoint: &Endpoint, identity: &Identity, timeout: Duration) -> Result<Connection, KindError> {
        let address = endpoint.to_string();
        let failed = |error: std::io::Error| NetError::Connect { address: address.clone(), error: error.to_string() };
        let connecting = async {
            match endpoint {
                Endpoint::Tcp(host_port) => {
                    let stream = TcpStream::connect(host_port.as_str()).await.map_err(failed)?;
                    set_tcp_options(&stream).map_err(failed)?;
                    let (read, write) = stream.into_split();
                    Self::start(read, write, address.clone(), identity).await
                }
                Endpoint::Unix(path) => {
                    let (read, write) = UnixStream::connect(path).await.map_err(failed)?.into_split();
                    Self::start(read, write, address.clone(), identity).await
                }
            }
        };
        match tokio::time::timeout(timeout, connecting).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(NetError::ConnectTimeout { address, timeout_ms: timeout.as_millis() as u64 }.into()),
        }
    }

    async fn start<R, W>(read: R, mut write: W, address: String, identity: &Identity) -> Result<Connection, NetError>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let mut frames = FrameReader::new(read, address.clone());
        let cluster_id = shake_hands(&mut frames, &mut write, &address, identity).await?;
        frames.end_handshake(limits::PAYLOAD_BYTES_MAX);
        let shared = Arc::new(Shared { address, pending: Mutex::default() });
        let (queue, queued) = mpsc::channel(QUEUE_FRAMES);
        let reader = tokio::spawn(read_replies(frames, shared.clone())).abort_handle();
        let (writing, reading) = (shared.clone(), reader.clone());
        tokio::spawn(async move {
            if let Err(error) = write_queue(write, queued).await {
                writing.die(&error.to_string());
                reading.abort();
            }
        });
        let inner = Inner { shared, queue, reader, cluster_id, next_request_id: AtomicU64::new(1) };
        Ok(Connection { inner: Arc::new(inner) })
    }

    /// Sends a request and waits for its reply.
    pub async fn call<M: Message>(&self, request: &M, deadline: Duration) -> Result<M::Reply, KindError> {
        Ok(self.call_payload(request, deadline).await?.0)
    }

    /// The same for a reply with a payload. The payload is not checked here: whoever asked for checksums compares them.
    pub async fn call_payload<M: Message>(
        &self,
        request: &M,
        deadline: Duration,
    ) -> Result<(M::Reply, Bytes), KindError> {
        let frame = self.exchange(M::OP, request.to_bytes(), deadline).await?;
        let reply = M::Reply::from_bytes(&frame.body).map_err(|error| {
            let message = format!("reply of {} to {:?}: {error}", self.inner.shared.address, M::OP);
            KindError::new(ErrorKind::Corrupt, message)
        })?;
        Ok((reply, frame.payload))
    }

    /// Whether the connection is dead: make a new one.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.shared.pending().died_of.is_some()
    }

    /// The server's cluster; 0 if the server did not know it.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.inner.cluster_id
    }

    async fn exchange(&self, op: Op, body: AlignedVec, deadline: Duration) -> Result<Frame, KindError> {
        let shared = &self.inner.shared;
        let request_id = self.inner.next_request_id.fetch_add(1, Ordering::Relaxed);
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX).max(1);
        let frame = reply::request(op as u16, request_id, body, deadline_ms)?;
        let (answer, answered) = oneshot::channel();
        {
            let mut pending = shared.pending();
            if let Some(reason) = &pending.died_of {
                return Err(shared.broken(reason));
            }
            pending.calls.insert(request_id, answer);
        }
        let _entry = Entry { shared, request_id };
        let waiting = async {
            if self.inner.queue.send(frame).await.is_err() {
                return Err(shared.broken("closed"));
            }
            answered.await.unwrap_or_else(|_| Err(shared.broken("closed")))
        };
        let frame = match tokio::time::timeout(deadline, waiting).await {
            Ok(result) => result?,
            Err(_) => {
                let (address, op) = (shared.address.clone(), format!("{op:?}"));
                return Err(NetError::Timeout { address, op, deadline_ms: u64::from(deadline_ms) }.into());
            }
        };
        if frame.header.deadline_ms_or_status != 0 {
            let message = String::from_utf8_lossy(&frame.body).into_owned();
            return Err(KindError::new(kind_of_status(frame.header.deadline_ms_or_status), message));
        }
        if frame.header.op != op as u16 {
            let message = format!("reply of {} to {op:?}: carries op {:#06x}", shared.address, frame.header.op);
            return Err(KindError::new(ErrorKind::Corrupt, message));
        }
        Ok(frame)
    }
}

async fn read_replies<R: AsyncRead + Unpin>(mut frames: FrameReader<R>, shared: Arc<Shared>) {
    let reason = loop {
        match frames.next().await {
            Ok(Some(frame)) if !frame.header.flags.contains(Flags::REPLY) => {
                break format!("got a request (op {:#06x}) where a reply was due", frame.header.op);
            }
            Ok(Some(frame)) => {
                let call = shared.pending().calls.remove(&frame.header.request_id);
                if let Some(call) = call {
                    // Unknown ids are calls that have given up.
                    let _ = call.send(Ok(frame));
                }
            }
            Ok(None) => break "closed by the other side".to_string(),
            Err(NetError::Broken { error, .. }) => break error,
            Err(error) => break error.to_string(),
        }
    };
    tracing::debug!(address = %shared.address, %reason, "connection ended");
    shared.die(&reason);
}

async fn shake_hands<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    frames: &mut FrameReader<R>,
    write: &mut W,
    address: &str,
    identity: &Identity,
) -> Result<ClusterId, NetError> {
    let handshake = ClientHandshake::new(identity, address, fresh_nonce());
    let body = ask(frames, write, &handshake, address, &handshake.hello()).await?;
    let (prove, cluster_id) = handshake.on_hello_reply(&HelloReply::from_bytes(&body)?)?;
    Empty::from_bytes(&ask(frames, write, &handshake, address, &prove).await?)?;
    Ok(cluster_id)
}

async fn ask<R: AsyncRead + Unpin, W: AsyncWrite + Unpin, M: Message>(
    frames: &mut FrameReader<R>,
    write: &mut W,
    handshake: &ClientHandshake<'_>,
    address: &str,
    message: &M,
) -> Result<AlignedVec, NetError> {
    let broken = |error: String| NetError::Broken { address: address.into(), error };
    let request_id = if M::OP == Op::Hello { 1 } else { 2 };
    let request = reply::request(M::OP as u16, request_id, message.to_bytes(), HANDSHAKE_TIMEOUT.as_millis() as u32)?;
    let written = write_one(write, &request).await;
    // A server that refuses may have closed its side already: its reason counts, not the failed write.
    let frame = match frames.next().await {
        Ok(Some(frame)) => frame,
        Ok(None) => {
            written.map_err(|error| broken(error.to_string()))?;
            return Err(broken("closed during the handshake".into()));
        }
        Err(error) => return Err(error),
    };
    let header = frame.header;
    if !header.flags.contains(Flags::REPLY) {
        return Err(NetError::UnexpectedFrame { got: header.op, flags: header.flags.0, want: M::OP as u16 });
    }
    if header.deadline_ms_or_status != 0 {
        return Err(handshake.refused(header.deadline_ms_or_status, &frame.body));
    }
    if header.op != M::OP as u16 {
        return Err(NetError::UnexpectedFrame { got: header.op, flags: header.flags.0, want: M::OP as u16 });
    }
    Ok(frame.body)
}
