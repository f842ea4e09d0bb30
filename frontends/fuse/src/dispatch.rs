//! One request to one handler call to one reply. Pure but for the handler.

use crate::handler::{Content, Errno, Handler};
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
}

impl Reply {
    pub(crate) fn error(errno: Errno) -> Self {
        Self { errno: errno.raw_os_error(), body: Content::Memory(Bytes::new()), undo: Undo::Nothing }
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
        }
    }
}

/// Largest listing that one reply carries, whatever the kernel asks.
const LISTING_BYTES_MAX: usize = 1 << 20;

/// Answers a request that wants an answer.
pub(crate) async fn dispatch<H: Handler>(handler: &H, request: Request) -> Reply {
    answer(handler, request).await.unwrap_or_else(Reply::error)
}

async fn answer<H: Handler>(handler: &H, request: Request) -> Result<Reply, Errno> {
    let node = request.node;
    Ok(match request.operation {
        Operation::Lookup { name } => {
            let entry = handler.lookup(node, &name).await?;
            Reply::bytes(wire::entry_reply(&entry), Undo::Nodes(vec![entry.node]))
        }
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
            Reply::bytes(Vec::new(), Undo::Nothing)
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
            Reply::bytes(Vec::new(), Undo::Nothing)
        }
        Operation::StatFs => Reply::bytes(wire::stat_fs_reply(&handler.stat_fs().await?), Undo::Nothing),
        Operation::GetXattr { size, name } => xattr_reply(handler.get_xattr(node, &name).await?, size)?,
        Operation::ListXattr { size } => xattr_reply(handler.list_xattr(node).await?, size)?,
        Operation::Destroy => Reply::bytes(Vec::new(), Undo::Nothing),
        Operation::Change => return Err(Errno::ROFS),
        // FLUSH, ACCESS, LSEEK, POLL, IOCTL, locks: the kernel remembers ENOSYS and does without.
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
