//! Opening paths beneath a directory, and what a stat says. Blocking.

use crate::{
    failure::Failure,
    under_store::{ObjectKind, ObjectMeta},
};
use forebay_base::{ErrorKind, Fingerprint};
use rustix::{
    fd::OwnedFd,
    fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, major, open, openat2},
    io::Errno,
};
use std::path::PathBuf;

/// The mount's directory. It is opened anew for each call, so that what is mounted there counts and not what once was.
pub(crate) struct Root {
    directory: PathBuf,
}

impl Root {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Root { directory }
    }

    pub(crate) fn open(&self) -> Result<OwnedFd, Failure> {
        open(&self.directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
            let shown = self.directory.display();
            match errno {
                Errno::NOENT => Failure::new(ErrorKind::NotFound, format!("the directory {shown} does not exist")),
                Errno::NOTDIR => Failure::new(ErrorKind::NotADirectory, format!("{shown} is not a directory")),
                errno => failure_of(errno, &format!("opening the directory {shown}")),
            }
        })
    }

    /// Opens `key` (the empty key: the root) beneath the root; links are followed as far as they stay beneath.
    pub(crate) fn open_key(&self, key: &str, flags: OFlags) -> Result<OwnedFd, Failure> {
        open_beneath(&self.open()?, key, flags).map_err(|errno| failure_of(errno, "opening it"))
    }

    pub(crate) fn stat(&self, key: &str) -> Result<Stat, Failure> {
        let fd = self.open_key(key, OFlags::PATH)?;
        fstat(&fd).map_err(|errno| failure_of(errno, "asking for its attributes"))
    }

    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.open_key("", OFlags::RDONLY | OFlags::DIRECTORY).map(drop)
    }
}

pub(crate) fn open_beneath(root: &OwnedFd, key: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if key.is_empty() { "." } else { key };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // NONBLOCK keeps the open of a FIFO from waiting; with PATH nothing waits, and the kernel refuses it.
    let waiting = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK };
    // The kernel answers AGAIN when a rename elsewhere kept it from proving that the path stays beneath.
    let mut attempts_left = 100;
    loop {
        match openat2(root, path, flags | waiting | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if attempts_left > 0 => attempts_left -= 1,
            result => return result,
        }
    }
}

/// What a stat says; `None` if it is neither a file nor a directory.
pub(crate) fn meta_of(name: &str, stat: &Stat) -> Option<ObjectMeta> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => ObjectKind::File,
        FileType::Directory => ObjectKind::Directory,
        _ => return None,
    };
    let is_file = kind == ObjectKind::File;
    let mtime_ms = i128::from(stat.st_mtime) * 1000 + i128::from(stat.st_mtime_nsec) / 1_000_000;
    Some(ObjectMeta {
        name: name.to_string(),
        kind,
        size: if is_file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        mtime_ms: u64::try_from(mtime_ms).unwrap_or(0),
        mode: Some(stat.st_mode & 0o7777),
        owner: Some((stat.st_uid, stat.st_gid)),
        fingerprint: if is_file { fingerprint_of(stat) } else { Fingerprint::default() },
    })
}

/// `stat:dev:ino:size:mtime_ns:ctime_ns`. Devices with major number 0 (NFS, overlays, memory) have numbers that differ
/// from host to host and from boot to boot: they are written as 0, so that all hosts of a cluster agree.
pub(crate) fn fingerprint_of(stat: &Stat) -> Fingerprint {
    let device = if major(stat.st_dev) == 0 { 0 } else { stat.st_dev };
    let mtime_ns = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    Fingerprint(format!("stat:{device}:{}:{}:{mtime_ns}:{}", stat.st_ino, stat.st_size, ctime_ns(stat)))
}

pub(crate) fn ctime_ns(stat: &Stat) -> i128 {
    i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec)
}

pub(crate) fn failure_of(errno: Errno, doing: &str) -> Failure {
    let text = std::io::Error::from(errno);
    match errno {
        Errno::NOENT | Errno::NOTDIR => Failure::new(ErrorKind::NotFound, "no such file or directory"),
        Errno::XDEV | Errno::LOOP => Failure::new(
            ErrorKind::NotFound,
            "it is or lies behind a symbolic link that leads out of the mount's directory",
        ),
        Errno::ACCESS | Errno::PERM => Failure::new(ErrorKind::Denied, format!("{doing}: {text}")),
        Errno::EXIST => Failure::new(ErrorKind::Exists, "it exists already"),
        Errno::ISDIR => Failure::new(ErrorKind::IsADirectory, "it is a directory"),
        Errno::NOSPC | Errno::DQUOT => Failure::new(ErrorKind::NoSpace, format!("{doing}: {text}")),
        Errno::ROFS => Failure::new(ErrorKind::ReadOnly, format!("{doing}: {text}")),
        Errno::NAMETOOLONG | Errno::INVAL => Failure::new(ErrorKind::Invalid, format!("{doing}: {text}")),
        _ => Failure::unavailable(format!("{doing}: {text}")),
    }
}
