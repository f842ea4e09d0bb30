//! Local directories: the conformance suite, and what only a file system has: links, odd entries, permissions, and
//! changes that leave no trace in time stamps.

use bytes::Bytes;
use forebay_base::ErrorKind;
use forebay_ufs::{ObjectKind, StoreLimits, UnderStore, WriteMode, conformance, open};
use futures::StreamExt;
use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

const LIMITS: StoreLimits = StoreLimits { concurrency: 16, deadline: Duration::from_secs(30), retries: 3 };

fn store(directory: &Path) -> Arc<dyn UnderStore> {
    open(&format!("file://{}", directory.display()), &[], LIMITS).expect("a good URI")
}

async fn read_all(store: &Arc<dyn UnderStore>, key: &str) -> Vec<u8> {
    let meta = store.stat(key).await.expect("stat");
    let mut stream = store.read(key, 0..meta.size, &meta.fingerprint).await.expect("read");
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.expect("a piece"));
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_promises_of_the_trait() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(store(dir.path())).await;
    assert_eq!(temporaries(dir.path()), 0, "something is left of what was given up");
}

/// Files below `directory` that are being written.
fn temporaries(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).expect("listed").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| match entry.file_type().expect("a type").is_dir() {
            true => temporaries(&entry.path()),
            false => usize::from(entry.file_name().as_bytes().starts_with(b".forebay-put-")),
        })
        .sum()
}

#[tokio::test]
async fn a_replaced_file_keeps_its_mode_and_half_a_file_has_no_name() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("private");
    fs::write(&path, "secret").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let store = store(dir.path());
    let mut upload = store.begin_upload("private", WriteMode::Replace, None).await.unwrap();
    upload.write(Bytes::from_static(b"new")).await.unwrap();
    let temporary = upload.leftover().unwrap();
    assert!(dir.path().join(&temporary).exists());
    assert_eq!(store.stat(&temporary).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(store.begin_upload(&temporary, WriteMode::Replace, None).await.err().unwrap().kind, ErrorKind::Invalid);
    assert_eq!(fs::read(&path).unwrap(), b"secret");
    upload.finish().await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::create_dir(dir.path().join("dir")).unwrap();
    for mode in [WriteMode::Replace, WriteMode::CreateOnly] {
        assert!(store.begin_upload("dir", mode.clone(), None).await.is_err());
        let below = store.begin_upload("private/below", mode, None).await.err().unwrap();
        assert_eq!(below.kind, ErrorKind::NotADirectory);
    }
    assert_eq!(temporaries(dir.path()), 0);
}

#[tokio::test]
async fn half_a_file_is_for_nobodys_eyes_but_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // What any new file gets here, which the process's mask decides.
    let usual = dir.path().join("usual");
    fs::write(&usual, "").unwrap();
    let usual = mode(&usual) & 0o644;
    let store = store(dir.path());
    store.put("put", Bytes::from_static(b"x"), false).await.unwrap();
    assert_eq!(mode(&dir.path().join("put")), usual);
    let mut upload = store.begin_upload("new", WriteMode::CreateOnly, Some(1)).await.unwrap();
    upload.write(Bytes::from_static(b"x")).await.unwrap();
    upload.finish().await.unwrap();
    assert_eq!(mode(&dir.path().join("new")), usual);
    let private = dir.path().join("private");
    fs::write(&private, "secret").unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o640)).unwrap();
    let upload = store.begin_upload("private", WriteMode::Replace, None).await.unwrap();
    assert_eq!(mode(&dir.path().join(upload.leftover().unwrap())), 0o640);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_gets_no_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "newer").unwrap();
    let store = store(dir.path());
    for key in ["f", "no/such/f"] {
        let mut upload = store.begin_upload(key, WriteMode::Replace, None).await.unwrap();
        upload.write(Bytes::from_static(b"older")).await.unwrap();
        upload.unless(Arc::new(AtomicBool::new(true)));
        assert_eq!(upload.finish().await.unwrap_err().kind, ErrorKind::Closed);
    }
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"newer");
    assert!(!dir.path().join("no").exists());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(temporaries(dir.path()), 0);
}

#[tokio::test]
async fn leftovers_of_a_directory_that_is_not_there_are_not_known_to_be_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (mounted, away) = (dir.path().join("store"), dir.path().join("away"));
    fs::create_dir_all(mounted.join("sub")).unwrap();
    let left = "sub/.forebay-put-0000000000000001";
    fs::write(mounted.join(left), "half").unwrap();
    let store = store(&mounted);
    fs::rename(&mounted, &away).unwrap();
    assert_eq!(store.remove_leftover(left).await.unwrap_err().kind, ErrorKind::Unavailable, "nothing is mounted there");
    fs::create_dir(&mounted).unwrap();
    assert_eq!(store.remove_leftover(left).await.unwrap_err().kind, ErrorKind::Unavailable, "something else is");
    fs::remove_dir(&mounted).unwrap();
    fs::rename(&away, &mounted).unwrap();
    assert!(store.remove_leftover(left).await.unwrap(), "it was there");
    assert!(!store.remove_leftover(left).await.unwrap(), "it was not any more");
    assert!(!mounted.join(left).exists());
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let gone = store(&dir.path().join("gone"));
    let error = gone.check().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.to_string().contains("gone does not exist"), "{error}");
    fs::write(dir.path().join("file"), "x").unwrap();
    assert_eq!(store(&dir.path().join("file")).check().await.unwrap_err().kind, ErrorKind::NotADirectory);
}

#[tokio::test]
async fn links_are_followed_as_long_as_they_stay_beneath() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("sub/deep")).unwrap();
    fs::write(at("sub/file"), "inside").unwrap();
    symlink("sub/file", at("good")).unwrap();
    symlink("../../sub/file", at("sub/deep/up")).unwrap();
    symlink("sub", at("good-dir")).unwrap();
    symlink(outside.path().join("secret"), at("absolute")).unwrap();
    symlink(outside.path(), at("out-dir")).unwrap();
    symlink("../../../../../../../../etc/passwd", at("climbs")).unwrap();
    symlink("loop", at("loop")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    let store = store(dir.path());

    let names: Vec<_> =
        store.list("", None).await.unwrap().entries.into_iter().map(|meta| (meta.name, meta.kind)).collect();
    let (file, directory) = (ObjectKind::File, ObjectKind::Directory);
    let expected = [("good", file), ("good-dir", directory), ("sub", directory)];
    assert_eq!(names, expected.map(|(name, kind)| (name.to_string(), kind)));
    for key in ["good", "sub/deep/up", "good-dir/file"] {
        assert_eq!(read_all(&store, key).await, b"inside", "{key}");
    }
    let some = store.stat("good").await.unwrap().fingerprint;
    for key in ["absolute", "out-dir", "out-dir/secret", "climbs", "loop", "dangling"] {
        assert_eq!(store.stat(key).await.unwrap_err().kind, ErrorKind::NotFound, "{key}");
        assert_eq!(store.read(key, 0..1, &some).await.err().unwrap().kind, ErrorKind::Stale, "{key}");
    }
    assert_eq!(store.put("out-dir/new", Bytes::new(), false).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(store.delete("out-dir/secret").await.unwrap_err().kind, ErrorKind::NotFound);
    assert!(outside.path().join("secret").exists() && !outside.path().join("new").exists());
}

#[tokio::test]
async fn what_is_no_file_and_has_no_name_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    fs::write(dir.path().join(OsStr::from_bytes(b"not-utf8-\xff")), "x").unwrap();
    fs::write(dir.path().join(".forebay-put-0123"), "left by a crash").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("fifo"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let store = store(dir.path());
    let page = store.list("", None).await.unwrap();
    assert_eq!(page.entries.iter().map(|meta| meta.name.as_str()).collect::<Vec<_>>(), ["file"]);
    let some = store.stat("file").await.unwrap().fingerprint;
    for key in ["socket", "fifo"] {
        assert_eq!(store.stat(key).await.unwrap_err().kind, ErrorKind::NotFound, "{key}");
        let read = tokio::time::timeout(Duration::from_secs(5), store.read(key, 0..1, &some)).await;
        assert!(read.expect("a read of a FIFO does not wait").is_err(), "{key}");
    }
    assert_eq!(store.delete("").await.unwrap_err().kind, ErrorKind::IsADirectory);
    fs::create_dir(dir.path().join("dir")).unwrap();
    assert_eq!(store.delete("dir").await.unwrap_err().kind, ErrorKind::IsADirectory);
    assert!(store.put("dir", Bytes::new(), false).await.is_err());
    assert_eq!(store.put("file/below", Bytes::new(), false).await.unwrap_err().kind, ErrorKind::NotADirectory);
    let left = fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().as_bytes().starts_with(b".forebay-put-"));
    assert_eq!(left.count(), 1, "failed puts leave nothing behind");
}

#[tokio::test]
async fn modes_and_owners_are_told() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "abc").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let meta = store(dir.path()).stat("f").await.unwrap();
    let known = fs::metadata(&path).unwrap();
    assert_eq!((meta.mode, meta.owner), (Some(0o640), Some((known.uid(), known.gid()))));
    assert_eq!(meta.mtime_ms, known.mtime() as u64 * 1000 + known.mtime_nsec() as u64 / 1_000_000);
}

/// A writer changes a file in place, with the same length, as fast as it can: within one tick of the clock that stamps
/// files two contents share a fingerprint, and still no reader may get other bytes than the last ones of that tick.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_within_a_tick_of_the_clock_are_never_missed() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    for round in 0..20u8 {
        let key = format!("f{round}");
        let path = dir.path().join(&key);
        fs::write(&path, [1; 512]).unwrap();
        let first_fingerprint = store.stat(&key).await.unwrap().fingerprint;
        let reading = {
            let (store, key, fingerprint) = (Arc::clone(&store), key.clone(), first_fingerprint.clone());
            tokio::spawn(async move { store.read(&key, 0..512, &fingerprint).await?.next().await.expect("a piece") })
        };
        fs::File::options().write(true).open(&path).unwrap().write_all_at(&[2; 512], 0).unwrap();
        let last = store.stat(&key).await.unwrap();
        match reading.await.unwrap() {
            Ok(bytes) if last.fingerprint == first_fingerprint => assert_eq!(bytes[0], 2, "the content before"),
            Ok(bytes) => assert_eq!(bytes[0], 1, "the content after, under the fingerprint before"),
            Err(error) => assert_eq!(error.kind, ErrorKind::Stale, "{error}"),
        }
        assert_eq!(read_all(&store, &key).await, vec![2; 512]);
    }
}
