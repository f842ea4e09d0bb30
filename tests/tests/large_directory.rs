//! A directory of a hundred thousand files, never listed before, just lists: through the mount and with `fs ls`.
//! `FOREBAY_TEST_FILES` sets another number.

use forebay_tests::{Cluster, Options, each_file};
use std::collections::HashSet;
use std::time::Instant;

const RESIDENT_PER_FILE: u64 = 2 << 10;

#[test]
fn a_large_flat_directory_just_lists() {
    let files: usize = std::env::var("FOREBAY_TEST_FILES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let cluster = Cluster::start(Options::default());
    let folder = cluster.store("flat");
    let errors = each_file(files, 4, |index| {
        std::fs::write(folder.join(format!("file-{index:07}")), b"x").map_err(|error| error.to_string())
    });
    assert!(errors.is_empty(), "{errors:?}");
    cluster.mount_local("/flat", &folder, &["--freshness", "1h"]);
    cluster.mount_local("/again", &folder, &["--freshness", "1h"]);
    let master = cluster.master.as_ref().expect("it runs");
    let before = master.resident_bytes();

    let start = Instant::now();
    let mut seen = HashSet::with_capacity(files);
    for entry in std::fs::read_dir(cluster.mountpoint().join("flat")).expect("it opens") {
        assert!(seen.insert(entry.expect("the listing goes on to its end").file_name()), "a name came twice");
    }
    println!("{files} names through the mount, cold, after {:?}", start.elapsed());
    assert_eq!(seen.len(), files);
    let start = Instant::now();
    assert_eq!(std::fs::read_dir(cluster.mountpoint().join("flat")).expect("it opens").count(), files);
    println!("again after {:?}", start.elapsed());

    let start = Instant::now();
    let output = cluster.cli().run(&["fs", "ls", "/again"]);
    assert_eq!((output.code, output.text().lines().count()), (0, files), "{}", output.stderr);
    println!("fs ls, cold, after {:?}", start.elapsed());
    let grown = master.resident_bytes().saturating_sub(before);
    let fuse = cluster.fuse.as_ref().expect("it runs").resident_bytes();
    println!("the master grew by {} MiB, the mount's process has {} MiB", grown >> 20, fuse >> 20);
    assert!(grown <= 2 * files as u64 * RESIDENT_PER_FILE, "the master grew by {grown} bytes for twice {files} names");
    assert!(!cluster.logs().contains("does not answer"), "a listing that goes on is no trouble");
}
