//! Write tickets: what lets a worker write one object without asking the master. Signed with Ed25519 by the master. Pure
//! but for the caller's clock.
//!
//! Invariant: what is signed begins with a text of its own, so that no read ticket is ever taken for a write ticket.

use crate::message::Wire;
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use forebay_base::{ErrorKind, KindError};
use rkyv::{Archive, Deserialize, Serialize};

/// What the ticket grants: writing one whole object. Version 1 of the format.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct WriteTicket {
    /// `MountId`.
    pub mount_id: u32,
    /// The key in the store, relative to the mount's URI.
    pub store_key: String,
    /// `FileId` of the write session that it lets in; 0 for an upload, which needs none.
    pub file_id: u64,
    /// Whose session that is; 0 for an upload.
    pub client_id: u64,
    /// Whether what is there may not be replaced.
    pub create_only: bool,
    /// The fingerprint of the only content that may be replaced; empty: any.
    pub replaces: String,
    /// Milliseconds since 1970 when it ends: an upload begins before.
    pub expires_unix_ms: u64,
}

/// The zero byte keeps it apart from everything that begins with a key.
const DOMAIN: &[u8] = b"forebay write ticket 1\0";
const SIGNATURE_BYTES: usize = 64;

/// Signs a ticket: 64 bytes of signature, then the rkyv bytes.
#[must_use]
pub fn sign(ticket: &WriteTicket, key: &SigningKey) -> Vec<u8> {
    let body = ticket.to_bytes();
    let mut out = key.sign(&[DOMAIN, &body].concat()).to_bytes().to_vec();
    out.extend_from_slice(&body);
    out
}

/// Checks signature and expiry.
pub fn verify(bytes: &[u8], key: &VerifyingKey, now_unix_ms: u64) -> Result<WriteTicket, KindError> {
    let denied = |message: String| KindError::new(ErrorKind::TicketRequired, message);
    let Some((signature, body)) = bytes.split_first_chunk::<SIGNATURE_BYTES>() else {
        return Err(denied(format!("write ticket: got {} bytes, want a signed ticket", bytes.len())));
    };
    if key.verify(&[DOMAIN, body].concat(), &Signature::from_bytes(signature)).is_err() {
        return Err(denied("write ticket: the signature is not the master's, or not one of a write ticket".into()));
    }
    let ticket = WriteTicket::from_bytes(body).map_err(|error| denied(error.to_string()))?;
    if ticket.expires_unix_ms <= now_unix_ms {
        return Err(denied(format!("write ticket: expired {} ms ago", now_unix_ms - ticket.expires_unix_ms)));
    }
    Ok(ticket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> WriteTicket {
        WriteTicket {
            mount_id: 3,
            store_key: "a/b".into(),
            file_id: 9,
            client_id: 5,
            create_only: true,
            replaces: "e1".into(),
            expires_unix_ms: 1000,
        }
    }

    #[test]
    fn only_the_masters_living_write_tickets_pass() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let signed = sign(&ticket(), &key);
        assert_eq!(verify(&signed, &key.verifying_key(), 999), Ok(ticket()));
        let refused = |bytes: &[u8], key: &SigningKey, now| {
            let error = verify(bytes, &key.verifying_key(), now).unwrap_err();
            assert_eq!(error.kind, ErrorKind::TicketRequired);
            error.message
        };
        assert_eq!(refused(&signed, &key, 1010), "write ticket: expired 10 ms ago");
        assert!(refused(&signed, &SigningKey::from_bytes(&[8; 32]), 0).contains("signature"));
        assert!(refused(&[], &key, 0).contains("got 0 bytes"));
        for at in 0..signed.len() {
            let mut bad = signed.clone();
            bad[at] ^= 1;
            refused(&bad, &key, 0);
        }
    }

    #[test]
    fn a_signature_without_the_text_in_front_is_none_of_a_write_ticket() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let body = ticket().to_bytes();
        let bare = [&key.sign(&body).to_bytes()[..], &body].concat();
        assert_eq!(verify(&bare, &key.verifying_key(), 0).unwrap_err().kind, ErrorKind::TicketRequired);
        // And the other way round.
        let signed = sign(&ticket(), &key);
        assert_eq!(
            crate::ticket::verify(&signed, &key.verifying_key(), &mut crate::ticket::VerifiedRoots::default(), 0)
                .unwrap_err()
                .kind,
            ErrorKind::TicketRequired
        );
    }
}
