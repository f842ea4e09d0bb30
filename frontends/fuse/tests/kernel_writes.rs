//! Writing against the real kernel (hard case 14): an in-memory file system whose written files have nodes of their own,
//! behind the handler trait. Needs /dev/fuse and the right to mount.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "kernel_writes/truncate.rs"]
mod truncate;

use bytes::Bytes;
use forebay_fuse::handler::{AttrChange, Caller, Content, Entry, Errno, Handler, NodeAttr, Opened, StatFs};
use forebay_fuse::mount;
use forebay_fuse::session::{Session, SessionOptions};
use forebay_fuse::wire::{DirBuffer, FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE, FOPEN_NOFLUSH};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const VALID: Duration = Duration::from_secs(60);
const WRITES: u32 = (libc::O_ACCMODE | libc::O_TRUNC) as u32;

struct Held {
    ino: u64,
    /// The node of the content that was saved last, and that content.
    node: u64,
    saved: Vec<u8>,
    /// The node of the session, what it holds, and its open handles.
    session: Option<(u64, Vec<u8>, u32)>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<Vec<u8>, Held>,
    old: BTreeMap<u64, Vec<u8>>,
    handles: BTreeMap<u64, u64>,
    next: u64,
    log: Vec<String>,
}

impl State {
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        100 + self.next
    }

    fn of(&mut self, node: u64) -> Option<&mut Held> {
        let is_it = |held: &&mut Held| held.node == node || held.session.as_ref().is_some_and(|(id, ..)| *id == node);
        self.files.values_mut().find(is_it)
    }

    fn session(&mut self, node: u64) -> Option<&mut (u64, Vec<u8>, u32)> {
        self.files.values_mut().filter_map(|held| held.session.as_mut()).find(|(id, ..)| *id == node)
    }

    /// A session for the file of this node; the kernel has to look its name up again.
    fn arm(&mut self, node: u64) -> Errno {
        let id = self.fresh();
        if let Some(held) = self.of(node)
            && held.session.is_none()
        {
            held.session = Some((id, held.saved.clone(), 0));
        }
        self.log.push("armed".into());
        Errno::STALE
    }

    fn entry(&self, name: &[u8]) -> Option<Entry> {
        let held = self.files.get(name)?;
        let (node, content, valid) = match &held.session {
            Some((node, content, _)) => (*node, content, Duration::ZERO),
            None => (held.node, &held.saved, VALID),
        };
        Some(Entry { node, attr: attr(held.ino, content.len(), 0o100_644), valid })
    }
}

fn attr(ino: u64, size: usize, mode: u32) -> NodeAttr {
    let (nlink, uid, gid) = (1, 0, 0);
    NodeAttr { ino, size: size as u64, mtime_ms: 1_700_000_000_123, mode, nlink, uid, gid, preferred_io_bytes: 4096 }
}

#[derive(Default)]
struct Memory(Mutex<State>);

impl Memory {
    fn saved(&self, name: &str) -> Vec<u8> {
        self.0.lock().unwrap().files[name.as_bytes()].saved.clone()
    }

    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().log)
    }

    fn put(&self, name: &str, content: &[u8]) {
        let mut state = self.0.lock().unwrap();
        let (ino, node) = (state.fresh(), state.fresh());
        state.files.insert(name.into(), Held { ino, node, saved: content.to_vec(), session: None });
    }
}

impl Handler for Memory {
    async fn lookup(&self, _parent: u64, name: &[u8]) -> Result<Entry, Errno> {
        self.0.lock().unwrap().entry(name).ok_or(Errno::NOENT)
    }

    fn forget(&self, _node: u64, _lookups: u64) {}

    async fn get_attr(&self, node: u64) -> Result<(NodeAttr, Duration), Errno> {
        let mut state = self.0.lock().unwrap();
        if node == 1 {
            return Ok((attr(1, 0, 0o040_755), VALID));
        }
        if let Some(old) = state.old.get(&node) {
            return Ok((attr(99, old.len(), 0o100_644), Duration::ZERO));
        }
        let held = state.of(node).ok_or(Errno::STALE)?;
        let size = match &held.session {
            Some((id, content, _)) if *id == node => content.len(),
            _ => held.saved.len(),
        };
        Ok((attr(held.ino, size, 0o100_644), Duration::ZERO))
    }

    async fn open(&self, node: u64, flags: u32) -> Result<Opened, Errno> {
        let mut state = self.0.lock().unwrap();
        let handle = state.fresh();
        let is_known = state.of(node).is_some();
        let flags = match state.session(node) {
            Some((_, content, opens)) => {
                if flags & libc::O_TRUNC as u32 != 0 {
                    content.clear();
                }
                *opens += 1;
                FOPEN_DIRECT_IO
            }
            None if !is_known => return Err(Errno::STALE),
            None if flags & WRITES != 0 => return Err(state.arm(node)),
            None => FOPEN_KEEP_CACHE | FOPEN_NOFLUSH,
        };
        state.handles.insert(handle, node);
        Ok(Opened { handle, flags, backing_id: None })
    }

    async fn read(&self, _node: u64, handle: u64, offset: u64, size: u32) -> Result<Content, Errno> {
        let mut state = self.0.lock().unwrap();
        let node = state.handles[&handle];
        let content = match state.session(node) {
            Some((_, content, _)) => content.clone(),
            None => match state.old.get(&node) {
                Some(old) => old.clone(),
                None => state.of(node).ok_or(Errno::STALE)?.saved.clone(),
            },
        };
        let start = (offset as usize).min(content.len());
        let end = (start + size as usize).min(content.len());
        Ok(Content::Memory(content[start..end].to_vec().into()))
    }

    fn release(&self, handle: u64) {
        let mut state = self.0.lock().unwrap();
        let node = state.handles.remove(&handle).unwrap();
        let Some((_, _, opens)) = state.session(node) else { return };
        *opens -= 1;
        if *opens == 0 {
            let fresh = state.fresh();
            let held = state.of(node).unwrap();
            let (_, content, _) = held.session.take().unwrap();
            let old = (held.node, std::mem::replace(&mut held.saved, content));
            held.node = fresh;
            state.old.insert(old.0, old.1);
            state.log.push("ended".into());
        }
    }

    async fn open_dir(&self, _node: u64) -> Result<Opened, Errno> {
        Ok(Opened { handle: 1, flags: 0, backing_id: None })
    }

    async fn read_dir(&self, _node: u64, _handle: u64, offset: u64, buffer: &mut DirBuffer) -> Result<(), Errno> {
        let state = self.0.lock().unwrap();
        for (index, name) in state.files.keys().enumerate().skip(offset as usize) {
            if !buffer.fits(name) {
                break;
            }
            buffer.push(name, &state.entry(name).unwrap(), index as u64 + 1);
        }
        Ok(())
    }

    fn release_dir(&self, _handle: u64) {}

    async fn stat_fs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { capacity_bytes: 8192, free_bytes: 4096, files: 3, block_bytes: 4096, name_bytes_max: 255 })
    }

    async fn get_xattr(&self, _node: u64, _name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::NODATA)
    }

    async fn list_xattr(&self, _node: u64) -> Result<Vec<u8>, Errno> {
        Ok(Vec::new())
    }

    async fn set_attr(
        &self,
        node: u64,
        handle: Option<u64>,
        change: AttrChange,
    ) -> Result<(NodeAttr, Duration), Errno> {
        let mut state = self.0.lock().unwrap();
        if let Some(size) = change.size {
            state.log.push(format!("resize {size}{}", if handle.is_some() { " of a handle" } else { "" }));
            let is_known = state.of(node).is_some();
            match state.session(node) {
                Some((_, content, _)) => content.resize(size as usize, 0),
                None if !is_known => return Err(Errno::STALE),
                None => return Err(state.arm(node)),
            }
        }
        let size = state.session(node).map_or(0, |(_, content, _)| content.len());
        let ino = state.of(node).ok_or(Errno::STALE)?.ino;
        Ok((attr(ino, size, 0o100_644), Duration::ZERO))
    }

    async fn create(
        &self,
        _parent: u64,
        name: &[u8],
        mode: u32,
        _flags: u32,
        caller: Caller,
    ) -> Result<(Entry, Opened), Errno> {
        let mut state = self.0.lock().unwrap();
        if state.files.contains_key(name) {
            return Err(Errno::EXIST);
        }
        let (ino, node, session, handle) = (state.fresh(), state.fresh(), state.fresh(), state.fresh());
        let held = Held { ino, node, saved: Vec::new(), session: Some((session, Vec::new(), 1)) };
        state.files.insert(name.to_vec(), held);
        state.handles.insert(handle, session);
        // The process id is that of the calling thread.
        let own = caller.uid == 0 && caller.pid != 0;
        state.log.push(format!("created {:o}{}", mode & 0o777, if own { "" } else { " by another" }));
        Ok((state.entry(name).unwrap(), Opened { handle, flags: FOPEN_DIRECT_IO, backing_id: None }))
    }

    async fn write(&self, node: u64, _handle: u64, offset: u64, data: Bytes) -> Result<(), Errno> {
        // The bytes have to outlive the buffer's next request.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut state = self.0.lock().unwrap();
        let (_, content, _) = state.session(node).ok_or(Errno::BADF)?;
        let end = offset as usize + data.len();
        content.resize(content.len().max(end), 0);
        content[offset as usize..end].copy_from_slice(&data);
        state.log.push(format!("write {}", data.len()));
        Ok(())
    }

    async fn flush(&self, _handle: u64) -> Result<(), Errno> {
        self.0.lock().unwrap().log.push("flush".into());
        Ok(())
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

    /// The kernel says RELEASE behind the close.
    fn until_saved(&self, name: &str, want: &[u8]) {
        for _ in 0..500 {
            if self.memory.saved(name) == want {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{name}: got {} bytes, want {}", self.memory.saved(name).len(), want.len());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.unmount().unwrap();
        }
    }
}

fn read_all(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_file_is_created_written_in_large_pieces_and_read_back() {
    let mounted = Mounted::new();
    let bytes: Vec<u8> = (0..3_500_000u32).map(|index| (index >> 3) as u8).collect();
    let mut file = File::options().write(true).create_new(true).mode(0o666).open(mounted.at("f")).unwrap();
    file.write_all(&bytes).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 3_500_000);
    drop(file);
    mounted.until_saved("f", &bytes);
    let log = mounted.memory.take_log();
    // The kernel counts pages of the caller's memory, which need not begin with one.
    let writes: Vec<usize> = log.iter().filter_map(|line| line.strip_prefix("write ")?.parse().ok()).collect();
    assert_eq!((writes.len(), writes.iter().sum::<usize>()), (4, 3_500_000), "{writes:?}");
    assert_eq!((log[0].as_str(), log[5].as_str()), ("created 644", "flush"), "{log:?}");
    assert_eq!(read_all(&mounted.at("f")), bytes);
    let taken = File::options().write(true).create_new(true).open(mounted.at("f")).unwrap_err();
    assert_eq!(taken.raw_os_error(), Some(libc::EEXIST));
}

/// open(2), open(2) with O_TRUNC, truncate(2) and ftruncate(2) on a name that the kernel believes for another minute.
#[test]
fn an_existing_file_gets_a_node_of_its_own_when_it_is_changed() {
    let mounted = Mounted::new();
    let path = mounted.at("f");
    mounted.memory.put("f", b"first content");
    let ino = std::fs::metadata(&path).unwrap().ino();
    let reader = File::open(&path).unwrap();
    let mut piece = [0; 5];
    reader.read_exact_at(&mut piece, 0).unwrap();

    let file = File::options().read(true).write(true).open(&path).unwrap();
    assert_eq!(mounted.memory.take_log(), ["armed"]);
    file.write_all_at(b"FIRST", 0).unwrap();
    let mut back = [0; 13];
    file.read_exact_at(&mut back, 0).unwrap();
    assert_eq!(&back, b"FIRST content");
    assert_eq!(read_all(&path), b"FIRST content", "this mount sees what it writes");
    reader.read_exact_at(&mut piece, 0).unwrap();
    assert_eq!(&piece, b"first", "a reader keeps what it opened");
    file.set_len(3).unwrap();
    assert_eq!((std::fs::metadata(&path).unwrap().len(), file.metadata().unwrap().len()), (3, 3));
    drop(file);
    mounted.until_saved("f", b"FIR");
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), ino);
    mounted.memory.take_log();

    std::fs::write(&path, b"new").unwrap();
    mounted.until_saved("f", b"new");
    let log = mounted.memory.take_log();
    assert_eq!(log, ["armed", "write 3", "flush", "ended"]);

    truncate::truncate(&path, 2).unwrap();
    let log = mounted.memory.take_log();
    assert_eq!(log, ["resize 2", "armed", "resize 2"]);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 2);
    assert_eq!(read_all(&path), b"ne");
}

#[test]
fn two_that_append_do_not_overwrite_each_other() {
    let mounted = Mounted::new();
    let path = mounted.at("log");
    mounted.memory.put("log", b"");
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let path = path.clone();
            scope.spawn(move || {
                let mut file = File::options().append(true).open(path).unwrap();
                for line in 0..100 {
                    file.write_all(format!("{name}{line:03}\n").as_bytes()).unwrap();
                }
            });
        }
    });
    let text = String::from_utf8(read_all(&path)).unwrap();
    let lines: std::collections::BTreeSet<&str> = text.lines().collect();
    assert_eq!((text.len(), lines.len()), (1000, 200));
}

#[test]
fn what_a_mount_does_not_offer_is_refused_as_such() {
    let mounted = Mounted::new();
    mounted.memory.put("f", b"x");
    let errno = |error: std::io::Error| error.raw_os_error();
    assert_eq!(std::fs::hard_link(mounted.at("f"), mounted.at("l")).map_err(errno), Err(Some(libc::EPERM)));
    assert_eq!(std::os::unix::fs::symlink("f", mounted.at("l")).map_err(errno), Err(Some(libc::EPERM)));
    let refused = rustix::fs::setxattr(mounted.at("f"), "user.x", b"v", rustix::fs::XattrFlags::empty());
    assert_eq!(refused, Err(Errno::OPNOTSUPP));
    // What the trait leaves out is refused as on a read-only file system.
    assert_eq!(std::fs::create_dir(mounted.at("d")).map_err(errno), Err(Some(libc::EROFS)));
    assert_eq!(std::fs::remove_file(mounted.at("f")).map_err(errno), Err(Some(libc::EROFS)));
    // The kernel copies by itself, locks by itself and fills by itself.
    let mut file = File::options().read(true).write(true).open(mounted.at("f")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    file.write_all(b"xyz").unwrap();
    std::fs::copy(mounted.at("f"), mounted.at("copy")).unwrap();
    mounted.until_saved("copy", b"xyz");
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)), Ok(3));
}
