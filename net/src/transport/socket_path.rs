//! Makes a Unix socket's path free to bind: its directory exists, a stale socket is gone, a living one is respected.

use crate::NetError;
use std::io::ErrorKind as IoErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Creates the directory and removes a socket on which nobody answers.
pub(super) fn clear(path: &Path) -> Result<(), NetError> {
    let failed = |error: std::io::Error| NetError::Listen {
        address: format!("unix:{}", path.display()),
        error: error.to_string(),
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(NetError::NotASocket { path: path.into() }),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == IoErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(failed),
        Err(error) if error.kind() == IoErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(NetError::SocketInUse { path: path.into() }),
    }
}

/// Removes the socket when its server ends.
pub(super) struct SocketFile(pub(super) std::path::PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already or not ours any more: the next server checks for itself.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn stale_sockets_go_living_ones_and_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/a.sock");
        clear(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(clear(&path), Err(NetError::SocketInUse { path: path.clone() }));
        drop(listener);
        assert!(path.exists());
        clear(&path).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, b"precious").unwrap();
        assert_eq!(clear(&path), Err(NetError::NotASocket { path: path.clone() }));
        assert!(path.exists());
    }
}
