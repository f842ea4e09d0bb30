//! A file that is written piece by piece, under a temporary name until it is whole.
//!
//! The file lies in the nearest directory on the way to its name that exists; those that are missing are made when it gets
//! its name. Invariants: it gets its name only after all its bytes are durable, in a step of its own, so that a sync
//! that took too long names nothing later; whoever holds the `Temporary` last removes it, unless it was named.

use super::{
    beneath::{Root, failure_of, fingerprint_of, meta_of, open_beneath},
    write::{
        attributes_of, checked_name, create, fresh_name, make_parent, name_it, parent_of, set_new_mode, sync, write_all,
    },
};
use crate::{
    failure::Failure,
    gate::Gate,
    key::last_name,
    under_store::{ObjectMeta, StoreError},
    upload::{Upload, WriteMode},
};
use async_trait::async_trait;
use bytes::Bytes;
use forebay_base::{ErrorKind, Fingerprint};
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fdatasync, statat, unlinkat},
    io::Errno,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Synced as they come, so that the last sync is short.
const SYNC_EACH_BYTES: u64 = 32 << 20;

/// A file under a temporary name.
pub(super) struct Temporary {
    directory: OwnedFd,
    name: String,
    /// The key of the temporary name.
    key: String,
    file: OwnedFd,
    named: AtomicBool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.named.load(Ordering::Acquire) {
            let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

/// Makes the temporary file of `key`. Blocking.
pub(super) fn begin(root: &Root, key: &str, mode: &WriteMode) -> Result<Temporary, Failure> {
    let name = checked_name(key)?;
    let (directory, path) = nearest(&root.open()?, parent_of(key))?;
    let temporary = fresh_name()?;
    let replaced = if path == parent_of(key) {
        match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(failure_of(errno, "asking for what is there")),
            Ok(_) if *mode == WriteMode::CreateOnly => return Err(failure_of(Errno::EXIST, "")),
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => return Err(failure_of(Errno::ISDIR, "")),
                FileType::RegularFile => Some(stat),
                _ => None,
            },
        }
    } else {
        None
    };
    let file = create(&directory, &temporary)?;
    let key = if path.is_empty() { temporary.clone() } else { format!("{path}/{temporary}") };
    let temporary = Temporary { directory, name: temporary, key, file, named: AtomicBool::new(false) };
    match replaced {
        Some(stat) => {
            // What was not for everybody's eyes stays so. Only root can give a file away.
            let _ = fchown(&temporary.file, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
            fchmod(&temporary.file, Mode::from_raw_mode(stat.st_mode & 0o777))
                .map_err(|errno| failure_of(errno, "setting its mode"))?;
        }
        None => set_new_mode(&temporary.file)?,
    }
    Ok(temporary)
}

/// `Stale` unless what has the name is this content.
fn is_still(root: &Root, key: &str, fingerprint: &Fingerprint) -> Result<(), Failure> {
    let is_it = match root.stat(key) {
        Ok(stat) => fingerprint_of(&stat) == *fingerprint,
        Err(failure) if failure.kind == ErrorKind::NotFound => false,
        Err(failure) => return Err(failure),
    };
    match is_it {
        true => Ok(()),
        false => Err(Failure::new(ErrorKind::Stale, "it is not what was to be replaced any more")),
    }
}

/// The deepest directory on the way to `path` that exists.
fn nearest(root: &OwnedFd, path: &str) -> Result<(OwnedFd, String), Failure> {
    let mut path = path;
    loop {
        match open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => return Ok((directory, path.to_string())),
            Err(Errno::NOENT) if !path.is_empty() => path = parent_of(path),
            Err(Errno::NOTDIR) => {
                return Err(Failure::new(ErrorKind::NotADirectory, "a part of its path is a file"));
            }
            Err(errno) => return Err(failure_of(errno, "opening its directory")),
        }
    }
}

pub(super) struct LocalUpload {
    uri: String,
    root: Arc<Root>,
    gate: Arc<Gate>,
    key: String,
    mode: WriteMode,
    size: Option<u64>,
    written: u64,
    unsynced: u64,
    /// `None` once it was handed to the thread that names it.
    temporary: Option<Arc<Temporary>>,
    gone: Arc<AtomicBool>,
}

impl LocalUpload {
    pub(super) fn new(
        uri: String,
        root: Arc<Root>,
        gate: Arc<Gate>,
        key: String,
        mode: WriteMode,
        size: Option<u64>,
        temporary: Temporary,
    ) -> Self {
        let temporary = Some(Arc::new(temporary));
        LocalUpload { uri, root, gate, key, mode, size, written: 0, unsynced: 0, temporary, gone: Arc::default() }
    }

    /// Runs `work` with the file on a blocking thread, within the deadline.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Temporary) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let temporary = self.temporary.clone();
        let result = async {
            let temporary = temporary.ok_or_else(|| Failure::new(ErrorKind::Closed, "it was finished already"))?;
            let deadline = self.gate.deadline();
            let permit = self.gate.enter(deadline).await?;
            self.gate.blocking(deadline, permit, move || work(&temporary)).await
        };
        result.await.map_err(|failure| failure.at(&self.uri, "upload", &self.key))
    }
}

#[async_trait]
impl Upload for LocalUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let length = bytes.len() as u64;
        let got = self.written + length;
        if let Some(size) = self.size.filter(|size| got > *size) {
            return Err(Failure::wrong_size(got, size).at(&self.uri, "upload", &self.key));
        }
        let syncs = self.unsynced + length >= SYNC_EACH_BYTES;
        self.run(move |temporary| {
            write_all(&temporary.file, &bytes)?;
            if syncs {
                fdatasync(&temporary.file).map_err(|errno| failure_of(errno, "syncing the file"))?;
            }
            Ok(())
        })
        .await?;
        self.written = got;
        self.unsynced = if syncs { 0 } else { self.unsynced + length };
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<ObjectMeta, StoreError> {
        let wanted = self.size.unwrap_or(self.written);
        if self.written != wanted {
            return Err(Failure::wrong_size(self.written, wanted).at(&self.uri, "upload", &self.key));
        }
        self.run(|temporary| sync(&temporary.file)).await?;
        let (root, key, mode) = (Arc::clone(&self.root), self.key.clone(), self.mode.clone());
        let gone = Arc::clone(&self.gone);
        let result = self.run(move |temporary| {
            let abandoned = || if gone.load(Ordering::Acquire) { Err(Failure::abandoned()) } else { Ok(()) };
            abandoned()?;
            let parent = make_parent(&root.open()?, &key)?;
            // Making directories may have taken a while.
            abandoned()?;
            if let WriteMode::ReplaceOnly(fingerprint) = &mode {
                is_still(&root, &key, fingerprint)?;
            }
            let create_only = mode == WriteMode::CreateOnly;
            name_it(&temporary.directory, &temporary.name, &parent, last_name(&key), create_only).inspect(|()| {
                temporary.named.store(true, Ordering::Release);
            })?;
            meta_of(last_name(&key), &attributes_of(&temporary.file)?)
                .ok_or_else(|| Failure::new(ErrorKind::Internal, "what was written is not a file"))
        });
        let meta = result.await?;
        self.temporary = None;
        Ok(meta)
    }

    async fn abort(mut self: Box<Self>) -> Result<(), StoreError> {
        let Some(temporary) = self.temporary.take() else { return Ok(()) };
        let _ = tokio::task::spawn_blocking(move || drop(temporary)).await;
        Ok(())
    }

    fn unless(&mut self, gone: Arc<AtomicBool>) {
        self.gone = gone;
    }

    fn leftover(&self) -> Option<String> {
        self.temporary.as_ref().map(|temporary| temporary.key.clone())
    }
}

impl Drop for LocalUpload {
    fn drop(&mut self) {
        // Removing a file can wait for its file system.
        if let (Some(temporary), Ok(runtime)) = (self.temporary.take(), tokio::runtime::Handle::try_current()) {
            drop(runtime.spawn_blocking(move || drop(temporary)));
        }
    }
}
