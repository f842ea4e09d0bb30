//! Kernel, FUSE, io_uring, memory, clock, and the limits of the roles' processes. Pure.

use crate::doctor::facts::{Facts, Process};
use crate::doctor::finding::Finding;
use forebay_base::ByteSize;

const KERNEL_MIN: (u32, u32) = (5, 8);
const PASSTHROUGH_KERNEL: (u32, u32) = (6, 9);
/// Below this the worker's runtime refuses to start.
const MEMLOCK_MIN_BYTES: u64 = 512 << 10;
/// What a worker takes beyond its tiers and buffers, at most.
const WORKER_REST_BYTES: u64 = 150 << 20;
/// Open files that a core keeps for the readers, and as many for the writer, of one directory.
const FILES_PER_DIRECTORY_CORE: u64 = 256;
/// Connections of clients, stores, logs.
const FILES_REST: u64 = 512;
const FILES_COMFORT: u64 = 65_536;
/// The master's tables, and a connection for each client and worker.
const MASTER_FILES_MIN: u64 = 512;
const FUSE_FILES_MIN: u64 = 256;
const CLOCK_STEP_MAX_MS: i64 = 50;

const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;

fn has_capability(process: &Process, capability: u32) -> bool {
    process.capabilities >> capability & 1 == 1
}

/// Which roles are looked at, and which of them run.
pub(super) fn roles(facts: &Facts) -> Vec<Finding> {
    let one = |role: &str, process: &Option<Process>| {
        let check = format!("role.{role}");
        match process {
            Some(process) => {
                let unit = process.unit.as_ref().map(|unit| format!(", unit {unit}")).unwrap_or_default();
                Finding::ok(check, format!("runs, process {}{unit}", process.pid))
            }
            None => Finding::warning(
                check,
                "does not run",
                "a running process, if this host is to have this role",
                format!("start it: forebay up, or systemctl start forebay-{role}; --role leaves it out of this check"),
            ),
        }
    };
    facts.roles.iter().map(|facts| one(facts.role, &facts.process)).collect()
}

/// What the kernel and the machine offer.
pub(super) fn host(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![kernel(facts)];
    if facts.has("fuse") {
        findings.extend(fuse(facts));
    }
    if facts.has("worker") {
        findings.extend(io_uring(facts));
        findings.extend(memory(facts));
    }
    findings.extend(clock(facts));
    findings
}

fn version(kernel: &str) -> Option<(u32, u32)> {
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn kernel(facts: &Facts) -> Finding {
    let kernel = &facts.host.kernel;
    match version(kernel) {
        Some(version) if version >= KERNEL_MIN => Finding::ok("host.kernel", format!("Linux {kernel}")),
        _ => Finding::failure("host.kernel", format!("Linux {kernel}"), "5.8 or later", "boot a newer kernel"),
    }
}

fn fuse(facts: &Facts) -> Vec<Finding> {
    let host = &facts.host;
    let process = facts.limits_of("fuse");
    let mut findings = vec![match &host.fuse_device {
        Ok(()) => Finding::ok("host.fuse-device", "/dev/fuse opens"),
        Err(error) => Finding::failure(
            "host.fuse-device",
            format!("/dev/fuse: {error}"),
            "a device that opens for reading and writing",
            "modprobe fuse; in a container --device /dev/fuse; chmod 666 /dev/fuse where users may mount",
        ),
    }];
    let needs_helper = process.uid != 0;
    findings.push(match &host.fusermount {
        Some((path, true)) => Finding::ok("host.fusermount3", path.display().to_string()),
        _ if !needs_helper => Finding::ok("host.fusermount3", "not there, and not needed: the mount is root's"),
        Some((path, false)) => Finding::failure(
            "host.fusermount3",
            format!("{} is not set-uid root", path.display()),
            "a set-uid helper, for the mount is not root's",
            format!("chown root {0} && chmod u+s {0}", path.display()),
        ),
        None => Finding::failure(
            "host.fusermount3",
            "not in PATH",
            "the set-uid helper, for the mount is not root's",
            "apt-get install fuse3",
        ),
    });
    if host.allow_other && needs_helper && !host.user_allow_other {
        findings.push(Finding::failure(
            "fuse.allow-other",
            "fuse.allow_other is true, but /etc/fuse.conf does not allow it",
            "user_allow_other in /etc/fuse.conf, for the mount is not root's",
            "echo user_allow_other >> /etc/fuse.conf, or set fuse.allow_other = false",
        ));
    }
    let able = version(&host.kernel).is_some_and(|version| version >= PASSTHROUGH_KERNEL)
        && has_capability(process, CAP_SYS_ADMIN);
    let said = if able { "kernel and capabilities allow it" } else { "needs Linux 6.9 and CAP_SYS_ADMIN" };
    let mount = facts.mount.as_ref().and_then(|mount| mount.passthrough.as_ref());
    findings.push(match mount {
        Some(mount) if mount.starts_with("on, but") => Finding::warning(
            "host.fuse-passthrough",
            format!("the mount says: {mount}"),
            "whole local files read by the kernel, where fuse.passthrough is auto",
            "put worker.ssd on ext4 or xfs, or set fuse.passthrough = off",
        ),
        Some(mount) => Finding::ok("host.fuse-passthrough", format!("{said}; the mount says: {mount}")),
        None => Finding::ok("host.fuse-passthrough", said),
    });
    findings
}

fn io_uring(facts: &Facts) -> Vec<Finding> {
    let host = &facts.host;
    let (wanted, made, refused) = &host.rings;
    let why = refused.clone().unwrap_or_default();
    if let Some(level @ 1..) = host.io_uring_disabled
        && (level > 1 || *made == 0)
    {
        return vec![Finding::failure(
            "host.io-uring",
            format!("kernel.io_uring_disabled is {level}"),
            "0: the worker does all its I/O through io_uring",
            "sysctl -w kernel.io_uring_disabled=0, and the same in /etc/sysctl.d/",
        )];
    }
    if *made == 0 {
        return vec![Finding::failure(
            "host.io-uring",
            format!("io_uring_setup: {why}"),
            "io_uring for the worker",
            "let the system calls io_uring_setup, io_uring_enter, io_uring_register through the seccomp filter of the \
             container or unit; raise the locked memory limit on kernels before 5.12",
        )];
    }
    let mut findings = vec![Finding::ok("host.io-uring", "works")];
    findings.push(if made == wanted {
        Finding::ok("host.rings", format!("{made} rings at once, three for each core of the worker"))
    } else {
        Finding::failure(
            "host.rings",
            format!("{made} rings at once, then: {why}"),
            format!("{wanted} rings, three for each core of the worker"),
            "raise the limits of locked memory (ulimit -l) and open files (ulimit -n), or set worker.cores lower",
        )
    });
    findings
}

fn memory(facts: &Facts) -> Vec<Finding> {
    let Some(worker) = &facts.worker else { return Vec::new() };
    let host = &facts.host;
    let need = worker.mem_bytes.saturating_add(worker.buffer_bytes).saturating_add(WORKER_REST_BYTES);
    let found = format!(
        "worker.mem_capacity {} and worker.buffer_memory {} take up to {} of {}",
        ByteSize(worker.mem_bytes),
        ByteSize(worker.buffer_bytes),
        ByteSize(need),
        ByteSize(host.memory_bytes)
    );
    let mend = "set worker.mem_capacity lower, or add memory";
    let mut findings = vec![if need > host.memory_bytes {
        Finding::failure("host.memory", found, "less than the host has", mend)
    } else if need > host.memory_bytes / 10 * 8 {
        Finding::warning("host.memory", found, "at most 80 % of it", mend)
    } else {
        Finding::ok("host.memory", found)
    }];
    findings.push(if host.swap_bytes > 0 && host.swappiness > 10 {
        Finding::warning(
            "host.swap",
            format!("{} of swap, vm.swappiness {}", ByteSize(host.swap_bytes), host.swappiness),
            "no swap, or a swappiness of at most 10: a cache that is swapped out is slower than no cache",
            "swapoff -a, or sysctl -w vm.swappiness=1",
        )
    } else {
        Finding::ok("host.swap", if host.swap_bytes == 0 { "none" } else { "rarely used" })
    });
    findings.push(if worker.cores > worker.host_cores {
        Finding::warning(
            "worker.cores",
            format!("{} cores set, {} there", worker.cores, worker.host_cores),
            "no more than the host has",
            "set worker.cores lower; the cache is filled anew after that",
        )
    } else {
        Finding::ok("worker.cores", format!("{} of {}", worker.cores, worker.host_cores))
    });
    findings
}

fn clock(facts: &Facts) -> Vec<Finding> {
    let host = &facts.host;
    let source = &host.clock_source;
    let slow = ["acpi_pm", "hpet", "jiffies", "refined-jiffies", "pit"].contains(&source.as_str());
    vec![
        if slow {
            Finding::warning(
                "host.clock-source",
                source,
                "tsc, kvm-clock or another that is read without a system call",
                "look in dmesg why the kernel gave the TSC up",
            )
        } else {
            Finding::ok("host.clock-source", source)
        },
        if host.clock_step_ms.abs() > CLOCK_STEP_MAX_MS {
            Finding::warning(
                "host.clock-steady",
                format!("the wall clock moved {} ms beside the monotonic one within 100 ms", host.clock_step_ms),
                format!("less than {CLOCK_STEP_MAX_MS} ms"),
                "let chrony or systemd-timesyncd slew the clock instead of setting it",
            )
        } else {
            Finding::ok("host.clock-steady", "wall and monotonic clock go together")
        },
    ]
}

/// Locked memory and open files, of the process that runs or of the one that would start from here.
pub(super) fn limits(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for facts_of_role in &facts.roles {
        let role = facts_of_role.role;
        let process = facts.limits_of(role);
        let whose = match &facts_of_role.process {
            Some(process) => format!("of process {}", process.pid),
            None => "of this shell".to_string(),
        };
        if let ("worker", Some(worker)) = (role, &facts.worker) {
            findings.push(memlock(process, &whose, worker.buffer_bytes / 2));
        }
        let (least, comfort) = match (role, &facts.worker) {
            ("worker", Some(worker)) => {
                let files = (worker.cores * worker.directories) as u64 * FILES_PER_DIRECTORY_CORE;
                (files + FILES_REST, FILES_COMFORT)
            }
            ("master", _) => (MASTER_FILES_MIN, FILES_COMFORT),
            _ => (FUSE_FILES_MIN, FUSE_FILES_MIN),
        };
        findings.push(open_files(role, process, &whose, least, comfort));
    }
    findings
}

fn count(limit: u64) -> String {
    if limit == u64::MAX { "no limit".into() } else { limit.to_string() }
}

fn memlock(process: &Process, whose: &str, registered_bytes: u64) -> Finding {
    let check = "worker.memlock";
    let limit = process.memlock_bytes;
    let shown = if limit == u64::MAX { "no limit".to_string() } else { ByteSize(limit).to_string() };
    let mend = "LimitMEMLOCK=infinity in the unit, ulimit -l unlimited before forebay up, or CAP_IPC_LOCK";
    if limit < MEMLOCK_MIN_BYTES {
        let want = format!("at least {}: the worker does not start below it", ByteSize(MEMLOCK_MIN_BYTES));
        Finding::failure(check, format!("{shown} {whose}"), want, mend)
    } else if limit < registered_bytes && !has_capability(process, CAP_IPC_LOCK) {
        let want = format!(
            "{} to register all buffers with io_uring; with less the worker runs and takes more CPU",
            ByteSize(registered_bytes)
        );
        Finding::warning(check, format!("{shown} {whose}"), want, mend)
    } else {
        Finding::ok(check, format!("{shown} {whose}"))
    }
}

fn open_files(role: &str, process: &Process, whose: &str, least: u64, comfort: u64) -> Finding {
    let check = format!("{role}.open-files");
    let found = format!("{} {whose}", count(process.open_files));
    let mend = format!("LimitNOFILE=1048576 in the unit, or ulimit -n {comfort} before forebay up");
    if process.open_files < least {
        Finding::failure(check, found, format!("at least {least}, better {comfort}"), mend)
    } else if process.open_files < comfort {
        Finding::warning(check, found, format!("{comfort}: each client takes connections of its own"), mend)
    } else {
        Finding::ok(check, found)
    }
}
