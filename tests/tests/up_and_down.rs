//! `forebay up` and `forebay down`: a whole cluster by one command, gone by another, with its mounts kept.

use forebay_tests::{Cli, CliOutput, Pattern, Turn, drop_cached, free_ports};
use std::path::Path;

fn processes(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("the kernel's list").flatten() {
        let Ok(command) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let named = command.contains(&*folder.to_string_lossy())
            || String::from_utf8_lossy(&environment).contains(&*folder.to_string_lossy());
        if named && command.contains("forebay") {
            found.push(command);
        }
    }
    found
}

/// Whatever happens to the test, nothing is left running.
struct Down<'a>(&'a str);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let _ = CliOutput::of("forebay", &["down", "--dir", self.0]);
    }
}

#[test]
fn one_command_each() {
    let _turn = Turn::take();
    let temporary = tempfile::Builder::new().prefix("forebay-up-").tempdir().expect("a temporary directory");
    let folder = temporary.path().join("home");
    let dir = folder.to_str().expect("ASCII");
    let store = temporary.path().join("store");
    std::fs::create_dir(&store).expect("a directory");
    Pattern(1).write(&store.join("f"), 3 << 20).expect("space");
    // The master's port, and the worker's from 100 above it.
    let port = free_ports(110).to_string();
    let up = ["up", "--dir", dir, "--port-base", &port];

    let first = CliOutput::of("forebay", &up);
    let _down = Down(dir);
    assert_eq!(first.code, 0, "{first:?}");
    let again = CliOutput::of("forebay", &up);
    assert!(again.code == 0 || again.stderr.lines().count() == 1, "a second up is told well: {again:?}");
    let cli = Cli::new(&folder.join("forebay.toml"));
    cli.ok(&["fs", "mount", "/data", &format!("file://{}", store.display())]);
    let mountpoint = folder.join("mnt");
    let path = mountpoint.join("data/f");
    Pattern(1).check(&path, 3 << 20).expect("bytes");
    drop_cached(&path);

    let down = CliOutput::of("forebay", &["down", "--dir", dir]);
    assert_eq!(down.code, 0, "{down:?}");
    assert!(!path.exists(), "the mount is still there");
    assert_eq!(processes(&folder), Vec::<String>::new(), "processes are left");
    let mounts = std::fs::read_to_string("/proc/mounts").expect("the kernel's list");
    assert!(!mounts.contains(dir), "a mount is left");

    let second = CliOutput::of("forebay", &up);
    assert_eq!(second.code, 0, "{second:?}");
    Pattern(1).check(&path, 3 << 20).expect("the mount of before");
}
