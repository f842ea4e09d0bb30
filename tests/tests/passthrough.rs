//! Files that the kernel reads by itself from the worker's local file: on a real mount, every fact about it that bites.

use forebay_tests::{Cluster, Mapping, Options, Pattern, eventually, http, prometheus};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// No whole page, no whole unit, no whole word.
const SIZE: u64 = 5 * MIB + 1234;
const WAIT: Duration = Duration::from_secs(30);

struct Mounted {
    cluster: Cluster,
    folder: PathBuf,
}

impl Mounted {
    fn new(options: Options) -> Self {
        let cluster = Cluster::start(options.set("worker.mem_capacity", "\"8MiB\""));
        let folder = cluster.store("data");
        cluster.mount_local("/data", &folder, &["--freshness", "0s"]);
        Self { cluster, folder }
    }

    fn usual() -> Self {
        Self::new(Options { worker_cores: 1, ..Options::default() })
    }

    /// Puts a file into the store.
    fn put(&self, name: &str, seed: u64, size: u64) {
        let new = self.folder.join(".new");
        Pattern(seed).write(&new, size).expect("space");
        std::fs::rename(&new, self.folder.join(name)).expect("the same directory");
    }

    /// Puts a file into the store and all of it on SSD.
    fn load(&self, name: &str, seed: u64, size: u64) {
        self.put(name, seed, size);
        self.cluster.cli().ok(&["fs", "load", "--verify", &format!("/data/{name}")]);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cluster.mountpoint().join("data").join(name)
    }

    fn open(&self, name: &str) -> File {
        File::open(self.path(name)).expect("it opens")
    }

    fn direct(&self, name: &str) -> File {
        File::options().read(true).custom_flags(libc::O_DIRECT).open(self.path(name)).expect("it opens")
    }

    fn fuse(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = http(self.cluster.http_ports().fuse, "GET", "/metrics", "").body;
        prometheus::read(&text).expect("metrics").sum(name, labels)
    }

    fn opens(&self, path: &str) -> f64 {
        self.fuse("forebay_fuse_opens_total", &[("path", path)])
    }

    fn backed(&self) -> f64 {
        self.fuse("forebay_fuse_backing_files", &[])
    }

    /// A release is told behind the close.
    fn until_backed(&self, count: f64) {
        eventually("the backing files to be given back", WAIT, || (self.backed() == count).then_some(()));
    }

    /// The worker says each second what leases keep.
    fn until_leased(&self, what: &str, is_so: impl Fn(u64) -> bool) {
        eventually(what, Duration::from_secs(60), || {
            let text = http(self.cluster.http_ports().workers[0], "GET", "/metrics", "").body;
            let bytes = prometheus::read(&text).expect("metrics").sum("forebay_worker_tier_leased_bytes", &[]);
            is_so(bytes as u64).then_some(())
        });
    }

    /// What the mount says of passthrough.
    fn says(&self) -> String {
        let mut value = [0; 512];
        let length = rustix::fs::getxattr(self.cluster.mountpoint(), "user.forebay.passthrough", &mut value[..])
            .expect("the root says it");
        String::from_utf8_lossy(&value[..length]).into_owned()
    }

    /// Fills the cache over and over.
    fn press(&self, files: u64) {
        for index in 0..files {
            self.load(&format!("press{index}"), 5000 + index, 16 * MIB);
        }
    }
}

fn is_right(file: &File, seed: u64, size: u64) {
    // Past the page cache that an earlier read may have filled.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    // As O_DIRECT wants it: memory, offsets and lengths in whole pages.
    let mut memory = vec![0; MIB as usize + 4096];
    let start = memory.as_ptr().align_offset(4096);
    let piece = &mut memory[start..start + MIB as usize];
    let mut done = 0;
    loop {
        let count = file.read_at(piece, done).expect("bytes");
        assert_eq!(Pattern(seed).difference(done, &piece[..count]), None, "seed {seed}");
        done += count as u64;
        if count < piece.len() {
            break;
        }
    }
    assert_eq!(done, size, "not a byte beyond the end");
}

fn is_mapped_right(mapping: &Mapping, seed: u64) {
    assert_eq!(Pattern(seed).difference(0, &mapping.bytes()), None, "seed {seed}");
    assert!(mapping.behind_the_end().iter().all(|byte| *byte == 0), "bytes behind the end show");
}

#[test]
fn the_kernel_reads_whole_files_exactly_and_gives_them_back() {
    let mounted = Mounted::usual();
    assert_eq!(mounted.says(), "on");
    mounted.load("large", 1, SIZE);
    mounted.load("small", 2, MIB);
    let reads = || mounted.fuse("forebay_fuse_op_seconds_count", &[("op", "read")]);
    let before = reads();
    let file = mounted.open("large");
    assert_eq!((mounted.opens("passthrough"), mounted.backed()), (1.0, 1.0));
    is_right(&file, 1, SIZE);
    assert_eq!(file.metadata().expect("attributes").len(), SIZE);
    assert_eq!(file.read_at(&mut [0; 4096], SIZE).expect("the end"), 0);
    assert_eq!(file.read_at(&mut [0; 4096], SIZE - 10).expect("the last bytes"), 10);
    let mapping = Mapping::new(&file).expect("it can be mapped");
    is_mapped_right(&mapping, 1);
    // More opens share the one backing file, O_DIRECT too.
    let (again, direct) = (mounted.open("large"), mounted.direct("large"));
    assert_eq!((mounted.opens("passthrough"), mounted.backed()), (3.0, 1.0));
    is_right(&again, 1, SIZE);
    is_right(&direct, 1, SIZE);
    assert_eq!(reads(), before, "no read reached the mount's process");
    drop((file, again));
    is_right(&direct, 1, SIZE);
    assert_eq!(mounted.backed(), 1.0, "not before the last release");
    drop(direct);
    mounted.until_backed(0.0);
    is_mapped_right(&mapping, 1);

    let small = mounted.open("small");
    is_right(&small, 2, MIB);
    assert_eq!((mounted.opens("cached"), mounted.backed()), (1.0, 0.0), "small files go through the page cache");
    // An open to write has nothing to do with the worker's file, which others read and map meanwhile.
    let reader = mounted.open("large");
    let writer = File::options().read(true).write(true).open(mounted.path("large")).expect("a writable open");
    writer.write_all_at(&[7; 4096], 0).expect("written");
    let mut seen = [0; 4096];
    writer.read_exact_at(&mut seen, 0).expect("its own bytes");
    assert_eq!(seen, [7; 4096]);
    is_right(&reader, 1, SIZE);
    is_mapped_right(&mapping, 1);
    drop(writer);
    is_right(&reader, 1, SIZE);
    is_mapped_right(&mapping, 1);
    mounted.open("large").read_exact_at(&mut seen, 0).expect("what was saved");
    assert_eq!(seen, [7; 4096]);
    let report = mounted.cluster.cli().run(&["admin", "doctor", "--json"]).stdout;
    assert!(String::from_utf8_lossy(&report).contains("the mount says: on"), "{}", String::from_utf8_lossy(&report));
}

#[test]
fn kinds_of_opens_are_mixed_in_every_order() {
    let mounted = Mounted::usual();
    // A cached node of a file that was not whole when it was opened.
    mounted.put("second", 2, SIZE);
    let early = mounted.open("second");
    let early_mapping = Mapping::new(&early).expect("it can be mapped");
    drop(early);
    let direct_early = {
        mounted.put("third", 3, SIZE);
        mounted.direct("third")
    };
    for name in ["second", "third"] {
        mounted.cluster.cli().ok(&["fs", "load", "--verify", &format!("/data/{name}")]);
    }
    // The refusals of a moment ago are not believed for long.
    std::thread::sleep(Duration::from_millis(2500));
    let passed = mounted.opens("passthrough");
    let late = mounted.open("second");
    is_right(&late, 2, SIZE);
    is_mapped_right(&early_mapping, 2);
    let late_direct = mounted.open("third");
    is_right(&late_direct, 3, SIZE);
    is_right(&direct_early, 3, SIZE);
    let direct_mapping = Mapping::new(&direct_early).expect("a direct file can be mapped");
    is_mapped_right(&direct_mapping, 3);
    assert_eq!(mounted.opens("passthrough"), passed, "a node that is read through this process stays so");
    drop((late, early_mapping, late_direct, direct_early, direct_mapping));
    // Everything is closed: now the kernel may read them by itself.
    let opened = eventually("the releases", WAIT, || {
        let files = (mounted.open("second"), mounted.open("third"));
        (mounted.opens("passthrough") >= passed + 2.0 && mounted.backed() >= 2.0).then_some(files)
    });
    is_right(&opened.0, 2, SIZE);
    is_right(&opened.1, 3, SIZE);
    // Backed and mapped, closed, out of the cache: the next open is a cached one beside the mapping.
    let backed_mapping = Mapping::new(&opened.0).expect("it can be mapped");
    drop(opened);
    mounted.until_backed(0.0);
    mounted.cluster.cli().ok(&["fs", "free", "/data/second"]);
    let served = mounted.open("second");
    is_right(&served, 2, SIZE);
    is_mapped_right(&backed_mapping, 2);
    let served_mapping = Mapping::new(&served).expect("it can be mapped");
    is_mapped_right(&served_mapping, 2);
}

#[test]
fn readers_keep_the_old_bytes_whatever_becomes_of_the_file() {
    let mounted = Mounted::new(Options { worker_cores: 1, ssd_capacity: "96MiB".into(), ..Options::default() });
    let names = ["freed", "overwritten", "unlinked", "evicted"];
    for (seed, name) in names.iter().enumerate() {
        mounted.load(name, seed as u64, SIZE);
    }
    let files: Vec<File> = names.iter().map(|name| mounted.open(name)).collect();
    let mappings: Vec<Mapping> = files.iter().map(|file| Mapping::new(file).expect("it can be mapped")).collect();
    // These have nothing but their mapping: the kernel has sent the release.
    let closed: Vec<Mapping> =
        names.iter().map(|name| Mapping::new(&mounted.open(name)).expect("it can be mapped")).collect();
    assert_eq!(mounted.opens("passthrough"), 8.0);
    mounted.until_leased("all leases", |bytes| bytes == 4 * SIZE.next_multiple_of(4096));
    mounted.cluster.cli().ok(&["fs", "free", "--force", "/data/freed"]);
    mounted.put("overwritten", 101, SIZE + 5);
    std::fs::remove_file(mounted.folder.join("unlinked")).expect("it is there");
    mounted.press(12);
    for (seed, (file, mapping)) in files.iter().zip(mappings.iter().zip(&closed)).enumerate() {
        is_right(file, seed as u64, SIZE);
        is_mapped_right(mapping.0, seed as u64);
        is_mapped_right(mapping.1, seed as u64);
    }
    is_right(&mounted.open("overwritten"), 101, SIZE + 5);
    assert!(File::open(mounted.path("unlinked")).is_err());
    mounted.until_leased("their space to count", |bytes| bytes >= 3 * SIZE);
    // Without leases, mappings alone do not keep a file in the cache, but its bytes for whoever maps it.
    drop((files, mappings));
    mounted.until_backed(0.0);
    mounted.until_leased("the lease to end", |bytes| bytes < 4 * SIZE);
    mounted.press(12);
    for (seed, mapping) in closed.iter().enumerate() {
        is_mapped_right(mapping, seed as u64);
    }
    drop(closed);
    mounted.until_leased("the space of old files to be free", |bytes| bytes == 0);
}

#[test]
fn a_killed_worker_and_a_killed_mount_cost_no_reader_a_byte() {
    let mut mounted = Mounted::new(Options { worker_cores: 1, ssd_capacity: "96MiB".into(), ..Options::default() });
    mounted.load("kept", 1, SIZE);
    mounted.load("mapped", 2, SIZE);
    let file = mounted.open("kept");
    let mapping = Mapping::new(&mounted.open("mapped")).expect("it can be mapped");
    assert_eq!(mounted.opens("passthrough"), 2.0);
    mounted.cluster.workers[0].as_mut().expect("it runs").kill();
    is_right(&file, 1, SIZE);
    is_mapped_right(&mapping, 2);
    mounted.cluster.start_worker(0);
    // The new process knows of no lease. What it must not do is punch.
    mounted.press(12);
    is_right(&file, 1, SIZE);
    is_mapped_right(&mapping, 2);
    drop((file, mapping));
    mounted.until_backed(0.0);
    mounted.load("kept", 1, SIZE);
    let again = eventually("it to be handed out again", WAIT, || {
        let file = mounted.open("kept");
        (mounted.backed() == 1.0).then_some(file)
    });
    is_right(&again, 1, SIZE);
    mounted.until_leased("the lease to show", |bytes| bytes > 0);
    mounted.cluster.fuse.as_mut().expect("it runs").kill();
    let mut byte = [0];
    assert!((&again).read(&mut byte).is_ok(), "the kernel goes on reading");
    // The kernel still holds the file; it has its name, so that no space is lost.
    mounted.until_leased("the leases of the dead mount to end", |bytes| bytes == 0);
    is_right(&again, 1, SIZE);
    drop(again);
    mounted.cluster.start_fuse();
    is_right(&mounted.open("kept"), 1, SIZE);
}

#[test]
fn switched_off_or_refused_by_the_kernel_files_are_read_all_the_same() {
    let off = Mounted::new(Options { worker_cores: 1, ..Options::default() }.set("fuse.passthrough", "\"off\""));
    assert_eq!(off.says(), "off: fuse.passthrough is off");
    off.load("large", 1, SIZE);
    is_right(&off.open("large"), 1, SIZE);
    is_right(&off.direct("large"), 1, SIZE);
    assert_eq!((off.opens("passthrough"), off.opens("cached"), off.opens("direct")), (0.0, 1.0, 1.0));
    let from_file = off.fuse("forebay_client_read_bytes_total", &[("source", "file")]);
    assert!(from_file >= SIZE as f64, "the mount's process reads the local file: {from_file}");
    drop(off);

    let stacked = Overlay::mount();
    let ssd = Some(vec![(stacked.merged(), "1GiB".to_string())]);
    let mounted = Mounted::new(Options { worker_cores: 1, ssd, ..Options::default() });
    mounted.load("large", 1, SIZE);
    is_right(&mounted.open("large"), 1, SIZE);
    assert_eq!((mounted.opens("passthrough"), mounted.opens("cached")), (0.0, 1.0));
    assert!(mounted.says().contains("overlayfs"), "{}", mounted.says());
    let report = mounted.cluster.cli().run(&["admin", "doctor", "--json"]).stdout;
    assert!(String::from_utf8_lossy(&report).contains("overlayfs"), "{}", String::from_utf8_lossy(&report));
    drop(mounted);
    drop(stacked);
}

/// A stacked file system, taken away at the end.
struct Overlay(tempfile::TempDir);

impl Overlay {
    fn mount() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let at = |name: &str| dir.path().join(name).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
        let overlay = Self(dir);
        run(&["mount", "-t", "overlay", "overlay", "-o", &options], &overlay.merged());
        overlay
    }

    fn merged(&self) -> PathBuf {
        self.0.path().join("merged")
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        run(&["umount", "-l"], &self.merged());
    }
}

fn run(words: &[&str], path: &Path) {
    let status = Command::new(words[0]).args(&words[1..]).arg(path).status().expect("it starts");
    assert!(status.success(), "{words:?}: {status}");
}
