//! Content that changes in the store under readers: each of them sees one version whole or ESTALE, never a mixture, and
//! nothing older than the mount's freshness.

use forebay_tests::{Bucket, Cluster, Options, Pattern};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const OVERWRITES: u64 = 100;
const READERS: usize = 8;
const PIECE: usize = 96 << 10;
const FRESHNESS: Duration = Duration::from_secs(1);
/// What a busy machine may add between the store's answer and the reader's next step.
const SLACK: Duration = Duration::from_millis(250);
const FULL: usize = 3 << 20;

/// Most overwrites keep the length; some change it.
fn size(version: u64) -> usize {
    if version % 10 == 9 { FULL + 4096 * version as usize } else { FULL }
}

/// How the content is replaced.
trait Overwrite: Sync {
    fn put(&self, version: u64);
}

impl Overwrite for Bucket {
    fn put(&self, version: u64) {
        self.put("changing.bin", &Pattern(version).bytes(size(version))).expect("the object is stored");
    }
}

struct Renamed<'a>(&'a Path);

impl Overwrite for Renamed<'_> {
    fn put(&self, version: u64) {
        let new = self.0.join(".new");
        Pattern(version).write(&new, size(version) as u64).expect("space");
        std::fs::rename(&new, self.0.join("changing.bin")).expect("the same directory");
    }
}

#[derive(Default)]
struct Tally {
    whole: AtomicU64,
    stale: AtomicU64,
}

/// Reads the whole file in pieces. `Ok(None)` is ESTALE.
fn read_once(path: &Path, newest_begun: u64) -> Result<Option<u64>, String> {
    let stale = |error: std::io::Error, what: &str| match error.raw_os_error() {
        Some(libc::ESTALE) => Ok(None),
        _ => Err(format!("{what}: {error}")),
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return stale(error, "open"),
    };
    let (mut buffer, mut offset, mut version) = (vec![0; PIECE], 0_usize, None);
    loop {
        let got = match file.read_at(&mut buffer, offset as u64) {
            Ok(got) => got,
            Err(error) => return stale(error, &format!("read at {offset}")),
        };
        if got == 0 {
            break;
        }
        let seen = match version {
            Some(seen) => seen,
            None => (0..=newest_begun + 5)
                .rev()
                .find(|version| Pattern(*version).difference(0, &buffer[..8]).is_none())
                .ok_or("the first bytes are of no version")?,
        };
        version = Some(seen);
        if let Some(at) = Pattern(seen).difference(offset as u64, &buffer[..got]) {
            return Err(format!("a mixture: began as version {seen}, differs at byte {at}"));
        }
        offset += got;
        // A reader that takes its time meets more overwrites.
        std::thread::sleep(Duration::from_millis(2));
    }
    let seen = version.ok_or("nothing could be read")?;
    if offset != size(seen) {
        return Err(format!("version {seen} ended at {offset}, want {}", size(seen)));
    }
    Ok(Some(seen))
}

fn overwritten_under_readers(path: &Path, store: &impl Overwrite) {
    // When each version was acknowledged by the store.
    let history = Mutex::new(vec![(0_u64, Instant::now())]);
    let (begun, done, tally) = (AtomicU64::new(0), AtomicBool::new(false), Tally::default());
    std::thread::scope(|scope| {
        for reader in 0..READERS {
            let (history, begun, done, tally) = (&history, &begun, &done, &tally);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let opened = Instant::now();
                    let old_enough = |at: Instant| at + FRESHNESS + SLACK <= opened;
                    let due = history.lock().expect("no panic with it held").clone();
                    let oldest =
                        due.iter().filter(|(_, at)| old_enough(*at)).map(|(version, _)| *version).max().unwrap_or(0);
                    match read_once(path, begun.load(Ordering::Relaxed)) {
                        Ok(Some(version)) => {
                            assert!(
                                version >= oldest,
                                "reader {reader} opened version {version} after {oldest} was due"
                            );
                            tally.whole.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(None) => {
                            tally.stale.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("reader {reader}: {error}"),
                    }
                }
            });
        }
        for version in 1..=OVERWRITES {
            begun.store(version, Ordering::Relaxed);
            store.put(version);
            history.lock().expect("no panic with it held").push((version, Instant::now()));
            // From quick successions to pauses longer than the freshness.
            std::thread::sleep(Duration::from_millis(if version % 25 == 0 { 1500 } else { version % 8 * 40 }));
        }
        done.store(true, Ordering::Relaxed);
    });
    std::thread::sleep(FRESHNESS + SLACK);
    assert_eq!(
        read_once(path, OVERWRITES),
        Ok(Some(OVERWRITES)),
        "after the freshness interval only new bytes are left"
    );
    let (whole, stale) = (tally.whole.into_inner(), tally.stale.into_inner());
    eprintln!("{whole} whole reads, {stale} ESTALE");
    assert!(whole >= OVERWRITES / 4, "only {whole} whole reads beside {stale} ESTALE: readers hardly get through");
}

#[test]
fn an_s3_object_under_eight_readers() {
    let cluster = Cluster::start(Options::default().with_s3());
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    Overwrite::put(&bucket, 0);
    cluster.mount_s3("/s3", "data", &["--freshness", "1s"]);
    overwritten_under_readers(&cluster.mountpoint().join("s3/changing.bin"), &bucket);
}

#[test]
fn a_local_file_under_eight_readers() {
    let cluster = Cluster::start(Options::default());
    let folder = cluster.store("data");
    Renamed(&folder).put(0);
    cluster.mount_local("/local", &folder, &["--freshness", "1s"]);
    overwritten_under_readers(&cluster.mountpoint().join("local/changing.bin"), &Renamed(&folder));
}

#[test]
fn after_estale_the_next_open_sees_the_new_version() {
    let cluster = Cluster::start(Options::default().with_s3().set("worker.read_ahead", "0"));
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    let large = 24 << 20;
    // So long that nothing but the reader's own finding can show the change.
    cluster.mount_s3("/s3", "data", &["--freshness", "1h"]);
    for round in 0..4_u64 {
        let (old, new, name) = (Pattern(2 * round), Pattern(2 * round + 1), format!("f{round}"));
        bucket.put(&name, &old.bytes(large)).expect("stored");
        cluster.cli().ok(&["fs", "ls", &format!("/s3/{name}")]);
        let path = cluster.mountpoint().join("s3").join(&name);
        let open = File::open(&path).expect("it opens");
        let mut buffer = vec![0; 4096];
        open.read_exact_at(&mut buffer, 0).expect("the first bytes");
        assert_eq!(old.difference(0, &buffer), None);
        bucket.put(&name, &new.bytes(large)).expect("stored");
        let end = (large - 4096) as u64;
        let error = open.read_exact_at(&mut buffer, end).expect_err("these bytes were never fetched and are gone");
        assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{error}");
        new.check(&path, large as u64).expect("the next open sees the new version");
        // The old handle never shows new bytes.
        match open.read_exact_at(&mut buffer, 0) {
            Ok(()) => assert_eq!(old.difference(0, &buffer), None, "a mixture on an old handle"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{error}"),
        }
        assert!(cluster.logs().contains(&format!("/s3/{name}")), "no log line names the file");
    }
}

#[test]
fn new_and_deleted_objects_show_after_the_freshness() {
    let cluster = Cluster::start(Options::default().with_s3());
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    bucket.put("dir/old", b"old").expect("stored");
    cluster.mount_s3("/s3", "data", &["--freshness", "1s"]);
    let folder = cluster.mountpoint().join("s3/dir");
    let names = || {
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .expect("a listing")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["old"]);
    assert!(!folder.join("new").exists());
    bucket.put("dir/new", b"new").expect("stored");
    bucket.delete("dir/old").expect("deleted");
    std::thread::sleep(FRESHNESS + SLACK);
    assert_eq!(std::fs::read(folder.join("new")).expect("it is there"), b"new");
    assert!(!folder.join("old").exists());
    assert_eq!(names(), ["new"]);
}
