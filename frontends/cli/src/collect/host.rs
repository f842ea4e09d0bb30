//! What a bug report needs to know of the host: versions, `/proc`, directories by name and size, the ends of logs. It
//! reads no file's content but those of `/proc` and logs.

use crate::doctor::Process;
use forebay_base::settings::Settings;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NAMES_MAX: usize = 1_000;
const FILES: [&str; 9] = [
    "/proc/version",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/pressure/io",
    "/proc/pressure/memory",
    "/proc/sys/kernel/io_uring_disabled",
    "/proc/sys/vm/max_map_count",
    "/proc/sys/vm/swappiness",
    "/proc/self/limits",
];

/// Our version, the system's, and which binaries lie beside this one.
pub(crate) fn versions() -> String {
    let mut text = format!("forebay {}\n", env!("CARGO_PKG_VERSION"));
    text.push_str(&read("/etc/os-release"));
    let own = std::env::current_exe().ok();
    let folder = own.as_deref().and_then(Path::parent);
    for name in ["forebay", "forebay-master", "forebay-worker", "forebay-fuse"] {
        let Some(path) = folder.map(|folder| folder.join(name)) else { continue };
        text.push_str(&match path.metadata() {
            Ok(meta) => format!("{} {} bytes, changed {}\n", path.display(), meta.len(), meta.mtime()),
            Err(error) => format!("{}: {error}\n", path.display()),
        });
    }
    text
}

/// `/proc`, the mounts that are ours, and free space.
pub(crate) fn facts() -> String {
    let mut text = String::new();
    for file in FILES {
        text.push_str(&format!("== {file}\n{}\n", read(file)));
    }
    let cores = read("/proc/cpuinfo");
    let model = cores.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
    let count = cores.lines().filter(|line| line.starts_with("processor")).count();
    text.push_str(&format!("== /proc/cpuinfo\n{count} processors, {model}\n\n== mounts of Forebay\n"));
    for line in read("/proc/self/mountinfo").lines().filter(|line| line.contains("forebay")) {
        text.push_str(&format!("{line}\n"));
    }
    text
}

/// Names and sizes below the directories of the roles; of tiers only the uppermost level, for the rest is numbers.
pub(crate) fn directories(settings: &Settings) -> String {
    let mut text = String::new();
    let journal = settings.master.dir.join("journal");
    let fixed = [&settings.master.dir, &journal, &settings.worker.dir, &settings.cluster.socket_dir];
    for path in fixed.into_iter().chain(settings.worker.tier_dirs().map(|(_, tier)| &tier.path)) {
        text.push_str(&format!("== {}\n", path.display()));
        match rustix::fs::statvfs(path) {
            Ok(space) => text.push_str(&format!(
                "{} bytes free of {}\n",
                space.f_bavail.saturating_mul(space.f_frsize),
                space.f_blocks.saturating_mul(space.f_frsize)
            )),
            Err(error) => text.push_str(&format!("{error}\n")),
        }
        let mut names: Vec<String> = std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .take(NAMES_MAX)
            .filter_map(|entry| {
                let meta = entry.metadata().ok()?;
                let name = entry.file_name().to_string_lossy().into_owned();
                Some(format!("{name}  {} bytes  mode {:o}  user {}\n", meta.len(), meta.mode(), meta.uid()))
            })
            .collect();
        names.sort();
        text.extend(names);
        text.push('\n');
    }
    text
}

/// One role's process.
pub(crate) fn process(process: &Process) -> String {
    let pid = process.pid;
    let mut text = format!("unit {}\n", process.unit.as_deref().unwrap_or("none"));
    for name in ["status", "limits", "io", "cgroup"] {
        text.push_str(&format!("== /proc/{pid}/{name}\n{}\n", read(&format!("/proc/{pid}/{name}"))));
    }
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    text.push_str(&format!("{open} open descriptors\n"));
    text
}

/// The logs of `role`: where its standard error goes, and where `forebay up` would put it.
pub(crate) fn logs(role: &str, config: Option<&Path>, process: Option<&Process>) -> Vec<PathBuf> {
    let of_up = config.and_then(Path::parent).map(|dir| dir.join("log").join(format!("{role}.log")));
    let mut found: Vec<PathBuf> = process.and_then(|process| process.log.clone()).into_iter().chain(of_up).collect();
    found.retain(|path| path.is_file());
    found.dedup();
    found
}

/// What systemd's journal holds of the role's unit.
pub(crate) fn unit_log(role: &str) -> Option<String> {
    let unit = format!("forebay-{role}.service");
    let output = Command::new("journalctl")
        .args(["--quiet", "--no-pager", "--output=short-iso", "--lines=20000", "--unit", &unit])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success() && !text.trim().is_empty()).then_some(text)
}

/// The last `bytes` of a log, from the beginning of a line.
pub(crate) fn tail(path: &Path, bytes: u64) -> String {
    let mut read = Vec::new();
    let outcome = std::fs::File::open(path).and_then(|mut file| {
        let start = file.metadata()?.len().saturating_sub(bytes);
        file.seek(SeekFrom::Start(start))?;
        file.take(bytes).read_to_end(&mut read)
    });
    match outcome {
        Ok(_) => format!("== {}\n{}", path.display(), end_of(&String::from_utf8_lossy(&read), bytes)),
        Err(error) => format!("== {}: {error}\n", path.display()),
    }
}

/// At most the last `bytes` of a text, from the beginning of a line.
pub(crate) fn end_of(text: &str, bytes: u64) -> String {
    let start = text.len().saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    if start == 0 {
        return text.to_string();
    }
    text[start..].split_once('\n').map_or(String::new(), |(_, whole)| whole.to_string())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| format!("{error}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_begin_with_a_line() {
        assert_eq!(end_of("first\nsecond\nthird\n", 9), "third\n");
        assert_eq!(end_of("first\n", 100), "first\n");
        assert_eq!(end_of("no end of line", 4), "");
    }
}
