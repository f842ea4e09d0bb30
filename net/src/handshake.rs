//! The handshake as a pure state machine: bodies in, bodies out. Owned by whoever owns the connection.
//!
//! Client: `Hello` -> ; <- `HelloReply` with the server's proof; `Prove` -> ; <- `Empty`. Both sides prove the secret
//! over both nonces and the client's role, so that neither a recorded proof nor a changed role is worth anything.
//! Invariant: no proof is compared other than in constant time.

use crate::frame::{WIRE_VERSION, WIRE_VERSION_MIN};
use crate::message::handshake::{Hello, HelloReply, Prove, Role};
use crate::{Identity, NetError, Secret};
use forebay_base::{ClusterId, ErrorKind};
use hmac::Mac;

const SERVER_LABEL: &[u8] = b"forebay-server";
const CLIENT_LABEL: &[u8] = b"forebay-client";

type Nonce = [u8; 32];

/// 32 random bytes for one handshake.
#[must_use]
pub fn fresh_nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).expect("the kernel always has random bytes");
    nonce
}

fn mac(secret: &Secret, label: &[u8], first: &Nonce, second: &Nonce, role: u8) -> impl Mac {
    secret.mac().chain_update(label).chain_update(first).chain_update(second).chain_update([role])
}

fn proof(secret: &Secret, label: &[u8], first: &Nonce, second: &Nonce, role: u8) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(&mac(secret, label, first, second, role).finalize().into_bytes());
    out
}

fn check_cluster(ours: ClusterId, theirs: u128, address: &str) -> Result<(), NetError> {
    if ours.0 == 0 || theirs == 0 || ours.0 == theirs {
        return Ok(());
    }
    Err(NetError::ClusterMismatch { address: address.into(), theirs, ours: ours.0 })
}

/// The connecting side.
pub struct ClientHandshake<'a> {
    identity: &'a Identity,
    address: &'a str,
    nonce: Nonce,
}

impl<'a> ClientHandshake<'a> {
    /// Starts towards `address` (for messages only).
    #[must_use]
    pub fn new(identity: &'a Identity, address: &'a str, nonce: [u8; 32]) -> Self {
        ClientHandshake { identity, address, nonce }
    }

    /// The first frame's body.
    #[must_use]
    pub fn hello(&self) -> Hello {
        Hello {
            version_min: WIRE_VERSION_MIN,
            version_max: WIRE_VERSION,
            role: self.identity.role as u8,
            cluster_id: self.identity.cluster_id.0,
            nonce: self.nonce,
        }
    }

    /// Checks the server's reply; gives the client's proof and the server's cluster.
    pub fn on_hello_reply(&self, reply: &HelloReply) -> Result<(Prove, ClusterId), NetError> {
        if !(WIRE_VERSION_MIN..=WIRE_VERSION).contains(&reply.version) {
            return Err(NetError::VersionMismatch {
                address: self.address.into(),
                their_min: reply.version,
                their_max: reply.version,
                our_min: WIRE_VERSION_MIN,
                our_max: WIRE_VERSION,
            });
        }
        check_cluster(self.identity.cluster_id, reply.cluster_id, self.address)?;
        let role = self.identity.role as u8;
        let secret = &self.identity.secret;
        if mac(secret, SERVER_LABEL, &self.nonce, &reply.nonce, role).verify_slice(&reply.proof).is_err() {
            return Err(NetError::SecretMismatch { address: self.address.into() });
        }
        let proof = proof(secret, CLIENT_LABEL, &reply.nonce, &self.nonce, role);
        Ok((Prove { proof }, ClusterId(reply.cluster_id)))
    }

    /// What an error reply of the server means.
    #[must_use]
    pub fn refused(&self, status: u32, message: &[u8]) -> NetError {
        NetError::Refused {
            address: self.address.into(),
            kind: kind_of_status(status),
            message: String::from_utf8_lossy(message).into_owned(),
        }
    }
}

/// The listening side.
pub struct ServerHandshake<'a> {
    identity: &'a Identity,
    address: &'a str,
    nonce: Nonce,
}

/// What a server keeps between `Hello` and `Prove`.
pub struct Challenge {
    role: Role,
    client_nonce: Nonce,
}

impl<'a> ServerHandshake<'a> {
    /// Starts with the client at `address` (for messages only).
    #[must_use]
    pub fn new(identity: &'a Identity, address: &'a str, nonce: [u8; 32]) -> Self {
        ServerHandshake { identity, address, nonce }
    }

    /// Checks the client's hello; gives the reply and what `on_prove` needs.
    pub fn on_hello(&self, hello: &Hello) -> Result<(HelloReply, Challenge), NetError> {
        if hello.version_min > WIRE_VERSION || hello.version_max < WIRE_VERSION_MIN {
            return Err(NetError::VersionMismatch {
                address: self.address.into(),
                their_min: hello.version_min,
                their_max: hello.version_max,
                our_min: WIRE_VERSION_MIN,
                our_max: WIRE_VERSION,
            });
        }
        let role = Role::from_code(hello.role)
            .ok_or_else(|| NetError::UnknownRole { address: self.address.into(), got: hello.role })?;
        check_cluster(self.identity.cluster_id, hello.cluster_id, self.address)?;
        let reply = HelloReply {
            version: hello.version_max.min(WIRE_VERSION),
            cluster_id: self.identity.cluster_id.0,
            nonce: self.nonce,
            proof: proof(&self.identity.secret, SERVER_LABEL, &hello.nonce, &self.nonce, hello.role),
        };
        Ok((reply, Challenge { role, client_nonce: hello.nonce }))
    }

    /// Checks the client's proof; gives its role.
    pub fn on_prove(&self, challenge: &Challenge, prove: &Prove) -> Result<Role, NetError> {
        let role = challenge.role as u8;
        mac(&self.identity.secret, CLIENT_LABEL, &self.nonce, &challenge.client_nonce, role)
            .verify_slice(&prove.proof)
            .map(|()| challenge.role)
            .map_err(|_| NetError::SecretMismatch { address: self.address.into() })
    }
}

/// The kind of a reply's status; a number this build does not know is `Internal`.
#[must_use]
pub fn kind_of_status(status: u32) -> ErrorKind {
    u16::try_from(status).ok().and_then(ErrorKind::from_code).unwrap_or(ErrorKind::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    fn identity(secret: &str, cluster: u128) -> Identity {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, format!("{secret}-0123456789abcdef")).unwrap();
        Identity { role: Role::Worker, cluster_id: ClusterId(cluster), secret: Secret::load(Some(&path)).unwrap() }
    }

    fn run(client: &Identity, server: &Identity) -> Result<Role, NetError> {
        let client = ClientHandshake::new(client, "server", [1; 32]);
        let server = ServerHandshake::new(server, "client", [2; 32]);
        let (reply, challenge) = server.on_hello(&client.hello())?;
        let (prove, _) = client.on_hello_reply(&reply)?;
        server.on_prove(&challenge, &prove)
    }

    #[test]
    fn same_secret_and_cluster_agree() {
        assert_eq!(run(&identity("a", 7), &identity("a", 7)), Ok(Role::Worker));
        assert_eq!(run(&identity("a", 0), &identity("a", 7)), Ok(Role::Worker));
        assert_eq!(run(&identity("a", 7), &identity("a", 0)), Ok(Role::Worker));
        let none = Identity { role: Role::Frontend, cluster_id: ClusterId(0), secret: Secret::none() };
        assert_eq!(run(&none, &none), Ok(Role::Frontend));
    }

    #[test]
    fn the_client_notices_a_wrong_secret() {
        let error = run(&identity("a", 0), &identity("b", 0)).unwrap_err();
        assert_eq!(error.to_string(), "cluster secret does not match that of server");
        assert_eq!(error.kind(), ErrorKind::Denied);
    }

    #[test]
    fn the_server_notices_a_wrong_proof_role_or_nonce() {
        let us = identity("a", 0);
        let server = ServerHandshake::new(&us, "client", [2; 32]);
        let client = ClientHandshake::new(&us, "server", [1; 32]);
        let (reply, challenge) = server.on_hello(&client.hello()).unwrap();
        let (prove, _) = client.on_hello_reply(&reply).unwrap();
        let mut bad = prove.clone();
        bad.proof[31] ^= 1;
        assert!(matches!(server.on_prove(&challenge, &bad), Err(NetError::SecretMismatch { .. })));
        assert!(server.on_prove(&Challenge { role: Role::Admin, client_nonce: [1; 32] }, &prove).is_err());
        let replayed = ServerHandshake::new(&us, "client", [3; 32]);
        assert!(replayed.on_prove(&challenge, &prove).is_err());
        assert!(server.on_prove(&challenge, &Prove { proof: reply.proof }).is_err(), "a reflected proof");
    }

    #[test]
    fn clusters_versions_and_roles_are_checked() {
        let error = run(&identity("a", 1), &identity("a", 2)).unwrap_err();
        assert!(matches!(error, NetError::ClusterMismatch { .. }), "{error}");
        let us = identity("a", 0);
        let server = ServerHandshake::new(&us, "client", [2; 32]);
        let good = ClientHandshake::new(&us, "server", [1; 32]).hello();
        let error = server.on_hello(&Hello { version_min: 2, version_max: 9, ..good.clone() }).err().unwrap();
        assert_eq!(error.to_string(), "wire version: client speaks 2 to 9, this process 1 to 1");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(matches!(server.on_hello(&Hello { role: 0, ..good }), Err(NetError::UnknownRole { got: 0, .. })));
    }

    #[test]
    fn golden_proofs() {
        let none = Identity { role: Role::Frontend, cluster_id: ClusterId(0), secret: Secret::none() };
        let server = ServerHandshake::new(&none, "client", [2; 32]);
        let client = ClientHandshake::new(&none, "server", [1; 32]);
        let (reply, _) = server.on_hello(&client.hello()).unwrap();
        let (prove, _) = client.on_hello_reply(&reply).unwrap();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&reply.proof), GOLDEN_SERVER_PROOF);
        assert_eq!(hex(&prove.proof), GOLDEN_CLIENT_PROOF);
    }

    const GOLDEN_SERVER_PROOF: &str = "f6b2c4873c9b7d3d130bccd60f0fda66f29c939448161926f2a59214a844cb8f";
    const GOLDEN_CLIENT_PROOF: &str = "0ae1ce3f37c20b054af424b86b76db225062c90132adf78a32e5625fb9e50ccc";
}
