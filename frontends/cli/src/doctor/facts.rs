//! What `admin doctor` looks at, as plain data: gathered by `gather`, judged by `evaluate`.

use forebay_base::KindError;
use std::path::PathBuf;

/// The roles, in the order in which they start.
pub(crate) const ROLES: [&str; 3] = ["master", "worker", "fuse"];

/// Everything.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) host: Host,
    pub(crate) roles: Vec<RoleFacts>,
    pub(crate) worker: Option<WorkerNeeds>,
    pub(crate) directories: Vec<Directory>,
    pub(crate) secret: Option<SecretFile>,
    pub(crate) http_token: Option<SecretFile>,
    pub(crate) ports: Vec<Port>,
    pub(crate) masters: Vec<Master>,
    /// The kernel's side of the mount, where this host mounts.
    pub(crate) mount: Option<KernelMount>,
}

impl Facts {
    /// The process of `role`, if that role runs here.
    pub(crate) fn process(&self, role: &str) -> Option<&Process> {
        self.roles.iter().find(|facts| facts.role == role)?.process.as_ref()
    }

    /// Whether `role` is to be checked.
    pub(crate) fn has(&self, role: &str) -> bool {
        self.roles.iter().any(|facts| facts.role == role)
    }

    /// Whose limits count for `role`: its process's, else those that it would get from this one.
    pub(crate) fn limits_of(&self, role: &str) -> &Process {
        self.process(role).unwrap_or(&self.host.own)
    }
}

/// One role of this host.
#[derive(Clone, Debug)]
pub(crate) struct RoleFacts {
    pub(crate) role: &'static str,
    pub(crate) process: Option<Process>,
}

/// A running process, as `/proc` shows it.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    /// The systemd unit it runs in.
    pub(crate) unit: Option<String>,
    /// Soft limit of locked memory, `u64::MAX` for none.
    pub(crate) memlock_bytes: u64,
    /// Soft limit of open files, `u64::MAX` for none.
    pub(crate) open_files: u64,
    /// The effective capabilities.
    pub(crate) capabilities: u64,
    /// Where its standard error goes, if that is a file.
    pub(crate) log: Option<PathBuf>,
}

/// The host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) kernel: String,
    /// `admin doctor` itself.
    pub(crate) own: Process,
    pub(crate) fuse_device: Result<(), String>,
    /// The set-uid helper, and whether it is set-uid root.
    pub(crate) fusermount: Option<(PathBuf, bool)>,
    pub(crate) user_allow_other: bool,
    pub(crate) allow_other: bool,
    /// `kernel.io_uring_disabled`, where the kernel has it.
    pub(crate) io_uring_disabled: Option<u32>,
    /// Rings wanted, rings that could be made, and why not more.
    pub(crate) rings: (usize, usize, Option<String>),
    pub(crate) memory_bytes: u64,
    pub(crate) swap_bytes: u64,
    pub(crate) swappiness: u32,
    pub(crate) clock_source: String,
    /// How far the wall clock moved beside the monotonic one while we looked.
    pub(crate) clock_step_ms: i64,
}

/// What the settings ask of a worker's host.
#[derive(Clone, Debug)]
pub(crate) struct WorkerNeeds {
    pub(crate) cores: usize,
    pub(crate) host_cores: usize,
    pub(crate) mem_bytes: u64,
    pub(crate) buffer_bytes: u64,
    pub(crate) directories: usize,
    /// Its id and cluster, as its directory says.
    pub(crate) worker_id: Option<u64>,
    pub(crate) cluster_id: Option<u128>,
}

/// A directory that a role needs.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) setting: String,
    pub(crate) role: &'static str,
    pub(crate) path: PathBuf,
    /// For a tier, how much it may hold.
    pub(crate) capacity_bytes: Option<u64>,
    pub(crate) state: Result<DirectoryState, String>,
}

/// A directory that could be looked at; where it does not exist, the nearest one above it.
#[derive(Clone, Debug)]
pub(crate) struct DirectoryState {
    pub(crate) exists: bool,
    pub(crate) uid: u32,
    pub(crate) mode: u32,
    pub(crate) device: u64,
    pub(crate) free_bytes: u64,
    /// What lies there now; `None` when there was too much to count.
    pub(crate) used_bytes: Option<u64>,
    pub(crate) in_memory: bool,
    /// Whether a file can be made, written and removed.
    pub(crate) writable: Result<(), String>,
    /// Whether an aligned write and read with O_DIRECT work; looked at for tiers only.
    pub(crate) direct: Option<Result<(), String>>,
    pub(crate) speed: Option<Result<Speed, String>>,
}

/// One short measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speed {
    pub(crate) bytes: u64,
    pub(crate) write_mb_per_s: f64,
    pub(crate) read_mb_per_s: f64,
    /// Median of random 4 KiB reads, one at a time.
    pub(crate) read_4k_us: f64,
}

/// The secret's file.
#[derive(Clone, Debug)]
pub(crate) struct SecretFile {
    pub(crate) path: PathBuf,
    /// Owner and mode, or why it cannot be looked at.
    pub(crate) meta: Result<(u32, u32), String>,
    /// Why it cannot be used.
    pub(crate) load: Result<(), String>,
}

/// A port that a role of this host listens on.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) setting: String,
    pub(crate) role: &'static str,
    pub(crate) address: String,
    pub(crate) state: PortState,
}

/// Who holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PortState {
    Free,
    /// Process and its name.
    Held(i32, String),
    /// By a process that this user cannot see.
    HeldUnseen,
    /// It cannot be listened on at all.
    Refused(String),
}

/// One master of `cluster.masters`.
#[derive(Clone, Debug)]
pub(crate) struct Master {
    pub(crate) address: String,
    pub(crate) answer: Result<Answer, KindError>,
}

/// What a master said.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) cluster_id: u128,
    pub(crate) round_trip_us: u64,
    /// Its clock minus ours.
    pub(crate) skew_ms: i64,
    pub(crate) workers: Vec<WorkerSeen>,
    /// Path, store and trouble of mounts in trouble, and the number of all.
    pub(crate) mounts_in_trouble: Vec<(String, String, String)>,
    pub(crate) mounts: usize,
}

/// A worker as the master sees it.
#[derive(Clone, Debug)]
pub(crate) struct WorkerSeen {
    pub(crate) id: u64,
    pub(crate) address: String,
    pub(crate) live: bool,
    pub(crate) silent_ms: u64,
    /// Directory and trouble.
    pub(crate) troubles: Vec<(String, String)>,
}

/// The mount point.
#[derive(Clone, Debug)]
pub(crate) struct KernelMount {
    pub(crate) path: PathBuf,
    pub(crate) mounted: bool,
    /// What reading its root gave; `None` when it did not answer in time.
    pub(crate) answers: Option<Result<(), String>>,
    /// What the mount says of passthrough, where it answers.
    pub(crate) passthrough: Option<String>,
}
