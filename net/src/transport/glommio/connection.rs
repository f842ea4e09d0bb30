//! One served connection on a shard: reads requests, runs them side by side, writes replies as they are ready.
//!
//! Invariants: nothing is served before the client's proof; at most `IN_FLIGHT_MAX` requests run, beyond it nothing is
//! read; a slow reader holds at most `QUEUE_FRAMES` more replies; whatever runs ends with the connection.

use super::frames::{Frame, FrameReader, FrameWriter, Reply};
use super::{ShardReply, ShardService};
use crate::handshake::{ServerHandshake, fresh_nonce};
use crate::message::handshake::{Hello, Prove, Role};
use crate::message::{Empty, Message, Op, Wire};
use crate::metrics::connected;
use crate::transport::reply;
use crate::transport::{CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, IN_FLIGHT_MAX, deadline_of, next_connection_id};
use crate::{Flags, Identity, NET_METRICS, NetError, Peer};
use forebay_base::{ErrorKind, KindError};
use futures::channel::mpsc;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, SinkExt, StreamExt, TryStreamExt};
use rkyv::util::AlignedVec;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Finished replies that wait for the writer.
const QUEUE_FRAMES: usize = 16;
/// Replies written together at most.
const FRAMES_AT_ONCE: usize = 64;

/// Serves `stream` until either side closes it.
pub(super) async fn serve<S, T>(
    stream: T,
    address: String,
    is_unix: bool,
    identity: Rc<Identity>,
    service: Rc<S>,
) -> Result<(), NetError>
where
    S: ShardService,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let address: Rc<str> = address.into();
    let (read, write) = stream.split();
    let mut frames = FrameReader::new(read, address.clone());
    let mut writer = FrameWriter::new(write, address.clone());
    let shaking = async { Ok(shake_hands(&mut frames, &mut writer, &address, &identity).await) };
    let shaken = glommio::timer::timeout(HANDSHAKE_TIMEOUT, shaking).await;
    let late = |_| Err(NetError::Broken { address: address.to_string(), error: "no handshake in time".into() });
    let shaken = shaken.unwrap_or_else(late).inspect_err(|_| NET_METRICS.failed_handshakes.add(1));
    let Some(role) = shaken? else { return Ok(()) };
    let _counted = connected();
    frames.end_handshake();
    let peer = Rc::new(Peer { role, connection_id: next_connection_id(), address: address.to_string(), is_unix });
    let session: Rc<S::Session> = Rc::default();

    let requests = futures::stream::try_unfold(frames, async |mut frames| {
        // An error, so that what still runs ends with it: nobody is there for the answers.
        let closed = || NetError::Broken { address: address.to_string(), error: "closed by the other side".into() };
        let frame = frames.next().await?.ok_or_else(closed)?;
        Ok(Some((frame, frames)))
    });
    let replies = requests
        .and_then(async |frame| check_request(&frame).map(|()| frame))
        .map_ok(|frame| {
            let (service, session, peer) = (service.clone(), session.clone(), peer.clone());
            async move { Ok(answer(&*service, session, peer, frame).await) }
        })
        .try_buffer_unordered(IN_FLIGHT_MAX);
    let (mut queue, queued) = mpsc::channel(QUEUE_FRAMES);
    let running = async move {
        let mut replies = pin!(replies);
        while let Some(reply) = replies.try_next().await? {
            if queue.send(reply).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let writing = async {
        let mut batches = queued.ready_chunks(FRAMES_AT_ONCE);
        while let Some(batch) = batches.next().await {
            writer.write(&batch).await?;
        }
        Ok(())
    };
    // Polled in this order: all that is ready has been queued before the writer looks.
    futures::future::try_join(running, writing).await.map(|_| ())
}

/// Tells a client that there are too many already.
pub(super) async fn turn_away<T: AsyncWrite + Unpin>(stream: T, address: &str) {
    let message = format!("{CONNECTIONS_MAX} connections are open already");
    let mut writer = FrameWriter::new(stream, address.into());
    let refusal = send(&mut writer, Op::Hello, 0, Err(KindError::new(ErrorKind::Overloaded, message)));
    // Small enough for the socket's own buffer; if not, the client sees the connection close.
    let _ = glommio::timer::timeout(Duration::from_millis(10), async { Ok(refusal.await) }).await;
}

fn check_request(frame: &Frame) -> Result<(), NetError> {
    if frame.header.flags.contains(Flags::REPLY) {
        return Err(NetError::Misuse { op: frame.header.op, what: "got a reply, want a request" });
    }
    Ok(())
}

async fn answer<S: ShardService>(service: &S, session: Rc<S::Session>, peer: Rc<Peer>, frame: Frame) -> Reply {
    let (code, request_id) = (frame.header.op, frame.header.request_id);
    let deadline = deadline_of(frame.header.deadline_ms_or_status);
    let result = match Op::from_code(code) {
        None | Some(Op::Hello | Op::Prove) => {
            Err(KindError::new(ErrorKind::Unsupported, format!("op {code:#06x}: not offered here")))
        }
        Some(op) => {
            // The timer starts only if the request cannot be answered at once.
            let call = async { Ok(service.call(session, peer, op, frame.body, deadline).await) };
            glommio::timer::timeout(deadline, call).await.unwrap_or_else(|_| {
                let message = format!("{op:?}: not done within its deadline of {} ms", deadline.as_millis());
                Err(KindError::new(ErrorKind::Unavailable, message))
            })
        }
    };
    match result {
        Ok(ShardReply { body, payload }) => {
            let payload_bytes = payload.iter().map(super::PayloadPart::len).sum();
            let too_long = payload_bytes > forebay_base::limits::PAYLOAD_BYTES_MAX as usize;
            let frame = reply::reply(code, request_id, payload_bytes, Ok(body));
            Reply { frame, payload: if too_long { Vec::new() } else { payload } }
        }
        Err(error) => Reply { frame: reply::reply(code, request_id, 0, Err(error)), payload: Vec::new() },
    }
}

/// `None` when the client went away before its proof.
async fn shake_hands<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    frames: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
    address: &str,
    identity: &Identity,
) -> Result<Option<Role>, NetError> {
    let handshake = ServerHandshake::new(identity, address, fresh_nonce());
    let Some((request_id, hello)) = expect::<Hello, R>(frames).await? else { return Ok(None) };
    let (reply, challenge) = match handshake.on_hello(&hello) {
        Ok(good) => good,
        Err(error) => return refuse(writer, Op::Hello, request_id, error).await,
    };
    send(writer, Op::Hello, request_id, Ok(reply.to_bytes())).await?;
    let Some((request_id, prove)) = expect::<Prove, R>(frames).await? else { return Ok(None) };
    let role = match handshake.on_prove(&challenge, &prove) {
        Ok(role) => role,
        Err(error) => {
            tracing::warn!(%address, "refused a client: its cluster secret does not match");
            return refuse(writer, Op::Prove, request_id, error).await;
        }
    };
    send(writer, Op::Prove, request_id, Ok(Empty::default().to_bytes())).await?;
    Ok(Some(role))
}

async fn expect<M: Message, R: AsyncRead + Unpin>(frames: &mut FrameReader<R>) -> Result<Option<(u64, M)>, NetError> {
    let Some(frame) = frames.next().await? else { return Ok(None) };
    check_request(&frame)?;
    if frame.header.op != M::OP as u16 {
        let (got, flags) = (frame.header.op, frame.header.flags.0);
        return Err(NetError::UnexpectedFrame { got, flags, want: M::OP as u16 });
    }
    Ok(Some((frame.header.request_id, M::from_bytes(&frame.body)?)))
}

async fn send<W: AsyncWrite + Unpin>(
    writer: &mut FrameWriter<W>,
    op: Op,
    request_id: u64,
    result: Result<AlignedVec, KindError>,
) -> Result<(), NetError> {
    let frame = reply::reply(op as u16, request_id, 0, result);
    writer.write(&[Reply { frame, payload: Vec::new() }]).await
}

/// Tells the client why, then ends the connection with that error.
async fn refuse<W: AsyncWrite + Unpin, T>(
    writer: &mut FrameWriter<W>,
    op: Op,
    request_id: u64,
    error: NetError,
) -> Result<T, NetError> {
    // The client may be gone: the reason for refusing it is what counts.
    let _ = send(writer, op, request_id, Err(error.clone().into())).await;
    Err(error)
}
