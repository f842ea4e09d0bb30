//! A master killed with SIGKILL at any moment: what it acknowledged is there when it is back, under the same numbers.

use forebay_tests::{Cli, Cluster, Options, Pattern, drop_cached};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ROUNDS: u64 = 8;
const FILES: usize = 200;

fn mounts(cli: &Cli) -> Vec<String> {
    let value = cli.json(&["fs", "mounts", "--json"]);
    let list = value.as_array().expect("an array of mounts");
    let mut paths: Vec<String> = list.iter().map(|mount| mount["path"].as_str().expect("a path").into()).collect();
    paths.sort();
    paths
}

/// Number by path, as the mount shows them.
fn numbers(mountpoint: &Path) -> BTreeMap<String, u64> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![mountpoint.join("data")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a listing").map(|entry| entry.expect("an entry")) {
            let metadata = entry.path().symlink_metadata().expect("its attributes");
            found.insert(entry.path().display().to_string(), metadata.ino());
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn mounts_and_numbers_survive() {
    // Freshness 0s: every look at a name asks the master. A short flush interval lets kills straddle flushes.
    let mut cluster = Cluster::start(Options::default().set("master.flush_interval", "\"500ms\""));
    let folder = cluster.store("data");
    for index in 0..FILES {
        let path = folder.join(forebay_tests::spread(index));
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        Pattern(index as u64).write(&path, 10_000).expect("space");
    }
    cluster.mount_local("/data", &folder, &["--freshness", "0s"]);
    let mountpoint = cluster.mountpoint();
    let first = numbers(&mountpoint);
    assert!(first.len() > FILES, "{} names", first.len());
    let cli = cluster.cli();
    // Mounts that were acknowledged, and those of which nobody knows.
    let acknowledged = Arc::new(Mutex::new(vec!["/data".to_string()]));
    let unknown = Arc::new(Mutex::new(Vec::new()));
    for round in 0..ROUNDS {
        let stop = Arc::new(AtomicBool::new(false));
        let load = {
            let (stop, cli, folder) = (stop.clone(), cli.clone(), folder.clone());
            let (acknowledged, unknown) = (acknowledged.clone(), unknown.clone());
            std::thread::spawn(move || {
                for index in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let path = format!("/m{round}-{index}");
                    let uri = format!("file://{}/d{:02}", folder.display(), index % 20);
                    let output = cli.run(&["fs", "mount", &path, &uri]);
                    let list = if output.code == 0 { &acknowledged } else { &unknown };
                    list.lock().expect("no panic with it").push(path);
                }
            })
        };
        std::thread::sleep(Duration::from_millis(120 + round * 397 % 1100));
        cluster.master.as_mut().expect("it runs").kill();
        stop.store(true, Ordering::Relaxed);
        cluster.start_master();
        load.join().expect("the load ends");

        let now = mounts(&cli);
        for path in acknowledged.lock().expect("no panic with it").iter() {
            assert!(now.contains(path), "round {round}: {path} was acknowledged and is gone: {now:?}");
        }
        for path in &now {
            let known = acknowledged.lock().expect("no panic with it").contains(path);
            assert!(known || unknown.lock().expect("no panic with it").contains(path), "{path} was never asked for");
        }
        assert_eq!(numbers(&mountpoint), first, "round {round}: other numbers");
        for index in (0..FILES).step_by(17) {
            let path = mountpoint.join("data").join(forebay_tests::spread(index));
            Pattern(index as u64).check(&path, 10_000).expect("bytes");
            drop_cached(&path);
        }
    }
    assert!(acknowledged.lock().expect("no panic with it").len() > 3, "the load did nothing");
}

#[test]
fn an_unmount_survives_and_frees_its_path() {
    let mut cluster = Cluster::start(Options { fuse: false, ..Options::default() });
    let (one, two) = (cluster.store("one"), cluster.store("two"));
    Pattern(1).write(&two.join("f"), 1000).expect("space");
    cluster.mount_local("/data", &one, &[]);
    cluster.cli().ok(&["fs", "unmount", "/data"]);
    cluster.master.as_mut().expect("it runs").kill();
    cluster.start_master();
    assert!(mounts(&cluster.cli()).is_empty());
    cluster.mount_local("/data", &two, &[]);
    assert!(cluster.cli().ok(&["fs", "ls", "/data"]).contains('f'));
}

#[test]
fn cached_files_are_read_while_the_master_is_away() {
    let mut cluster = Cluster::start(Options::default());
    let folder = cluster.store("data");
    Pattern(1).write(&folder.join("f"), 8 << 20).expect("space");
    cluster.mount_local("/data", &folder, &["--freshness", "1h"]);
    let path = cluster.mountpoint().join("data/f");
    Pattern(1).check(&path, 8 << 20).expect("bytes");
    let open = std::fs::File::open(&path).expect("it opens");
    cluster.master.as_mut().expect("it runs").kill();
    drop_cached(&path);
    let mut bytes = vec![0; 1 << 20];
    for index in 0..8 {
        let offset = index << 20;
        std::os::unix::fs::FileExt::read_exact_at(&open, &mut bytes, offset).expect("an open, cached file");
        assert_eq!(Pattern(1).difference(offset, &bytes), None);
    }
    cluster.start_master();
    Pattern(1).check(&path, 8 << 20).expect("bytes");
}
