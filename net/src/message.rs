//! Every message: one rkyv struct per operation and direction. Pure.
//!
//! Invariants: a released struct or op number is never edited, a change is a new op; fields are fixed-width; bytes are
//! always validated (bytecheck) before they are looked at, and the frame's CRC is checked before that.

pub mod change;
pub mod cluster;
pub mod data;
pub mod handout;
pub mod handshake;
pub mod job;
pub mod namespace;
pub mod session;
pub mod write;

use forebay_base::{ErrorKind, KindError};
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error as RkyvError;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)+) => {
        /// Operation numbers: 0x01xx handshake, 0x02xx namespace, 0x03xx cluster, 0x04xx data, 0x05xx jobs.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u16)]
        pub enum Op { $($(#[$doc])* $name = $number,)+ }

        impl Op {
            /// Every operation.
            pub const ALL: &'static [Op] = &[$(Op::$name,)+];

            /// The names of all, in the same order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)+];

            /// Its place in `ALL`.
            #[must_use]
            pub fn index(self) -> usize {
                enum Place { $($name,)+ }
                match self { $(Op::$name => Place::$name as usize,)+ }
            }

            /// The operation of a wire number.
            #[must_use]
            pub fn from_code(code: u16) -> Option<Op> {
                match code { $($number => Some(Op::$name),)+ _ => None }
            }
        }
    };
}

ops! {
    /// First frame of a connection.
    Hello = 0x0101,
    /// Second frame: the client's proof.
    Prove = 0x0102,
    /// A name in a directory.
    Lookup = 0x0201,
    /// Attributes of inodes.
    GetAttr = 0x0202,
    /// A page of a directory.
    ReadDir = 0x0203,
    /// Read tickets for files.
    OpenRead = 0x0204,
    /// A whole path.
    Resolve = 0x0205,
    /// Adds a mount.
    Mount = 0x0206,
    /// Removes a mount.
    Unmount = 0x0207,
    /// Lists mounts, without secrets.
    ListMounts = 0x0208,
    /// A client's open files by mount, renewed.
    HoldMounts = 0x0209,
    /// Files to be checked with their stores now.
    Recheck = 0x020A,
    /// Compares a name or directory with its store now.
    Refresh = 0x020B,
    /// Changes a mount's options, freshness or mode.
    UpdateMount = 0x020C,
    /// Lists what holds below paths.
    ListPathPolicies = 0x020D,
    /// Says what holds below a path.
    SetPathPolicy = 0x020E,
    /// Takes that back.
    RemovePathPolicy = 0x020F,
    /// What is pinned, and how far that is kept.
    ListPins = 0x0210,
    /// See the message type of the same name.
    GetFeedPosition = 0x0211,
    /// Leave to write a whole file.
    GrantWrite = 0x0218,
    /// Looks at a path in its store after a write.
    RecordWrite = 0x0219,
    /// A new file.
    CreateFile = 0x0220,
    /// Leave to write a file that is there.
    GrantSession = 0x0221,
    /// The store has a session's content.
    RecordSaved = 0x0222,
    /// A client's write sessions, renewed.
    HoldSessions = 0x0223,
    /// A new directory.
    MakeDirectory = 0x0224,
    /// A file or directory goes.
    Remove = 0x0225,
    /// Another name.
    Rename = 0x0226,
    /// Other attributes.
    SetAttr = 0x0227,
    /// The cluster map.
    GetClusterMap = 0x0301,
    /// A worker joins.
    RegisterWorker = 0x0302,
    /// A worker reports.
    Heartbeat = 0x0303,
    /// How to reach a mount's store, with secrets; workers only.
    GetMountStore = 0x0304,
    /// Capacity, use and health of everything.
    Report = 0x0305,
    /// Live versions of files a worker holds.
    LiveVersions = 0x0306,
    /// The log filter of a running master or worker: shown, or changed.
    LogLevel = 0x0307,
    /// Bytes of cached or fetched files.
    Read = 0x0401,
    /// Fetch into the cache, no payload.
    Load = 0x0402,
    /// Drop from the cache.
    Evict = 0x0403,
    /// What is cached of files.
    CacheStatus = 0x0404,
    /// What is cached of one file, block by block.
    CachedBlocks = 0x0410,
    /// Compares what is cached with the store.
    Verify = 0x0411,
    /// Begins, renews or ends pins.
    Pin = 0x0412,
    /// Begins an upload.
    BeginUpload = 0x0420,
    /// A piece of it.
    UploadPiece = 0x0421,
    /// Its end: the store has it.
    FinishUpload = 0x0422,
    /// Gives it up.
    AbortUpload = 0x0423,
    /// Hands a whole local file out.
    LeaseFile = 0x0430,
    /// Gives leases back.
    ReturnLeases = 0x0431,
    /// Renews them.
    RenewLeases = 0x0432,
    /// What a core knows of a file's cache, and why pages of it left.
    Explain = 0x0440,
    /// Begins or joins a write session.
    OpenSession = 0x0450,
    /// Writes to it.
    WriteSession = 0x0451,
    /// Reads from it.
    ReadSession = 0x0452,
    /// Changes its length.
    ResizeSession = 0x0453,
    /// Makes it durable.
    SyncSession = 0x0454,
    /// Puts it into the store.
    SaveSession = 0x0455,
    /// Ends it.
    EndSession = 0x0456,
    /// Keeps it alive.
    RenewSessions = 0x0457,
    /// Starts a job.
    SubmitJob = 0x0501,
    /// Lists jobs.
    ListJobs = 0x0502,
    /// One job with its failures.
    JobStatus = 0x0503,
    /// Ends a job.
    CancelJob = 0x0504,
}

/// A request and its reply.
pub trait Message: Wire {
    /// Its number.
    const OP: Op;
    /// What answers it.
    type Reply: Wire;
}

/// A body that can cross the wire.
pub trait Wire: Sized {
    /// Serialises.
    fn to_bytes(&self) -> AlignedVec;
    /// Validates and deserialises. `bytes` need no alignment.
    fn from_bytes(bytes: &[u8]) -> Result<Self, BodyError>;
}

/// A body that failed validation.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("message body of {bytes} bytes failed validation: {reason}")]
pub struct BodyError {
    /// Its length.
    pub bytes: usize,
    /// What rkyv found.
    pub reason: String,
}

impl<T> Wire for T
where
    T: Archive + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, RkyvError>>,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, RkyvError>> + Deserialize<T, HighDeserializer<RkyvError>>,
{
    fn to_bytes(&self) -> AlignedVec {
        rkyv::to_bytes::<RkyvError>(self).expect("serialising to memory cannot fail")
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, BodyError> {
        // rkyv refuses misaligned input; a frame's body may start anywhere in a receive buffer.
        let aligned;
        let view = if (bytes.as_ptr() as usize).is_multiple_of(16) {
            bytes
        } else {
            let mut copy: AlignedVec = AlignedVec::with_capacity(bytes.len());
            copy.extend_from_slice(bytes);
            aligned = copy;
            &aligned[..]
        };
        rkyv::from_bytes::<T, RkyvError>(view)
            .map_err(|error| BodyError { bytes: bytes.len(), reason: error.to_string() })
    }
}

/// Reads a request's body; a body that fails validation is `Corrupt`.
pub fn decode<M: Message>(body: &[u8]) -> Result<M, KindError> {
    M::from_bytes(body).map_err(|error| KindError::new(ErrorKind::Corrupt, format!("{:?}: {error}", M::OP)))
}

macro_rules! message {
    ($request:ident => $reply:ty) => {
        impl $crate::message::Message for $request {
            const OP: $crate::message::Op = $crate::message::Op::$request;
            type Reply = $reply;
        }
    };
}
pub(crate) use message;

/// A reply or request without content.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Empty {
    /// Always 0: rkyv bodies are never empty.
    pub reserved: u8,
}
