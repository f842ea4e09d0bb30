//! Requests that came to a core which does not own their file: another core of this worker answers them. A client does
//! this only while it goes by an older map of the worker; each is counted.
//!
//! Each core owns one receiving end and has the sending ends of all others. Invariants: a core holds at most `WAITING`
//! forwarded requests that nobody works at and `UNDER_WAY` that are being answered; what crosses is owned bytes; a
//! forwarded request is never forwarded again.

use crate::service::{Service, Session};
use crate::within::within;
use forebay_base::{ErrorKind, KindError, ShardId};
use forebay_net::message::{Message, Wire};
use forebay_net::transport::glommio::ShardReply;
use forebay_net::{Op, Peer};
use futures::stream::{self, StreamExt};
use hashbrown::HashMap;
use rkyv::util::AlignedVec;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Requests from other cores that wait for this one.
const WAITING: usize = 256;
/// Of them, answered side by side.
const UNDER_WAY: usize = 64;
/// Connections of other cores whose tickets are kept; when there are more, all present their tickets again.
const SESSIONS_MAX: usize = 256;

/// A request on its way to the core that owns its file.
pub(crate) struct Forwarded {
    op: Op,
    body: AlignedVec,
    peer: Peer,
    until: Instant,
    answered: oneshot::Sender<Result<Answer, KindError>>,
}

/// Its answer.
struct Answer {
    body: AlignedVec,
    payload: Vec<u8>,
}

/// The ways from one core to the others, by number.
pub(crate) struct Routes(Vec<mpsc::Sender<Forwarded>>);

/// The ways between `cores` cores: for each one the ways out and its own end.
pub(crate) fn routes(cores: u16) -> Vec<(Routes, mpsc::Receiver<Forwarded>)> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..cores).map(|_| mpsc::channel(WAITING)).unzip();
    receivers.into_iter().map(|receiver| (Routes(senders.clone()), receiver)).collect()
}

impl Routes {
    /// What `owner` answers, with the payload.
    pub(crate) async fn ask<M: Message>(
        &self,
        owner: ShardId,
        peer: &Peer,
        request: &M,
        until: Instant,
    ) -> Result<(M::Reply, Vec<u8>), KindError> {
        let gone = || KindError::new(ErrorKind::Closed, format!("core {owner} of this worker is ending"));
        let way = self.0.get(usize::from(owner.0)).ok_or_else(gone)?;
        let (answered, answer) = oneshot::channel();
        let forwarded = Forwarded { op: M::OP, body: request.to_bytes(), peer: peer.clone(), until, answered };
        let asked = async {
            way.send(forwarded).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        let late = || Err(KindError::new(ErrorKind::Unavailable, format!("core {owner} did not answer in time")));
        let answer = within(until, asked).await.unwrap_or_else(late)?;
        let reply = M::Reply::from_bytes(&answer.body);
        let reply = reply.map_err(|error| KindError::new(ErrorKind::Internal, format!("{:?}: {error}", M::OP)))?;
        Ok((reply, answer.payload))
    }
}

/// Answers what other cores forward, until they are gone.
pub(crate) async fn serve(service: Rc<Service>, forwarded: mpsc::Receiver<Forwarded>) {
    let sessions: RefCell<HashMap<u64, Rc<Session>>> = RefCell::default();
    let session_of = |connection: u64| {
        let mut sessions = sessions.borrow_mut();
        if sessions.len() >= SESSIONS_MAX && !sessions.contains_key(&connection) {
            sessions.clear();
        }
        sessions.entry(connection).or_default().clone()
    };
    let requests = stream::unfold(forwarded, async |mut forwarded| Some((forwarded.recv().await?, forwarded)));
    let answers = requests.map(|Forwarded { op, body, peer, until, answered }| {
        let (service, session) = (service.clone(), session_of(peer.connection_id));
        async move {
            let reply = within(until, service.answer_timed(&session, &peer, op, &body, until)).await;
            let reply = reply.unwrap_or_else(|| Err(KindError::new(ErrorKind::Unavailable, "not done in time")));
            // Who asked may have gone.
            let _ = answered.send(reply.map(Answer::of));
        }
    });
    answers.buffer_unordered(UNDER_WAY).for_each(|()| async {}).await;
}

impl Answer {
    fn of(reply: ShardReply) -> Answer {
        let mut payload = Vec::with_capacity(reply.payload.iter().map(|part| part.bytes().len()).sum());
        reply.payload.iter().for_each(|part| payload.extend_from_slice(part.bytes()));
        Answer { body: reply.body, payload }
    }
}
