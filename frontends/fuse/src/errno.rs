//! Error kinds to errno: the only place where it is decided.

use forebay_base::ErrorKind;
use rustix::io::Errno;

/// What a system call answers for an error of this kind.
#[must_use]
pub fn errno_of(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NotFound => Errno::NOENT,
        ErrorKind::Exists => Errno::EXIST,
        ErrorKind::Invalid => Errno::INVAL,
        ErrorKind::Denied => Errno::ACCESS,
        ErrorKind::NotEmpty => Errno::NOTEMPTY,
        ErrorKind::NoSpace => Errno::NOSPC,
        ErrorKind::Stale => Errno::STALE,
        ErrorKind::Unsupported => Errno::OPNOTSUPP,
        ErrorKind::NotADirectory => Errno::NOTDIR,
        ErrorKind::IsADirectory => Errno::ISDIR,
        ErrorKind::ReadOnly => Errno::ROFS,
        ErrorKind::Busy => Errno::BUSY,
        ErrorKind::OtherMount => Errno::XDEV,
        ErrorKind::Overloaded
        | ErrorKind::Unavailable
        | ErrorKind::NotLeader
        | ErrorKind::Corrupt
        | ErrorKind::Closed
        | ErrorKind::Internal
        | ErrorKind::TicketRequired => Errno::IO,
        // A kind of a newer release.
        _ => Errno::IO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_errno() {
        let want = [
            (ErrorKind::NotFound, libc::ENOENT),
            (ErrorKind::Exists, libc::EEXIST),
            (ErrorKind::Invalid, libc::EINVAL),
            (ErrorKind::Denied, libc::EACCES),
            (ErrorKind::NotEmpty, libc::ENOTEMPTY),
            (ErrorKind::NoSpace, libc::ENOSPC),
            (ErrorKind::Overloaded, libc::EIO),
            (ErrorKind::Unavailable, libc::EIO),
            (ErrorKind::NotLeader, libc::EIO),
            (ErrorKind::Stale, libc::ESTALE),
            (ErrorKind::Corrupt, libc::EIO),
            (ErrorKind::Unsupported, libc::EOPNOTSUPP),
            (ErrorKind::Closed, libc::EIO),
            (ErrorKind::Internal, libc::EIO),
            (ErrorKind::NotADirectory, libc::ENOTDIR),
            (ErrorKind::IsADirectory, libc::EISDIR),
            (ErrorKind::ReadOnly, libc::EROFS),
            (ErrorKind::Busy, libc::EBUSY),
            (ErrorKind::TicketRequired, libc::EIO),
            (ErrorKind::OtherMount, libc::EXDEV),
        ];
        assert_eq!(want.map(|(kind, _)| kind), ErrorKind::ALL);
        for (kind, errno) in want {
            assert_eq!(errno_of(kind).raw_os_error(), errno, "{kind}");
        }
    }
}
