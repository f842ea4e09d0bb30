//! Processes as `/proc` shows them to everybody: limits, capabilities, unit, log.

use crate::doctor::facts::Process;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The process of `role` with this configuration; with none given, any process of that role.
pub(crate) fn running(role: &str, config: Option<&Path>) -> Option<Process> {
    let canonical = config.and_then(|path| path.canonicalize().ok());
    let named = |line: &[u8]| {
        config.is_none_or(|path| {
            line.split(|byte| *byte == 0).any(|argument| {
                argument == path.as_os_str().as_bytes()
                    || canonical.as_ref().is_some_and(|path| argument == path.as_os_str().as_bytes())
            })
        })
    };
    let name = format!("forebay-{role}");
    let mut found: Vec<i32> = std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name))
        .filter(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| named(&line)))
        .collect();
    found.sort_unstable();
    found.first().map(|pid| look(*pid))
}

/// What `/proc` says of one process; what it hides is as little as can be.
pub(crate) fn look(pid: i32) -> Process {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let (status, limits) = (read("status"), read("limits"));
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    Process {
        pid,
        uid: field("Uid:").split_whitespace().nth(1).and_then(|uid| uid.parse().ok()).unwrap_or(0),
        unit: unit(&read("cgroup")),
        memlock_bytes: soft_limit(&limits, "Max locked memory"),
        open_files: soft_limit(&limits, "Max open files"),
        capabilities: u64::from_str_radix(field("CapEff:"), 16).unwrap_or(0),
        log: std::fs::read_link(format!("/proc/{pid}/fd/2")).ok().filter(|path| path.is_file()),
    }
}

fn soft_limit(limits: &str, name: &str) -> u64 {
    let value = limits.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    match value {
        Some("unlimited") => u64::MAX,
        Some(number) => number.parse().unwrap_or(0),
        None => 0,
    }
}

/// `forebay-worker.service` of `0::/system.slice/forebay-worker.service`.
fn unit(cgroup: &str) -> Option<String> {
    let last = cgroup.lines().last()?.rsplit('/').next()?;
    (last.starts_with("forebay") && last.ends_with(".service")).then(|| last.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_units_are_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            20000                20000                files     \n\
                    Max locked memory         unlimited            unlimited            bytes     \n";
        assert_eq!(soft_limit(text, "Max open files"), 20_000);
        assert_eq!(soft_limit(text, "Max locked memory"), u64::MAX);
        let unit_of = |text: &str| unit(text);
        assert_eq!(unit_of("0::/system.slice/forebay-worker.service\n").as_deref(), Some("forebay-worker.service"));
        assert_eq!(unit_of("0::/user.slice/session-1.scope\n"), None);
        let own = look(std::process::id() as i32);
        assert!(own.open_files > 0, "{own:?}");
    }
}
