//! An SSD directory that fills up or fails: reads go on from the store, and the report shows the directory as bad.

use forebay_tests::{Cluster, LoopDisk, Options, Pattern, drop_cached, eventually};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const FILES: usize = 10;
const FILE_BYTES: u64 = 24 * MIB;

fn with_disk(size: u64) -> (Cluster, LoopDisk) {
    let disk = LoopDisk::mount(size);
    let ssd = vec![(disk.path().join("cache"), "1GiB".to_string())];
    let options = Options { ssd: Some(ssd), ..Options::default() }.set("worker.mem_capacity", "\"16MiB\"");
    let cluster = Cluster::start(options);
    let folder = cluster.store("data");
    for index in 0..FILES {
        Pattern(index as u64).write(&folder.join(format!("f{index}")), FILE_BYTES).expect("space");
    }
    cluster.mount_local("/data", &folder, &["--freshness", "1h"]);
    (cluster, disk)
}

fn read_all(cluster: &Cluster) {
    for index in 0..FILES {
        let path = cluster.mountpoint().join(format!("data/f{index}"));
        Pattern(index as u64).check(&path, FILE_BYTES).expect("bytes, from wherever");
        drop_cached(&path);
    }
}

fn wait_for_trouble(cluster: &Cluster) -> String {
    eventually("the report to show the directory's trouble", Duration::from_secs(15), || {
        let report = cluster.report();
        report.tiers("SSD").find(|tier| !tier.trouble.is_empty()).map(|tier| tier.trouble.clone())
    })
}

#[test]
fn a_disk_that_fills_up() {
    let (cluster, disk) = with_disk(100 * MIB);
    read_all(&cluster);
    eprintln!("shown as: {}", wait_for_trouble(&cluster));
    read_all(&cluster);
    drop(cluster);
    drop(disk);
}

#[test]
fn a_disk_that_fails() {
    let (cluster, disk) = with_disk(600 * MIB);
    read_all(&cluster);
    assert!(cluster.settled_ssd_bytes() >= FILES as u64 * FILE_BYTES, "{:?}", cluster.report());
    disk.fail();
    read_all(&cluster);
    eprintln!("shown as: {}", wait_for_trouble(&cluster));
    read_all(&cluster);
    let text = cluster.cli().ok(&["admin", "report"]);
    assert!(text.contains("disk/cache"), "people see no such directory in:\n{text}");
    drop(cluster);
    drop(disk);
}
