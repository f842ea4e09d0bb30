//! Ports, masters, workers, mounts. Pure.

use crate::doctor::facts::{Answer, Facts, PortState};
use crate::doctor::finding::Finding;
use forebay_base::ErrorKind;

/// Tickets live 60 s by the worker's clock: beyond the first bound their life is noticeably shorter, beyond the second
/// reads begin to fail.
const SKEW_WARNING_MS: i64 = 1_000;
const SKEW_FAILURE_MS: i64 = 20_000;

/// Ports of this host's roles.
pub(super) fn ports(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for port in &facts.ports {
        let check = format!("port.{}", port.address);
        let (setting, own) = (&port.setting, format!("forebay-{}", port.role));
        findings.push(match &port.state {
            PortState::Free if facts.process(port.role).is_some() && setting.ends_with(".http") => Finding::warning(
                check,
                format!("nobody listens, though process {} runs", facts.limits_of(port.role).pid),
                format!("{own} serving its metrics there"),
                format!("see its log, or set {setting} = \"off\""),
            ),
            PortState::Free if facts.process(port.role).is_some() => Finding::failure(
                check,
                format!("nobody listens, though process {} runs", facts.limits_of(port.role).pid),
                format!("{own} listening there"),
                format!("see its log; it may have been started with another {setting}"),
            ),
            PortState::Free => Finding::ok(check, "free"),
            PortState::Held(pid, name) if *name == own => Finding::ok(check, format!("held by {name}, process {pid}")),
            PortState::Held(pid, name) => Finding::failure(
                check,
                format!("taken by {name}, process {pid}"),
                format!("free, or held by {own}"),
                format!("stop process {pid}, or change {setting}"),
            ),
            PortState::HeldUnseen => Finding::warning(
                check,
                "taken by a process that this user cannot see",
                format!("free, or held by {own}"),
                "run this as root, or: ss -ltnp",
            ),
            PortState::Refused(error) => Finding::failure(
                check,
                error,
                "an address of this host",
                format!("set {setting} to an address that `ip addr` shows, and to a port that this user may take"),
            ),
        });
    }
    findings
}

/// Each master by itself, then what they say of the clock and the cluster.
pub(super) fn masters(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for master in &facts.masters {
        let check = format!("master.{}", master.address);
        findings.push(match &master.answer {
            Ok(answer) => Finding::ok(
                check,
                format!("cluster {:032x}, answers in {:.1} ms", answer.cluster_id, answer.round_trip_us as f64 / 1e3),
            ),
            Err(error) if error.kind == ErrorKind::Denied => Finding::failure(
                check,
                &error.message,
                "the same secret and the same cluster on both sides",
                "copy the master's cluster.secret_file to this host; compare with sha256sum",
            ),
            Err(error) if error.kind == ErrorKind::Invalid => {
                Finding::failure(check, &error.message, "a usable cluster.secret_file", "see secret.usable")
            }
            Err(error) => Finding::failure(
                check,
                &error.message,
                "a master that answers",
                "start it there; see that cluster.masters names its master.listen and no firewall is between",
            ),
        });
    }
    let Some(answer) = answered(facts) else { return findings };
    findings.push(clock(answer));
    let others = facts.masters.iter().filter_map(|master| master.answer.as_ref().ok()).map(|other| other.cluster_id);
    if let Some(other) = others.into_iter().find(|id| *id != answer.cluster_id) {
        findings.push(Finding::failure(
            "cluster.id",
            format!("masters of two clusters: {:032x} and {other:032x}", answer.cluster_id),
            "one cluster in cluster.masters",
            "take the other cluster's masters out of cluster.masters",
        ));
    }
    if let Some(held) = facts.worker.as_ref().and_then(|worker| worker.cluster_id) {
        findings.push(if held == answer.cluster_id {
            Finding::ok("worker.cluster", "worker.dir belongs to the master's cluster")
        } else {
            Finding::failure(
                "worker.cluster",
                format!("worker.dir belongs to cluster {held:032x}"),
                format!("{:032x}, the master's", answer.cluster_id),
                "correct cluster.masters; or, to join the new cluster, empty worker.dir and the directories of worker.ssd",
            )
        });
    }
    findings
}

fn answered(facts: &Facts) -> Option<&Answer> {
    facts.masters.iter().find_map(|master| master.answer.as_ref().ok())
}

fn clock(answer: &Answer) -> Finding {
    let (check, skew) = ("cluster.clock", answer.skew_ms);
    let found =
        format!("the master's clock is {} ms {} this one's", skew.abs(), if skew < 0 { "behind" } else { "ahead of" });
    let mend = "run chrony or systemd-timesyncd on both hosts: timedatectl set-ntp true";
    if skew.abs() > SKEW_FAILURE_MS {
        Finding::failure(check, found, "less than 1 s: read tickets live 60 s by the worker's clock", mend)
    } else if skew.abs() > SKEW_WARNING_MS {
        Finding::warning(check, found, "less than 1 s: read tickets live 60 s by the worker's clock", mend)
    } else {
        Finding::ok(check, format!("within {} ms of the master's", skew.abs().max(1)))
    }
}

/// The worker of this host, then all.
pub(super) fn workers(facts: &Facts) -> Vec<Finding> {
    let Some(answer) = answered(facts) else { return Vec::new() };
    let mut findings = Vec::new();
    let own = facts.worker.as_ref().and_then(|worker| worker.worker_id);
    if let Some(process) = facts.process("worker") {
        let live = answer.workers.iter().any(|worker| Some(worker.id) == own && worker.live);
        findings.push(if live {
            Finding::ok("worker.registered", "the master knows this host's worker")
        } else {
            Finding::failure(
                "worker.registered",
                format!("the master has no live worker of process {}", process.pid),
                "a heartbeat each second",
                "see the worker's log: it says why it cannot register",
            )
        });
    }
    for worker in &answer.workers {
        let check = format!("cluster.worker.{:016x}", worker.id);
        if let Some((directory, trouble)) = worker.troubles.first() {
            findings.push(Finding::failure(
                check,
                format!("{}: {directory}: {trouble}", worker.address),
                "healthy directories",
                "free some space or replace the disk: docs/operations.md, Disks",
            ));
        } else if worker.live {
            findings.push(Finding::ok(check, format!("{} is live", worker.address)));
        } else if Some(worker.id) != own || facts.process("worker").is_none() {
            findings.push(Finding::warning(
                check,
                format!("{} is silent for {} s", worker.address, worker.silent_ms / 1_000),
                "a live worker",
                "start it, or let the master forget it",
            ));
        }
    }
    if !answer.workers.iter().any(|worker| worker.live) && facts.process("worker").is_none() {
        findings.push(Finding::failure(
            "cluster.workers",
            "no live worker in the cluster",
            "at least one: without it nothing can be read",
            "start a worker: forebay up, or systemctl start forebay-worker",
        ));
    }
    findings
}

/// Mounts of the namespace, and the kernel's mount on this host.
pub(super) fn mounts(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(answer) = answered(facts) {
        for (path, uri, trouble) in &answer.mounts_in_trouble {
            findings.push(Finding::failure(
                format!("cluster.mount.{path}"),
                format!("{uri}: {trouble}"),
                "a store that answers",
                "see whether the store is up and its credentials are valid; what is cached is served meanwhile",
            ));
        }
        if answer.mounts_in_trouble.is_empty() {
            findings.push(Finding::ok("cluster.mounts", format!("{} without trouble", answer.mounts)));
        }
    }
    let Some(mount) = &facts.mount else { return findings };
    let path = mount.path.display();
    let runs = facts.process("fuse").is_some();
    findings.push(match (&mount.answers, mount.mounted) {
        (Some(Ok(())), true) => Finding::ok("fuse.mount", format!("{path} answers")),
        (Some(Err(error)), true) => Finding::failure(
            "fuse.mount",
            format!("{path}: {error}"),
            "a mount that answers",
            format!("fusermount3 -uz {path} (root: umount -l), then start forebay-fuse"),
        ),
        (None, true) => Finding::failure(
            "fuse.mount",
            format!("{path} does not answer within 5 s"),
            "a mount that answers",
            "see the log of forebay-fuse, and whether the master answers; restart forebay-fuse",
        ),
        (_, false) if runs => Finding::failure(
            "fuse.mount",
            format!("nothing is mounted at {path}, though forebay-fuse runs"),
            "the mount, in this process's mount namespace",
            "restart forebay-fuse; a unit with PrivateMounts or ProtectSystem hides its mounts from the host",
        ),
        (_, false) => Finding::ok("fuse.mount", "not mounted, forebay-fuse does not run"),
    });
    findings
}
