//! One request to one handler call to one reply. Pure but for the handler.

use crate::handler::{Content, Entry, Errno, Handler};
use crate::wire::{self, DirBuffer, Operation, Request};
use bytes::Bytes;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What goes back to the kernel.
pub(crate) struct Reply {
    /// 0 or the error.
    pub(crate) errno: i32,
    /// What follows the header.
    pub(crate) body: Content,
    /// What to take back when the kernel does not want the reply any more.
    pub(crate) undo: Undo,
}

/// What a reply gave to the kernel.
pub(crate) enum Undo {
    Nothing,
    Nodes(Vec<u64>),
    File(u64),
    Directory(u64),
    /// A file that was made, and its node.
    Created {
        handle: u64,
        node: u64,
    },
}

impl Reply {
    pub(crate) fn error(errno: Errno) -> Self {
        Self { errno: errno.raw_os_error(), body: Content::Memory(Bytes::new()), undo: Undo::Nothing }
    }

    fn done() -> Self {
        Self::bytes(Vec::new(), Undo::Nothing)
    }

    fn entry(entry: &Entry) -> Self {
        Self::bytes(wire::entry_reply(entry), Undo::Nodes(vec![entry.node]))
    }

    fn bytes(body: Vec<u8>, undo: Undo) -> Self {
        Self { errno: 0, body: Content::Memory(body.into()), undo }
    }

    /// Takes back what the kernel never got.
    pub(crate) fn undo<H: Handler>(undo: Undo, handler: &H) {
        match undo {
            Undo::Nothing => {}
            Undo::Nodes(nodes) => nodes.into_iter().for_each(|node| handler.forget(node, 1)),
            Undo::File(handle) => handler.release(handle),
            Undo::Directory(handle) => handler.release_dir(handle),
            Undo::Created { handle, node } => {
                handler.release(handle);
                handler.forget(node, 1);
            }
        }
    }
}

/// Largest listing that one reply carries, whatever the kernel asks.
const LISTING_BYTES_MAX: usize = 1 << 20;

/// Whether a request goes on when its caller is killed: a change of names is done or not, and what it made is taken back
/// by its reply.
pub(crate) fn runs_to_its_end(operation: &Operation) -> bool {
    match operation {
        Operation::SetAttr { .. }
        | Operation::MakeNode { .. }
        | Operation::MakeDir { .. }
        | Operation::Create { .. }
        | Operation::Remove { .. }
        | Operation::Rename { .. } => true,
        Operation::Open { flags } => changes_content(*flags),
        _ => false,
    }
}

/// Whether a file is opened to change it.
pub(crate) fn changes_content(flags: u32) -> bool {
    flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32 || flags & libc::O_TRUNC as u32 != 0
}

/// Answers a request that wants an answer; `payload` is what a WRITE brings.
pub(crate) async fn dispatch<H: Handler>(handler: &H, request: Request, payload: Bytes) -> Reply {
    answer(handler, request, payload).await.unwrap_or_else(Reply::error)
}

async fn answer<H: Handler>(handler: &H, request: Request, payload: Bytes) -> Result<Reply, Errno> {
    let (node, caller) = (request.node, request.caller);
    Ok(match request.operation {
        Operation::Lookup { name } => Reply::entry(&handler.lookup(node, &name).await?),
        Operation::GetAttr => {
            let (attr, valid) = handler.get_attr(node).await?;
            Reply::bytes(wire::attr_reply(&attr, valid), Undo::Nothing)
        }
        Operation::Open { flags } => {
            let opened = handler.open(node, flags).await?;
            Reply::bytes(wire::open_reply(&opened), Undo::File(opened.handle))
        }
        Operation::Read { handle, offset, size } => {
            let body = handler.read(node, handle, offset, size).await?;
            Reply { errno: 0, body, undo: Undo::Nothing }
        }
        Operation::Release { handle } => {
            handler.release(handle);
            Reply::done()
        }
        Operation::OpenDir => {
            let opened = handler.open_dir(node).await?;
            Reply::bytes(wire::open_reply(&opened), Undo::Directory(opened.handle))
        }
        Operation::ReadDir { handle, offset, size, plus } => {
            let mut buffer = DirBuffer::new((size as usize).min(LISTING_BYTES_MAX), plus);
            handler.read_dir(node, handle, offset, &mut buffer).await?;
            let (bytes, nodes) = buffer.finish();
            Reply::bytes(bytes, Undo::Nodes(nodes))
        }
        Operation::ReleaseDir { handle } => {
            handler.release_dir(handle);
            Reply::done()
        }
        Operation::StatFs => Reply::bytes(wire::stat_fs_reply(&handler.stat_fs().await?), Undo::Nothing),
        Operation::GetXattr { size, name } => xattr_reply(handler.get_xattr(node, &name).await?, size)?,
        Operation::ListXattr { size } => xattr_reply(handler.list_xattr(node).await?, size)?,
        Operation::Destroy => Reply::done(),
        Operation::SetAttr { handle, change } => {
            let (attr, valid) = handler.set_attr(node, handle, change).await?;
            Reply::bytes(wire::attr_reply(&attr, valid), Undo::Nothing)
        }
        Operation::MakeNode { name, mode } => Reply::entry(&handler.make_node(node, &name, mode, caller).await?),
        Operation::MakeDir { name, mode } => Reply::entry(&handler.make_dir(node, &name, mode, caller).await?),
        Operation::Create { name, mode, flags } => {
            let (entry, opened) = handler.create(node, &name, mode, flags, caller).await?;
            let undo = Undo::Created { handle: opened.handle, node: entry.node };
            Reply::bytes(wire::create_reply(&entry, &opened), undo)
        }
        Operation::Remove { name, is_directory } => {
            handler.remove(node, &name, is_directory).await?;
            Reply::done()
        }
        Operation::Rename { name, new_parent, new_name, flags } => {
            handler.rename(node, &name, new_parent, &new_name, flags).await?;
            Reply::done()
        }
        Operation::Write { handle, offset, data: _ } => {
            let size = payload.len() as u32;
            handler.write(node, handle, offset, payload).await?;
            Reply::bytes(wire::write_reply(size), Undo::Nothing)
        }
        Operation::Flush { handle } => {
            handler.flush(handle).await?;
            Reply::done()
        }
        Operation::Sync { handle } => {
            handler.sync(handle).await?;
            Reply::done()
        }
        // What changed in a directory is in its store before it is acknowledged.
        Operation::SyncDir => Reply::done(),
        Operation::Allocate { handle, offset, length, mode } => {
            handler.allocate(handle, offset, length, mode).await?;
            Reply::done()
        }
        Operation::Refused(opcode) => return Err(wire::refusal(opcode)),
        // ACCESS, LSEEK, COPY_FILE_RANGE, POLL, IOCTL, locks: the kernel remembers ENOSYS and does without.
        Operation::Other(_) => return Err(Errno::NOSYS),
        Operation::Init(_) => return Err(Errno::IO),
        // These two have no reply; the session keeps them from coming here.
        Operation::Forget { .. } | Operation::Interrupt { .. } => return Err(Errno::INVAL),
    })
}

/// An extended attribute's value, or its length when the caller asked for that.
fn xattr_reply(value: Vec<u8>, size: u32) -> Result<Reply, Errno> {
    if size == 0 {
        let mut body = (value.len() as u32).to_ne_bytes().to_vec();
        body.resize(8, 0);
        return Ok(Reply::bytes(body, Undo::Nothing));
    }
    if value.len() > size as usize {
        return Err(Errno::RANGE);
    }
    Ok(Reply::bytes(value, Undo::Nothing))
}

/// Reads a descriptor's range into memory; shorter only at the file's end.
pub(crate) fn read_descriptor(file: &Arc<OwnedFd>, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; length];
    let mut done = 0;
    while done < length {
        match rustix::io::pread(file, &mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}
