//! Directories, disks and the secret's file. Pure.

use crate::doctor::facts::{Directory, DirectoryState, Facts, SecretFile};
use crate::doctor::finding::Finding;
use forebay_base::ByteSize;

/// With less than this a tier holds nothing worth having.
const FREE_MIN_BYTES: u64 = 64 << 20;
/// The master stops taking changes when its journal cannot grow.
const MASTER_FREE_MIN_BYTES: u64 = 1 << 30;
const WRITE_SLOW_MB_PER_S: f64 = 100.0;
const READ_4K_SLOW_US: f64 = 2_000.0;
const WRITE_SLOW_HDD_MB_PER_S: f64 = 40.0;
const READ_4K_SLOW_HDD_US: f64 = 30_000.0;

/// Each directory of each role.
pub(super) fn directories(facts: &Facts) -> Vec<Finding> {
    facts.directories.iter().flat_map(|directory| one(facts, directory)).collect()
}

fn one(facts: &Facts, directory: &Directory) -> Vec<Finding> {
    let (setting, path) = (&directory.setting, directory.path.display());
    let state = match &directory.state {
        Ok(state) => state,
        Err(error) => {
            return vec![Finding::failure(
                format!("{setting}.usable"),
                format!("{path}: {error}"),
                "a directory",
                format!("mkdir -p {path}, or change {setting}"),
            )];
        }
    };
    let process = facts.process(directory.role);
    let owner = process.map_or(facts.host.own.uid, |process| process.uid);
    let mut findings = Vec::new();
    // Another user than the role's cannot try what the role may do.
    let may_try = facts.host.own.uid == 0 || facts.host.own.uid == owner;
    findings.push(match &state.writable {
        Ok(()) => {
            let made = if state.exists { "" } else { " (will be made)" };
            Finding::ok(format!("{setting}.writable"), format!("{path}{made}"))
        }
        Err(error) if may_try => Finding::failure(
            format!("{setting}.writable"),
            format!("{path}: {error}"),
            format!("a directory that user {owner} can write, with room"),
            format!("chown {owner} {path}; mount its file system read-write; free some space"),
        ),
        Err(error) => Finding::warning(
            format!("{setting}.writable"),
            format!("{path}: {error}, tried as user {}", facts.host.own.uid),
            format!("a try as user {owner}, who runs the {}", directory.role),
            "run this as root",
        ),
    });
    if state.exists {
        findings.extend(owner_and_mode(directory, state, process.map(|process| process.uid)));
    }
    match directory.capacity_bytes {
        Some(capacity) => findings.extend(tier(facts, directory, state, capacity)),
        None if directory.role == "master" && state.free_bytes < MASTER_FREE_MIN_BYTES => {
            findings.push(Finding::warning(
                format!("{setting}.space"),
                format!("{path}: {} free", ByteSize(state.free_bytes)),
                format!(
                    "{}: without room for its journal the master takes no changes",
                    ByteSize(MASTER_FREE_MIN_BYTES)
                ),
                "free some space there",
            ));
        }
        None => {}
    }
    findings
}

fn owner_and_mode(directory: &Directory, state: &DirectoryState, process_uid: Option<u32>) -> Vec<Finding> {
    let (setting, path) = (&directory.setting, directory.path.display());
    let mut findings = Vec::new();
    if let Some(uid) = process_uid
        && uid != 0
        && state.uid != uid
    {
        findings.push(Finding::failure(
            format!("{setting}.owner"),
            format!("{path} belongs to user {}", state.uid),
            format!("user {uid}, who runs the {}", directory.role),
            format!("chown -R {uid} {path}"),
        ));
    } else if process_uid == Some(0) && state.uid != 0 {
        findings.push(Finding::warning(
            format!("{setting}.owner"),
            format!("{path} belongs to user {}", state.uid),
            format!("root, who runs the {}: another owner could change what is cached", directory.role),
            format!("chown -R root {path}, or run the {} as user {}", directory.role, state.uid),
        ));
    } else {
        findings.push(Finding::ok(format!("{setting}.owner"), format!("user {}", state.uid)));
    }
    findings.push(if state.mode & 0o002 != 0 {
        Finding::failure(
            format!("{setting}.mode"),
            format!("{path} has mode {:04o}", state.mode),
            "nobody but its owner and group may write there",
            format!("chmod o-w {path}"),
        )
    } else {
        Finding::ok(format!("{setting}.mode"), format!("{:04o}", state.mode))
    });
    findings
}

fn tier(facts: &Facts, directory: &Directory, state: &DirectoryState, capacity: u64) -> Vec<Finding> {
    let (setting, path) = (&directory.setting, directory.path.display());
    let mut findings = vec![space(facts, directory, state, capacity)];
    if state.in_memory {
        findings.push(Finding::warning(
            format!("{setting}.file-system"),
            format!("{path} lies in memory (tmpfs)"),
            "a disk: a restart of the host loses it, and it counts as memory beside worker.mem_capacity",
            format!("name a directory on an SSD in {setting}, or give the memory to worker.mem_capacity"),
        ));
    }
    match &state.direct {
        Some(Ok(())) => findings.push(Finding::ok(format!("{setting}.direct-io"), "O_DIRECT works")),
        Some(Err(error)) => findings.push(Finding::warning(
            format!("{setting}.direct-io"),
            format!("{path}: O_DIRECT: {error}"),
            "a file system with O_DIRECT (ext4, xfs): the page cache is right, but slower and takes memory twice",
            format!("name a directory on ext4 or xfs in {setting}"),
        )),
        None => {}
    }
    match &state.speed {
        Some(Ok(speed)) => {
            let found = format!(
                "write {:.0} MB/s, read {:.0} MB/s, 4 KiB read {:.0} us ({} written)",
                speed.write_mb_per_s,
                speed.read_mb_per_s,
                speed.read_4k_us,
                ByteSize(speed.bytes)
            );
            // Of HDD nothing is wanted but that it is none of the very slow.
            let is_hdd = setting.starts_with("worker.hdd");
            let read_slow_us = if is_hdd { READ_4K_SLOW_HDD_US } else { READ_4K_SLOW_US };
            let write_slow = if is_hdd { WRITE_SLOW_HDD_MB_PER_S } else { WRITE_SLOW_MB_PER_S };
            let slow = speed.write_mb_per_s < write_slow || speed.read_4k_us > read_slow_us;
            findings.push(if slow {
                Finding::warning(
                    format!("{setting}.speed"),
                    found,
                    format!("{write_slow:.0} MB/s and 4 KiB within {read_slow_us:.0} us"),
                    "see what else is busy on it (iostat -x 1), or use another disk; a slow tier can be slower than its store",
                )
            } else {
                Finding::ok(format!("{setting}.speed"), found)
            });
        }
        Some(Err(error)) => findings.push(Finding::warning(
            format!("{setting}.speed"),
            format!("not measured: {error}"),
            "a short measurement",
            "mend what is said, or leave it out with --no-speed",
        )),
        None => {}
    }
    findings
}

/// Tiers on one file system share its room.
fn space(facts: &Facts, directory: &Directory, state: &DirectoryState, capacity: u64) -> Finding {
    let check = format!("{}.space", directory.setting);
    let path = directory.path.display();
    let neighbours: Vec<(u64, Option<u64>)> = facts
        .directories
        .iter()
        .filter_map(|other| Some((other.capacity_bytes?, other.state.as_ref().ok()?)))
        .filter(|(_, other)| other.device == state.device)
        .map(|(capacity, other)| (capacity, other.used_bytes))
        .collect();
    let wanted: u64 = neighbours.iter().fold(0, |sum, (capacity, _)| sum.saturating_add(*capacity));
    let Some(used) = neighbours.iter().try_fold(0u64, |sum, (_, used)| Some(sum.saturating_add((*used)?))) else {
        return Finding::ok(
            check,
            format!("{} free; too many files to count what is used", ByteSize(state.free_bytes)),
        );
    };
    let found =
        format!("{path}: {} free, {} used here, of {}", ByteSize(state.free_bytes), ByteSize(used), ByteSize(capacity));
    let mend = format!("free some space there, or lower the capacity in {}", directory.setting);
    let to_come = wanted.saturating_sub(used);
    if to_come > FREE_MIN_BYTES && state.free_bytes < FREE_MIN_BYTES {
        Finding::failure(check, found, format!("{} more for what is to be cached", ByteSize(to_come)), mend)
    } else if state.free_bytes < to_come {
        let want =
            format!("{} more: a full disk is a smaller cache, with its trouble in the report", ByteSize(to_come));
        Finding::warning(check, found, want, mend)
    } else {
        Finding::ok(check, found)
    }
}

/// The files of the secret and of the HTTP token.
pub(super) fn secret(facts: &Facts) -> Vec<Finding> {
    let mut findings = match &facts.secret {
        Some(secret) => secret_file("secret", "cluster.secret_file", secret),
        None => vec![Finding::ok("secret.usable", "none is set; only loopback listens without one")],
    };
    if let Some(token) = &facts.http_token {
        findings.extend(secret_file("http-token", "cluster.http_token_file", token));
    }
    findings
}

fn secret_file(name: &str, setting: &str, secret: &SecretFile) -> Vec<Finding> {
    let path = secret.path.display();
    let mut findings = vec![match &secret.load {
        Ok(()) => Finding::ok(format!("{name}.usable"), path.to_string()),
        Err(error) => Finding::failure(
            format!("{name}.usable"),
            error.replacen("cluster.secret_file", setting, 1),
            "a file of 16 to 4096 bytes that this user can read",
            format!(
                "head -c 32 /dev/urandom | base64 > {path}, the same on every host, chmod 0400, owner: who runs the roles"
            ),
        ),
    }];
    if let Ok((uid, mode)) = secret.meta {
        let check = format!("{name}.mode");
        let found = format!("{path} has mode {mode:04o}, user {uid}");
        let mend = format!("chmod 0400 {path}");
        findings.push(if mode & 0o007 != 0 {
            Finding::failure(check, found, "0400 or 0600: every user of this host can read it", mend)
        } else if mode & 0o070 != 0 {
            Finding::warning(check, found, "0400 or 0600: its group can read it", mend)
        } else {
            Finding::ok(check, format!("{mode:04o}, user {uid}"))
        });
    }
    findings
}
