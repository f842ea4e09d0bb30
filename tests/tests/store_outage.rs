//! A store that is gone or hangs costs only what is not cached, for a bounded time, and no other mount anything.

use forebay_tests::{Cluster, Options, Pattern, drop_cached, eventually, within};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

const SIZE: u64 = 3 << 20;
const DEADLINE: Duration = Duration::from_secs(3);
/// The kernel may ask twice, for its read-ahead and then for the page itself, and each waits for the store.
const SLACK: Duration = Duration::from_secs(2);

fn prepared() -> Cluster {
    let options = Options::default().with_s3().set("store.retries", "2").set("fuse.io_timeout", "\"15s\"");
    let cluster = Cluster::start(options);
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("far");
    for index in 0..20 {
        bucket.put(&format!("f{index}"), &Pattern(index).bytes(SIZE as usize)).expect("the object is stored");
    }
    let near = cluster.store("near");
    for index in 0..20 {
        Pattern(100 + index).write(&near.join(format!("f{index}")), SIZE).expect("space");
    }
    cluster.mount_s3("/far", "far", &["--option", "deadline=3s", "--freshness", "1h"]);
    cluster.mount_local("/near", &near, &["--freshness", "0s"]);
    let mountpoint = cluster.mountpoint();
    assert_eq!(std::fs::read_dir(mountpoint.join("far")).expect("a listing").count(), 20);
    for index in 0..10 {
        let path = mountpoint.join(format!("far/f{index}"));
        Pattern(index).check(&path, SIZE).expect("the object's bytes");
        drop_cached(&path);
    }
    cluster
}

/// What must hold while the store does not answer.
fn check_outage(cluster: &Cluster, endpoint: &str) {
    let mountpoint = cluster.mountpoint();
    std::thread::scope(|scope| {
        let uncached = scope.spawn(|| read_uncached(&mountpoint, 10..14));
        // The other mount, with freshness 0s, so that each of these asks its store, while the reads above wait.
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            let near = mountpoint.join("near");
            let count = within("ls of the other mount", Duration::from_secs(1), || {
                std::fs::read_dir(&near).map(Iterator::count)
            });
            assert_eq!(count.expect("a listing"), 20);
            let output = cluster.cli().run(&["fs", "ls", "/near"]);
            assert!(output.code == 0 && output.took < Duration::from_secs(1), "{output:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        for index in 0..20 {
            let path = mountpoint.join(format!("near/f{index}"));
            within("a read of the other mount", Duration::from_secs(2), || Pattern(100 + index).check(&path, SIZE))
                .expect("the file's bytes");
        }
        for index in 0..10 {
            let path = mountpoint.join(format!("far/f{index}"));
            within("a cached read", Duration::from_secs(2), || Pattern(index).check(&path, SIZE))
                .expect("cached bytes");
            drop_cached(&path);
        }
        uncached.join().expect("uncached reads fail as they should");
    });
    eventually("a log line that names the store", Duration::from_secs(2), || {
        let named = |line: &&str| line.contains("s3://far") && (line.contains("WARN") || line.contains("ERROR"));
        cluster.logs().lines().any(|line| named(&line)).then_some(())
    });
    assert!(!cluster.logs().contains(forebay_tests::SECRET_KEY), "a secret is in the logs ({endpoint})");
}

fn read_uncached(mountpoint: &Path, files: std::ops::Range<u64>) {
    std::thread::scope(|scope| {
        for index in files {
            scope.spawn(move || {
                let path = mountpoint.join(format!("far/f{index}"));
                // Each call has the mount's deadline: the lookup may have to ask the store as well.
                let start = Instant::now();
                let mut file = std::fs::File::open(&path).expect("known names open");
                let opened = start.elapsed();
                assert!(opened <= DEADLINE + SLACK, "open took {opened:?}, want {DEADLINE:?} and a little");
                let start = Instant::now();
                let error = file.read(&mut [0; 4096]).expect_err("the store is away and this was never read");
                let took = start.elapsed();
                assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
                assert!(took <= DEADLINE + SLACK, "EIO came after {took:?}, want it within {DEADLINE:?} and a little");
            });
        }
    });
}

fn check_recovery(cluster: &Cluster) {
    let mountpoint = cluster.mountpoint();
    for index in 0..20 {
        let path = mountpoint.join(format!("far/f{index}"));
        eventually("reads after the outage", Duration::from_secs(10), || Pattern(index).check(&path, SIZE).ok());
    }
}

/// Opens and reads whole small files that were never read, all at once, while the store hangs; what it took each.
fn read_small(folder: &Path, files: std::ops::Range<u64>) -> Vec<Duration> {
    let read = |index| {
        let path = folder.join(format!("s{index}"));
        move || {
            let start = Instant::now();
            let error = std::fs::read(&path).expect_err("the store hangs and this was never read");
            assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
            start.elapsed()
        }
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = files.map(|index| scope.spawn(read(index))).collect();
        readers.into_iter().map(|reader| reader.join().expect("it fails as it should")).collect()
    })
}

#[test]
fn open_and_read_together_end_by_the_deadline() {
    const SMALL: u64 = 100 << 10;
    const FILES: u64 = 101;
    let options = Options { workers: 2, ..Options::default() };
    let cluster = Cluster::start(options.with_s3().set("fuse.io_timeout", "\"15s\""));
    let s3 = cluster.s3.as_ref().expect("it was asked for");
    let bucket = s3.bucket("far");
    for index in 0..FILES {
        bucket.put(&format!("s{index}"), &Pattern(index).bytes(SMALL as usize)).expect("the object is stored");
    }
    // In the first mount each open has to ask the store, in the second one none has.
    for (name, freshness) in [("soon", "1s"), ("far", "1h")] {
        cluster.mount_s3(&format!("/{name}"), "far", &["--option", "deadline=3s", "--freshness", freshness]);
        let folder = cluster.mountpoint().join(name);
        for (what, files) in [("one reader", 0..1), ("a hundred readers", 1..FILES)] {
            assert_eq!(std::fs::read_dir(&folder).expect("a listing").count(), FILES as usize);
            std::thread::sleep(Duration::from_millis(1200));
            s3.hang();
            let mut took = read_small(&folder, files.clone());
            s3.go_on();
            took.sort();
            let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
            println!("/{name}, {what}: median {median:?}, longest {longest:?}");
            assert!(longest <= DEADLINE + Duration::from_secs(1), "/{name}, {what}: open and read took {longest:?}");
            for index in files {
                let path = folder.join(format!("s{index}"));
                let read = || Pattern(index).check(&path, SMALL).ok();
                eventually("reads after the outage", Duration::from_secs(10), read);
            }
        }
    }
}

#[test]
fn a_dead_store_costs_only_what_is_not_cached() {
    let mut cluster = prepared();
    let s3 = cluster.s3.as_mut().expect("it was asked for");
    let endpoint = s3.endpoint();
    s3.kill();
    check_outage(&cluster, &endpoint);
    cluster.s3.as_mut().expect("it was asked for").restart();
    check_recovery(&cluster);
}

#[test]
fn a_hanging_store_costs_only_what_is_not_cached() {
    let cluster = prepared();
    let s3 = cluster.s3.as_ref().expect("it was asked for");
    s3.hang();
    check_outage(&cluster, &s3.endpoint());
    s3.go_on();
    check_recovery(&cluster);
}
