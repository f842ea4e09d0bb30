//! mount(2) and its undoing, with fusermount3 where the process is not root. Blocking; called at start and end only.
//!
//! Invariant: a mount that is alive is never touched; a dead one (its server was killed) is taken away first.

mod fusermount;
mod table;

use crate::device;
use crate::error::FuseError;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use table::{MountLine, find as find_mount};

/// What mounts of this program call themselves.
pub const FILE_SYSTEM_TYPE: &str = "fuse.forebay";
/// Dead mounts on top of each other that are taken away.
const DEAD_MOUNTS_MAX: usize = 16;
/// A server that does not answer for this long is alive, but hangs.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How to mount.
#[derive(Clone, Copy, Debug)]
pub struct MountOptions {
    /// Let users other than the mount's owner in.
    pub allow_other: bool,
    /// Largest READ, bytes.
    pub max_read: u32,
}

/// Makes the mount point usable: takes away what a killed server left, makes a missing directory, refuses the rest.
/// Returns its absolute path.
pub fn prepare(mountpoint: &Path) -> Result<PathBuf, FuseError> {
    let refuse = |want: String| FuseError::Mountpoint { path: mountpoint.to_path_buf(), want };
    let (Some(parent), Some(name)) = (mountpoint.parent(), mountpoint.file_name()) else {
        return Err(refuse("a directory below /".into()));
    };
    // A dead mount point cannot be resolved itself, its parent can.
    let parent = std::fs::canonicalize(parent)
        .map_err(|error| refuse(format!("a directory whose parent exists ({}: {error})", parent.display())))?;
    let path = parent.join(name);
    for _ in 0..DEAD_MOUNTS_MAX {
        let Some(line) = table::find(&path)? else { break };
        match probe(&path) {
            Probe::Dead => {
                tracing::info!(mountpoint = %path.display(), "taking away the mount that a killed server left");
                unmount_lazily(&path)?;
            }
            _ if line.file_system_type == FILE_SYSTEM_TYPE => return Err(FuseError::AlreadyMounted { path }),
            _ => break,
        }
    }
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir(&path).map_err(|error| refuse(format!("a directory that can be made ({error})")))?
        }
        Err(error) => return Err(refuse(format!("a directory that can be used ({error})"))),
        Ok(meta) if !meta.is_dir() => return Err(refuse("a directory, it is a file".into())),
        Ok(_) => {
            let mut entries =
                std::fs::read_dir(&path).map_err(|error| refuse(format!("a readable directory ({error})")))?;
            if let Some(Ok(first)) = entries.next() {
                let name = first.file_name();
                return Err(refuse(format!("an empty directory, it holds {}", name.to_string_lossy())));
            }
        }
    }
    std::fs::canonicalize(&path).map_err(|error| refuse(format!("a directory that can be used ({error})")))
}

enum Probe {
    Alive,
    Dead,
    Hangs,
}

/// Opens the root of whatever is mounted there, without hanging on a server that hangs. A stat(2) would be answered from
/// the kernel's cache even when the server is dead.
fn probe(path: &Path) -> Probe {
    let (answer, wait) = std::sync::mpsc::channel();
    let path = path.to_path_buf();
    std::thread::spawn(move || {
        // Nobody listens any more when the answer came too late.
        let _ = answer.send(std::fs::read_dir(&path).map(|_| ()));
    });
    match wait.recv_timeout(PROBE_TIMEOUT) {
        Ok(Err(error)) if matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED)) => Probe::Dead,
        Ok(_) => Probe::Alive,
        Err(_) => Probe::Hangs,
    }
}

/// Mounts at a prepared path and returns the descriptor that serves it.
pub fn mount(mountpoint: &Path, options: &MountOptions) -> Result<OwnedFd, FuseError> {
    if !rustix::process::geteuid().is_root() {
        return fusermount::mount(mountpoint, options);
    }
    let device = device::open()?;
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,max_read={}",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
        options.max_read
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).expect("the text holds no zero byte");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    rustix::mount::mount("forebay", mountpoint, FILE_SYSTEM_TYPE, flags, data.as_c_str()).map_err(|error| {
        let reason = match error {
            rustix::io::Errno::PERM => "not permitted; it needs CAP_SYS_ADMIN".to_string(),
            rustix::io::Errno::NODEV => "this kernel has no FUSE".to_string(),
            other => other.to_string(),
        };
        FuseError::Mount { path: mountpoint.to_path_buf(), reason }
    })?;
    Ok(device)
}

/// Unmounts; lazily when something is still open there.
pub fn unmount(mountpoint: &Path) -> Result<(), FuseError> {
    if !rustix::process::geteuid().is_root() {
        return fusermount::unmount(mountpoint);
    }
    match rustix::mount::unmount(mountpoint, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::BUSY) => unmount_lazily(mountpoint),
        Err(error) => Err(unmount_error(mountpoint, error)),
    }
}

fn unmount_lazily(mountpoint: &Path) -> Result<(), FuseError> {
    if !rustix::process::geteuid().is_root() {
        return fusermount::unmount(mountpoint);
    }
    rustix::mount::unmount(mountpoint, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(|error| unmount_error(mountpoint, error))
}

fn unmount_error(mountpoint: &Path, error: rustix::io::Errno) -> FuseError {
    FuseError::system(format!("cannot unmount {}", mountpoint.display()), error)
}

/// Sets the kernel's read-ahead of this mount. Needs root; a refusal is logged, for the mount works without it.
pub fn set_read_ahead(mountpoint: &Path, read_ahead_bytes: u64) {
    let Ok(Some(line)) = table::find(mountpoint) else { return };
    let file = format!("/sys/class/bdi/{}/read_ahead_kb", line.device);
    if let Err(error) = std::fs::write(&file, format!("{}", read_ahead_bytes >> 10)) {
        tracing::info!(file, %error, "the kernel's read-ahead stays as it is: sequential reads are slower");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_that_cannot_be_used_are_refused_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let text = |path: &Path| prepare(path).unwrap_err().to_string();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        assert!(text(&dir.path().join("file")).contains("it is a file"));
        assert!(text(dir.path()).contains("an empty directory, it holds file"));
        assert!(text(&dir.path().join("no/such")).contains("whose parent exists"));
        assert!(text(Path::new("/")).contains("below /"));
        let fresh = dir.path().join("fresh");
        assert_eq!(prepare(&fresh).unwrap(), std::fs::canonicalize(&fresh).unwrap());
        assert!(fresh.is_dir());
    }
}
