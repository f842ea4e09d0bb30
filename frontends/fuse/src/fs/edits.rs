//! Files opened, made, written and closed: what the kernel asks of files that change.
//!
//! Invariant: the node of a content is never opened to be changed. Such an OPEN begins the file's session and answers ESTALE;
//! the kernel looks the name up again and opens the session's node (hard case 14).

use super::changes::{MODE_BITS, check_name};
use super::forebay::{Forebay, Open, OpenNode};
use super::node_table::Node;
use super::writing::Writing;
use crate::dispatch::changes_content;
use crate::handler::{AttrChange, Caller, Entry, Errno, NodeAttr, Opened};
use crate::metrics::DIRECT;
use crate::wire::{FOPEN_DIRECT_IO, FOPEN_NOFLUSH};
use forebay_base::{ErrorKind, FileId, KindError};
use forebay_client::message::namespace::KIND_DIRECTORY;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
/// As far as the kernel counts.
const FILE_BYTES_MAX: u64 = i64::MAX as u64;

/// A handle of a session.
pub(super) struct Edit {
    pub(super) writing: Arc<Writing>,
    may_write: bool,
    /// It changed something since its last FLUSH that went well.
    wrote: AtomicBool,
}

impl Edit {
    fn set_wrote(&self) {
        self.wrote.store(true, Ordering::Release);
    }
}

impl Forebay {
    fn edit(&self, handle: u64) -> Result<(u64, Arc<Edit>), Errno> {
        let open = self.files.get(handle).ok_or(Errno::BADF)?;
        match &open.open {
            Open::Edit(edit) => Ok((open.node, edit.clone())),
            Open::Content { .. } => Err(Errno::BADF),
        }
    }

    /// Begins the session of a file; the kernel has to look its name up again.
    async fn begin_editing(&self, id: u64, node: &Node) -> Errno {
        match self.writers.begin(node.file_id).await {
            Ok(_) => Errno::STALE,
            Err(error) => self.failed("opening it to write", id, &error),
        }
    }

    /// Opens the node of a session, or one of a content to change it.
    pub(super) async fn open_edit(&self, id: u64, node: &Node, flags: u32) -> Result<Opened, Errno> {
        let changes = changes_content(flags);
        if !node.is_session {
            return Err(if changes { self.begin_editing(id, node).await } else { Errno::STALE });
        }
        let Some(writing) = self.writers.get(node.file_id).filter(|writing| writing.enter(changes)) else {
            // The kernel looks up once more and no more: the next session has to be there by then.
            return Err(if changes { self.begin_editing(id, node).await } else { Errno::STALE });
        };
        let (opened, edit) = self.add_edit(id, writing, changes);
        if flags & libc::O_TRUNC as u32 != 0 {
            edit.set_wrote();
            if let Err(error) = edit.writing.resize(0).await {
                self.close_file(opened.handle);
                return Err(self.failed("truncating it", id, &error));
            }
        }
        Ok(opened)
    }

    /// A handle of a session that was entered.
    fn add_edit(&self, id: u64, writing: Arc<Writing>, may_write: bool) -> (Opened, Arc<Edit>) {
        self.opened().count(DIRECT, writing.attr().size);
        self.nodes.update(id, |node| node.opens += 1);
        let edit = Arc::new(Edit { writing, may_write, wrote: AtomicBool::new(false) });
        let handle = self.files.insert(OpenNode { node: id, open: Open::Edit(edit.clone()) });
        let flags = FOPEN_DIRECT_IO | if may_write { 0 } else { FOPEN_NOFLUSH };
        (Opened { handle, flags, backing_id: None }, edit)
    }

    /// A handle of a session is released.
    pub(super) fn close_edit(&self, edit: &Edit) {
        if edit.writing.leave(edit.may_write) {
            self.writers.finish_later(edit.writing.clone(), Duration::ZERO);
        }
    }

    /// A new file, which is entered once to write; or the one that has the name already, unless `is_exclusive`. Whether it
    /// is new.
    async fn new_file(
        &self,
        parent: u64,
        name: &[u8],
        mode: u32,
        is_exclusive: bool,
        caller: Caller,
    ) -> Result<(Entry, Arc<Writing>, bool), Errno> {
        check_name(name)?;
        let directory = self.directory(parent)?;
        let (uid, gid) = Self::owner(&directory, caller);
        let asked = Instant::now();
        let created = self.client.create_file(directory.file_id, name, mode & MODE_BITS, uid, gid).await;
        self.forget_names(&directory);
        let (attr, writing, is_new) = match created {
            Ok((attr, session)) => (attr.clone(), self.writers.put(attr, session, true), true),
            Err(error) if error.kind == ErrorKind::Exists && !is_exclusive => {
                let found = self.client.lookup(directory.file_id, name).await;
                let attr = found.map_err(|error| self.failed("creating a file in it", parent, &error))?;
                if attr.kind == KIND_DIRECTORY {
                    return Err(Errno::ISDIR);
                }
                let begun = self.writers.begin(FileId(attr.file_id)).await;
                let writing = begun.map_err(|error| self.failed("opening a file in it to write", parent, &error))?;
                (attr, writing, false)
            }
            Err(error) => return Err(self.failed("creating a file in it", parent, &error)),
        };
        if !writing.enter(true) {
            return Err(Errno::STALE);
        }
        Ok((self.entry(parent, name, &attr, asked), writing, is_new))
    }

    /// creat(2), and open(2) with `O_CREAT`.
    pub(super) async fn create_file(
        &self,
        parent: u64,
        name: &[u8],
        mode: u32,
        flags: u32,
        caller: Caller,
    ) -> Result<(Entry, Opened), Errno> {
        let is_exclusive = flags & libc::O_EXCL as u32 != 0;
        let (entry, writing, is_new) = self.new_file(parent, name, mode, is_exclusive, caller).await?;
        let (opened, edit) = self.add_edit(entry.node, writing, true);
        edit.wrote.store(is_new, Ordering::Release);
        if !is_new && flags & libc::O_TRUNC as u32 != 0 {
            edit.set_wrote();
            if let Err(error) = edit.writing.resize(0).await {
                let errno = self.failed("truncating it", entry.node, &error);
                self.close_file(opened.handle);
                self.nodes.forget(entry.node, 1);
                return Err(errno);
            }
        }
        Ok((Entry { attr: edit.writing.attr(), ..entry }, opened))
    }

    /// mknod(2) of a regular file: it is empty in its store when this answers.
    pub(super) async fn make_file(&self, parent: u64, name: &[u8], mode: u32, caller: Caller) -> Result<Entry, Errno> {
        if !matches!(mode & S_IFMT, 0 | S_IFREG) {
            return Err(Errno::PERM);
        }
        let (entry, writing, _) = self.new_file(parent, name, mode, true, caller).await?;
        let saved = self.writers.save(&writing).await;
        if writing.leave(true) {
            self.writers.finish_later(writing, Duration::ZERO);
        }
        if let Err(error) = saved {
            let errno = self.failed("creating it", entry.node, &error);
            self.nodes.forget(entry.node, 1);
            return Err(errno);
        }
        Ok(entry)
    }

    pub(super) async fn write_edit(&self, handle: u64, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let (id, edit) = self.edit(handle)?;
        if !edit.may_write {
            return Err(Errno::BADF);
        }
        end_of(offset, data.len() as u64)?;
        edit.set_wrote();
        edit.writing.write(offset, data).await.map_err(|error| self.failed("write", id, &error))
    }

    /// The answer of close(2): the store has what this handle wrote.
    pub(super) async fn flush_edit(&self, handle: u64) -> Result<(), Errno> {
        let Ok((id, edit)) = self.edit(handle) else { return Ok(()) };
        if !edit.wrote.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        // A caller that is killed meanwhile leaves it to the last release.
        self.writers.save(&edit.writing).await.map_err(|error| {
            edit.set_wrote();
            let errno = self.failed("saving it", id, &error);
            edit.writing.set_failed(errno);
            errno
        })
    }

    pub(super) async fn sync_edit(&self, handle: u64) -> Result<(), Errno> {
        // What a content's handle reads is in its store.
        let Ok((id, edit)) = self.edit(handle) else { return Ok(()) };
        edit.writing.sync().await?.map_err(|error| self.failed("fsync", id, &error))
    }

    pub(super) async fn allocate_edit(&self, handle: u64, offset: u64, length: u64, mode: u32) -> Result<(), Errno> {
        let (id, edit) = self.edit(handle)?;
        if mode != 0 {
            return Err(Errno::OPNOTSUPP);
        }
        let end = end_of(offset, length)?;
        edit.set_wrote();
        edit.writing.reserve(end).await.map_err(|error| self.failed("fallocate", id, &error))
    }

    /// Attributes of a file or directory; sizes of files with a session only.
    pub(super) async fn change_attr(
        &self,
        id: u64,
        handle: Option<u64>,
        change: AttrChange,
    ) -> Result<(NodeAttr, Duration), Errno> {
        let node = self.node(id)?;
        if change.size.is_some_and(|size| size > FILE_BYTES_MAX) {
            return Err(Errno::FBIG);
        }
        let edit = handle.and_then(|handle| self.edit(handle).ok()).map(|(_, edit)| edit);
        let writing = match &edit {
            Some(edit) => Some(edit.writing.clone()),
            None => self.writers.get(node.file_id).filter(|_| node.is_session),
        };
        let Some(writing) = writing else {
            return match change.size {
                None if node.is_session || node.superseded => Err(Errno::STALE),
                Some(_) => Err(self.begin_editing(id, &node).await),
                None => self.set_attr_of_version(id, &node, &change).await,
            };
        };
        if let Some(size) = change.size {
            match &edit {
                Some(edit) => {
                    edit.set_wrote();
                    writing.resize(size).await.map_err(|error| self.failed("truncate", id, &error))?;
                }
                None => self.truncate(&writing, size).await.map_err(|error| self.failed("truncate", id, &error))?,
            }
        }
        let changed = writing.change(&self.client, &change).await;
        self.writers.set_changed(node.file_id);
        changed.map_err(|error| self.failed("setting attributes", id, &error))?;
        Ok((writing.attr(), Duration::ZERO))
    }

    /// truncate(2): nobody closes anything afterwards, so the store has it when this answers.
    async fn truncate(&self, writing: &Arc<Writing>, size: u64) -> Result<(), KindError> {
        if !writing.enter(true) {
            return Err(KindError::new(ErrorKind::Stale, "its session has ended: look it up again"));
        }
        let done = match writing.resize(size).await {
            Ok(()) => self.writers.save(writing).await,
            Err(error) => Err(error),
        };
        if writing.leave(true) {
            self.writers.finish_later(writing.clone(), Duration::ZERO);
        }
        done
    }
}

fn end_of(offset: u64, length: u64) -> Result<u64, Errno> {
    offset.checked_add(length).filter(|end| *end <= FILE_BYTES_MAX).ok_or(Errno::FBIG)
}
