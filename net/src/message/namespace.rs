//! Names, attributes, listings, tickets and mounts: what frontends ask the master.

use super::message;
use rkyv::{Archive, Deserialize, Serialize};

/// `Attr::kind` of a regular file.
pub const KIND_FILE: u8 = 1;
/// `Attr::kind` of a directory.
pub const KIND_DIRECTORY: u8 = 2;

/// An inode as a reader sees it. `valid_for_ms` counts from when the request was sent.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Attr {
    /// `FileId`.
    pub file_id: u64,
    /// `Version` of the content; 0 for a directory.
    pub version: u64,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970.
    pub mtime_ms: u64,
    /// Bytes per block (placement).
    pub block_bytes: u64,
    /// Bytes per page (fetch).
    pub page_bytes: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub nlink: u32,
    /// `MountId`; 0 above all mounts.
    pub mount_id: u32,
    /// `KIND_FILE` or `KIND_DIRECTORY`.
    pub kind: u8,
    /// How long this may be believed without asking again; `u64::MAX` for ever.
    pub valid_for_ms: u64,
}

/// A name with its inode.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The name, UTF-8 or not: bytes.
    pub name: Vec<u8>,
    /// The inode.
    pub attr: Attr,
}

/// One name in a directory. `NotFound` when it is not there.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Lookup {
    /// `FileId` of the directory.
    pub parent: u64,
    /// The name.
    pub name: Vec<u8>,
}
message!(Lookup => Attr);

/// Attributes of inodes, checked against the mount's freshness.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct GetAttr {
    /// `FileId`s.
    pub file_ids: Vec<u64>,
}

/// An item of a batched reply: status 0 with a value, or an `ErrorKind` code with a message.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct AttrResult {
    /// 0 or an `ErrorKind` code.
    pub status: u16,
    /// Present when the status is 0.
    pub attr: Option<Attr>,
    /// What was wrong, else empty.
    pub message: String,
}

/// Answers `GetAttr`, in the order asked.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct GetAttrReply {
    /// One per id.
    pub attrs: Vec<AttrResult>,
}
message!(GetAttr => GetAttrReply);

/// Part of a directory, ordered by name (bytewise), from behind `after`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ReadDir {
    /// `FileId` of the directory.
    pub directory: u64,
    /// The last name already seen; empty to start.
    pub after: Vec<u8>,
    /// At most this many, and at most `limits::LISTING_ENTRIES_MAX`.
    pub entries_max: u32,
    /// 0, or `ReadDirReply::since_us` of the answer with `names_seen` after which this asks again.
    pub since_us: u64,
    /// Only if it costs no look at the store: otherwise the answer has no entries and is not the end.
    pub known_only: bool,
}

impl ReadDir {
    /// The part behind a name, from the store if need be.
    #[must_use]
    pub fn part(directory: u64, after: &[u8], entries_max: u32) -> Self {
        Self { directory, after: after.to_vec(), entries_max, since_us: 0, known_only: false }
    }
}

/// Answers `ReadDir`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ReadDirReply {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether this was the last part.
    pub end: bool,
    /// Not 0: the directory is still being read from its store, this many names so far. There are no entries then, and
    /// the caller asks again, as long as the number grows.
    pub names_seen: u64,
    /// With `names_seen`: when the request came by the master's own clock, so that what was listed since then will do.
    pub since_us: u64,
}
message!(ReadDir => ReadDirReply);

/// Tickets to read files. `Stale` where the version is not the live one, 0 asks for the live one.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct OpenRead {
    /// (`FileId`, `Version`) pairs.
    pub files: Vec<(u64, u64)>,
}

/// An item of `OpenReadReply`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct OpenResult {
    /// 0 or an `ErrorKind` code.
    pub status: u16,
    /// What was wrong, else empty.
    pub message: String,
    /// The inode, when the status is 0.
    pub attr: Option<Attr>,
    /// The signed ticket (`ticket::SignedTicket` bytes), when the status is 0.
    pub ticket: Vec<u8>,
    /// Milliseconds the ticket lives from now.
    pub ticket_life_ms: u64,
}

/// Answers `OpenRead`, in the order asked.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct OpenReadReply {
    /// One per file.
    pub files: Vec<OpenResult>,
}
message!(OpenRead => OpenReadReply);

/// A whole absolute path; `/` is the root.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Resolve {
    /// The path, bytes.
    pub path: Vec<u8>,
}
message!(Resolve => Attr);

/// A mount as people see it: secrets are shown as `***`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct MountInfo {
    /// `MountId`.
    pub mount_id: u32,
    /// Where it appears.
    pub path: String,
    /// What it shows.
    pub uri: String,
    /// Options, secrets hidden.
    pub options: Vec<(String, String)>,
    /// Milliseconds; `u64::MAX` for never.
    pub freshness_ms: u64,
    /// Whether writes are refused.
    pub readonly: bool,
    /// Empty when the store answered last time, else the error.
    pub trouble: String,
}

/// Adds a mount (role Admin). The store is reached and the credentials tried before anything changes.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// Absolute path that does not exist yet and lies in no other mount.
    pub path: String,
    /// `s3://bucket/prefix` or `file:///directory`.
    pub uri: String,
    /// `key=value` options, secrets included.
    pub options: Vec<(String, String)>,
    /// Milliseconds; `u64::MAX` for never.
    pub freshness_ms: u64,
    /// Whether writes are refused.
    pub readonly: bool,
}
message!(Mount => MountInfo);

/// Removes a mount (role Admin). `Busy` while a client holds files open there, unless forced.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Unmount {
    /// Its path.
    pub path: String,
    /// Even when files are open.
    pub force: bool,
}
message!(Unmount => super::Empty);

/// Lists mounts.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct ListMounts {
    /// Always 0.
    pub reserved: u8,
}

/// Answers `ListMounts`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ListMountsReply {
    /// In order of path.
    pub mounts: Vec<MountInfo>,
}
message!(ListMounts => ListMountsReply);

/// How many files this client has open per mount: a promise for 15 s, renewed each 5 s, replaced by the next one.
/// The master refuses to unmount what is held.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct HoldMounts {
    /// Random, one per client process.
    pub client_id: u64,
    /// (`MountId`, open files).
    pub open_files: Vec<(u32, u64)>,
}
message!(HoldMounts => super::Empty);

/// Looks at files in their stores now, whatever the mount's freshness: a reader learned that their content changed.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Recheck {
    /// `FileId`s, at most `limits::BATCH_MAX`.
    pub file_ids: Vec<u64>,
}
message!(Recheck => GetAttrReply);

/// Looks at a file's name, or at all names of a directory, in the store now, whatever the freshness (role Admin).
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Refresh {
    /// `FileId`.
    pub file_id: u64,
    /// Whether the namespace takes the differences over; without, they are only told.
    pub apply: bool,
}

/// `Difference::kind`: the store has the name, the namespace had not.
pub const DIFFERENCE_ADDED: u8 = 1;
/// `Difference::kind`: both have the name.
pub const DIFFERENCE_CHANGED: u8 = 2;
/// `Difference::kind`: the namespace had the name, the store has not.
pub const DIFFERENCE_REMOVED: u8 = 3;

/// `Difference::what`: the length is another.
pub const DIFFERS_IN_SIZE: u8 = 1;
/// `Difference::what`: the content is another.
pub const DIFFERS_IN_CONTENT: u8 = 2;
/// `Difference::what`: time, mode or owner is another.
pub const DIFFERS_IN_ATTRIBUTES: u8 = 4;
/// `Difference::what`: a file was a directory or the reverse.
pub const DIFFERS_IN_KIND: u8 = 8;

/// A name that namespace and store did not agree on.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The name in its directory.
    pub name: Vec<u8>,
    /// One of `DIFFERENCE_*`.
    pub kind: u8,
    /// Of a changed name: `DIFFERS_IN_*`, added up.
    pub what: u8,
    /// Bytes as the namespace had them.
    pub known_bytes: u64,
    /// Bytes as the store has them.
    pub store_bytes: u64,
}

/// Answers `Refresh`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct RefreshReply {
    /// Names compared.
    pub checked: u64,
    /// New names.
    pub added: u64,
    /// Names that changed.
    pub changed: u64,
    /// Names that are gone.
    pub removed: u64,
    /// The differences, the first `limits::LISTING_ENTRIES_MAX` of them.
    pub differences: Vec<Difference>,
}
message!(Refresh => RefreshReply);

/// Changes a mount and keeps all else of it, secrets too (role Admin). The store is tried before anything changes.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct UpdateMount {
    /// Its path.
    pub path: String,
    /// Options added or replaced.
    pub set_options: Vec<(String, String)>,
    /// Options taken away, before the others are set.
    pub remove_options: Vec<String>,
    /// Another freshness; `u64::MAX` for never.
    pub freshness_ms: Option<u64>,
    /// Another mode.
    pub readonly: Option<bool>,
}
message!(UpdateMount => MountInfo);

/// What holds at a path and below it, where no longer path says otherwise.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct PathPolicy {
    /// Absolute.
    pub path: String,
    /// Milliseconds that metadata may be old, instead of the mount's; `u64::MAX` for never.
    pub freshness_ms: Option<u64>,
    /// Whether what lies there is kept in the cache: `Some(false)` takes a pin back, and a listing says `Some(true)` or
    /// nothing.
    pub pin: Option<bool>,
}

/// Lists the policies.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct ListPathPolicies {
    /// Always 0.
    pub reserved: u8,
}

/// Answers `ListPathPolicies`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ListPathPoliciesReply {
    /// In order of path.
    pub policies: Vec<PathPolicy>,
}
message!(ListPathPolicies => ListPathPoliciesReply);

/// Sets what the policy names and keeps the rest of what the path has (role Admin).
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct SetPathPolicy {
    /// The policy.
    pub policy: PathPolicy,
}
message!(SetPathPolicy => PathPolicy);

/// Lists what is pinned.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct ListPins {
    /// Always 0.
    pub reserved: u8,
}

/// A pinned path, as the master saw it when it last renewed its pins. Bytes of a file count once, whatever replicas there are.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct PinInfo {
    /// Absolute.
    pub path: String,
    /// Files there.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, bytes that workers have pinned, cached or still to be loaded.
    pub pinned_bytes: u64,
    /// Of the pinned ones, bytes that are not cached yet.
    pub missing_bytes: u64,
    /// Bytes that workers refused to pin: it would be more than pins may hold.
    pub refused_bytes: u64,
    /// The names below the path were read from the store, and the numbers are of what was found.
    pub is_complete: bool,
    /// When the numbers were made, in milliseconds since 1970; 0: not yet.
    pub checked_ms: u64,
    /// What went wrong last, else empty.
    pub last_error: String,
}

/// Answers `ListPins`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ListPinsReply {
    /// In order of path.
    pub pins: Vec<PinInfo>,
}
message!(ListPins => ListPinsReply);

/// Where the feed of changed and removed files stands: what a mount remembers of names is as old as its last look here.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct GetFeedPosition {
    /// Always 0.
    pub reserved: u8,
}

/// Answers `GetFeedPosition`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct GetFeedPositionReply {
    /// Another one whenever a file that was known changed or went.
    pub position: u64,
}
message!(GetFeedPosition => GetFeedPositionReply);

/// Takes a path's policy away (role Admin). `NotFound` when it has none.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct RemovePathPolicy {
    /// Its path.
    pub path: String,
}
message!(RemovePathPolicy => super::Empty);
