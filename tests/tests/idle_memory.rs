//! What a cluster with default sizes takes while nobody uses it.

use forebay_tests::{Cluster, Options};
use std::time::Duration;

#[test]
fn master_worker_and_mount_together_stay_small() {
    let cluster = Cluster::start(Options { ssd_capacity: "10GiB".into(), ..Options::default() });
    let folder = cluster.store("data");
    std::fs::write(folder.join("f"), b"x").expect("a file");
    cluster.mount_local("/data", &folder, &[]);
    assert_eq!(std::fs::read(cluster.mountpoint().join("data/f")).expect("it reads"), b"x");
    std::thread::sleep(Duration::from_secs(5));
    let master = cluster.master.as_ref().expect("it runs").resident_bytes() >> 20;
    let worker = cluster.workers[0].as_ref().expect("it runs").resident_bytes() >> 20;
    let fuse = cluster.fuse.as_ref().expect("it runs").resident_bytes() >> 20;
    eprintln!("resident: master {master} MiB, worker {worker} MiB, fuse {fuse} MiB");
    let total = master + worker + fuse;
    assert!(
        total > 0 && total <= 200,
        "{total} MiB together (master {master}, worker {worker}, fuse {fuse}), want 200"
    );
}
