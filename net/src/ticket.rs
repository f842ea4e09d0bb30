//! Read tickets (hard case 16): what lets a worker serve a file without asking the master. Signed with Ed25519 by the
//! master, at most 60 s old, checked once per connection. Pure but for the caller's clock.

use crate::message::Wire;
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use forebay_base::{ErrorKind, KindError, limits};
use rkyv::{Archive, Deserialize, Serialize};

/// What the ticket grants: reading one version of one file. Version 1 of the format.
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

const SIGNATURE_BYTES: usize = 64;

/// Signs a ticket: 64 bytes of signature, then the rkyv bytes.
#[must_use]
pub fn sign(ticket: &Ticket, key: &SigningKey) -> Vec<u8> {
    let body = ticket.to_bytes();
    let mut out = key.sign(&body).to_bytes().to_vec();
    out.extend_from_slice(&body);
    out
}

/// Checks signature and expiry.
pub fn verify(bytes: &[u8], key: &VerifyingKey, now_unix_ms: u64) -> Result<Ticket, KindError> {
    let denied = |message: String| KindError::new(ErrorKind::TicketRequired, message);
    let Some((signature, body)) = bytes.split_first_chunk::<SIGNATURE_BYTES>() else {
        return Err(denied(format!("ticket: got {} bytes, want a signed ticket", bytes.len())));
    };
    if key.verify(body, &Signature::from_bytes(signature)).is_err() {
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

    fn ticket() -> Ticket {
        Ticket {
            file_id: 1,
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

    #[test]
    fn only_the_masters_living_tickets_pass() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let signed = sign(&ticket(), &key);
        assert_eq!(verify(&signed, &key.verifying_key(), 999), Ok(ticket()));
        let refused = |bytes: &[u8], key: &SigningKey, now| {
            let error = verify(bytes, &key.verifying_key(), now).unwrap_err();
            assert_eq!(error.kind, ErrorKind::TicketRequired);
            error.message
        };
        assert_eq!(refused(&signed, &key, 1010), "ticket: expired 10 ms ago");
        assert!(refused(&signed, &SigningKey::from_bytes(&[8; 32]), 0).contains("signature"));
        assert!(refused(&[], &key, 0).contains("got 0 bytes"));
        for at in 0..signed.len() {
            let mut bad = signed.clone();
            bad[at] ^= 1;
            refused(&bad, &key, 0);
        }
        let endless = Ticket { page_bytes: 0, ..ticket() };
        assert!(refused(&sign(&endless, &key), &key, 0).contains("sizes"));
    }
}
