//! Commands: what the journal holds. A command says which ids it expects to find, and from that follows the set of
//! partitions it touches (hard case 8); a participant that finds others answers `Retry`, and nothing changes.

use super::{JobSpec, JobStep};
use forebay_base::{FileId, PartitionId, placement::partition_of_new_directory};
use forebay_net::message::namespace::KIND_DIRECTORY;
use rkyv::{Archive, Deserialize, Serialize};
use std::fmt;

/// A mount, with its secrets.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq)]
pub(crate) struct MountRecord {
    /// `MountId`; 0 in a command, where the id is not drawn yet.
    pub(crate) mount_id: u32,
    /// Absolute, normalised.
    pub(crate) path: String,
    /// `FileId` of its root directory.
    pub(crate) root: u64,
    /// The store's URI.
    pub(crate) uri: String,
    /// Options, secrets included.
    pub(crate) options: Vec<(String, String)>,
    /// Milliseconds; `u64::MAX` for never.
    pub(crate) freshness_ms: u64,
    /// Whether writes are refused.
    pub(crate) readonly: bool,
    /// Grows with each change of the mount.
    pub(crate) generation: u32,
}

/// What holds at a path and below it; nothing is no record.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct PolicyRecord {
    /// Absolute, normalised.
    pub(crate) path: String,
    /// Milliseconds, instead of the mount's; `u64::MAX` for never.
    pub(crate) freshness_ms: Option<u64>,
    /// What lies there is kept in the cache.
    pub(crate) pin: bool,
}

impl fmt::Debug for MountRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MountRecord({} at {}: {})", self.mount_id, self.path, self.uri)
    }
}

/// A new directory on the way to a mount.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    /// Its parent: the first one exists, each other is the step before.
    pub(crate) parent: u64,
    /// Its name.
    pub(crate) name: Vec<u8>,
    /// The id it gets; not drawn before by its partition, else `Retry`.
    pub(crate) id: u64,
}

/// A name as the store has it.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Upsert {
    /// The name.
    pub(crate) name: Vec<u8>,
    /// The `FileId` it has, 0 for none.
    pub(crate) expected: u64,
    /// `KIND_FILE` or `KIND_DIRECTORY`.
    pub(crate) kind: u8,
    /// Bytes.
    pub(crate) size: u64,
    /// Milliseconds since 1970.
    pub(crate) mtime_ms: u64,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// The store keeps mode, owner and group; otherwise those above are for what is new here, and what is known stays.
    pub(crate) has_attributes: bool,
    /// A new directory in which there is nothing yet.
    pub(crate) is_empty: bool,
    /// Mark of the content; another one makes a new version.
    pub(crate) fingerprint: String,
}

/// A name that goes.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Removal {
    /// The directory that holds it.
    pub(crate) parent: u64,
    /// The name.
    pub(crate) name: Vec<u8>,
    /// The `FileId` it has.
    pub(crate) expected: u64,
}

/// The differences between a directory and its store.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct SyncDirectory {
    /// `FileId` of the directory.
    pub(crate) directory: u64,
    /// New and changed names.
    pub(crate) upserts: Vec<Upsert>,
    /// Names that vanished; `parent` is the directory.
    pub(crate) removals: Vec<Removal>,
    /// With this the directory's complete listing is in the namespace.
    pub(crate) complete: bool,
}

/// A part of a detached subtree that goes.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reap {
    /// `FileId` of a detached directory.
    pub(crate) directory: u64,
    /// Some of its names; `parent` is the directory.
    pub(crate) children: Vec<Removal>,
    /// Whether workers are told of each file; not for an unmounted store, whose data they drop whole.
    pub(crate) tell: bool,
}

/// A new file that its store does not have yet.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct NewFile {
    /// The directory.
    pub(crate) directory: u64,
    /// A name that is not taken.
    pub(crate) name: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Milliseconds since 1970.
    pub(crate) now_ms: u64,
}

/// Another name for a file or directory of the same mount; the store has done it, or does not have the file yet.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Move {
    /// What goes: its directory, name and id.
    pub(crate) from: Removal,
    /// The directory that it goes to.
    pub(crate) directory: u64,
    /// The name that it gets.
    pub(crate) name: Vec<u8>,
    /// The `FileId` that the new name has, 0 for none: it is replaced.
    pub(crate) replaced: u64,
    /// Mark of the content under its new key; empty for a directory.
    pub(crate) fingerprint: String,
    /// The content is certainly the same, so the version stays.
    pub(crate) same_content: bool,
}

/// A key in the store that follows from a directory's new name.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct NewKey {
    /// Whose.
    pub(crate) file_id: u64,
    /// The key that it had; with another one nothing changes.
    pub(crate) old: String,
    /// The key that it has now.
    pub(crate) new: String,
}

/// Attributes that a program set and the store does not keep.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct NewAttributes {
    /// Whose.
    pub(crate) file_id: u64,
    /// Permission bits.
    pub(crate) mode: Option<u32>,
    /// Owner.
    pub(crate) uid: Option<u32>,
    /// Group.
    pub(crate) gid: Option<u32>,
    /// Milliseconds since 1970.
    pub(crate) mtime_ms: Option<u64>,
}

/// One change of the namespace.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// A master started.
    Boot,
    /// Adds a mount, its root and the directories above that are missing; the last step is the root.
    AddMount {
        /// The mount; `mount_id` and `root` are not used.
        mount: MountRecord,
        /// Directories to make.
        steps: Vec<Step>,
        /// The store root's own attributes; name and expectation are not used.
        root: Upsert,
    },
    /// Removes a mount: its root first, then the directories above it that nothing else needs.
    RemoveMount {
        /// Which one.
        mount_id: u32,
        /// Names to remove, deepest first.
        chain: Vec<Removal>,
    },
    /// Brings a directory to what its store has.
    SyncDirectory(SyncDirectory),
    /// Removes a part of what no name leads to.
    Reap(Reap),
    /// A new job, unless the same one runs.
    PutJob {
        /// What to do.
        spec: JobSpec,
        /// Who asks.
        submitted_by: String,
        /// Milliseconds since 1970.
        now_ms: u64,
    },
    /// A running job is further.
    JobProgress(JobStep),
    /// A job's last step.
    EndJob {
        /// What is left to note.
        step: JobStep,
        /// How it ended: a `JOB_` state of the wire.
        state: u8,
        /// Milliseconds since 1970.
        now_ms: u64,
    },
    /// Changes options, freshness and mode of a mount; its generation is the next one.
    UpdateMount(MountRecord),
    /// Sets the policy of a path.
    SetPolicy(PolicyRecord),
    /// Removes the policy of a path.
    RemovePolicy {
        /// Which one.
        path: String,
    },
    /// A program creates a file.
    CreateFile(NewFile),
    /// A file goes that its store never had.
    DropUnsaved(Removal),
    /// A program gives something another name.
    Move(Move),
    /// What lies below a directory that was moved gets its new keys, a part of it.
    SetKeys(Vec<NewKey>),
    /// All below a directory that was moved has its new keys.
    KeysSet {
        /// Which one.
        directory: u64,
    },
    /// A program sets attributes.
    SetAttributes(NewAttributes),
}

/// The partition that keeps the mount table, the jobs and the boot counter, and the root directory.
pub(crate) const TABLE: PartitionId = PartitionId(0);

impl Command {
    /// The partitions it touches, ascending, each once: a function of the command alone.
    #[must_use]
    pub(crate) fn partitions(&self, count: u16) -> Vec<u8> {
        let home = |id: u64| FileId(id).partition().0;
        let mut set = Vec::new();
        match self {
            Command::Boot
            | Command::PutJob { .. }
            | Command::JobProgress(_)
            | Command::EndJob { .. }
            | Command::UpdateMount(_)
            | Command::SetPolicy(_)
            | Command::RemovePolicy { .. } => {
                set.push(TABLE.0);
            }
            Command::AddMount { steps, .. } => {
                set.push(TABLE.0);
                set.extend(steps.iter().flat_map(|step| [home(step.parent), home(step.id)]));
            }
            Command::RemoveMount { chain, .. } => {
                set.push(TABLE.0);
                set.extend(chain.iter().flat_map(|removal| [home(removal.parent), home(removal.expected)]));
            }
            Command::SyncDirectory(sync) => {
                set.push(home(sync.directory));
                for upsert in &sync.upserts {
                    if upsert.expected != 0 {
                        set.push(home(upsert.expected));
                    }
                    if upsert.kind == KIND_DIRECTORY {
                        set.push(partition_of_new_directory(FileId(sync.directory), &upsert.name, count).0);
                    }
                }
                set.extend(sync.removals.iter().map(|removal| home(removal.expected)));
            }
            Command::CreateFile(new) => set.push(home(new.directory)),
            Command::DropUnsaved(removal) => set.extend([home(removal.parent), home(removal.expected)]),
            Command::Move(moved) => {
                set.extend([home(moved.from.parent), home(moved.from.expected), home(moved.directory)]);
                if moved.replaced != 0 {
                    set.push(home(moved.replaced));
                }
            }
            Command::SetKeys(keys) if keys.is_empty() => set.push(TABLE.0),
            Command::SetKeys(keys) => set.extend(keys.iter().map(|key| home(key.file_id))),
            Command::KeysSet { directory } => set.push(home(*directory)),
            Command::SetAttributes(new) => set.push(home(new.file_id)),
            Command::Reap(reap) => {
                set.push(home(reap.directory));
                set.extend(reap.children.iter().map(|removal| home(removal.expected)));
            }
        }
        set.sort_unstable();
        set.dedup();
        set
    }
}

/// A file whose cached content died: (`FileId`, live `Version`, or 0 when it is gone).
pub(crate) type Event = (u64, u64);

/// What a command did; equal on every replica.
#[derive(serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// The namespace is not as the command expects: read it again and propose again. Nothing changed.
    Retry,
    /// It makes no sense now: an `ErrorKind` code and why. Nothing changed.
    Refused {
        /// `ErrorKind` code.
        code: u16,
        /// One line.
        message: String,
    },
    /// Done; the files whose content died with it.
    Done {
        /// In the order of the command.
        events: Vec<Event>,
    },
    /// The mount as it was recorded.
    Mounted(MountRecord),
    /// A job, new or found running.
    Job {
        /// Its number.
        id: u64,
        /// It was running already.
        joined: bool,
    },
    /// How many times a master has started.
    Booted {
        /// From 1.
        boot: u64,
    },
}
