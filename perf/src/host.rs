//! What ran where: the machine and the versions, as lines for people.

use std::path::Path;
use std::process::Command;

/// The first line that a command prints on either stream, or what went wrong.
pub(crate) fn first_line(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Err(error) => format!("{program}: {error}"),
        Ok(output) => {
            let all = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&all).lines().next().unwrap_or_default().trim().to_string()
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The root of the checkout that this was built from.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("perf/ lies in the workspace")
}

/// Facts about this host and this checkout.
pub(crate) fn facts(folder: &Path) -> Vec<String> {
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let memory = read("/proc/meminfo");
    let kib = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)).unwrap_or("0");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = read("/proc/loadavg");
    let commit = first_line("git", &["-C", &root().to_string_lossy(), "describe", "--always", "--dirty"]);
    let disk = first_line("findmnt", &["-n", "-o", "SOURCE,FSTYPE,OPTIONS", "-T", &folder.to_string_lossy()]);
    vec![
        format!("checkout {commit}"),
        format!(
            "{cores} x {}, {} GiB of memory",
            cpu.trim_start_matches([' ', '\t', ':']),
            kib.parse::<u64>().unwrap_or(0) >> 20
        ),
        format!("kernel {}", read("/proc/sys/kernel/osrelease").trim()),
        format!("disk {} ({disk})", folder.display()),
        format!("load average at the start {}", load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")),
        format!("{}, {}", first_line("fio", &["--version"]), first_line("ls", &["--version"])),
    ]
}
