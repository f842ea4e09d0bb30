//! Programs write through the mount: what the store has afterwards, compared in the store itself, what other mounts see, and
//! each refusal with its errno. On a directory and on an S3 server.

use forebay_tests::{Cluster, Options, Pattern, eventually};
use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

const MIB: usize = 1 << 20;
const STORES: [&str; 2] = ["local", "s3"];
const PATIENCE: Duration = Duration::from_secs(60);

/// Changes a file and its model.
type Step<'a> = &'a dyn Fn(&mut Vec<u8>);

/// A directory and a bucket, mounted so that nothing is asked again by itself.
struct Mounted {
    cluster: Cluster,
    folder: PathBuf,
}

impl Mounted {
    fn new() -> Self {
        let cluster = Cluster::start(Options::default().with_s3());
        let folder = cluster.store("data");
        let _ = cluster.s3.as_ref().expect("it was asked for").bucket("data");
        cluster.mount_local("/local", &folder, &["--freshness", "1h"]);
        cluster.mount_s3("/s3", "data", &["--freshness", "1h"]);
        Self { cluster, folder }
    }

    fn at(&self, store: &str, path: &str) -> PathBuf {
        self.cluster.mountpoint().join(store).join(path)
    }

    /// Where the store itself keeps it.
    fn stored(&self, store: &str, path: &str) -> PathBuf {
        match store {
            "local" => self.folder.join(path),
            _ => self.cluster.s3.as_ref().expect("it was asked for").folder_of("data").join(path),
        }
    }

    fn stored_bytes(&self, store: &str, path: &str) -> Vec<u8> {
        let path = self.stored(store, path);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.expect_err("it must be refused").raw_os_error().expect("an errno")
}

fn editing() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

#[test]
fn what_is_closed_is_in_the_store_and_seen_by_every_mount() {
    let mut mounted = Mounted::new();
    let other = mounted.cluster.start_another_fuse();
    for store in STORES {
        for (index, size) in [0, 1, 4095, MIB, MIB + 1, 20 * MIB + 7].into_iter().enumerate() {
            let name = format!("f{index}");
            let path = mounted.at(store, &name);
            let bytes = Pattern(index as u64).bytes(size);
            let mut file = File::create_new(&path).expect("created");
            file.write_all(&bytes).expect("written");
            assert_eq!(file.metadata().expect("fstat").len(), size as u64);
            drop(file);
            assert!(mounted.stored_bytes(store, &name) == bytes, "{store} {name}: the store has other bytes");
            Pattern(index as u64).check(&other.join(store).join(&name), size as u64).expect("the other mount");
            Pattern(index as u64).check(&path, size as u64).expect("this mount");
            let listed: Vec<_> = fs::read_dir(mounted.at(store, "")).expect("listed").flatten().collect();
            assert_eq!(listed.len(), index + 1, "{store}");
        }
        // Replaced, appended to, changed in the middle, cut, lengthened.
        let path = mounted.at(store, "f3");
        let mut model = b"another content".to_vec();
        let ino = fs::metadata(&path).expect("stat").ino();
        fs::write(&path, &model).expect("replaced");
        assert_eq!(mounted.stored_bytes(store, "f3"), model);
        let steps: [Step<'_>; 4] = [
            &|model| {
                File::options().append(true).open(&path).expect("opened").write_all(b" and more").expect("appended");
                model.extend_from_slice(b" and more");
            },
            &|model| {
                editing().open(&path).expect("opened").write_all_at(b"MIDDLE", 3).expect("written");
                model[3..9].copy_from_slice(b"MIDDLE");
            },
            &|model| {
                editing().open(&path).expect("opened").set_len(5).expect("cut");
                model.truncate(5);
            },
            &|model| {
                editing().open(&path).expect("opened").write_all_at(b"far", 3 * MIB as u64).expect("written");
                model.resize(3 * MIB, 0);
                model.extend_from_slice(b"far");
            },
        ];
        for (index, step) in steps.into_iter().enumerate() {
            step(&mut model);
            assert!(mounted.stored_bytes(store, "f3") == model, "{store}: the store after step {index}");
            // A mount asks each second whether something changed.
            eventually("another mount to see it", PATIENCE, || {
                (fs::read(other.join(store).join("f3")).expect("read") == model).then_some(())
            });
            assert!(fs::read(&path).expect("read") == model, "{store}: this mount after step {index}");
        }
        assert_eq!(fs::metadata(&path).expect("stat").ino(), ino, "it is the same file");
    }
    mounted.cluster.cli().ok(&["fs", "check", "-R", "/s3"]);
}

#[test]
fn names_change_in_the_store_first_and_refusals_have_their_errno() {
    let mounted = Mounted::new();
    for store in STORES {
        let at = |path: &str| mounted.at(store, path);
        fs::create_dir(at("d")).expect("mkdir");
        assert_eq!(errno(fs::create_dir(at("d"))), libc::EEXIST);
        fs::create_dir_all(at("d/e/f")).expect("mkdir -p");
        fs::write(at("d/file"), b"1").expect("written");
        assert!(mounted.stored(store, "d/e/f").is_dir() && mounted.stored(store, "d/file").is_file(), "{store}");
        assert_eq!(errno(fs::remove_dir(at("d"))), libc::ENOTEMPTY);
        assert_eq!(errno(fs::remove_dir(at("d/file"))), libc::ENOTDIR);
        assert_eq!(errno(fs::remove_file(at("d/e"))), libc::EISDIR);
        assert_eq!(errno(fs::remove_file(at("none"))), libc::ENOENT);
        assert_eq!(errno(File::create(at("none/x"))), libc::ENOENT);
        assert_eq!(errno(File::create(at("d/file/x"))), libc::ENOTDIR);
        assert_eq!(errno(File::create(at("d"))), libc::EISDIR);
        assert_eq!(errno(File::create_new(at("d/file"))), libc::EEXIST);
        assert_eq!(errno(File::create(at(&"n".repeat(256)))), libc::ENAMETOOLONG);
        assert_eq!(errno(fs::hard_link(at("d/file"), at("l"))), libc::EPERM);
        assert_eq!(errno(std::os::unix::fs::symlink("d", at("l"))), libc::EPERM);

        let rename = |from: &str, to: &str, flags| {
            let (from, to) = (at(from), at(to));
            rustix::fs::renameat_with(rustix::fs::CWD, &from, rustix::fs::CWD, &to, flags)
        };
        let (none, noreplace) = (rustix::fs::RenameFlags::empty(), rustix::fs::RenameFlags::NOREPLACE);
        fs::write(at("other"), b"22").expect("written");
        assert_eq!(rename("d/file", "other", noreplace), Err(rustix::io::Errno::EXIST));
        assert_eq!(rename("d/file", "other", rustix::fs::RenameFlags::EXCHANGE), Err(rustix::io::Errno::INVAL));
        assert_eq!(rename("d", "d/e/g", none), Err(rustix::io::Errno::INVAL));
        assert_eq!(rename("other", "d/e", none), Err(rustix::io::Errno::ISDIR));
        assert_eq!(rename("d/e", "other", none), Err(rustix::io::Errno::NOTDIR));
        let across = STORES.into_iter().find(|other| *other != store).expect("another");
        assert_eq!(errno(fs::rename(at("other"), mounted.at(across, "other"))), libc::EXDEV);
        fs::rename(at("d/file"), at("other")).expect("it replaces");
        assert_eq!(mounted.stored_bytes(store, "other"), b"1");
        assert!(!mounted.stored(store, "d/file").exists());
        assert_eq!(rename("other", "d/e/free", noreplace), Ok(()));
        fs::rename(at("d"), at("moved")).expect("a directory with all in it");
        assert_eq!(mounted.stored_bytes(store, "moved/e/free"), b"1");
        assert_eq!(fs::read(at("moved/e/free")).expect("read"), b"1");
        assert_eq!(fs::metadata(at("d")).expect_err("gone").kind(), ErrorKind::NotFound);
        fs::remove_dir_all(at("moved")).expect("rm -r");
        assert!(!mounted.stored(store, "moved").exists());
        assert_eq!(fs::read_dir(at("")).expect("listed").count(), 0, "{store}");
    }
    assert_eq!(Command::new("mkfifo").arg(mounted.at("local", "p")).output().expect("it runs").status.code(), Some(1));
    mounted.cluster.cli().ok(&["fs", "mount", "--update", "--readonly", "/local"]);
    assert_eq!(errno(File::create(mounted.at("local", "x"))), libc::EROFS);
    assert_eq!(errno(fs::create_dir(mounted.at("local", "x"))), libc::EROFS);
    // Above all mounts there is nothing to change.
    let above = errno(fs::create_dir(mounted.cluster.mountpoint().join("x")));
    assert!(
        [libc::EROFS, libc::EACCES, libc::EPERM, libc::EOPNOTSUPP].contains(&above),
        "{}",
        Error::from_raw_os_error(above)
    );
}

#[test]
fn one_of_two_mounts_creates_a_file_and_one_writes_at_a_time() {
    let mut mounted = Mounted::new();
    let other = mounted.cluster.start_another_fuse();
    for store in STORES {
        let here = mounted.at(store, "");
        let there = other.join(store);
        for round in 0..20 {
            let name = format!("race{round}");
            let create = |folder: &Path| {
                File::create_new(folder.join(&name)).map(|mut file| file.write_all(b"x").is_ok()).map_err(|e| e.kind())
            };
            let results = std::thread::scope(|scope| {
                let one = scope.spawn(|| create(&here));
                let two = scope.spawn(|| create(&there));
                [one.join().expect("no panic"), two.join().expect("no panic")]
            });
            let won = results.iter().filter(|result| **result == Ok(true)).count();
            let lost = results.iter().filter(|result| **result == Err(ErrorKind::AlreadyExists)).count();
            assert_eq!((won, lost), (1, 1), "{store} {round}: {results:?}");
        }
        let mut file = File::create(here.join("held")).expect("created");
        file.write_all(b"one").expect("written");
        assert_eq!(errno(editing().open(there.join("held"))), libc::EBUSY);
        drop(file);
        let mut file = File::options().append(true).open(there.join("held")).expect("it is free");
        file.write_all(b", two").expect("written");
        drop(file);
        assert_eq!(fs::read(here.join("held")).expect("read"), b"one, two");
        assert_eq!(mounted.stored_bytes(store, "held"), b"one, two");
    }
}

#[test]
fn open_files_go_on_when_their_name_changes_or_goes() {
    let mounted = Mounted::new();
    for store in STORES {
        let at = |path: &str| mounted.at(store, path);
        // A reader keeps what it opened and read, whatever replaces it.
        Pattern(1).write(&at("f"), 300_000).expect("written");
        // Until its writer's end is heard, the file is read past the kernel's page cache.
        std::thread::sleep(Duration::from_secs(1));
        let reader = File::open(at("f")).expect("opened");
        let mut bytes = vec![0; 300_000];
        reader.read_exact_at(&mut bytes, 0).expect("read");
        Pattern(2).write(&at("f"), 300_000).expect("replaced");
        reader.read_exact_at(&mut bytes, 0).expect("read again");
        assert_eq!(Pattern(1).difference(0, &bytes), None, "{store}");
        Pattern(2).check(&at("f"), 300_000).expect("the new content");

        // A name that goes while the file is written.
        let mut file = editing().create_new(true).open(at("gone")).expect("created");
        file.write_all(b"before").expect("written");
        fs::remove_file(at("gone")).expect("removed");
        file.write_all(b" after").expect("written");
        let mut back = [0; 12];
        file.read_exact_at(&mut back, 0).expect("read");
        assert_eq!(&back, b"before after");
        assert_eq!(file.metadata().expect("fstat").nlink(), 0);
        drop(file);
        std::thread::sleep(Duration::from_millis(300));
        assert!(!mounted.stored(store, "gone").exists() && !at("gone").exists(), "{store}");

        // A name that changes while the file is written: with and without an earlier save.
        for name in ["fresh", "saved"] {
            let mut file = editing().create_new(true).open(at(name)).expect("created");
            file.write_all(b"one").expect("written");
            if name == "saved" {
                drop(file.try_clone().expect("a descriptor whose close saves"));
                assert_eq!(mounted.stored_bytes(store, name), b"one");
            }
            fs::rename(at(name), at("renamed")).expect("renamed");
            file.write_all(b" two").expect("written");
            drop(file);
            assert_eq!(mounted.stored_bytes(store, "renamed"), b"one two", "{store} {name}");
            assert!(!mounted.stored(store, name).exists(), "{store} {name}");
            assert_eq!(fs::read(at("renamed")).expect("read"), b"one two");
            fs::remove_file(at("renamed")).expect("removed");
        }

        // One that is replaced by a rename while it is written.
        let mut file = editing().create_new(true).open(at("target")).expect("created");
        file.write_all(b"old").expect("written");
        fs::write(at("new"), b"new").expect("written");
        fs::rename(at("new"), at("target")).expect("renamed");
        file.write_all(b"er").expect("written");
        drop(file);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(mounted.stored_bytes(store, "target"), b"new", "{store}");
        assert_eq!(fs::read(at("target")).expect("read"), b"new");
    }
}

#[test]
fn attributes_survive_the_save_that_follows() {
    let mounted = Mounted::new();
    let when = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for store in STORES {
        let path = mounted.at(store, "f");
        let mut file = editing().create_new(true).mode(0o640).open(&path).expect("created");
        file.write_all(b"content").expect("written");
        file.set_permissions(fs::Permissions::from_mode(0o750)).expect("fchmod");
        file.set_modified(when).expect("futimens");
        drop(file);
        let look = || fs::metadata(&path).map(|meta| (meta.len(), meta.mode() & 0o7777, meta.modified().ok()));
        eventually("attributes", PATIENCE, || (look().expect("stat") == (7, 0o750, Some(when))).then_some(()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        assert_eq!(look().expect("stat").1, 0o600);
        assert_eq!(fs::read(&path).expect("read"), b"content");
        fs::write(&path, b"more").expect("written");
        assert_eq!((look().expect("stat").0, look().expect("stat").1), (4, 0o600), "{store}");

        let file = editing().open(&path).expect("opened");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 2, 8).expect("it lengthens");
        assert_eq!(file.metadata().expect("fstat").len(), 10);
        let kept = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, 100);
        assert_eq!(kept, Err(rustix::io::Errno::OPNOTSUPP));
        file.sync_all().expect("fsync");
        drop(file);
        assert_eq!(mounted.stored_bytes(store, "f"), b"more\0\0\0\0\0\0");

        let appended = mounted.at(store, "log");
        fs::write(&appended, b"").expect("written");
        let mut writers: Vec<_> = (0..2)
            .map(|index| {
                let script = format!("for i in $(seq 1000 1199); do echo {index}$i; done >> {}", appended.display());
                Command::new("sh").args(["-c", &script]).spawn().expect("it runs")
            })
            .collect();
        assert!(writers.iter_mut().all(|writer| writer.wait().expect("it ran").success()));
        let text = String::from_utf8(mounted.stored_bytes(store, "log")).expect("text");
        let lines: std::collections::BTreeSet<&str> = text.lines().collect();
        assert_eq!((lines.len(), text.len()), (400, 2400), "{store}: nobody overwrote anybody");
    }
}

#[test]
fn a_mount_or_a_program_that_is_killed_leaves_no_half_file() {
    let mut mounted = Mounted::new();
    for store in STORES {
        Pattern(1).write(&mounted.at(store, "old"), 2 * MIB as u64).expect("written");
    }
    // A program: what it wrote is saved when the kernel closes for it, and nobody waits for ever.
    let path = mounted.at("local", "by-dd");
    let mut program = Command::new("dd")
        .args(["if=/dev/zero", "bs=64k", "count=100000"])
        .arg(format!("of={}", path.display()))
        .stderr(Stdio::null())
        .spawn()
        .expect("dd runs");
    eventually("some bytes", PATIENCE, || fs::metadata(&path).is_ok_and(|meta| meta.len() > 0).then_some(()));
    program.kill().expect("killed");
    program.wait().expect("it ends");
    fs::remove_file(&path).expect("it can be removed");

    // The mount: what was neither closed nor synced is gone, what was there stays.
    let mut files = Vec::new();
    for store in STORES {
        let mut file = File::create(mounted.at(store, "new")).expect("created");
        file.write_all(&Pattern(3).bytes(5 * MIB)).expect("written");
        let old = editing().open(mounted.at(store, "old")).expect("opened");
        old.write_all_at(&Pattern(4).bytes(MIB), 0).expect("written");
        files.extend([file, old]);
    }
    mounted.cluster.fuse.as_mut().expect("it runs").kill();
    mounted.cluster.fuse = None;
    drop(files);
    while rustix::mount::unmount(mounted.cluster.mountpoint(), rustix::mount::UnmountFlags::DETACH).is_ok() {}
    for store in STORES {
        assert!(!mounted.stored(store, "new").exists(), "{store}: half a file");
        Pattern(1).check(&mounted.stored(store, "old"), 2 * MIB as u64).expect("as it was");
    }
    mounted.cluster.start_fuse();
    for store in STORES {
        Pattern(1).check(&mounted.at(store, "old"), 2 * MIB as u64).expect("as it was");
        eventually("the unsaved file to go", Duration::from_secs(180), || {
            matches!(File::open(mounted.at(store, "new")), Err(error) if error.kind() == ErrorKind::NotFound)
                .then_some(())
        });
        // And it can be written again, once the dead writer's sessions have lapsed.
        eventually("a new writer", PATIENCE, || {
            let mut file = File::create(mounted.at(store, "old")).ok()?;
            file.write_all(b"again").ok()
        });
        eventually("its content", PATIENCE, || (mounted.stored_bytes(store, "old") == b"again").then_some(()));
    }
    let mut left = Vec::new();
    let _ = File::open(mounted.at("local", "old")).expect("opened").read_to_end(&mut left);
    assert_eq!(left, b"again");
}
