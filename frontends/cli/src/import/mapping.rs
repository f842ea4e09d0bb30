//! From Alluxio's keys to our settings and mount commands. Pure.
//!
//! Invariant: every key given is taken over, known to change nothing, or noted by its name; no value of a key that is not
//! taken over is kept.

use super::values::{quoted, size, span, toml_string};
use forebay_base::{ByteSize, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const MEM_BYTES: std::ops::RangeInclusive<u64> = 4 << 20..=4 << 40;
const TIER_BYTES_MIN: u64 = 64 << 20;
const LEVELS_MAX: usize = 3;
const SECRET_FILE: &str = "/etc/forebay/secret";

/// A mount that is to be made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct MountCommand {
    path: String,
    uri: String,
    options: Vec<(String, String)>,
    freshness: Option<Span>,
    readonly: bool,
}

/// What came of a site.
#[derive(Default)]
pub(super) struct Imported {
    /// Settings as TOML values, by section.
    pub(super) sections: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    pub(super) mounts: Vec<MountCommand>,
    /// Options of the mount that are secret.
    pub(super) secrets: Vec<(&'static str, String)>,
    pub(super) option_file: Option<PathBuf>,
    /// What was not taken over, and why.
    pub(super) notes: Vec<(String, String)>,
    /// Keys that were.
    pub(super) taken: usize,
}

impl Imported {
    pub(super) fn note(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.notes.push((what.into(), why.into()));
    }

    fn set(&mut self, section: &'static str, key: &'static str, value: String) {
        self.sections.entry(section).or_default().insert(key, value);
    }

    /// The command that makes a mount.
    pub(super) fn command(&self, mount: &MountCommand) -> String {
        let mut words = vec!["forebay fs mount".to_string()];
        if let Some(freshness) = mount.freshness {
            words.push(format!("--freshness {freshness}"));
        }
        words.extend(
            mount.options.iter().map(|(name, value)| format!("--option {}", quoted(&format!("{name}={value}")))),
        );
        if let Some(file) = &self.option_file {
            words.push(format!("--option-file {}", quoted(&file.display().to_string())));
        }
        if mount.readonly {
            words.push("--readonly".into());
        }
        words.extend([quoted(&mount.path), quoted(&mount.uri)]);
        words.join(" ")
    }
}

/// The keys of a site, each marked when it was looked at.
struct Site<'a> {
    keys: &'a BTreeMap<String, String>,
    seen: BTreeSet<&'a str>,
}

impl<'a> Site<'a> {
    fn take(&mut self, name: &str) -> Option<&'a str> {
        let (key, value) = self.keys.get_key_value(name)?;
        self.seen.insert(key);
        Some(value.trim())
    }

    /// The first of several names, those of the root mount's options before those for all mounts.
    fn option(&mut self, names: &[&str]) -> Option<&'a str> {
        let root = names.iter().find_map(|name| self.take(&format!("alluxio.master.mount.table.root.option.{name}")));
        let any: Vec<_> = names.iter().filter_map(|name| self.take(name)).collect();
        root.or(any.first().copied())
    }
}

/// Keys that ask for what Forebay does anyway, with the values that do.
const AS_IT_IS: [(&str, &[&str]); 6] = [
    ("alluxio.user.file.readtype.default", &["CACHE", "CACHE_PROMOTE"]),
    ("alluxio.user.file.writetype.default", &["THROUGH", "CACHE_THROUGH"]),
    ("alluxio.worker.block.store.type", &["FILE", "PAGE"]),
    ("alluxio.master.journal.type", &["EMBEDDED"]),
    ("alluxio.master.audit.logging.enabled", &["true"]),
    ("alluxio.fuse.mount.alluxio.path", &["/"]),
];

/// Why keys are left, by how they begin; the longest that fits counts.
const REASONS: [(&str, &str); 34] = [
    (
        "alluxio.worker.tieredstore.level",
        "capacities hold at every moment: there are no watermarks or reserved bytes; tiers are MEM, SSD, HDD",
    ),
    ("alluxio.worker.tieredstore", "evicts when something comes, and moves pages between tiers by itself"),
    (
        "alluxio.worker.management",
        "pages move between tiers in the background, at a rate that leaves the disk to readers",
    ),
    ("alluxio.worker.allocator", "what comes goes to the directory with most room; a file's pages stay together"),
    ("alluxio.worker.block.annotator", "want LRUAnnotator or LRFUAnnotator; see worker.eviction"),
    ("alluxio.worker.page.store", "pages are 1 MiB; of the page store the directories and sizes are taken"),
    ("alluxio.worker.network", "one core owns its pages: there are no thread pools to set; see worker.cores"),
    ("alluxio.worker.rpc", "see worker.listen; the protocol is another one"),
    ("alluxio.worker.web", "metrics are on worker.http"),
    ("alluxio.worker.data", "see worker.listen and cluster.socket_dir"),
    ("alluxio.worker.hostname", "the worker says where it is reached: see worker.listen"),
    ("alluxio.worker.ramdisk", "want a size; see worker.mem_capacity"),
    ("alluxio.user.block.size", "blocks are 256 MiB and pages 1 MiB, for every file"),
    ("alluxio.user.block", "the owner of a block follows from its name: there are no placement policies"),
    ("alluxio.user.file.readtype", "what is read is cached; forebay fs free drops it"),
    ("alluxio.user.file.writetype", "files are written through to their store before the copy is acknowledged"),
    ("alluxio.user.file.metadata.sync", "want a time; see forebay fs mount --freshness"),
    ("alluxio.user.file.metadata.load", "names are loaded when they are asked for; see forebay fs mount --freshness"),
    ("alluxio.user.file.replication", "blocks have one owner; forebay fs load --replicas N caches N copies"),
    ("alluxio.user.file.persist", "files are written through"),
    ("alluxio.user.short.circuit", "clients on the worker's host use its Unix socket by themselves"),
    ("alluxio.user.client.cache", "the mount relies on the kernel's page cache"),
    ("alluxio.user", "Forebay's clients have no such setting"),
    ("alluxio.master.journal", "the journal is master.dir; formats differ, nothing of Alluxio's is read"),
    ("alluxio.master.metastore", "the namespace is in memory, written behind to RocksDB in master.dir"),
    ("alluxio.master.mount.table.root", "of the root mount its URI, S3 options and readonly are taken"),
    ("alluxio.master.web", "the console is on master.http"),
    ("alluxio.master.rpc", "see master.listen and cluster.masters; the protocol is another one"),
    ("alluxio.master", "Forebay's master has no such setting"),
    ("alluxio.security", "names are not authenticated by headers: see cluster.secret_file and docs/security.md"),
    ("alluxio.job", "jobs run in the master and the workers: there are no processes of their own"),
    ("alluxio.proxy", "there is no proxy"),
    ("alluxio.underfs", "of stores S3 and local directories are known; see forebay fs mount --option"),
    ("alluxio.fuse", "of FUSE the mount point and allow_other, attr_timeout, max_read are taken"),
];

fn reason(key: &str) -> &'static str {
    let fits = REASONS.iter().filter(|(begin, _)| key.starts_with(begin));
    fits.max_by_key(|(begin, _)| begin.len()).map_or("not known to this import", |(_, reason)| reason)
}

/// Maps a site.
pub(super) fn map(keys: &BTreeMap<String, String>) -> Imported {
    let mut site = Site { keys, seen: BTreeSet::new() };
    let mut imported = Imported::default();
    masters(&mut site, &mut imported);
    tiers(&mut site, &mut imported);
    if let Some(class) = site.take("alluxio.worker.block.annotator.class") {
        match class.rsplit('.').next() {
            Some("LRUAnnotator") => imported.set("worker", "eviction", toml_string("lru")),
            Some("LRFUAnnotator") => imported.set("worker", "eviction", toml_string("lfu")),
            _ => imported.note("alluxio.worker.block.annotator.class", reason("alluxio.worker.block.annotator")),
        }
    }
    fuse(&mut site, &mut imported);
    root_mount(&mut site, &mut imported);
    for (key, values) in AS_IT_IS {
        if keys.get(key).is_some_and(|value| values.contains(&value.trim())) {
            site.take(key);
        }
    }
    let rest: Vec<&String> = keys.keys().filter(|key| !site.seen.contains(key.as_str())).collect();
    imported.taken = keys.len() - rest.len();
    for key in rest {
        imported.note(key.clone(), reason(key));
    }
    imported
}

fn masters(site: &mut Site<'_>, imported: &mut Imported) {
    let one = site.take("alluxio.master.hostname");
    let many = ["alluxio.master.rpc.addresses", "alluxio.master.embedded.journal.addresses"];
    let many: Vec<&str> = many.iter().filter_map(|key| site.take(key)).collect();
    let list = many.first().copied().or(one).unwrap_or_default();
    let host = |item: &str| item.trim().rsplit_once(':').map_or(item.trim(), |(host, _)| host).to_string();
    let mut hosts: Vec<String> = list.split(',').map(host).filter(|host| !host.is_empty()).collect();
    hosts.dedup();
    if hosts.is_empty() {
        return;
    }
    let addresses: Vec<String> = hosts.iter().map(|host| toml_string(&format!("{host}:7400"))).collect();
    imported.set("cluster", "masters", format!("[{}]", addresses.join(", ")));
    if hosts.iter().any(|host| host != "localhost" && !host.starts_with("127.")) {
        // Other hosts are let in only by a secret.
        imported.set("cluster", "secret_file", toml_string(SECRET_FILE));
        imported.set("master", "listen", toml_string("0.0.0.0:7400"));
        imported.set("worker", "listen", toml_string("0.0.0.0:7500"));
        imported.note(
            "cluster.secret_file",
            format!("has to be made, the same {SECRET_FILE} on every host: docs/operations.md"),
        );
    }
}

/// Where a tier's name leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Mem,
    Ssd,
    Hdd,
}

fn place(name: &str) -> Option<Place> {
    match name.trim().to_ascii_uppercase().as_str() {
        "MEM" => Some(Place::Mem),
        "SSD" | "NVME" => Some(Place::Ssd),
        "HDD" => Some(Place::Hdd),
        _ => None,
    }
}

fn items(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

fn tiers(site: &mut Site<'_>, imported: &mut Imported) {
    let ramdisk = site.take("alluxio.worker.ramdisk.size");
    if ramdisk.is_some_and(|text| size(text).is_none()) {
        imported.note("alluxio.worker.ramdisk.size", "want a size such as 16GB");
    }
    let given = site.take("alluxio.worker.tieredstore.levels");
    let levels = given.and_then(|text| text.parse().ok()).unwrap_or(LEVELS_MAX);
    let mut mem: Option<u64> = None;
    let (mut ssd, mut hdd): (Vec<String>, Vec<String>) = Default::default();
    for level in 0..levels.min(LEVELS_MAX) {
        let name = |rest: &str| format!("alluxio.worker.tieredstore.level{level}.{rest}");
        let alias = site.take(&name("alias")).unwrap_or(if level == 0 { "MEM" } else { "" });
        let paths = site.take(&name("dirs.path"));
        let quota = site.take(&name("dirs.quota"));
        let media = site.take(&name("dirs.mediumtype")).map(items).unwrap_or_default();
        let quotas: Vec<Option<u64>> = quota.map(items).unwrap_or_default().into_iter().map(size).collect();
        if quotas.contains(&None) {
            imported.note(name("dirs.quota"), "want sizes such as 800GB, one or one for each directory");
        }
        let paths = paths.map(items).unwrap_or_default();
        // MEM has a directory too: the RAM disk.
        for (index, path) in paths.iter().copied().chain((paths.is_empty() && level == 0).then_some("")).enumerate() {
            let medium = media.get(index).or(media.last()).and_then(|name| place(name));
            let Some(tier) = medium.or(place(alias)) else {
                imported.note(name("alias"), "want MEM, SSD or HDD, here or as dirs.mediumtype");
                break;
            };
            let quota = quotas.get(index).or(quotas.last()).copied().flatten();
            match tier {
                Place::Mem => mem = quota.or(ramdisk.and_then(size)).map(|bytes| mem.unwrap_or(0) + bytes).or(mem),
                Place::Ssd | Place::Hdd => {
                    let list = if tier == Place::Ssd { &mut ssd } else { &mut hdd };
                    directory(path, quota, &name("dirs.path"), list, imported);
                }
            }
        }
    }
    if let Some(paths) = site.take("alluxio.worker.page.store.dirs") {
        let sizes = site.take("alluxio.worker.page.store.sizes").map(items).unwrap_or_default();
        for (index, path) in items(paths).into_iter().enumerate() {
            let quota = sizes.get(index).or(sizes.last()).and_then(|text| size(text));
            directory(path, quota, "alluxio.worker.page.store.dirs", &mut ssd, imported);
        }
    }
    if let Some(bytes) = mem.or(ramdisk.and_then(size)) {
        let fitting = bytes.clamp(*MEM_BYTES.start(), *MEM_BYTES.end());
        if fitting != bytes {
            imported.note("worker.mem_capacity", format!("is {}: want 4MiB to 4TiB", ByteSize(fitting)));
        }
        imported.set("worker", "mem_capacity", toml_string(&ByteSize(fitting).to_string()));
    }
    // A site without disks has none here either.
    if mem.is_some() || !ssd.is_empty() || !hdd.is_empty() {
        for (key, list) in [("ssd", ssd), ("hdd", hdd)] {
            let list: Vec<String> = list.iter().map(|item| toml_string(item)).collect();
            imported.set("worker", key, format!("[{}]", list.join(", ")));
        }
    }
}

/// A directory of our own below Alluxio's, whose blocks are not ours.
fn directory(path: &str, quota: Option<u64>, key: &str, list: &mut Vec<String>, imported: &mut Imported) {
    let Some(bytes) = quota.filter(|bytes| *bytes >= TIER_BYTES_MIN) else {
        return imported.note(key, "a directory is left out: its quota is missing or below 64MiB");
    };
    if !path.starts_with('/') {
        return imported.note(key, "a directory is left out: its path is not absolute");
    }
    list.push(format!("{}/forebay={}", path.trim_end_matches('/'), ByteSize(bytes)));
}

fn fuse(site: &mut Site<'_>, imported: &mut Imported) {
    let point = site.take("alluxio.fuse.mount.point").or_else(|| site.take("alluxio.worker.fuse.mount.point"));
    match point {
        Some(point) if point.starts_with('/') => imported.set("fuse", "mountpoint", toml_string(point)),
        Some(_) => imported.note("alluxio.fuse.mount.point", "want an absolute path"),
        None => {}
    }
    let Some(options) = site.take("alluxio.fuse.mount.options") else { return };
    for option in items(options) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let key = format!("alluxio.fuse.mount.options: {}", name.escape_debug());
        match (name, value.parse::<u64>()) {
            ("allow_other", _) => imported.set("fuse", "allow_other", "true".into()),
            ("attr_timeout", Ok(seconds)) if seconds < 1 << 32 => {
                imported.set("fuse", "attr_timeout_max", toml_string(&Span::from_ms(seconds * 1000).to_string()));
            }
            ("max_read", Ok(bytes)) if (4 << 10..=1 << 20).contains(&bytes) => {
                imported.set("fuse", "max_read", toml_string(&ByteSize(bytes).to_string()));
            }
            ("entry_timeout" | "kernel_cache" | "auto_cache" | "ro" | "big_writes", _) => {}
            _ => imported.note(key, "the mount has no such option"),
        }
    }
}

fn root_mount(site: &mut Site<'_>, imported: &mut Imported) {
    let access = site.option(&["s3a.accessKeyId", "aws.accessKeyId", "fs.s3a.access.key"]);
    let secret = site.option(&["s3a.secretKey", "aws.secretKey", "fs.s3a.secret.key"]);
    let endpoint = site.option(&["alluxio.underfs.s3.endpoint"]);
    let region = site.option(&["alluxio.underfs.s3.endpoint.region", "alluxio.underfs.s3.region"]);
    let secure = site.option(&["alluxio.underfs.s3.secure.http.enabled"]);
    let in_path = site.option(&["alluxio.underfs.s3.disable.dns.buckets"]);
    let threads = site.option(&["alluxio.underfs.s3.threads.max"]);
    let timeout = site.option(&["alluxio.underfs.s3.request.timeout"]);
    let interval = site.take("alluxio.user.file.metadata.sync.interval");
    let freshness = interval.and_then(span);
    if interval.is_some() && freshness.is_none() {
        imported.note("alluxio.user.file.metadata.sync.interval", "want a time such as 30sec, 0 or -1");
    }
    let readonly = site.take("alluxio.master.mount.table.root.readonly") == Some("true");
    let root = "alluxio.master.mount.table.root.ufs";
    let Some(uri) = site.take(root).or_else(|| site.take("alluxio.underfs.address")) else {
        if interval.is_some() {
            imported
                .note("alluxio.user.file.metadata.sync.interval", "holds for a mount: forebay fs mount --freshness");
        }
        return;
    };
    let is_s3 = ["s3://", "s3a://", "s3n://"].iter().find_map(|scheme| uri.strip_prefix(scheme));
    let mut mount = MountCommand { freshness, readonly, ..MountCommand::default() };
    if let Some(rest) = is_s3 {
        mount.uri = format!("s3://{}", rest.trim_end_matches('/'));
        let pairs = [("access_key", access), ("secret_key", secret)];
        imported.secrets = pairs.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))).collect();
        if imported.secrets.iter().any(|(_, value)| value.contains('\n')) || imported.secrets.len() == 1 {
            imported.secrets.clear();
            imported.note("the credentials", "want an access key and a secret key, each on one line");
        }
        let mut option = |name: &str, value: String| mount.options.push((name.into(), value));
        if let Some(endpoint) = endpoint {
            let scheme = if secure == Some("true") { "https" } else { "http" };
            let whole = if endpoint.contains("://") { endpoint.into() } else { format!("{scheme}://{endpoint}") };
            option("endpoint", whole.trim_end_matches('/').into());
        }
        if let Some(region) = region {
            option("region", region.into());
        }
        if in_path == Some("true") {
            option("path_style", "true".into());
        }
        if let Some(count) = threads.and_then(|text| text.parse::<u32>().ok()).filter(|n| (1..=4096).contains(n)) {
            option("concurrency", count.to_string());
        }
        let deadline = timeout.and_then(span).filter(|span| (100..=3_600_000).contains(&span.as_ms()));
        if let Some(deadline) = deadline {
            option("deadline", deadline.to_string());
        }
    } else if uri.starts_with('/') || uri.starts_with("file:///") {
        let path = uri.strip_prefix("file://").unwrap_or(uri);
        mount.uri = format!("file://{}", path.trim_end_matches('/'));
    } else {
        return imported.note(root, "its store is not known: s3://, and directories as file:///, are");
    }
    let name: String = mount.uri.split_once("://").map_or("", |(_, rest)| rest).to_string();
    let name = if is_s3.is_some() { name.split('/').next() } else { name.rsplit('/').next() };
    mount.path = format!("/{}", name.filter(|name| !name.is_empty()).unwrap_or("data"));
    imported.note(root, format!("stores are mounted below the root: what was / is {} in the command", mount.path));
    imported.mounts.push(mount);
}
