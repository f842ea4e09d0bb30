//! Handing a whole file to another process, and seeing whether anybody else has a file open.
#![expect(unsafe_code, reason = "F_SETLEASE has no safe wrapper")]

use super::Watch;
use rustix::fs::{OFlags, SeekFrom};
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The mode of a file that was handed out: read-only for its owner, and the sticky bit as the mark.
const LENT_MODE: u32 = 0o1400;
const STICKY: u32 = 0o1000;

/// Whether a file bears the mark.
pub(super) fn is_marked(mode: u32) -> bool {
    mode & STICKY != 0
}

/// Opens a file for somebody else, marked. `None` if it has another length or a hole. May block.
pub(super) fn lend(path: &Path, length_bytes: u64) -> io::Result<Option<File>> {
    let file = open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() != length_bytes {
        return Ok(None);
    }
    // A file system that knows no holes says that there is none before the end.
    match rustix::fs::seek(&file, SeekFrom::Hole(0)) {
        Ok(first) if first < length_bytes => return Ok(None),
        Ok(_) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    rustix::fs::seek(&file, SeekFrom::Start(0))?;
    if meta.mode() & 0o7777 != LENT_MODE {
        file.set_permissions(Permissions::from_mode(LENT_MODE))?;
    }
    Ok(Some(file))
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits() as i32).open(path)
}

/// Opens a file to see who else has it open; with the bytes that it takes. `None` if it is not there. May block.
pub(super) fn watch(path: &Path) -> io::Result<Option<(Box<dyn Watch>, u64)>> {
    match open(path) {
        Ok(file) => {
            let bytes = file.metadata()?.blocks() * 512;
            Ok(Some((Box::new(WatchedFile(file)), bytes)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

struct WatchedFile(File);

impl Watch for WatchedFile {
    /// The kernel grants a write lease only while no other descriptor of the file is open and nothing maps it.
    fn in_use(&self) -> bool {
        let descriptor = self.0.as_raw_fd();
        // SAFETY: fcntl with these commands takes an integer and touches no memory of ours; the descriptor is open.
        let taken = unsafe { libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_WRLCK) };
        if taken != 0 {
            // Where there are no leases nobody can tell; then it counts as unused, as the file system sees it once it is.
            return io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
        }
        // SAFETY: as above.
        unsafe { libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_UNLCK) };
        false
    }
}
