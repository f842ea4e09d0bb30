//! The glommio transport: the server that each of a worker's cores runs.
//!
//! Everything here stays on the executor that made it; nothing is `Send`. Payloads are written from their owners'
//! memory, small pieces are put together into one write.

mod connection;
mod frames;
mod listener;
mod server;

pub use server::ShardServer;

use crate::Peer;
use crate::message::{Op, Wire};
use forebay_base::KindError;
use rkyv::util::AlignedVec;
use std::future::Future;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

/// What a shard does with requests.
pub trait ShardService: 'static {
    /// What a connection keeps between its requests.
    type Session: Default + 'static;

    /// Answers one request. The future is dropped when `deadline` has passed or the connection ends.
    fn call(
        &self,
        session: Rc<Self::Session>,
        peer: Rc<Peer>,
        op: Op,
        body: AlignedVec,
        deadline: Duration,
    ) -> impl Future<Output = Result<ShardReply, KindError>>;
}

/// A body with the payload that follows it.
pub struct ShardReply {
    /// rkyv bytes of the reply.
    pub body: AlignedVec,
    /// Sent in order, without gaps.
    pub payload: Vec<PayloadPart>,
}

impl ShardReply {
    /// A reply without payload.
    #[must_use]
    pub fn of(message: &impl Wire) -> ShardReply {
        ShardReply { body: message.to_bytes(), payload: Vec::new() }
    }
}

/// Bytes of a payload, kept alive by their owner until they are sent.
#[derive(Clone)]
pub struct PayloadPart {
    owner: Rc<dyn AsRef<[u8]>>,
    range: Range<usize>,
}

impl PayloadPart {
    /// `range` of `owner`'s bytes. Panics when the range does not lie inside.
    #[must_use]
    pub fn new(owner: Rc<dyn AsRef<[u8]>>, range: Range<usize>) -> PayloadPart {
        let length = (*owner).as_ref().len();
        assert!(range.start <= range.end && range.end <= length, "payload range {range:?} of {length} bytes");
        PayloadPart { owner, range }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }

    fn len(&self) -> usize {
        self.range.len()
    }
}
