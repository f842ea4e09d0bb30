//! `Verify`: compares cached pages with a fresh read from the store, conditional on the version. What differs is dropped.
//!
//! Invariant: one page is held at a time; nothing that the store sends here enters the cache.

use super::{Service, Session};
use crate::plan;
use crate::store_gate::FetchRequest;
use crate::tickets::Grant;
use crate::within::within;
use forebay_base::{ErrorKind, KindError, PageIndex};
use forebay_net::Peer;
use forebay_net::message::data::{Verify, VerifyReply};
use forebay_net::message::handshake::Role;
use forebay_net::transport::glommio::ShardReply;
use std::ops::Range;
use std::time::Instant;

impl Service {
    pub(super) async fn verify(
        &self,
        session: &Session,
        peer: &Peer,
        request: Verify,
        until: Instant,
    ) -> Result<ShardReply, KindError> {
        if !matches!(peer.role, Role::Admin | Role::Master) {
            let message = format!("verify: got role {:?}, want Admin or Master", peer.role);
            return Err(KindError::new(ErrorKind::Denied, message));
        }
        let asked = Instant::now();
        let grant = self.grant(session, None, &request.ticket, until).await?;
        if let Some(owner) = self.other_owner(grant.key.file_id) {
            let (reply, _) = self.routes.ask(owner, peer, &request, until).await?;
            return Ok(ShardReply::of(&reply));
        }
        let range = plan::clamp(request.offset, request.length, grant.key.size_bytes);
        let mut reply = VerifyReply::default();
        for page in plan::pages_of(&range, self.page_bytes) {
            let bytes = plan::bytes_of_page(page, self.page_bytes, grant.key.size_bytes);
            let length = bytes.end - bytes.start;
            if !self.engine.has_page(&grant.key, PageIndex(page)) {
                reply.uncached_bytes += length;
            } else if within(until, self.is_equal(&grant, page, bytes))
                .await
                .ok_or_else(|| self.gate.too_late(&grant, asked))??
            {
                reply.equal_bytes += length;
            } else {
                let (store, key) = (self.gate.name(grant.mount), &grant.store_key);
                tracing::error!(
                    "{store}: \"{key}\": page {page} was cached with other bytes than the store's: dropped"
                );
                self.engine.drop_page(&grant.key, PageIndex(page));
                reply.different_bytes += length;
            }
        }
        Ok(ShardReply::of(&reply))
    }

    /// Whether the cache can give the page and it holds the store's bytes.
    async fn is_equal(&self, grant: &Grant, page: u32, bytes: Range<u64>) -> Result<bool, KindError> {
        let length = (bytes.end - bytes.start) as u32;
        // A page that fails its checksum is dropped by this very read.
        let Some(cached) = self.engine.read(&grant.key, PageIndex(page), 0, length).await else { return Ok(false) };
        let counters = &self.view.counters;
        let (_under_way, since) = (counters.fetches.enter(), Instant::now());
        let mut chunks = self.gate.fetch(FetchRequest {
            mount: grant.mount,
            key: grant.store_key.clone(),
            fingerprint: grant.fingerprint.clone(),
            range: bytes,
        });
        let (mut at, mut equal) = (0usize, true);
        // To the end, also after a difference: only then has the store confirmed that the content is this version's.
        while let Some(chunk) = chunks.recv().await {
            let chunk = chunk?;
            self.view.counters.store_read_bytes.add(chunk.len() as u64);
            equal &= cached.get(at..at + chunk.len()).is_some_and(|part| *part == chunk[..]);
            at += chunk.len();
        }
        counters.fetch_seconds.record_since(since);
        if at != length as usize {
            let (store, key) = (self.gate.name(grant.mount), &grant.store_key);
            let message = format!("{store}: read \"{key}\": got {at} bytes, want {length}");
            return Err(KindError::new(ErrorKind::Corrupt, message));
        }
        Ok(equal)
    }
}
