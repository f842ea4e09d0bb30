//! Writing whole files: leave from the master, pieces to a worker, and the master's look at what came of it.

use super::message;
use super::namespace::Attr;
use rkyv::{Archive, Deserialize, Serialize};

/// `BeginUpload::size` of a file whose length is not known yet.
pub const SIZE_UNKNOWN: u64 = u64::MAX;
/// Longest piece of an upload, in bytes.
pub const PIECE_BYTES_MAX: usize = 1 << 20;
/// Most pieces of one upload that wait at a worker for those before them.
pub const PIECES_WAITING_MAX: usize = 4;

/// Leave to write a whole file (role Admin). The master asks the store what is there now.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct GrantWrite {
    /// Absolute, inside a mount; directories above it may be missing.
    pub path: Vec<u8>,
    /// Whether a file that is there may be replaced.
    pub overwrite: bool,
}

/// Answers `GrantWrite`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct GrantWriteReply {
    /// The signed write ticket (`write_ticket`), good at any worker.
    pub ticket: Vec<u8>,
    /// Milliseconds the ticket lives from now; an upload that has begun may last longer.
    pub ticket_life_ms: u64,
    /// `MountId` of the mount that the path lies in.
    pub mount_id: u32,
}
message!(GrantWrite => GrantWriteReply);

/// Looks at a path in its store now, whatever the freshness: somebody has written there (role Admin). Directories on the
/// way that are new are found too.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct RecordWrite {
    /// The path.
    pub path: Vec<u8>,
}
message!(RecordWrite => Attr);

/// Begins an upload at a shard, any of any worker. It lives as long as this connection, and ends when nothing comes for a
/// while.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct BeginUpload {
    /// Chosen by the client, unique on this connection.
    pub upload_id: u64,
    /// The signed write ticket.
    pub ticket: Vec<u8>,
    /// Bytes that will come, or `SIZE_UNKNOWN`.
    pub size: u64,
}
message!(BeginUpload => super::Empty);

/// Part of the file. Pieces may be sent before the ones before are answered, `PIECES_WAITING_MAX` at once.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct UploadPiece {
    /// Which upload.
    pub upload_id: u64,
    /// Where it begins.
    pub offset: u64,
    /// Its bytes, at least one and at most `PIECE_BYTES_MAX`.
    pub bytes: Vec<u8>,
}
message!(UploadPiece => super::Empty);

/// All pieces were answered: answered when the store has the whole file.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct FinishUpload {
    /// Which upload.
    pub upload_id: u64,
    /// Bytes of the file.
    pub size: u64,
}

/// Answers `FinishUpload`: the file as the store has it.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct FinishUploadReply {
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970.
    pub mtime_ms: u64,
    /// The store's mark of the content.
    pub fingerprint: String,
}
message!(FinishUpload => FinishUploadReply);

/// Gives an upload up. One that is not there counts as given up.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct AbortUpload {
    /// Which upload.
    pub upload_id: u64,
}
message!(AbortUpload => super::Empty);
