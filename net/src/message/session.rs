//! Write sessions: a file's content while programs change it, at one core of one worker. Readers of the file do not see it
//! before it is saved.
//!
//! A session is known by its file, and every connection that uses it presents a write ticket that names the file first.

use super::message;
use super::write::FinishUploadReply;
use rkyv::{Archive, Deserialize, Serialize};

/// Begins a session with no content, or joins the client's own that goes on. The core is the one that owns the file. `Busy`
/// while what another client was promised is still to be saved.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct OpenSession {
    /// A signed write ticket with a `file_id`.
    pub ticket: Vec<u8>,
    /// `NotFound` unless the session goes on already.
    pub join_only: bool,
}

/// How a session stands.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionState {
    /// Bytes of the content.
    pub size: u64,
    /// It began with this request.
    pub is_new: bool,
}
message!(OpenSession => SessionState);

/// Writes bytes; a gap before them reads as zeros.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct WriteSession {
    /// `FileId`.
    pub file_id: u64,
    /// Where they go.
    pub offset: u64,
    /// At most `write::PIECE_BYTES_MAX`.
    pub bytes: Vec<u8>,
}
message!(WriteSession => SessionState);

/// Reads bytes.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ReadSession {
    /// `FileId`.
    pub file_id: u64,
    /// First byte.
    pub offset: u64,
    /// At most `write::PIECE_BYTES_MAX`.
    pub length: u32,
}

/// Answers `ReadSession`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct SessionBytes {
    /// Fewer than asked only at the end of the content.
    pub bytes: Vec<u8>,
}
message!(ReadSession => SessionBytes);

/// Cuts the content, or lengthens it with zeros.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ResizeSession {
    /// `FileId`.
    pub file_id: u64,
    /// Bytes that it has afterwards.
    pub size: u64,
}
message!(ResizeSession => SessionState);

/// Makes the content durable on the worker's disk: if the writer dies, the worker saves it.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct SyncSession {
    /// `FileId`.
    pub file_id: u64,
}
message!(SyncSession => super::Empty);

/// Puts the content into the store, whole, under the ticket's key; answered when the store has it. The session goes on, and later
/// saves replace what this one put there.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct SaveSession {
    /// `FileId`.
    pub file_id: u64,
    /// A signed write ticket of the same file, made after the last save was recorded.
    pub ticket: Vec<u8>,
}
message!(SaveSession => FinishUploadReply);

/// Ends a session; what was not saved is lost. One that is not there counts as ended.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct EndSession {
    /// `FileId`.
    pub file_id: u64,
}
message!(EndSession => super::Empty);

/// Keeps sessions alive that see no other request: one lapses 30 s after the last.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct RenewSessions {
    /// `FileId`s, at most `limits::BATCH_MAX`. Those that this connection has not opened are passed over.
    pub file_ids: Vec<u64>,
}
message!(RenewSessions => super::Empty);
