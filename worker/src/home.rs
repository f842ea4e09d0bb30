//! The worker's own directory: the lock that keeps a second worker out, its identity, and the cluster it belongs to.
//! Used by the control thread at start.
//!
//! Invariant: the identity is drawn once and durable before anyone hears of it.

use crate::error::WorkerError;
use crate::leftovers::Leftovers;
use forebay_base::{ClusterId, WorkerId};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest text of an identity.
const TEXT_BYTES_MAX: u64 = 256;

/// The held directory; dropping it lets another worker in.
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    /// Drawn once.
    pub(crate) worker_id: WorkerId,
    /// 0 until a master was met.
    pub(crate) cluster_id: ClusterId,
    _lock: File,
}

impl Home {
    /// Takes the directory, making it and the identity if they are new.
    pub(crate) fn open(path: &Path) -> Result<Home, WorkerError> {
        usable("worker.dir", path)?;
        let broken = |error: std::io::Error| directory_error("worker.dir", path, &error);
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock")).map_err(broken)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(WorkerError::Held { path: path.into() }),
            Err(TryLockError::Error(error)) => return Err(broken(error)),
        }
        let id_file = path.join("id");
        let worker_id = match read_text(&id_file, TEXT_BYTES_MAX).map_err(broken)? {
            Some(text) => WorkerId(text.parse().ok().filter(|&id| id != 0).ok_or(WorkerError::State {
                path: id_file,
                got: text,
                want: "this worker's id, a whole number; removing the file makes a new one",
            })?),
            None => {
                let id = random_id().map_err(broken)?;
                write_text(path, "id", &id.to_string()).map_err(broken)?;
                WorkerId(id)
            }
        };
        let cluster_file = path.join("cluster");
        let cluster_id = match read_text(&cluster_file, TEXT_BYTES_MAX).map_err(broken)? {
            None => ClusterId(0),
            Some(text) => ClusterId(u128::from_str_radix(&text, 16).map_err(|_| WorkerError::State {
                path: cluster_file,
                got: text,
                want: "the cluster's id, 32 hexadecimal digits",
            })?),
        };
        Ok(Home { path: path.into(), worker_id, cluster_id, _lock: lock })
    }

    /// Where uploads are noted.
    pub(crate) fn leftovers(&self) -> Result<Arc<Leftovers>, WorkerError> {
        let directory = self.path.join("uploads");
        Leftovers::open(&directory).map_err(|error| directory_error("worker.dir", &directory, &error))
    }

    /// Where write sessions have their contents.
    pub(crate) fn sessions(&self) -> Result<PathBuf, WorkerError> {
        let directory = self.path.join("sessions");
        fs::create_dir_all(&directory).map_err(|error| directory_error("worker.dir", &directory, &error))?;
        Ok(directory)
    }

    /// Notes the cluster of the master that was met; refuses another one than before.
    pub(crate) fn join(&mut self, found: ClusterId) -> Result<(), WorkerError> {
        if self.cluster_id == ClusterId(0) {
            let text = format!("{:032x}", found.0);
            write_text(&self.path, "cluster", &text).map_err(|e| directory_error("worker.dir", &self.path, &e))?;
            self.cluster_id = found;
        }
        if self.cluster_id == found {
            return Ok(());
        }
        Err(WorkerError::Cluster { path: self.path.clone(), held: self.cluster_id, found })
    }
}

/// Makes a directory and sees that it can be written.
pub(crate) fn usable(setting: &str, path: &Path) -> Result<(), WorkerError> {
    let probe = path.join(format!(".forebay-probe-{}", std::process::id()));
    fs::create_dir_all(path)
        .and_then(|()| File::create(&probe).map(drop))
        .and_then(|()| fs::remove_file(&probe))
        .map_err(|error| directory_error(setting, path, &error))
}

pub(crate) fn directory_error(setting: &str, path: &Path, error: &std::io::Error) -> WorkerError {
    WorkerError::Directory { setting: setting.into(), path: path.into(), reason: error.to_string() }
}

/// A small file's text, no more than so many bytes of it.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> std::io::Result<Option<String>> {
    match File::open(path) {
        Ok(file) => {
            let mut text = String::new();
            file.take(bytes_max).read_to_string(&mut text)?;
            Ok(Some(text.trim().to_string()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a small file in place, durably.
pub(crate) fn write_text(directory: &Path, name: &str, text: &str) -> std::io::Result<()> {
    let fresh = directory.join(format!("{name}.new"));
    let mut file = File::create(&fresh)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&fresh, directory.join(name))?;
    File::open(directory)?.sync_all()
}

fn random_id() -> std::io::Result<u64> {
    let mut random = File::open("/dev/urandom")?;
    let mut bytes = [0u8; 8];
    loop {
        random.read_exact(&mut bytes)?;
        match u64::from_le_bytes(bytes) {
            0 => {}
            id => return Ok(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_lasts_and_a_second_worker_is_kept_out() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("worker");
        let mut home = Home::open(&path).expect("it is new");
        let id = home.worker_id;
        assert!(matches!(Home::open(&path), Err(WorkerError::Held { .. })));
        home.join(ClusterId(7)).expect("the first cluster");
        drop(home);
        let mut home = Home::open(&path).expect("it is free again");
        assert_eq!((home.worker_id, home.cluster_id), (id, ClusterId(7)));
        home.join(ClusterId(7)).expect("the same cluster");
        let refused = home.join(ClusterId(8)).expect_err("another cluster").to_string();
        assert!(refused.contains("00000007") && refused.contains("00000008") && !refused.contains('\n'), "{refused}");
    }

    #[test]
    fn damaged_state_and_bad_directories_are_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("id"), "zero").expect("writable");
        let error = Home::open(dir.path()).err().expect("the id is damaged").to_string();
        assert!(error.contains("id: got \"zero\""), "{error}");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("writable");
        let error = Home::open(&file).err().expect("not a directory").to_string();
        assert!(error.starts_with("worker.dir: got ") && error.contains("file"), "{error}");
    }
}
