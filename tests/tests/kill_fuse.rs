//! A FUSE process that dies leaves nothing behind that the next one on the same path cannot clear away.

use forebay_tests::{Cluster, Options, Pattern};
use std::time::Duration;

#[test]
fn the_next_one_on_the_same_path_works() {
    let mut cluster = Cluster::start(Options::default());
    let folder = cluster.store("data");
    Pattern(1).write(&folder.join("f"), 5 << 20).expect("space");
    cluster.mount_local("/data", &folder, &[]);
    let path = cluster.mountpoint().join("data/f");
    for _ in 0..3 {
        Pattern(1).check(&path, 5 << 20).expect("bytes");
        // With a file open and its directory in use.
        let open = std::fs::File::open(&path).expect("it opens");
        cluster.fuse.as_mut().expect("it runs").kill();
        assert!(std::fs::read(&path).is_err(), "nobody serves this mount");
        cluster.start_fuse();
        drop(open);
    }
    Pattern(1).check(&path, 5 << 20).expect("bytes");
    let mounts = std::fs::read_to_string("/proc/mounts").expect("the kernel's list");
    let mountpoint = cluster.mountpoint().display().to_string();
    let count = mounts.lines().filter(|line| line.split(' ').nth(1) == Some(&mountpoint)).count();
    assert_eq!(count, 1, "dead mounts are left below the live one");
}

#[test]
fn a_clean_stop_leaves_no_mount() {
    let mut cluster = Cluster::start(Options::default());
    let status = cluster.fuse.as_mut().expect("it runs").stop(Duration::from_secs(10)).expect("SIGTERM ends it");
    assert!(status.success(), "{status}");
    let mounts = std::fs::read_to_string("/proc/mounts").expect("the kernel's list");
    let mountpoint = cluster.mountpoint().display().to_string();
    assert!(!mounts.lines().any(|line| line.split(' ').nth(1) == Some(&mountpoint)), "the mount is still there");
    cluster.start_fuse();
}
