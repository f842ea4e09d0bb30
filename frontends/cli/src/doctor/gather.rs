//! Looks at this host, its disks and its cluster. Changes nothing but a probe file in each directory, which it removes.

mod cluster;
mod directory;
mod port;
mod process;

use super::facts::{Directory, Facts, Host, KernelMount, ROLES, RoleFacts, SecretFile, WorkerNeeds};
use super::ring;
use crate::local::mountinfo;
use forebay_base::settings::Loaded;
use forebay_client::Secret;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use process::running;

/// The runtime of a core has three rings: for the usual, for the urgent, and for polled I/O.
const RINGS_PER_CORE: usize = 3;
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// What to look at.
pub(crate) struct Scope<'a> {
    pub(crate) loaded: &'a Loaded,
    pub(crate) config: Option<&'a Path>,
    /// Roles named by the caller; empty for those found here.
    pub(crate) roles: &'a [String],
    pub(crate) speed: bool,
}

/// Gathers everything.
pub(crate) async fn gather(scope: &Scope<'_>) -> Facts {
    let settings = &scope.loaded.settings;
    let roles = roles(scope);
    let has = |role: &str| roles.iter().any(|facts| facts.role == role);
    let worker = has("worker").then(|| worker_needs(scope));
    let mut directories = Vec::new();
    if has("master") {
        directories.push(("master.dir".to_string(), "master", settings.master.dir.clone(), None));
    }
    if has("worker") {
        directories.push(("worker.dir".into(), "worker", settings.worker.dir.clone(), None));
        for (setting, tier) in settings.worker.tier_dirs() {
            directories.push((setting, "worker", tier.path.clone(), Some(tier.capacity.0)));
        }
    }
    if has("master") || has("worker") {
        let role = if has("worker") { "worker" } else { "master" };
        directories.push(("cluster.socket_dir".into(), role, settings.cluster.socket_dir.clone(), None));
    }
    let directories = directories
        .into_iter()
        .map(|(setting, role, path, capacity_bytes)| {
            let state = directory::look(&path, capacity_bytes, scope.speed);
            Directory { setting, role, path, capacity_bytes, state }
        })
        .collect();
    Facts {
        host: host(worker.as_ref(), settings.fuse.allow_other),
        worker,
        directories,
        secret: settings.cluster.secret_file.as_deref().map(secret_file),
        http_token: settings.cluster.http_token_file.as_deref().map(secret_file),
        ports: port::look(scope.loaded, &roles),
        masters: cluster::ask(settings).await,
        mount: has("fuse").then(|| kernel_mount(&settings.fuse.mountpoint)),
        roles,
    }
}

/// The roles named, else those that run here or have their directory here, else all.
fn roles(scope: &Scope<'_>) -> Vec<RoleFacts> {
    let settings = &scope.loaded.settings;
    let all = ROLES.map(|role| RoleFacts { role, process: running(role, scope.config) });
    if !scope.roles.is_empty() {
        return all.into_iter().filter(|facts| scope.roles.iter().any(|named| named == facts.role)).collect();
    }
    let here: Vec<RoleFacts> = all
        .iter()
        .filter(|facts| {
            let home = match facts.role {
                "master" => &settings.master.dir,
                "worker" => &settings.worker.dir,
                _ => &settings.fuse.mountpoint,
            };
            facts.process.is_some() || std::fs::symlink_metadata(home).is_ok()
        })
        .cloned()
        .collect();
    if here.is_empty() { all.to_vec() } else { here }
}

fn host(worker: Option<&WorkerNeeds>, allow_other: bool) -> Host {
    let rings = worker.map_or(RINGS_PER_CORE, |needs| needs.cores * RINGS_PER_CORE);
    let (made, refused) = ring::make(rings);
    let (wall, start) = (forebay_base::unix_now_ms(), Instant::now());
    std::thread::sleep(Duration::from_millis(100));
    let clock_step_ms = forebay_base::unix_now_ms() as i64 - wall as i64 - start.elapsed().as_millis() as i64;
    Host {
        kernel: line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into()),
        own: process::look(std::process::id() as i32),
        fuse_device: std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .map(drop)
            .map_err(|error| error.to_string()),
        fusermount: fusermount(),
        user_allow_other: std::fs::read_to_string("/etc/fuse.conf")
            .is_ok_and(|text| text.lines().any(|line| line.trim() == "user_allow_other")),
        allow_other,
        io_uring_disabled: line("/proc/sys/kernel/io_uring_disabled").and_then(|text| text.parse().ok()),
        rings: (rings, made, refused.map(|error| error.to_string())),
        memory_bytes: memory("MemTotal:"),
        swap_bytes: memory("SwapTotal:"),
        swappiness: line("/proc/sys/vm/swappiness").and_then(|text| text.parse().ok()).unwrap_or(60),
        clock_source: line("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .unwrap_or_else(|| "unknown".into()),
        clock_step_ms,
    }
}

fn worker_needs(scope: &Scope<'_>) -> WorkerNeeds {
    let worker = &scope.loaded.settings.worker;
    let host_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let first = |name: &str| line(&worker.dir.join(name).to_string_lossy());
    WorkerNeeds {
        cores: worker.cores.count(host_cores),
        host_cores,
        mem_bytes: worker.mem_capacity.0,
        buffer_bytes: worker.buffer_memory.0,
        directories: worker.ssd.len() + worker.hdd.len(),
        worker_id: first("id").and_then(|text| text.parse().ok()),
        cluster_id: first("cluster").and_then(|text| u128::from_str_radix(&text, 16).ok()),
    }
}

fn secret_file(path: &Path) -> SecretFile {
    SecretFile {
        path: path.to_path_buf(),
        meta: std::fs::metadata(path)
            .map(|meta| (meta.uid(), meta.permissions().mode() & 0o7777))
            .map_err(|error| error.to_string()),
        load: Secret::load(Some(path)).map(drop).map_err(|error| error.message),
    }
}

fn fusermount() -> Option<(PathBuf, bool)> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("fusermount3")).find_map(|file| {
        let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((file, meta.uid() == 0 && meta.permissions().mode() & 0o4000 != 0))
    })
}

fn kernel_mount(path: &Path) -> KernelMount {
    let mounted = mountinfo::is_fuse_mount(path);
    let answers = if mounted {
        let (send, wait) = std::sync::mpsc::channel();
        let root = path.to_path_buf();
        // A mount whose server hangs would hold this thread; the process ends without it.
        std::thread::spawn(move || send.send(std::fs::read_dir(root).map(drop).map_err(|error| error.to_string())));
        wait.recv_timeout(PROBE_TIMEOUT).ok()
    } else {
        None
    };
    let passthrough = matches!(answers, Some(Ok(()))).then(|| passthrough(path)).flatten();
    KernelMount { path: path.to_path_buf(), mounted, answers, passthrough }
}

/// What the mount says of itself.
fn passthrough(path: &Path) -> Option<String> {
    let mut value = [0; 512];
    let length = rustix::fs::getxattr(path, "user.forebay.passthrough", &mut value[..]).ok()?;
    Some(String::from_utf8_lossy(&value[..length]).into_owned())
}

/// The first line of a small file.
fn line(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_string()).filter(|line| !line.is_empty())
}

fn memory(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}
