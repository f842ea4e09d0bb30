//! The one error vocabulary that crosses the wire. A kind exists only if a caller would act differently on it.
//!
//! Invariant: numbers are part of the wire format and never change or get reused.

use std::fmt;

/// What went wrong, as far as a caller can act on it. The message that travels beside it is for people.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The path, file, key or worker does not exist.
    NotFound = 1,
    /// It exists already.
    Exists = 2,
    /// The request makes no sense: a bad argument, an unknown option. Retrying does not help.
    Invalid = 3,
    /// The caller may not do this, or proved no identity.
    Denied = 4,
    /// The directory has entries.
    NotEmpty = 5,
    /// No space in the store or on the disk.
    NoSpace = 6,
    /// Too much at once: retry later.
    Overloaded = 7,
    /// The store, worker or master cannot be reached or did not answer in time: retry, or try another.
    Unavailable = 8,
    /// This master does not lead.
    NotLeader = 9,
    /// The (file, version) asked for is not what the store holds any more: look the file up again.
    Stale = 10,
    /// Bytes failed their checksum, or a message its validation.
    Corrupt = 11,
    /// Not offered: an operation, a protocol version, a URI scheme.
    Unsupported = 12,
    /// The other side is shutting down or the handle is closed.
    Closed = 13,
    /// A fault of Forebay itself.
    Internal = 14,
    /// The name is not a directory.
    NotADirectory = 15,
    /// The name is a directory.
    IsADirectory = 16,
    /// The namespace or mount is read-only.
    ReadOnly = 17,
    /// In use: an unmount with open files, a port that is taken.
    Busy = 18,
    /// The worker holds no valid ticket for this read: present one.
    TicketRequired = 19,
    /// The two names lie in different mounts: copy instead.
    OtherMount = 20,
}

impl ErrorKind {
    /// All kinds, in wire order.
    pub const ALL: [ErrorKind; 20] = [
        ErrorKind::NotFound,
        ErrorKind::Exists,
        ErrorKind::Invalid,
        ErrorKind::Denied,
        ErrorKind::NotEmpty,
        ErrorKind::NoSpace,
        ErrorKind::Overloaded,
        ErrorKind::Unavailable,
        ErrorKind::NotLeader,
        ErrorKind::Stale,
        ErrorKind::Corrupt,
        ErrorKind::Unsupported,
        ErrorKind::Closed,
        ErrorKind::Internal,
        ErrorKind::NotADirectory,
        ErrorKind::IsADirectory,
        ErrorKind::ReadOnly,
        ErrorKind::Busy,
        ErrorKind::TicketRequired,
        ErrorKind::OtherMount,
    ];

    /// The wire number; never 0, which means success.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The kind of a wire number. `None` for 0 and for numbers this build does not know.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            ErrorKind::NotFound => "not found",
            ErrorKind::Exists => "exists already",
            ErrorKind::Invalid => "invalid",
            ErrorKind::Denied => "denied",
            ErrorKind::NotEmpty => "not empty",
            ErrorKind::NoSpace => "no space",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::NotLeader => "not the leader",
            ErrorKind::Stale => "stale",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Closed => "closed",
            ErrorKind::Internal => "internal error",
            ErrorKind::NotADirectory => "not a directory",
            ErrorKind::IsADirectory => "is a directory",
            ErrorKind::ReadOnly => "read-only",
            ErrorKind::Busy => "busy",
            ErrorKind::TicketRequired => "ticket required",
            ErrorKind::OtherMount => "in another mount",
        };
        f.write_str(text)
    }
}

/// A kind with its message: what an error becomes when it crosses the wire or a crate boundary that needs no detail.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct KindError {
    /// What the caller can act on.
    pub kind: ErrorKind,
    /// One line for people: what was wrong, the value, what is allowed.
    pub message: String,
}

impl KindError {
    /// Pairs a kind with its message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_are_unique() {
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.code()), index + 1);
            assert_eq!(ErrorKind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(ErrorKind::from_code(0), None);
        assert_eq!(ErrorKind::from_code(21), None);
    }
}
