//! The tickets that one connection has presented, verified once each (hard case 16). Pure but for the caller's clock;
//! owned by one shard.
//!
//! Invariant: at most `TICKETS_MAX` are held; the oldest go first; none is used after its expiry.

use ed25519_dalek::VerifyingKey;
use forebay_base::{ErrorKind, FileId, Fingerprint, KindError, MountId, Version, limits};
use forebay_engine::FileKey;
use forebay_net::ticket::{self, VerifiedRoots};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

const TICKETS_MAX: usize = 65_536;
const SIGNATURE_BYTES: usize = 64;

/// What a verified ticket grants, ready for use.
#[derive(Debug)]
pub(crate) struct Grant {
    /// The content.
    pub(crate) key: FileKey,
    /// Where it comes from.
    pub(crate) mount: MountId,
    /// The key in that store.
    pub(crate) store_key: Arc<str>,
    /// The condition of every read from it.
    pub(crate) fingerprint: Arc<Fingerprint>,
    /// The feed's position when it was issued.
    pub(crate) feed_position: u64,
    /// Whether the store did not answer the master then.
    pub(crate) store_away: bool,
    expires_unix_ms: u64,
    signature: [u8; SIGNATURE_BYTES],
}

impl Grant {
    /// Checks a signed ticket.
    pub(crate) fn verify(
        bytes: &[u8],
        key: &VerifyingKey,
        roots: &mut VerifiedRoots,
        now_unix_ms: u64,
    ) -> Result<Grant, KindError> {
        let ticket = ticket::verify(bytes, key, roots, now_unix_ms)?;
        if ticket.page_bytes != limits::PAGE_BYTES {
            let message =
                format!("ticket: got pages of {} bytes, want {} on this worker", ticket.page_bytes, limits::PAGE_BYTES);
            return Err(KindError::new(ErrorKind::Unsupported, message));
        }
        let fingerprint = Fingerprint(ticket.fingerprint);
        Ok(Grant {
            key: FileKey {
                file_id: FileId(ticket.file_id),
                version: Version(ticket.version),
                fingerprint: fingerprint.hash(),
                size_bytes: ticket.size,
            },
            mount: MountId(ticket.mount_id),
            store_key: ticket.store_key.into(),
            fingerprint: Arc::new(fingerprint),
            feed_position: ticket.feed_position,
            store_away: ticket.store_away,
            expires_unix_ms: ticket.expires_unix_ms,
            signature: signature_of(bytes),
        })
    }
}

fn signature_of(bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
    bytes.first_chunk().copied().unwrap_or([0; SIGNATURE_BYTES])
}

/// One connection's grants.
#[derive(Default)]
pub(crate) struct Tickets {
    grants: HashMap<(FileId, Version), Rc<Grant>>,
    order: VecDeque<(FileId, Version, u64)>,
}

impl Tickets {
    /// The grant for a file that was presented before and is still valid.
    pub(crate) fn get(&self, file: FileId, version: Version, now_unix_ms: u64) -> Option<Rc<Grant>> {
        self.grants.get(&(file, version)).filter(|grant| grant.expires_unix_ms > now_unix_ms).cloned()
    }

    /// The held grant of the same file, version and signature: the ticket needs no second verification, since it could
    /// give nothing that this connection has not shown already.
    pub(crate) fn same(&self, file: FileId, version: Version, bytes: &[u8], now_unix_ms: u64) -> Option<Rc<Grant>> {
        let signature = signature_of(bytes);
        self.get(file, version, now_unix_ms).filter(|grant| grant.signature == signature)
    }

    /// Keeps a verified grant.
    pub(crate) fn keep(&mut self, grant: Rc<Grant>, now_unix_ms: u64) {
        while let Some(&(file, version, expires)) = self.order.front() {
            if expires > now_unix_ms && self.grants.len() < TICKETS_MAX && self.order.len() < 2 * TICKETS_MAX {
                break;
            }
            self.order.pop_front();
            if self.grants.get(&(file, version)).is_some_and(|held| held.expires_unix_ms == expires) {
                self.grants.remove(&(file, version));
            }
        }
        self.order.push_back((grant.key.file_id, grant.key.version, grant.expires_unix_ms));
        self.grants.insert((grant.key.file_id, grant.key.version), grant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use forebay_net::ticket::Ticket;

    const NOW: u64 = 1_000_000;

    fn sign(ticket: &Ticket, key: &SigningKey) -> Vec<u8> {
        ticket::sign(std::slice::from_ref(ticket), key).remove(0)
    }

    fn verify(bytes: &[u8]) -> Result<Grant, KindError> {
        Grant::verify(bytes, &signing_key().verifying_key(), &mut VerifiedRoots::default(), NOW)
    }

    fn signing_key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn ticket(file_id: u64, expires_unix_ms: u64) -> Ticket {
        Ticket {
            file_id,
            version: 3,
            mount_id: 1,
            page_bytes: limits::PAGE_BYTES,
            block_bytes: limits::BLOCK_BYTES,
            size: 10,
            store_key: "a/b".into(),
            fingerprint: "etag:\"x\"".into(),
            feed_position: 0,
            store_away: false,
            expires_unix_ms,
        }
    }

    fn grant(file_id: u64, expires_unix_ms: u64) -> Rc<Grant> {
        let bytes = sign(&ticket(file_id, expires_unix_ms), &signing_key());
        Rc::new(verify(&bytes).expect("it is good"))
    }

    #[test]
    fn good_forged_expired_and_foreign_page_size() {
        let good = sign(&ticket(1, NOW + 1), &signing_key());
        let grant = verify(&good).expect("it is good");
        assert_eq!((grant.key.file_id, grant.key.size_bytes, &*grant.store_key), (FileId(1), 10, "a/b"));
        let kind = |bytes: &[u8]| verify(bytes).expect_err("it is bad").kind;
        let mut forged = good.clone();
        *forged.last_mut().expect("not empty") ^= 1;
        assert_eq!(kind(&forged), ErrorKind::TicketRequired);
        assert_eq!(kind(b""), ErrorKind::TicketRequired);
        assert_eq!(kind(&sign(&ticket(1, NOW), &signing_key())), ErrorKind::TicketRequired);
        assert_eq!(kind(&sign(&ticket(1, NOW + 1), &SigningKey::from_bytes(&[8; 32]))), ErrorKind::TicketRequired);
        let other_page = Ticket { page_bytes: 4096, ..ticket(1, NOW + 1) };
        assert_eq!(kind(&sign(&other_page, &signing_key())), ErrorKind::Unsupported);
    }

    #[test]
    fn expired_grants_are_not_used_and_renewal_replaces() {
        let mut tickets = Tickets::default();
        tickets.keep(grant(1, NOW + 10), NOW);
        assert!(tickets.get(FileId(1), Version(3), NOW + 9).is_some());
        assert!(tickets.get(FileId(1), Version(3), NOW + 10).is_none());
        assert!(tickets.get(FileId(1), Version(4), NOW).is_none());
        tickets.keep(grant(1, NOW + 50), NOW + 5);
        tickets.keep(grant(2, NOW + 60), NOW + 20);
        assert!(tickets.get(FileId(1), Version(3), NOW + 20).is_some());
        let bytes = sign(&ticket(2, NOW + 60), &signing_key());
        assert!(tickets.same(FileId(2), Version(3), &bytes, NOW + 20).is_some());
        let renewed = sign(&ticket(2, NOW + 61), &signing_key());
        assert!(tickets.same(FileId(2), Version(3), &renewed, NOW + 20).is_none());
    }

    #[test]
    fn bounded() {
        let mut tickets = Tickets::default();
        let template = grant(1, NOW + 10);
        for file in 0..TICKETS_MAX as u64 + 50 {
            let key = FileKey { file_id: FileId(file), ..template.key };
            let grant = Grant {
                key,
                mount: template.mount,
                store_key: template.store_key.clone(),
                fingerprint: template.fingerprint.clone(),
                feed_position: 0,
                store_away: false,
                expires_unix_ms: NOW + 10,
                signature: template.signature,
            };
            tickets.keep(Rc::new(grant), NOW);
        }
        assert_eq!(tickets.grants.len(), TICKETS_MAX);
        assert!(tickets.get(FileId(TICKETS_MAX as u64 + 49), Version(3), NOW).is_some());
        assert!(tickets.get(FileId(0), Version(3), NOW).is_none());
    }
}
