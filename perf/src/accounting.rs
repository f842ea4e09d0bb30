//! What processes cost: CPU seconds (user and system) and resident memory of a process and everything it started, from
//! /proc. The kernel counts in ticks of 10 ms.

use std::collections::BTreeMap;

/// Ticks a second in /proc/PID/stat; fixed for user space on Linux.
const TICKS: f64 = 100.0;

struct Stat {
    parent: u32,
    own_ticks: u64,
    /// Of children that ended and were waited for.
    children_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    Some(Stat {
        parent: number(1)? as u32,
        own_ticks: number(11)? + number(12)?,
        children_ticks: number(13)? + number(14)?,
    })
}

/// Each process with its parent.
fn parents() -> BTreeMap<u32, u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.parent))).collect()
}

/// A process and everything below it that lives.
fn family(pid: u32, parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while next < all.len() {
        let one = all[next];
        all.extend(parents.iter().filter(|(_, parent)| **parent == one).map(|(child, _)| *child));
        next += 1;
    }
    all
}

/// What was used until now, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// CPU seconds.
    pub(crate) cpu_s: BTreeMap<String, f64>,
    /// Resident bytes.
    pub(crate) resident_bytes: BTreeMap<String, u64>,
}

fn resident_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Looks at the processes of a rig.
pub(crate) fn usage(processes: &[(String, u32)]) -> Usage {
    let parents = parents();
    let mut usage = Usage::default();
    for (name, pid) in processes {
        let (mut ticks, mut resident) = (0, 0);
        for member in family(*pid, &parents) {
            ticks += stat(member).map_or(0, |stat| stat.own_ticks + stat.children_ticks);
            resident += resident_bytes(member);
        }
        usage.cpu_s.insert(name.clone(), ticks as f64 / TICKS);
        usage.resident_bytes.insert(name.clone(), resident);
    }
    usage
}

/// CPU seconds of this process and of what it started and waited for (fio, ls): the reader's side.
pub(crate) fn own_cpu_s() -> f64 {
    stat(std::process::id()).map_or(0.0, |stat| (stat.own_ticks + stat.children_ticks) as f64 / TICKS)
}

/// CPU seconds between two looks. A process that was restarted between them counts from its start.
pub(crate) fn used_between(before: &Usage, after: &Usage) -> BTreeMap<String, f64> {
    let since = |(name, now): (&String, &f64)| {
        let then = before.cpu_s.get(name).copied().unwrap_or(0.0);
        (name.clone(), if *now >= then { now - then } else { *now })
    };
    after.cpu_s.iter().map(since).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_child_is_counted_while_it_lives_and_afterwards() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 60"])
            .spawn()
            .expect("sh runs");
        let me = [("me".to_string(), std::process::id())];
        let before = usage(&me);
        let mut used = 0.0;
        for _ in 0..200 {
            std::thread::sleep(std::time::Duration::from_millis(50));
            used = used_between(&before, &usage(&me))["me"];
            if used > 0.05 {
                break;
            }
        }
        assert!(used > 0.05, "{used}");
        assert!(usage(&me).resident_bytes["me"] > 1 << 20);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert!(own_cpu_s() > 0.05);
    }
}
