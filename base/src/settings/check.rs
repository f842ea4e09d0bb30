//! The typed settings and the checks that span several keys. Pure.

use super::value::{Cores, Origin, Value, tier_dir};
use super::{KEYS, Settings};
use crate::{ByteSize, Span};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `[cluster]`
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// Addresses of the masters.
    pub masters: Vec<String>,
    /// File with the shared secret, if any.
    pub secret_file: Option<PathBuf>,
    /// File with the token for HTTP, if any.
    pub http_token_file: Option<PathBuf>,
    /// Directory of Unix sockets.
    pub socket_dir: PathBuf,
    /// Deadline of one internal call.
    pub rpc_timeout: Duration,
}

/// `[master]`
#[derive(Clone, Debug)]
pub struct MasterSettings {
    /// Where it listens.
    pub listen: String,
    /// Where it serves HTTP; `None` for nowhere.
    pub http: Option<String>,
    /// Journal and state.
    pub dir: PathBuf,
    /// Cores for partitions.
    pub cores: Cores,
    /// Number of partitions.
    pub partitions: u16,
    /// Write-behind interval.
    pub flush_interval: Duration,
    /// Silence after which a worker is gone.
    pub worker_timeout: Duration,
    /// How long a pin outlives its last renewal.
    pub pin_lease: Duration,
    /// File of the audit log; none for the normal log.
    pub audit_file: Option<PathBuf>,
}

/// One directory of a tier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TierDir {
    /// Absolute path.
    pub path: PathBuf,
    /// Bytes it may hold.
    pub capacity: ByteSize,
}

/// `[worker]`
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Where shard 0 listens.
    pub listen: String,
    /// Where it serves HTTP; `None` for nowhere.
    pub http: Option<String>,
    /// Identity and small state.
    pub dir: PathBuf,
    /// Cores, one shard each.
    pub cores: Cores,
    /// MEM tier, all shards.
    pub mem_capacity: ByteSize,
    /// SSD tier directories.
    pub ssd: Vec<TierDir>,
    /// HDD tier directories.
    pub hdd: Vec<TierDir>,
    /// In-flight pages, all shards.
    pub buffer_memory: ByteSize,
    /// `lru` or `lfu`.
    pub eviction: String,
    /// Largest read-ahead of one reader.
    pub read_ahead: ByteSize,
    /// Verify checksums on reads from disk.
    pub verify_reads: bool,
    /// How fast disks are read again in the background, all shards; 0 for never.
    pub scrub_rate: ByteSize,
    /// Placement weight.
    pub weight: u32,
    /// Heartbeat interval.
    pub heartbeat: Duration,
}

/// Most directories of the disk tiers together.
const TIER_DIRS_MAX: usize = 255;

impl WorkerSettings {
    /// The directories of the disk tiers, the fastest first, by the name of their setting.
    pub fn tier_dirs(&self) -> impl Iterator<Item = (String, &TierDir)> {
        fn named<'a>(setting: &'a str, dirs: &'a [TierDir]) -> impl Iterator<Item = (String, &'a TierDir)> {
            dirs.iter().enumerate().map(move |(index, dir)| (format!("{setting}[{index}]"), dir))
        }
        named("worker.ssd", &self.ssd).chain(named("worker.hdd", &self.hdd))
    }
}

/// `[store]`
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Threads for store I/O.
    pub threads: usize,
    /// Requests in flight per mount.
    pub concurrency: usize,
    /// Longest one request may take, with retries.
    pub deadline: Duration,
    /// Tries after the first.
    pub retries: u32,
}

/// `[fuse]`
#[derive(Clone, Debug)]
pub struct FuseSettings {
    /// Where to mount.
    pub mountpoint: PathBuf,
    /// Where it serves HTTP; `None` for nowhere.
    pub http: Option<String>,
    /// Serving threads.
    pub threads: usize,
    /// Let other users in.
    pub allow_other: bool,
    /// Let the kernel read whole local files.
    pub passthrough: bool,
    /// Largest read request, bytes.
    pub max_read: ByteSize,
    /// Kernel read-ahead, bytes.
    pub read_ahead: ByteSize,
    /// Cap of kernel timeouts.
    pub attr_timeout_max: Duration,
    /// Longest a read waits.
    pub io_timeout: Duration,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Tracing filter.
    pub level: String,
    /// JSON lines instead of text.
    pub json: bool,
}

const FOREVER: Duration = Duration::from_secs(365 * 86_400);

struct Reader<'a>(&'a BTreeMap<&'static str, (Value, Origin)>);

impl Reader<'_> {
    fn text(&self, name: &str) -> String {
        match &self.0[name].0 {
            Value::Text(text) => text.clone(),
            other => unreachable!("{name} is text by the table, got {other:?}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.text(name))
    }

    fn optional_path(&self, name: &str) -> Option<PathBuf> {
        Some(self.path(name)).filter(|path| !path.as_os_str().is_empty())
    }

    fn address_or_off(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|address| address != "off")
    }

    fn list(&self, name: &str) -> Vec<String> {
        match &self.0[name].0 {
            Value::List(list) => list.clone(),
            other => unreachable!("{name} is a list by the table, got {other:?}"),
        }
    }

    fn tier_dirs(&self, name: &str) -> Vec<TierDir> {
        let items = self.list(name);
        items.iter().filter_map(|item| tier_dir(item)).map(|(path, capacity)| TierDir { path, capacity }).collect()
    }

    fn int(&self, name: &str) -> u64 {
        match self.0[name].0 {
            Value::Int(number) => number,
            ref other => unreachable!("{name} is a number by the table, got {other:?}"),
        }
    }

    fn size(&self, name: &str) -> ByteSize {
        match self.0[name].0 {
            Value::Size(size) => size,
            ref other => unreachable!("{name} is a size by the table, got {other:?}"),
        }
    }

    fn span(&self, name: &str) -> Duration {
        match self.0[name].0 {
            Value::Span(Span::Never) => FOREVER,
            Value::Span(span) => span.duration().unwrap_or(FOREVER),
            ref other => unreachable!("{name} is a span by the table, got {other:?}"),
        }
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.0[name].0, Value::Bool(true))
    }

    fn cores(&self, name: &str) -> Cores {
        Cores::parse(&self.text(name)).unwrap_or(Cores::Auto)
    }
}

/// Builds the typed settings and appends what is wrong between keys.
pub(crate) fn typed(values: &BTreeMap<&'static str, (Value, Origin)>, problems: &mut Vec<String>) -> Settings {
    let read = Reader(values);
    let settings = Settings {
        cluster: ClusterSettings {
            masters: read.list("cluster.masters"),
            secret_file: read.optional_path("cluster.secret_file"),
            http_token_file: read.optional_path("cluster.http_token_file"),
            socket_dir: read.path("cluster.socket_dir"),
            rpc_timeout: read.span("cluster.rpc_timeout"),
        },
        master: MasterSettings {
            listen: read.text("master.listen"),
            http: read.address_or_off("master.http"),
            dir: read.path("master.dir"),
            cores: read.cores("master.cores"),
            partitions: read.int("master.partitions") as u16,
            flush_interval: read.span("master.flush_interval"),
            worker_timeout: read.span("master.worker_timeout"),
            pin_lease: read.span("master.pin_lease"),
            audit_file: Some(read.path("master.audit_file")).filter(|path| !path.as_os_str().is_empty()),
        },
        worker: WorkerSettings {
            listen: read.text("worker.listen"),
            http: read.address_or_off("worker.http"),
            dir: read.path("worker.dir"),
            cores: read.cores("worker.cores"),
            mem_capacity: read.size("worker.mem_capacity"),
            ssd: read.tier_dirs("worker.ssd"),
            hdd: read.tier_dirs("worker.hdd"),
            buffer_memory: read.size("worker.buffer_memory"),
            eviction: read.text("worker.eviction"),
            read_ahead: read.size("worker.read_ahead"),
            verify_reads: read.flag("worker.verify_reads"),
            scrub_rate: read.size("worker.scrub_rate"),
            weight: read.int("worker.weight") as u32,
            heartbeat: read.span("worker.heartbeat"),
        },
        store: StoreSettings {
            threads: read.int("store.threads") as usize,
            concurrency: read.int("store.concurrency") as usize,
            deadline: read.span("store.deadline"),
            retries: read.int("store.retries") as u32,
        },
        fuse: FuseSettings {
            mountpoint: read.path("fuse.mountpoint"),
            http: read.address_or_off("fuse.http"),
            threads: read.int("fuse.threads") as usize,
            allow_other: read.flag("fuse.allow_other"),
            passthrough: read.text("fuse.passthrough") == "auto",
            max_read: read.size("fuse.max_read"),
            read_ahead: read.size("fuse.read_ahead"),
            attr_timeout_max: read.span("fuse.attr_timeout_max"),
            io_timeout: read.span("fuse.io_timeout"),
        },
        log: LogSettings { level: read.text("log.level"), json: read.text("log.format") == "json" },
    };
    check_directories(&settings, problems);
    check_required(values, problems);
    check_binds(&settings, problems);
    settings
}

fn check_required(values: &BTreeMap<&'static str, (Value, Origin)>, problems: &mut Vec<String>) {
    for key in KEYS {
        let empty = match &values[key.name].0 {
            Value::Text(text) => text.is_empty(),
            Value::List(list) => list.is_empty(),
            _ => false,
        };
        let may_be_empty =
            ["cluster.secret_file", "cluster.http_token_file", "master.audit_file", "worker.ssd", "worker.hdd"]
                .contains(&key.name);
        if empty && !may_be_empty {
            problems.push(format!("{}: got nothing, want {}", key.name, key.kind.want()));
        }
    }
}

fn check_directories(settings: &Settings, problems: &mut Vec<String>) {
    let mut dirs: Vec<(String, &Path)> = vec![
        ("master.dir".into(), &settings.master.dir),
        ("worker.dir".into(), &settings.worker.dir),
        ("fuse.mountpoint".into(), &settings.fuse.mountpoint),
    ];
    for (name, dir) in settings.worker.tier_dirs() {
        if dir.capacity.0 < 64 << 20 {
            problems.push(format!("{name}: got a capacity of {}, want at least 64MiB", dir.capacity));
        }
        dirs.push((name, &dir.path));
    }
    let tier_dirs = settings.worker.ssd.len() + settings.worker.hdd.len();
    if tier_dirs > TIER_DIRS_MAX {
        problems.push(format!("worker.ssd and worker.hdd: got {tier_dirs} directories, want at most {TIER_DIRS_MAX}"));
    }
    for (index, (name, path)) in dirs.iter().enumerate() {
        for (other, taken) in &dirs[..index] {
            if path.starts_with(taken) || taken.starts_with(path) {
                problems.push(format!(
                    "{name}: got {}, want a directory that does not overlap {other} = {}",
                    path.display(),
                    taken.display()
                ));
            }
        }
    }
}

fn check_binds(settings: &Settings, problems: &mut Vec<String>) {
    for (name, address) in [("master.listen", &settings.master.listen), ("worker.listen", &settings.worker.listen)] {
        if !is_loopback(address) && settings.cluster.secret_file.is_none() {
            problems.push(format!(
                "{name}: got {address}, want a loopback address, or cluster.secret_file set: other hosts are let in only by a secret"
            ));
        }
    }
    let http = [
        ("master.http", &settings.master.http),
        ("worker.http", &settings.worker.http),
        ("fuse.http", &settings.fuse.http),
    ];
    for (name, address) in http.iter().filter_map(|(name, address)| Some((name, address.as_ref()?))) {
        if !is_loopback(address) && settings.cluster.http_token_file.is_none() {
            problems.push(format!(
                "{name}: got {address}, want a loopback address, off, or cluster.http_token_file set: other hosts are let in only by a token"
            ));
        }
    }
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
