//! SSD above HDD in a real worker: what has no room goes down, what is hot comes up, and whatever happens to worker and
//! disks meanwhile, every byte is right.

use forebay_tests::{Cluster, Options, Pattern, drop_cached, eventually};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const FILES: usize = 80;
const FILE_BYTES: u64 = 3 * MIB + 5000;
const SSD: u64 = 128 * MIB;

fn cluster_with(hdd: &Path, eviction: &str) -> Cluster {
    let options = Options { ssd_capacity: "128MiB".into(), ..Options::default() };
    let cluster = Cluster::start(
        options
            .set("worker.mem_capacity", "\"8MiB\"")
            .set("worker.eviction", &format!("\"{eviction}\""))
            .set("worker.hdd", &format!("[\"{}=512MiB\"]", hdd.display())),
    );
    let folder = cluster.store("data");
    for index in 0..FILES {
        Pattern(index as u64).write(&folder.join(format!("f{index}")), FILE_BYTES).expect("space");
    }
    cluster.mount_local("/data", &folder, &["--freshness", "1h"]);
    cluster
}

fn read(cluster: &Cluster, index: usize) {
    let path = cluster.mountpoint().join(format!("data/f{index}"));
    Pattern(index as u64).check(&path, FILE_BYTES).expect("the bytes of the store");
    drop_cached(&path);
}

/// File by file, at a pace that the mover keeps.
fn read_slowly(cluster: &Cluster) {
    for index in 0..FILES {
        read(cluster, index);
        std::thread::sleep(Duration::from_millis(120));
    }
}

fn cached(cluster: &Cluster, index: usize) -> Value {
    cluster.cli().json(&["fs", "stat", "--json", &format!("/data/f{index}")])["cached"].clone()
}

fn bytes(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// A file of which every page is on HDD alone.
fn cold_file(cluster: &Cluster) -> usize {
    let is_cold = |index: &usize| {
        let held = cached(cluster, *index);
        bytes(&held, "hdd_bytes") == FILE_BYTES && bytes(&held, "mem_bytes") == 0
    };
    (0..FILES).find(is_cold).expect("something is on HDD")
}

/// Starts the worker, and waits until the master has heard of its tiers.
fn start(cluster: &mut Cluster) {
    cluster.start_worker(0);
    std::thread::sleep(Duration::from_millis(2500));
}

fn restart_with_hdd(cluster: &mut Cluster, hdd: &str) {
    let mut worker = cluster.workers[0].take().expect("it runs");
    assert!(worker.stop(Duration::from_secs(20)).is_some_and(|status| status.success()), "{}", worker.log_tail(20));
    let text = std::fs::read_to_string(cluster.config()).expect("the configuration");
    let line = |line: &str| if line.starts_with("hdd = ") { format!("hdd = {hdd}") } else { line.to_string() };
    let text: Vec<String> = text.lines().map(line).collect();
    std::fs::write(cluster.config(), text.join("\n")).expect("writable");
    start(cluster);
}

fn trouble(cluster: &Cluster) -> String {
    cluster.report().tiers("HDD").map(|tier| tier.trouble.clone()).collect()
}

#[test]
fn down_up_killed_removed_and_shrunk() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let hdd = place.path().join("hdd0");
    let mut cluster = cluster_with(&hdd, "lru");
    read_slowly(&cluster);
    let data = FILES as u64 * FILE_BYTES;
    let settled = cluster.settled_ssd_bytes();
    let report = cluster.report();
    let down = report.used_bytes("HDD");
    eprintln!("{data} bytes read: {settled} on SSD, {down} on HDD");
    assert!(settled <= SSD && down > data / 3, "{report:?}");
    let before = report.store_read_bytes();
    for index in 0..FILES {
        read(&cluster, index);
    }
    std::thread::sleep(Duration::from_millis(1500));
    let again = cluster.report().store_read_bytes() - before;
    assert!(again <= data / 10, "{again} bytes of {data} were fetched again: they should have been on a disk");

    // Hot pages come up.
    let hot = cold_file(&cluster);
    let explained = cluster.cli().json(&["admin", "explain", "--json", &format!("/data/f{hot}")]);
    let places = explained["workers"][0]["places"].as_array().expect("places");
    assert!(places.iter().any(|place| place["tier"] == "HDD" && place["bytes"] == FILE_BYTES), "{explained}");
    eventually("a hot file to come up", Duration::from_secs(30), || {
        read(&cluster, hot);
        let held = cached(&cluster, hot);
        (bytes(&held, "ssd_bytes") == FILE_BYTES && bytes(&held, "hdd_bytes") == 0).then_some(())
    });

    // Killed while pages move both ways.
    for round in 0..3 {
        std::thread::scope(|scope| {
            let mountpoint = cluster.mountpoint();
            scope.spawn(move || {
                for index in 0..FILES / 2 {
                    let path = mountpoint.join(format!("data/f{}", (index * 7 + round) % FILES));
                    Pattern(((index * 7 + round) % FILES) as u64)
                        .check(&path, FILE_BYTES)
                        .expect("right bytes, if late");
                    drop_cached(&path);
                }
            });
            std::thread::sleep(Duration::from_millis(700 + 300 * round as u64));
        });
        cluster.workers[0].as_mut().expect("it runs").kill();
        start(&mut cluster);
        for index in 0..FILES {
            read(&cluster, index);
        }
    }
    assert_eq!(trouble(&cluster), "");

    // Why pages of a file are gone.
    let victim = cold_file(&cluster);
    cluster.cli().ok(&["fs", "free", &format!("/data/f{victim}")]);
    let explained = cluster.cli().json(&["admin", "explain", "--json", &format!("/data/f{victim}")]);
    let gone = explained["workers"][0]["gone"].as_array().expect("what is gone");
    assert!(gone.iter().any(|gone| gone["cause"] == "freed" && gone["tier"] == "HDD"), "{explained}");
    let text = cluster.cli().ok(&["admin", "explain", &format!("/data/f{victim}")]);
    assert!(text.contains("freed: somebody asked for it"), "{text}");

    assert_eq!(cluster.cli().run(&["admin", "explain", "/data/nothing"]).code, 3);
    assert_eq!(cluster.cli().run(&["admin", "explain", "/data"]).code, 1);
    let site = cluster.folder().join("alluxio-site.properties");
    std::fs::write(&site, "alluxio.worker.ramdisk.size=1GB\n").expect("writable");
    let site = site.display().to_string();
    assert!(cluster.cli().ok(&["config", "import", &site]).contains("mem_capacity = \"1GiB\""));
    assert_eq!(cluster.cli().run(&["config", "import", "/nowhere"]).code, 1);

    // Without the directory, and with a smaller one.
    restart_with_hdd(&mut cluster, "[]");
    assert_eq!(cluster.report().tiers("HDD").count(), 0);
    for index in 0..FILES {
        read(&cluster, index);
    }
    restart_with_hdd(&mut cluster, &format!("[\"{}=64MiB\"]", hdd.display()));
    let report = cluster.report();
    let used = report.used_bytes("HDD");
    assert!(used <= 64 * MIB && used > 32 * MIB && trouble(&cluster).is_empty(), "{report:?}");
    for index in 0..FILES {
        read(&cluster, index);
    }
}

#[test]
fn a_disk_that_is_not_mounted_is_left_out_until_the_operator_says_otherwise() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let other = tempfile::tempdir_in("/dev/shm").expect("another file system");
    // The link stands for a mount point: behind it is the disk, or nothing.
    let point: PathBuf = place.path().join("disk");
    std::os::unix::fs::symlink(other.path(), &point).expect("a link");
    let mut cluster = cluster_with(&point, "lru");
    read_slowly(&cluster);
    assert!(cluster.report().used_bytes("HDD") > 0);
    let mut worker = cluster.workers[0].take().expect("it runs");
    assert!(worker.stop(Duration::from_secs(20)).is_some_and(|status| status.success()));
    std::fs::remove_file(&point).expect("the link");
    std::fs::create_dir(&point).expect("an empty mount point");
    start(&mut cluster);
    let why = trouble(&cluster);
    assert!(why.contains("is its disk mounted?"), "{why}");
    for index in 0..FILES {
        read(&cluster, index);
    }
    assert_eq!(
        std::fs::read_dir(&point).expect("a directory").count(),
        0,
        "nothing may be written below a mount point"
    );
    let log = cluster.workers[0].as_ref().expect("it runs").log();
    assert!(log.lines().any(|line| line.contains("ERROR") && line.contains("left out")), "{log}");
    let doctor = cluster.cli().run(&["admin", "doctor", "--no-speed", "--json", "--role", "worker"]);
    assert!(doctor.text().contains("is its disk mounted?"), "{doctor:?}");

    // The worker has to be stopped before the operator says otherwise.
    let wipe = |cluster: &Cluster| {
        let mut command = Command::new(forebay_tests::binary("forebay"));
        command.args(["--config", &cluster.config().display().to_string(), "worker", "--wipe-cache"]).arg(&point);
        command.output().expect("it runs")
    };
    let refused = wipe(&cluster);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("held by another running worker"), "{refused:?}");
    let mut worker = cluster.workers[0].take().expect("it runs");
    assert!(worker.stop(Duration::from_secs(20)).is_some_and(|status| status.success()));
    let done = wipe(&cluster);
    assert!(done.status.success() && String::from_utf8_lossy(&done.stdout).contains("begins empty"), "{done:?}");
    start(&mut cluster);
    assert_eq!(trouble(&cluster), "");
    // And the disk that was away is another cluster's matter until it is mounted again: nothing of it was touched.
    assert!(other.path().join("shard-0/superblock").exists());
}
