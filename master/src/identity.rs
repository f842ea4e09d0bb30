//! `master.dir`: who this cluster is. Locked while a master runs; formatted once.
//!
//! `cluster.json` (mode 0600) holds the cluster id, the ticket key, the number of partitions and the incarnation; it is
//! written once, whole, before anything else exists.

use crate::error::MasterError;
use ed25519_dalek::SigningKey;
use forebay_base::{ClusterId, Incarnation};
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(serde::Serialize, serde::Deserialize)]
struct ClusterFile {
    format: u32,
    cluster_id: String,
    ticket_seed: [u8; 32],
    partitions: u16,
    incarnation: u16,
}

const FORMAT: u32 = 1;

/// The cluster's identity and the lock on its directory.
pub(crate) struct Identity {
    pub(crate) cluster_id: ClusterId,
    pub(crate) ticket_key: SigningKey,
    pub(crate) incarnation: Incarnation,
    pub(crate) journal_directory: PathBuf,
    pub(crate) state_directory: PathBuf,
    _lock: File,
}

/// Locks `directory`, formats it if it is new, and reads who it is.
pub(crate) fn open(directory: &Path, partitions: u16) -> Result<Identity, MasterError> {
    let trouble = |reason: String| MasterError::Directory { path: directory.to_path_buf(), reason };
    let shown = |error: std::io::Error| trouble(error.to_string());
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(shown)?;
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(directory.join("lock"))
        .map_err(shown)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| trouble("another master uses it: stop that one first, or set another master.dir".into()))?;
    let path = directory.join("cluster.json");
    let (journal_directory, state_directory) = (directory.join("journal"), directory.join("state"));
    let file = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| trouble(format!("cluster.json cannot be read, restore it from a backup: {error}")))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if journal_directory.exists() || state_directory.exists() {
                return Err(trouble("holds a journal but no cluster.json: restore that file from a backup".into()));
            }
            format(directory, &path, partitions).map_err(shown)?
        }
        Err(error) => return Err(shown(error)),
    };
    let ClusterFile { format, cluster_id, ticket_seed, partitions: formatted, incarnation } = file;
    if format != FORMAT {
        return Err(trouble(format!("cluster.json: got format {format}, want {FORMAT}")));
    }
    if formatted != partitions {
        return Err(MasterError::Format(format!(
            "master.partitions: got {partitions}, want {formatted}: {} was formatted with that and it cannot change",
            directory.display()
        )));
    }
    let cluster_id = u128::from_str_radix(&cluster_id, 16)
        .map_err(|_| trouble(format!("cluster.json: got cluster_id \"{cluster_id}\", want hexadecimal digits")))?;
    Ok(Identity {
        cluster_id: ClusterId(cluster_id),
        ticket_key: SigningKey::from_bytes(&ticket_seed),
        incarnation: Incarnation(incarnation),
        journal_directory,
        state_directory,
        _lock: lock,
    })
}

fn format(directory: &Path, path: &Path, partitions: u16) -> std::io::Result<ClusterFile> {
    let (mut id, mut ticket_seed) = ([0u8; 16], [0u8; 32]);
    let random = |bytes: &mut [u8]| getrandom::fill(bytes).map_err(|error| std::io::Error::other(error.to_string()));
    random(&mut id)?;
    random(&mut ticket_seed)?;
    let cluster_id = format!("{:032x}", u128::from_le_bytes(id).max(1));
    let file = ClusterFile { format: FORMAT, cluster_id, ticket_seed, partitions, incarnation: 1 };
    let partial = directory.join("cluster.json.partial");
    let mut out = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&partial)?;
    out.write_all(&serde_json::to_vec_pretty(&file)?)?;
    out.sync_all()?;
    std::fs::rename(&partial, path)?;
    File::open(directory)?.sync_all()?;
    tracing::info!("formatted {} as cluster {}", directory.display(), file.cluster_id);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatted_once_locked_and_checked() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path(), 8).unwrap();
        let Err(busy) = open(directory.path(), 8) else { panic!("two masters in one directory") };
        assert!(busy.to_string().contains("another master"), "{busy}");
        let (id, key) = (first.cluster_id, first.ticket_key.to_bytes());
        drop(first);
        let Err(other) = open(directory.path(), 16) else { panic!("partitions changed") };
        assert!(other.to_string().contains("master.partitions: got 16, want 8"), "{other}");
        let again = open(directory.path(), 8).unwrap();
        assert_eq!((again.cluster_id, again.ticket_key.to_bytes()), (id, key));
        drop(again);
        std::fs::create_dir(directory.path().join("journal")).unwrap();
        std::fs::remove_file(directory.path().join("cluster.json")).unwrap();
        assert!(open(directory.path(), 8).is_err());
    }
}
