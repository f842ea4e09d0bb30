//! What `benches/` reaches of this crate's inside: one core's partition, and a whole master without the wire. For no
//! other use; none of it is a promise.

use crate::error::MasterError;
use crate::namespace::{Command, MountRecord, Outcome, Partition, Partitions, SyncDirectory, Upsert, apply};
use crate::serve::Master;
use forebay_base::settings::Settings;
use forebay_base::{ErrorKind, FileId, Incarnation, KindError, PartitionId};
use forebay_net::Peer;
use forebay_net::message::handshake::Role;
use forebay_net::message::namespace::{Attr, KIND_DIRECTORY, KIND_FILE, Lookup, Mount};
use forebay_net::message::{Message, Wire};
use forebay_net::transport::tokio::Service;
use std::sync::Arc;
use std::time::Duration;

fn upsert(name: &[u8], kind: u8) -> Upsert {
    Upsert {
        name: name.to_vec(),
        expected: 0,
        kind,
        size: 100 << 10,
        mtime_ms: 1,
        mode: 0o644,
        uid: 0,
        gid: 0,
        has_attributes: true,
        is_empty: false,
        fingerprint: if kind == KIND_FILE { "etag:0123456789abcdef".into() } else { String::new() },
    }
}

/// The differences that bring `names` into a directory.
fn creation(directory: FileId, names: &[Vec<u8>], kind: u8) -> Command {
    let upserts = names.iter().map(|name| upsert(name, kind)).collect();
    Command::SyncDirectory(SyncDirectory { directory: directory.0, upserts, removals: Vec::new(), complete: false })
}

fn failed(outcome: &Outcome) -> KindError {
    KindError::new(ErrorKind::Internal, format!("got {outcome:?}"))
}

/// One core's partitions and what runs on them, without queue and journal.
pub struct Namespace(Partitions);

impl Namespace {
    /// One partition with a mount at `/m`; gives the mount's root as well.
    #[must_use]
    pub fn new() -> (Self, FileId) {
        let mut partitions = Partitions::new();
        partitions.insert(0, Box::new(Partition::new(PartitionId(0), Incarnation(1), 1, (0, 0))));
        let root = partitions[&0].next_id();
        let mount = MountRecord {
            mount_id: 0,
            path: "/m".into(),
            root: 0,
            uri: "file:///m".into(),
            options: Vec::new(),
            freshness_ms: u64::MAX,
            readonly: true,
            generation: 0,
        };
        let step = crate::namespace::Step { parent: FileId::ROOT.0, name: b"m".to_vec(), id: root.0 };
        let command = Command::AddMount { mount, steps: vec![step], root: upsert(b"", KIND_DIRECTORY) };
        let outcome = apply(&mut partitions, 1, &command);
        assert!(matches!(outcome, Outcome::Mounted(_)), "{outcome:?}");
        (Self(partitions), root)
    }

    /// Applies one command that creates a file.
    pub fn create(&mut self, directory: FileId, name: Vec<u8>) {
        let outcome = apply(&mut self.0, 1, &creation(directory, &[name], KIND_FILE));
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    }

    /// A name and its inode. Gives the size.
    #[must_use]
    pub fn lookup(&self, directory: FileId, name: &[u8]) -> Option<u64> {
        let partition = self.0.get(&directory.partition().0)?;
        let entry = partition.entry(directory, name)?;
        Some(partition.inode(entry.file_id)?.size)
    }
}

/// A whole master, called as its server would call it, with no socket between.
pub struct InProcess {
    master: Master,
    peer: Arc<Peer>,
}

impl InProcess {
    /// Recovers, leads and serves.
    pub async fn start(settings: &Settings) -> Result<Self, MasterError> {
        let master = Master::start(settings, Arc::new(forebay_ufs::open)).await?;
        let peer = Peer { role: Role::Admin, connection_id: 1, address: "in process".into(), is_unix: true };
        Ok(Self { master, peer: Arc::new(peer) })
    }

    /// Any call, from the bytes of its request to the bytes of its reply.
    pub async fn call<M: Message>(&self, request: &M) -> Result<M::Reply, KindError> {
        let peer = Arc::clone(&self.peer);
        let body = self.master.service.call(peer, M::OP, request.to_bytes(), Duration::from_secs(10)).await?;
        M::Reply::from_bytes(&body).map_err(|error| KindError::new(ErrorKind::Corrupt, error.to_string()))
    }

    /// Shows a directory of this host at `path`, believed for ever.
    pub async fn mount(&self, path: &str, uri: &str) -> Result<Attr, KindError> {
        let (path, uri) = (path.to_string(), uri.to_string());
        let name = path.trim_start_matches('/').as_bytes().to_vec();
        self.call(&Mount { path, uri, options: Vec::new(), freshness_ms: u64::MAX, readonly: true }).await?;
        self.call(&Lookup { parent: FileId::ROOT.0, name }).await
    }

    /// Journals and applies the creation of directories. Gives their ids.
    pub async fn make_directories(&self, parent: FileId, names: &[Vec<u8>]) -> Result<Vec<FileId>, KindError> {
        self.propose(creation(parent, names, KIND_DIRECTORY)).await?;
        let mut made = Vec::new();
        for name in names {
            made.push(FileId(self.call(&Lookup { parent: parent.0, name: name.clone() }).await?.file_id));
        }
        Ok(made)
    }

    /// Journals and applies the creation of one file: durable when this returns.
    pub async fn create(&self, directory: FileId, name: Vec<u8>) -> Result<(), KindError> {
        self.propose(creation(directory, &[name], KIND_FILE)).await
    }

    async fn propose(&self, command: Command) -> Result<(), KindError> {
        match self.master.service.journal.propose(command).await? {
            Outcome::Done { .. } => Ok(()),
            other => Err(failed(&other)),
        }
    }

    /// Ends it.
    pub async fn stop(self) -> Result<(), MasterError> {
        self.master.stop().await
    }
}
