//! A worker's disk that is not what it was: bytes that went bad where nobody reads are found by the scrub, told, and fetched
//! again, at once for what is pinned; a directory of a later release is refused in one line and left alone.

use forebay_base::crc32c;
use forebay_tests::prometheus::read;
use forebay_tests::{Cluster, Options, Pattern, eventually, http};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const FILES: u64 = 8;
const FILE_BYTES: u64 = 3 * MIB + 5000;
const LONG: Duration = Duration::from_secs(40);

fn loaded(options: Options) -> (Cluster, PathBuf) {
    let cluster = Cluster::start(options.set("worker.scrub_rate", "\"200MiB\""));
    let folder = cluster.store("data");
    for index in 0..FILES {
        Pattern(index).write(&folder.join(format!("f{index}")), FILE_BYTES).expect("space");
    }
    cluster.mount_local("/data", &folder, &["--freshness", "1h"]);
    (cluster, folder)
}

/// The local files of large contents below a worker's cache.
fn local_files(base: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![base.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().contains("/files/") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Turns a bit over in the second page of a local file.
fn damage(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("root may");
    let file = std::fs::File::options().read(true).write(true).open(path).expect("a local file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, MIB + 12_345).expect("it is that long");
    file.write_all_at(&[byte[0] ^ 1], MIB + 12_345).expect("a write");
    file.sync_all().expect("synced");
}

fn worker_metric(cluster: &Cluster, name: &str) -> f64 {
    let answer = http(cluster.http_ports().workers[0], "GET", "/metrics", "");
    read(&answer.body).expect("metrics").sum(name, &[])
}

fn corrupt_units(cluster: &Cluster) -> u64 {
    let report = cluster.cli().json(&["admin", "report", "--json"]);
    let workers = report["workers"].as_array().expect("workers");
    workers.iter().map(|worker| worker["counters"]["corrupt_units"].as_u64().expect("a number")).sum()
}

#[test]
fn the_scrub_finds_it_and_tells_and_what_is_pinned_comes_back() {
    let options = Options { fuse: false, ..Options::default() };
    let options = options.set("worker.mem_capacity", "\"8MiB\"").set("master.pin_lease", "\"6s\"");
    let (mut cluster, _folder) = loaded(options);
    cluster.cli().ok(&["fs", "pin", "/data"]);
    let whole = FILES * FILE_BYTES;
    let kept = |cluster: &Cluster| {
        eventually("the pin to be kept", LONG, || {
            let list = cluster.cli().json(&["fs", "pin", "--json"]);
            (list[0]["is_complete"] == true && list[0]["pinned_bytes"] == whole && list[0]["missing_bytes"] == 0)
                .then_some(())
        });
    };
    kept(&cluster);
    assert!(cluster.settled_ssd_bytes() >= whole);
    cluster.workers[0].as_mut().expect("it runs").kill();
    let files = local_files(&cluster.cache());
    assert_eq!(files.len() as u64, FILES);
    damage(&files[2]);
    damage(&files[5]);
    cluster.start_worker(0);
    eventually("the scrub to find both", LONG, || {
        (worker_metric(&cluster, "forebay_worker_scrub_bad_pages_total") == 2.0).then_some(())
    });
    eventually("the report to tell", LONG, || (corrupt_units(&cluster) == 2).then_some(()));
    eventually("both pages to come back", LONG, || {
        (worker_metric(&cluster, "forebay_worker_store_read_bytes_total") >= 2.0 * MIB as f64).then_some(())
    });
    kept(&cluster);
    let before = worker_metric(&cluster, "forebay_worker_store_read_bytes_total");
    for index in 0..FILES {
        let bytes = cluster.cli().run(&["fs", "checksum", &format!("/data/f{index}")]);
        assert!(bytes.stderr.is_empty(), "{bytes:?}");
    }
    let fetched = worker_metric(&cluster, "forebay_worker_store_read_bytes_total");
    assert_eq!(fetched, before, "everything was there again");
    let scrubbed = worker_metric(&cluster, "forebay_worker_scrubbed_bytes_total");
    assert!(scrubbed >= (whole - 2 * MIB) as f64, "{scrubbed}");
}

#[test]
fn a_directory_of_a_later_release_is_refused_and_left_alone() {
    let (mut cluster, _folder) = loaded(Options { fuse: false, ..Options::default() });
    cluster.cli().ok(&["fs", "load", "-R", "/data"]);
    let held = cluster.settled_ssd_bytes();
    assert!(cluster.workers[0].take().expect("it runs").stop(LONG).is_some_and(|status| status.success()));
    let superblock = cluster.cache().join("shard-0/superblock");
    let ours = std::fs::read(&superblock).expect("a superblock");
    let mut later = ours.clone();
    later[8] = 9;
    let sum = crc32c(&later[..4092]);
    later[4092..].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&superblock, &later).expect("written");
    let mut refused = cluster.spawn_worker(0);
    let status = refused.wait_end(LONG);
    assert!(!status.success());
    let log = refused.log();
    let line =
        log.lines().find(|line| line.contains("disk format 9")).unwrap_or_else(|| panic!("nothing said:\n{log}"));
    for part in [
        "shard-0",
        "this release knows formats up to 1",
        "use the newer release, or empty it with forebay worker --wipe-cache",
    ] {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
    assert!(std::fs::read(&superblock).expect("a superblock") == later, "touched");
    std::fs::write(&superblock, &ours).expect("written");
    cluster.start_worker(0);
    assert_eq!(cluster.settled_ssd_bytes(), held, "nothing was touched");
}
