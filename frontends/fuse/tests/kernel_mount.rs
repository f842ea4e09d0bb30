//! The transport against the real kernel: an in-memory file system behind the handler trait, mounted in a temporary
//! directory. Needs /dev/fuse and the right to mount.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "kernel_mount/mapping.rs"]
mod mapping;

use forebay_fuse::handler::{Content, Entry, Errno, Handler, NodeAttr, Opened, StatFs};
use forebay_fuse::mount;
use forebay_fuse::session::{Session, SessionOptions};
use forebay_fuse::wire::{DirBuffer, FOPEN_KEEP_CACHE, FOPEN_NOFLUSH};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const DIRECTORY_INO: u64 = 1;
const VALID: Duration = Duration::from_secs(60);

/// (ino, node, content).
type Held = (u64, u64, Arc<Vec<u8>>);

/// Files of the root: name -> (ino, node, content). Replacing content gives a new node and keeps the ino.
#[derive(Default)]
struct Memory {
    files: Mutex<BTreeMap<Vec<u8>, Held>>,
    next: AtomicU64,
    lookups: AtomicU64,
    refused_opens: AtomicU64,
    forgotten: AtomicU64,
    stuck: AtomicU64,
}

impl Memory {
    fn put(&self, name: &str, content: Vec<u8>) {
        let number = 100 + self.next.fetch_add(1, Ordering::Relaxed);
        let mut files = self.files.lock().unwrap();
        let ino = files.get(name.as_bytes()).map_or(number, |(ino, ..)| *ino);
        files.insert(name.into(), (ino, number, Arc::new(content)));
    }

    fn attr(ino: u64, size: usize, directory: bool) -> NodeAttr {
        NodeAttr {
            ino,
            size: size as u64,
            mtime_ms: 1_700_000_000_123,
            mode: if directory { 0o040_755 } else { 0o100_444 },
            nlink: 1,
            uid: 0,
            gid: 0,
            preferred_io_bytes: 4096,
        }
    }

    fn live(&self, node: u64) -> Option<(u64, Arc<Vec<u8>>)> {
        let files = self.files.lock().unwrap();
        files.values().find(|(_, live, _)| *live == node).map(|(ino, _, content)| (*ino, content.clone()))
    }
}

impl Handler for Memory {
    async fn lookup(&self, _parent: u64, name: &[u8]) -> Result<Entry, Errno> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        // Another task's turn: the reply comes from a local task, not from the reading loop.
        tokio::task::yield_now().await;
        let files = self.files.lock().unwrap();
        let (ino, node, content) = files.get(name).ok_or(Errno::NOENT)?;
        Ok(Entry { node: *node, attr: Self::attr(*ino, content.len(), false), valid: VALID })
    }

    fn forget(&self, _node: u64, lookups: u64) {
        self.forgotten.fetch_add(lookups, Ordering::Relaxed);
    }

    async fn get_attr(&self, node: u64) -> Result<(NodeAttr, Duration), Errno> {
        if node == 1 {
            return Ok((Self::attr(DIRECTORY_INO, 0, true), VALID));
        }
        let (ino, content) = self.live(node).ok_or(Errno::STALE)?;
        Ok((Self::attr(ino, content.len(), false), VALID))
    }

    async fn open(&self, node: u64, flags: u32) -> Result<Opened, Errno> {
        if flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32 {
            return Err(Errno::ROFS);
        }
        if self.live(node).is_none() {
            self.refused_opens.fetch_add(1, Ordering::Relaxed);
            return Err(Errno::STALE);
        }
        Ok(Opened { handle: node, flags: FOPEN_KEEP_CACHE | FOPEN_NOFLUSH, backing_id: None })
    }

    async fn read(&self, _node: u64, handle: u64, offset: u64, size: u32) -> Result<Content, Errno> {
        let (_, content) = self.live(handle).ok_or(Errno::STALE)?;
        if content.starts_with(b"stuck") {
            self.stuck.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        let start = (offset as usize).min(content.len());
        let end = (start + size as usize).min(content.len());
        Ok(Content::Memory(content[start..end].to_vec().into()))
    }

    fn release(&self, _handle: u64) {}

    async fn open_dir(&self, _node: u64) -> Result<Opened, Errno> {
        Ok(Opened { handle: 1, flags: 0, backing_id: None })
    }

    async fn read_dir(&self, _node: u64, _handle: u64, offset: u64, buffer: &mut DirBuffer) -> Result<(), Errno> {
        let files = self.files.lock().unwrap();
        for (index, (name, (ino, node, content))) in files.iter().enumerate().skip(offset as usize) {
            if !buffer.fits(name) {
                break;
            }
            let entry = Entry { node: *node, attr: Self::attr(*ino, content.len(), false), valid: VALID };
            buffer.push(name, &entry, index as u64 + 1);
        }
        Ok(())
    }

    fn release_dir(&self, _handle: u64) {}

    async fn stat_fs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { capacity_bytes: 8192, free_bytes: 4096, files: 3, block_bytes: 4096, name_bytes_max: 255 })
    }

    async fn get_xattr(&self, _node: u64, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if name == b"user.test" { Ok(b"value".to_vec()) } else { Err(Errno::NODATA) }
    }

    async fn list_xattr(&self, _node: u64) -> Result<Vec<u8>, Errno> {
        Ok(b"user.test\0".to_vec())
    }
}

/// A mount that goes when the test ends, however it ends.
struct Mounted {
    memory: Arc<Memory>,
    session: Option<Session>,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mounted {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = mount::prepare(&dir.path().join("mnt")).unwrap();
        let memory = Arc::new(Memory::default());
        let options = SessionOptions {
            threads: 2,
            max_read: 256 << 10,
            read_ahead_bytes: 1 << 20,
            allow_other: false,
            passthrough: false,
        };
        let session = Session::start(&path, &options, memory.clone()).expect("this test needs /dev/fuse and mount(2)");
        Mounted { memory, session: Some(session), path, _dir: dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.unmount().unwrap();
        }
        assert!(mount::find_mount(&self.path).unwrap().is_none(), "the mount is gone");
    }
}

fn pattern(length: usize, seed: u64) -> Vec<u8> {
    (0..length as u64).map(|index| (index.wrapping_mul(0x9E37_79B9).wrapping_add(seed) >> 7) as u8).collect()
}

fn read_all(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn names_attributes_and_bytes_come_through() {
    let mounted = Mounted::new();
    let big = pattern(5_000_001, 1);
    mounted.memory.put("big", big.clone());
    for index in 0..3000 {
        mounted.memory.put(&format!("small-{index:05}"), pattern(index, 2));
    }

    let meta = std::fs::metadata(mounted.at("big")).unwrap();
    assert_eq!((meta.len(), meta.ino(), meta.mode(), meta.mtime_nsec()), (5_000_001, 100, 0o100_444, 123_000_000));
    assert_eq!(read_all(&mounted.at("big")), big);
    // From the page cache, at odd places, across the end.
    let file = File::open(mounted.at("big")).unwrap();
    let mut piece = vec![0; 70_001];
    file.read_exact_at(&mut piece, 1_234_567).unwrap();
    assert_eq!(piece, big[1_234_567..1_304_568]);
    assert_eq!(file.read_at(&mut piece, 5_000_000).unwrap(), 1);
    assert_eq!(file.read_at(&mut piece, 6_000_000).unwrap(), 0);

    let mut names: Vec<String> = std::fs::read_dir(&mounted.path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!((names.len(), names[1].as_str()), (3001, "small-00000"));
    // The listing carried the attributes: no lookup is needed.
    let lookups = mounted.memory.lookups.load(Ordering::Relaxed);
    for index in [0, 1, 4095, 2999].map(|index| index.min(2999)) {
        assert_eq!(read_all(&mounted.at(&format!("small-{index:05}"))), pattern(index, 2));
    }
    assert_eq!(mounted.memory.lookups.load(Ordering::Relaxed), lookups);

    assert_eq!(File::open(mounted.at("none")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    let refused = File::options().write(true).open(mounted.at("big")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    assert_eq!(File::create(mounted.at("new")).unwrap_err().raw_os_error(), Some(libc::EROFS));
    assert_eq!(std::fs::remove_file(mounted.at("big")).unwrap_err().raw_os_error(), Some(libc::EROFS));

    let stat = rustix::fs::statvfs(&mounted.path).unwrap();
    assert_eq!((stat.f_blocks, stat.f_bfree, stat.f_namemax), (2, 1, 255));
    let mut value = [0u8; 16];
    let length = rustix::fs::getxattr(mounted.at("big"), "user.test", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"value");
    assert_eq!(rustix::fs::getxattr(mounted.at("big"), "user.test", &mut value[..2]), Err(Errno::RANGE));
    assert_eq!(rustix::fs::getxattr(mounted.at("big"), "user.none", &mut value[..]), Err(Errno::NODATA));
    let length = rustix::fs::listxattr(mounted.at("big"), &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"user.test\0");
}

#[test]
fn readers_on_many_threads_and_a_mapping_see_the_same_bytes() {
    let mounted = Mounted::new();
    let big = Arc::new(pattern(8 << 20, 3));
    mounted.memory.put("big", big.to_vec());
    std::thread::scope(|scope| {
        for reader in 0..8usize {
            let (path, big) = (mounted.at("big"), big.clone());
            scope.spawn(move || {
                let mut file = File::open(path).unwrap();
                for step in 0..40usize {
                    let offset = (reader * 977 + step * 211_003) % (8 << 20);
                    file.seek(SeekFrom::Start(offset as u64)).unwrap();
                    let mut piece = vec![0; 40_000.min(big.len() - offset)];
                    file.read_exact(&mut piece).unwrap();
                    assert_eq!(piece, big[offset..offset + piece.len()]);
                }
            });
        }
    });
    let file = File::open(mounted.at("big")).unwrap();
    for start in [0, 4_194_301, (8 << 20) - 4096] {
        assert_eq!(mapping::mapped(&file, start..start + 4096), big[start..start + 4096]);
    }
}

/// Hard case 14: an OPEN that answers ESTALE makes the kernel look the name up again, although it believes the name for
/// another minute; the new version has a kernel inode and a page cache of its own, and the same inode number.
#[test]
fn a_stale_open_is_looked_up_again_and_versions_share_nothing() {
    let mounted = Mounted::new();
    let (old, new) = (pattern(100_000, 4), pattern(100_000, 5));
    mounted.memory.put("f", old.clone());
    let path = mounted.at("f");
    let ino = std::fs::metadata(&path).unwrap().ino();
    let reader = File::open(&path).unwrap();
    let mut piece = vec![0; 100_000];
    reader.read_exact_at(&mut piece, 0).unwrap();
    assert_eq!(piece, old);

    mounted.memory.put("f", new.clone());
    assert_eq!(mounted.memory.refused_opens.load(Ordering::Relaxed), 0);
    assert_eq!(read_all(&path), new);
    assert!(mounted.memory.refused_opens.load(Ordering::Relaxed) >= 1);
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), ino);
    // The open reader keeps the old version's pages.
    reader.read_exact_at(&mut piece, 0).unwrap();
    assert_eq!(piece, old);
}

#[test]
fn a_killed_reader_does_not_hang_and_forgets_come() {
    let mounted = Mounted::new();
    mounted.memory.put("stuck", b"stuck for ever".to_vec());
    let mut child = std::process::Command::new("cat").arg(mounted.at("stuck")).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while mounted.memory.stuck.load(Ordering::Relaxed) == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let killed = Instant::now();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
    let memory = mounted.memory.clone();
    drop(mounted);
    // Unmounting takes every lookup back, if the kernel says so before the connection ends.
    assert!(memory.forgotten.load(Ordering::Relaxed) <= memory.lookups.load(Ordering::Relaxed) + 1);
}

#[test]
fn a_living_mount_is_refused_and_a_dead_one_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = mount::prepare(&dir.path().join("mnt")).unwrap();
    let options =
        SessionOptions { threads: 1, max_read: 128 << 10, read_ahead_bytes: 0, allow_other: false, passthrough: false };
    let session = Session::start(&path, &options, Arc::new(Memory::default())).unwrap();
    let text = mount::prepare(&path).unwrap_err().to_string();
    assert!(text.contains("already mounted"), "{text}");
    session.unmount().unwrap();

    // A mount whose descriptor is closed without unmounting is what a killed server leaves.
    let mount_options = mount::MountOptions { allow_other: false, max_read: 128 << 10 };
    drop(mount::mount(&path, &mount_options).unwrap());
    let error = std::fs::read_dir(&path).unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED)), "{error}");
    assert_eq!(mount::prepare(&path).unwrap(), path);
    let session = Session::start(&path, &options, Arc::new(Memory::default())).unwrap();
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    session.unmount().unwrap();
}

#[test]
fn unmounting_from_outside_ends_the_session() {
    let mut mounted = Mounted::new();
    mounted.memory.put("f", vec![1]);
    assert_eq!(read_all(&mounted.at("f")), [1]);
    mount::unmount(&mounted.path).unwrap();
    let session = mounted.session.take().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(10), session.ended()).await })
        .expect("the threads end");
}
