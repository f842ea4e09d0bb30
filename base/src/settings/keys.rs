//! The table of settings: name, kind, default and meaning. Fewer than 50 for ever.

use super::value::Kind;

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// `section.key`; the environment variable is `FOREBAY_SECTION_KEY`.
    pub name: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// The default, as text.
    pub default: &'static str,
    /// One line for people.
    pub doc: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Every setting, in the order in which `--print-config` shows them.
pub static KEYS: &[Key] = &[
    key("cluster.masters", Kind::Addresses, "127.0.0.1:7400", "where the masters listen"),
    key(
        "cluster.secret_file",
        Kind::Path,
        "",
        "file holding the cluster's shared secret; needed for any bind that is not loopback",
    ),
    key(
        "cluster.http_token_file",
        Kind::Path,
        "",
        "file holding the token for the console's actions; needed for any http that is not loopback, and asked of every caller there",
    ),
    key("cluster.socket_dir", Kind::Path, "/run/forebay", "directory for the Unix sockets that same-host clients use"),
    key("cluster.rpc_timeout", Kind::Span, "10s", "deadline of one call between Forebay's processes"),
    key("master.listen", Kind::Address, "127.0.0.1:7400", "where this master listens"),
    key("master.http", Kind::AddressOrOff, "127.0.0.1:7480", "where the master serves its console and metrics, or off"),
    key("master.dir", Kind::Path, "/var/lib/forebay/master", "the journal and the namespace's state"),
    key("master.cores", Kind::Cores, "auto", "cores that hold namespace partitions"),
    key("master.partitions", Kind::Int(1, 256), "64", "namespace partitions; fixed when the master is formatted"),
    key("master.flush_interval", Kind::Span, "30s", "how often the namespace's state is written behind to RocksDB"),
    key("master.worker_timeout", Kind::Span, "10s", "silence after which a worker leaves the cluster map"),
    key("master.pin_lease", Kind::Span, "2m", "how long a pin outlives its last renewal; renewed at a third of it"),
    key(
        "master.audit_file",
        Kind::Path,
        "",
        "file to which the audit log is appended; without one its lines are in the normal log, at INFO",
    ),
    key("worker.listen", Kind::Address, "127.0.0.1:7500", "where core 0 listens; core n listens n ports higher"),
    key("worker.http", Kind::AddressOrOff, "127.0.0.1:7481", "where the worker serves its metrics, or off"),
    key("worker.dir", Kind::Path, "/var/lib/forebay/worker", "the worker's identity and its small state"),
    key("worker.cores", Kind::Cores, "auto", "cores that serve data, one shard each"),
    key("worker.mem_capacity", Kind::Size(4 * MIB, 4 * TIB), "256MiB", "the MEM tier, all shards together"),
    key(
        "worker.ssd",
        Kind::TierDirs,
        "/var/lib/forebay/cache=10GiB",
        "directories of the SSD tier with their capacities; may be empty",
    ),
    key(
        "worker.hdd",
        Kind::TierDirs,
        "",
        "directories of the HDD tier, below SSD: what has no room on SSD goes there, what is read again comes back; may be empty",
    ),
    key(
        "worker.buffer_memory",
        Kind::Size(16 * MIB, TIB),
        "64MiB",
        "pages in flight between stores, disks and sockets, all shards together",
    ),
    key("worker.eviction", Kind::OneOf(&["scan-resistant", "lru", "lfu"]), "scan-resistant", "which pages leave first"),
    key("worker.read_ahead", Kind::Size(0, GIB), "8MiB", "largest read-ahead of one sequential reader"),
    key("worker.verify_reads", Kind::Bool, "true", "check the checksum of every 4 KiB that leaves a disk"),
    key(
        "worker.scrub_rate",
        Kind::Size(0, GIB),
        "8MiB",
        "bytes a second that are read again from the disks to find what went bad, all shards together; 0 for never",
    ),
    key("worker.weight", Kind::Int(1, 1_000_000), "100", "this worker's share of the data beside the others'"),
    key("worker.heartbeat", Kind::Span, "1s", "how often the worker reports to the master"),
    key("store.threads", Kind::Int(1, 256), "2", "threads for store I/O, never a core's own"),
    key(
        "store.concurrency",
        Kind::Int(1, 4096),
        "32",
        "requests in flight to one mount; option concurrency overrides it per mount",
    ),
    key(
        "store.deadline",
        Kind::Span,
        "10s",
        "longest one store request may take with its retries; option deadline overrides it per mount",
    ),
    key("store.retries", Kind::Int(0, 20), "4", "tries after the first one, with back-off"),
    key("fuse.mountpoint", Kind::Path, "/mnt/forebay", "where the namespace is mounted"),
    key("fuse.http", Kind::AddressOrOff, "127.0.0.1:7482", "where the mount serves its metrics, or off"),
    key("fuse.threads", Kind::Int(1, 64), "2", "threads that serve the kernel"),
    key("fuse.allow_other", Kind::Bool, "false", "let users other than the mount's owner in"),
    key(
        "fuse.passthrough",
        Kind::OneOf(&["auto", "off"]),
        "auto",
        "auto: the kernel reads files that a worker of this host holds whole; off: all reads go through the mount's process",
    ),
    key("fuse.max_read", Kind::Size(4 * KIB, MIB), "512KiB", "largest single read the kernel may send"),
    key("fuse.read_ahead", Kind::Size(0, 64 * MIB), "4MiB", "the kernel's read-ahead on this mount"),
    key(
        "fuse.attr_timeout_max",
        Kind::Span,
        "1h",
        "longest the kernel may keep names and attributes, whatever the mount's freshness",
    ),
    key("fuse.io_timeout", Kind::Span, "30s", "longest a read waits for workers before EIO"),
    key("log.level", Kind::Text, "info", "tracing filter, e.g. info or forebay_worker=debug,info"),
    key("log.format", Kind::OneOf(&["text", "json"]), "text", "how log lines look"),
];
