//! Changes of the namespace that programs ask for through a frontend. The store is changed first, or in the same step, and
//! the answer says what the namespace holds afterwards.

use super::message;
use super::namespace::Attr;
use rkyv::{Archive, Deserialize, Serialize};

/// A new empty file that its store does not have yet: it gets it when a write session saves it. `Exists` if the name is taken.
/// The caller holds its write session from now on, as after `GrantSession`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct CreateFile {
    /// `FileId` of the directory.
    pub parent: u64,
    /// The name.
    pub name: Vec<u8>,
    /// Permission bits, less the caller's mask.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Random, one per client process: who holds the session.
    pub client_id: u64,
}

/// Answers `CreateFile` and `GrantSession`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct SessionGrant {
    /// The file.
    pub attr: Attr,
    /// The signed write ticket (`write_ticket`) of its session; it names the file, and replaces only the content that `attr` is of.
    pub ticket: Vec<u8>,
    /// Milliseconds the ticket lives from now.
    pub ticket_life_ms: u64,
}
message!(CreateFile => SessionGrant);

/// Leave to write a file that is there, or a new ticket for a session that goes on. `Busy` while another client holds it; `Stale` if the
/// content is not any more what the session goes by.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct GrantSession {
    /// `FileId`.
    pub file_id: u64,
    /// Random, one per client process.
    pub client_id: u64,
    /// The `Version` that the session was granted or saved last; 0 for one that begins.
    pub base_version: u64,
}
message!(GrantSession => SessionGrant);

/// A session's content is in the store: the namespace takes it over as a new version (roles Frontend, Worker and Admin).
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct RecordSaved {
    /// `FileId`.
    pub file_id: u64,
    /// The mark of the content, as `SaveSession` answered; `Stale` if the store has something else there.
    pub fingerprint: String,
}
message!(RecordSaved => Attr);

/// The sessions that a client holds: a promise for 15 s, renewed each 5 s, replaced by the next one. A file that was never
/// saved and that nobody holds goes.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct HoldSessions {
    /// Random, one per client process.
    pub client_id: u64,
    /// `FileId`s, at most `limits::BATCH_MAX`.
    pub file_ids: Vec<u64>,
}
message!(HoldSessions => super::Empty);

/// A new directory. `Exists` if the name is taken.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct MakeDirectory {
    /// `FileId` of the directory above.
    pub parent: u64,
    /// The name.
    pub name: Vec<u8>,
    /// Permission bits, less the caller's mask.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}
message!(MakeDirectory => Attr);

/// Removes a file, or an empty directory. `NotEmpty`, `IsADirectory`, `NotADirectory`, `Busy` for a mount's own directory.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Remove {
    /// `FileId` of the directory above.
    pub parent: u64,
    /// The name.
    pub name: Vec<u8>,
    /// Whether it has to be a directory.
    pub is_directory: bool,
}
message!(Remove => super::Empty);

/// `Rename::flags`: `Exists` if the new name is taken.
pub const RENAME_NOREPLACE: u32 = 1;

/// Gives a file or directory another name in the same mount. What has that name is replaced, as rename(2) does.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Rename {
    /// `FileId` of the directory above.
    pub parent: u64,
    /// The name.
    pub name: Vec<u8>,
    /// `FileId` of the directory that it goes to.
    pub new_parent: u64,
    /// The name that it gets.
    pub new_name: Vec<u8>,
    /// `RENAME_NOREPLACE` or 0; others are `Unsupported`.
    pub flags: u32,
}
message!(Rename => Attr);

/// Changes attributes; what the store cannot hold is kept in the namespace. The size is changed by a write session.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct SetAttr {
    /// `FileId`.
    pub file_id: u64,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Milliseconds since 1970.
    pub mtime_ms: Option<u64>,
}
message!(SetAttr => Attr);
