//! Read tickets (hard case 16): what lets a worker serve a file without asking the master. Signed with Ed25519 by the
//! master, at most 60 s old, checked once per connection. Pure but for the caller's clock.
//!
//! Tickets that are given together share one signature, over the root of a hash tree whose leaves they are (leaves and
//! inner nodes are hashed as in RFC 6962, section 2.1; the tree is filled up to a power of two): one signature and one
//! verification serve the files of a whole directory.

use crate::message::Wire;
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use forebay_base::{ErrorKind, KindError, limits};
use rkyv::{Archive, Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{HashSet, VecDeque};

/// What the ticket grants: reading one version of one file. Version 2 of the format.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// `FileId`.
    pub file_id: u64,
    /// `Version`.
    pub version: u64,
    /// `MountId`.
    pub mount_id: u32,
    /// Bytes per page.
    pub page_bytes: u32,
    /// Bytes per block.
    pub block_bytes: u64,
    /// Length of the file, bytes.
    pub size: u64,
    /// The key in the store, relative to the mount's URI.
    pub store_key: String,
    /// The store's fingerprint that the version stands for.
    pub fingerprint: String,
    /// The feed position when it was issued: a worker behind it reads the feed first.
    pub feed_position: u64,
    /// Whether the store did not answer the master when it was issued.
    pub store_away: bool,
    /// Milliseconds since 1970 when it ends.
    pub expires_unix_ms: u64,
}

/// In front of what is signed, so that a signature is good for nothing else.
const DOMAIN: &[u8] = b"forebay tickets 2\0";
const SIGNATURE_BYTES: usize = 64;
/// The deepest tree: as many tickets as a batch may have.
const DEPTH_MAX: u8 = limits::BATCH_MAX.next_power_of_two().trailing_zeros() as u8;

type Hash = [u8; 32];

fn leaf(body: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(body).finalize().into()
}

fn parent(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

fn signed(root: &Hash) -> Vec<u8> {
    [DOMAIN, root].concat()
}

/// Signs tickets, at most `limits::BATCH_MAX`, with one signature. Each ticket's bytes: the signature, the number of hashes
/// (u8), the ticket's place (u16, little endian), the hashes from its leaf's sibling upwards, its rkyv bytes.
///
/// # Panics
/// If there are more than `limits::BATCH_MAX`.
#[must_use]
pub fn sign(tickets: &[Ticket], key: &SigningKey) -> Vec<Vec<u8>> {
    assert!(tickets.len() <= limits::BATCH_MAX, "{} tickets", tickets.len());
    let bodies: Vec<_> = tickets.iter().map(Wire::to_bytes).collect();
    let mut level: Vec<Hash> = bodies.iter().map(|body| leaf(body)).collect();
    level.resize(level.len().next_power_of_two(), [0; 32]);
    let mut levels = Vec::new();
    while level.len() > 1 {
        let above = level.chunks_exact(2).map(|pair| parent(&pair[0], &pair[1])).collect();
        levels.push(std::mem::replace(&mut level, above));
    }
    let signature = key.sign(&signed(&level[0])).to_bytes();
    let ticket = |(place, body): (usize, &rkyv::util::AlignedVec)| {
        let mut out = Vec::with_capacity(SIGNATURE_BYTES + 3 + levels.len() * 32 + body.len());
        out.extend_from_slice(&signature);
        out.push(levels.len() as u8);
        out.extend_from_slice(&(place as u16).to_le_bytes());
        for (height, level) in levels.iter().enumerate() {
            out.extend_from_slice(&level[(place >> height) ^ 1]);
        }
        out.extend_from_slice(body);
        out
    };
    bodies.iter().enumerate().map(ticket).collect()
}

/// The root of the tree that a ticket claims to be in, and its rkyv bytes.
fn parse(bytes: &[u8]) -> Option<([u8; SIGNATURE_BYTES], Hash, &[u8])> {
    let (signature, rest) = bytes.split_first_chunk::<SIGNATURE_BYTES>()?;
    let (&[depth, low, high], rest) = rest.split_first_chunk::<3>()?;
    let place = u16::from_le_bytes([low, high]);
    if depth > DEPTH_MAX || u32::from(place) >> depth != 0 {
        return None;
    }
    let (hashes, body) = rest.split_at_checked(usize::from(depth) * 32)?;
    let mut root = leaf(body);
    for (height, sibling) in hashes.chunks_exact(32).enumerate() {
        let sibling: Hash = sibling.try_into().ok()?;
        root = if place >> height & 1 == 0 { parent(&root, &sibling) } else { parent(&sibling, &root) };
    }
    Some((*signature, root, body))
}

/// Roots that were verified, so that tickets given together cost one verification. At most `ROOTS_MAX`, the oldest go first.
#[derive(Default, Debug)]
pub struct VerifiedRoots {
    key: Option<VerifyingKey>,
    roots: HashSet<Hash>,
    order: VecDeque<Hash>,
}

const ROOTS_MAX: usize = 1024;

impl VerifiedRoots {
    fn check(&mut self, root: &Hash, signature: &[u8; SIGNATURE_BYTES], key: &VerifyingKey) -> bool {
        if self.key != Some(*key) {
            *self = Self { key: Some(*key), ..Self::default() };
        }
        if self.roots.contains(root) {
            return true;
        }
        if key.verify(&signed(root), &Signature::from_bytes(signature)).is_err() {
            return false;
        }
        if self.order.len() == ROOTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.roots.remove(&oldest);
        }
        self.order.push_back(*root);
        self.roots.insert(*root);
        true
    }
}

/// Checks signature and expiry.
pub fn verify(
    bytes: &[u8],
    key: &VerifyingKey,
    roots: &mut VerifiedRoots,
    now_unix_ms: u64,
) -> Result<Ticket, KindError> {
    let denied = |message: String| KindError::new(ErrorKind::TicketRequired, message);
    let Some((signature, root, body)) = parse(bytes) else {
        return Err(denied(format!("ticket: got {} bytes, want a signed ticket", bytes.len())));
    };
    if !roots.check(&root, &signature, key) {
        return Err(denied("ticket: the signature is not the master's".into()));
    }
    let ticket = Ticket::from_bytes(body).map_err(|error| denied(error.to_string()))?;
    if ticket.expires_unix_ms <= now_unix_ms {
        return Err(denied(format!("ticket: expired {} ms ago", now_unix_ms - ticket.expires_unix_ms)));
    }
    if ticket.page_bytes == 0 || ticket.block_bytes == 0 || ticket.size > limits::FILE_BYTES_MAX {
        return Err(denied("ticket: sizes out of range".into()));
    }
    Ok(ticket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(file_id: u64) -> Ticket {
        Ticket {
            file_id,
            version: 2,
            mount_id: 3,
            page_bytes: 1 << 20,
            block_bytes: 256 << 20,
            size: 5,
            store_key: "a/b".into(),
            fingerprint: "etag:x".into(),
            feed_position: 6,
            store_away: false,
            expires_unix_ms: 1000,
        }
    }

    fn refused(bytes: &[u8], key: &SigningKey, now: u64) -> String {
        let error = verify(bytes, &key.verifying_key(), &mut VerifiedRoots::default(), now).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TicketRequired);
        error.message
    }

    #[test]
    fn only_the_masters_living_tickets_pass() {
        let key = SigningKey::from_bytes(&[7; 32]);
        for count in [1u64, 2, 3, 5] {
            let tickets: Vec<Ticket> = (0..count).map(ticket).collect();
            let mut roots = VerifiedRoots::default();
            for (ticket, signed) in tickets.iter().zip(sign(&tickets, &key)) {
                assert_eq!(verify(&signed, &key.verifying_key(), &mut roots, 999).as_ref(), Ok(ticket));
                assert_eq!(refused(&signed, &key, 1010), "ticket: expired 10 ms ago");
                assert!(refused(&signed, &SigningKey::from_bytes(&[8; 32]), 0).contains("signature"));
                for at in 0..signed.len() {
                    let mut bad = signed.clone();
                    bad[at] ^= 1;
                    refused(&bad, &key, 0);
                    refused(&signed[..at], &key, 0);
                }
            }
            assert_eq!(roots.roots.len(), 1);
        }
        assert!(refused(&[], &key, 0).contains("got 0 bytes"));
        let endless = Ticket { page_bytes: 0, ..ticket(1) };
        assert!(refused(&sign(&[endless], &key)[0], &key, 0).contains("sizes"));
        assert!(sign(&[], &key).is_empty());
    }

    #[test]
    fn what_was_verified_under_one_key_is_not_under_another() {
        let (key, other) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
        let tickets = [ticket(1), ticket(2)];
        let signed = sign(&tickets, &key);
        let mut roots = VerifiedRoots::default();
        assert!(verify(&signed[0], &key.verifying_key(), &mut roots, 0).is_ok());
        assert!(verify(&signed[1], &other.verifying_key(), &mut roots, 0).is_err());
        // A ticket that was not in the batch does not pass with the batch's signature and another's place.
        let mut forged = signed[0][..SIGNATURE_BYTES + 3 + 32].to_vec();
        forged.extend_from_slice(&ticket(3).to_bytes());
        assert!(verify(&forged, &key.verifying_key(), &mut roots, 0).is_err());
        // An inner node is no leaf.
        let mut inner = signed[0][..SIGNATURE_BYTES].to_vec();
        inner.extend_from_slice(&[0, 0, 0]);
        inner.extend_from_slice(&[leaf(&tickets[0].to_bytes()), leaf(&tickets[1].to_bytes())].concat());
        assert!(verify(&inner, &key.verifying_key(), &mut roots, 0).is_err());
    }

    #[test]
    fn bounded() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let mut roots = VerifiedRoots::default();
        for file in 0..ROOTS_MAX as u64 + 5 {
            let signed = sign(&[ticket(file)], &key);
            assert!(verify(&signed[0], &key.verifying_key(), &mut roots, 0).is_ok());
        }
        assert_eq!((roots.roots.len(), roots.order.len()), (ROOTS_MAX, ROOTS_MAX));
    }
}
