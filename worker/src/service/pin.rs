//! `Pin`: contents that the master wants kept from eviction. Each item gets its own answer, with what is cached of it.

use super::{Service, check_batch};
use forebay_base::{ErrorKind, FileId, KindError, Version, limits};
use forebay_engine::Pin as EnginePin;
use forebay_net::Peer;
use forebay_net::message::data::{PIN_DONE, PIN_REFUSED, PIN_STALE, Pin, PinItem, PinReply, PinResult};
use forebay_net::message::handshake::Role;
use forebay_net::transport::glommio::ShardReply;
use std::time::{Duration, Instant};

/// Readers get their turn after so many items.
const ITEMS_AT_ONCE: usize = 32;
/// No lease is longer, whatever is asked.
const LEASE_MAX: Duration = Duration::from_secs(24 * 3600);

impl Service {
    pub(super) async fn pin(&self, peer: &Peer, request: Pin, until: Instant) -> Result<ShardReply, KindError> {
        if peer.role != Role::Master {
            let message = format!("pin: got role {:?}, want Master", peer.role);
            return Err(KindError::new(ErrorKind::Denied, message));
        }
        check_batch(request.items.len())?;
        let lease = Duration::from_millis(request.lease_ms).min(LEASE_MAX);
        let mut results = Vec::with_capacity(request.items.len());
        for (index, item) in request.items.iter().enumerate() {
            results.push(match self.other_owner(FileId(item.file_id)) {
                None => self.pin_item(item, lease),
                Some(owner) => {
                    let one = Pin { items: vec![item.clone()], lease_ms: request.lease_ms };
                    let (reply, _) = self.routes.ask(owner, peer, &one, until).await?;
                    let missing = || KindError::new(ErrorKind::Internal, format!("core {owner}: no answer to a pin"));
                    reply.results.into_iter().next().ok_or_else(missing)?
                }
            });
            if (index + 1) % ITEMS_AT_ONCE == 0 {
                glommio::yield_if_needed().await;
            }
        }
        Ok(ShardReply::of(&PinReply { results }))
    }

    fn pin_item(&self, item: &PinItem, lease: Duration) -> PinResult {
        let (file_id, version) = (FileId(item.file_id), Version(item.version));
        if self.live.borrow().is_dead(file_id, version) {
            return PinResult { state: PIN_STALE, cached_bytes: 0 };
        }
        let until = Instant::now() + lease;
        let state = if lease.is_zero() {
            self.engine.unpin(file_id, version);
            PIN_DONE
        } else if self.engine.pin(EnginePin { file_id, version, bytes: item.bytes, until }) {
            PIN_DONE
        } else {
            PIN_REFUSED
        };
        let cached_bytes = if item.blocks.is_empty() {
            self.engine.cached(file_id, version).any_bytes
        } else {
            let groups = self.engine.cached_groups((file_id, version), limits::BLOCK_BYTES, 0);
            let of_range = |&(first, end): &(u32, u32)| {
                let own = groups.range(first..end.max(first));
                own.map(|(_, held)| held.any_bytes).sum::<u64>()
            };
            item.blocks.iter().map(of_range).sum()
        };
        PinResult { state, cached_bytes }
    }
}
