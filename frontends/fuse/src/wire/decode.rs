//! Requests from bytes. Pure; every length is checked.

use super::abi;
use super::operation::{AttrChange, Caller, Init, Operation, Request, SetTime};

/// Bytes that are no request. `unique` is there when a reply is possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("request of {bytes} bytes with opcode {opcode} is malformed")]
pub struct DecodeError {
    /// The request to refuse; 0 when not even that is known.
    pub unique: u64,
    /// Its opcode, 0 when unknown.
    pub opcode: u32,
    /// Bytes there were.
    pub bytes: usize,
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    /// A name up to its terminating zero, which must be there.
    fn name(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (name, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(name)
    }
}

/// Reads one request.
pub fn decode(bytes: &[u8]) -> Result<Request, DecodeError> {
    let bad = |unique, opcode| DecodeError { unique, opcode, bytes: bytes.len() };
    let mut header = Cursor(bytes);
    let mut read_header = || {
        let length = header.u32()? as usize;
        let opcode = header.u32()?;
        let unique = header.u64()?;
        let node = header.u64()?;
        let caller = Caller { uid: header.u32()?, gid: header.u32()?, pid: header.u32()? };
        let extension_bytes = usize::from(header.u16()?) * 8;
        let _padding = header.u16()?;
        Some((length, opcode, unique, node, caller, extension_bytes))
    };
    let Some((length, opcode, unique, node, caller, extension_bytes)) = read_header() else {
        return Err(bad(0, 0));
    };
    let body_end = length.checked_sub(extension_bytes);
    let body = match body_end {
        Some(end) if length == bytes.len() && end >= abi::IN_HEADER_BYTES => &bytes[abi::IN_HEADER_BYTES..end],
        _ => return Err(bad(unique, opcode)),
    };
    match operation(opcode, node, Cursor(body)) {
        Some(operation) => Ok(Request { unique, node, caller, operation }),
        None => Err(bad(unique, opcode)),
    }
}

fn operation(opcode: u32, node: u64, mut body: Cursor<'_>) -> Option<Operation> {
    Some(match opcode {
        abi::INIT => {
            let (major, minor) = (body.u32()?, body.u32()?);
            // A kernel of another major version sends only these two and waits for ours.
            let max_readahead = body.u32().unwrap_or(0);
            let low = body.u32().unwrap_or(0);
            let high = body.u32().unwrap_or(0);
            Operation::Init(Init { major, minor, max_readahead, flags: u64::from(high) << 32 | u64::from(low) })
        }
        abi::LOOKUP => Operation::Lookup { name: body.name()?.to_vec() },
        abi::FORGET => Operation::Forget { nodes: vec![(node, body.u64()?)] },
        abi::BATCH_FORGET => {
            let count = body.u32()? as usize;
            let _dummy = body.u32()?;
            if count > body.0.len() / 16 {
                return None;
            }
            let nodes = (0..count).map(|_| Some((body.u64()?, body.u64()?))).collect::<Option<_>>()?;
            Operation::Forget { nodes }
        }
        abi::GETATTR => Operation::GetAttr,
        abi::OPEN => Operation::Open { flags: body.u32()? },
        abi::OPENDIR => Operation::OpenDir,
        abi::READ | abi::READDIR | abi::READDIRPLUS => {
            let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()?);
            match opcode {
                abi::READ => Operation::Read { handle, offset, size },
                _ => Operation::ReadDir { handle, offset, size, plus: opcode == abi::READDIRPLUS },
            }
        }
        abi::RELEASE => Operation::Release { handle: body.u64()? },
        abi::RELEASEDIR => Operation::ReleaseDir { handle: body.u64()? },
        abi::STATFS => Operation::StatFs,
        abi::GETXATTR => {
            let size = body.u32()?;
            let _padding = body.u32()?;
            Operation::GetXattr { size, name: body.name()?.to_vec() }
        }
        abi::LISTXATTR => Operation::ListXattr { size: body.u32()? },
        abi::INTERRUPT => Operation::Interrupt { unique: body.u64()? },
        abi::DESTROY => Operation::Destroy,
        abi::SETATTR => set_attr(&mut body)?,
        abi::MKNOD => {
            let (mode, _device, _umask, _padding) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
            Operation::MakeNode { mode, name: body.name()?.to_vec() }
        }
        abi::MKDIR => {
            let (mode, _umask) = (body.u32()?, body.u32()?);
            Operation::MakeDir { mode, name: body.name()?.to_vec() }
        }
        abi::CREATE => {
            let (flags, mode, _umask, _open_flags) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
            Operation::Create { flags, mode, name: body.name()?.to_vec() }
        }
        abi::UNLINK | abi::RMDIR => {
            Operation::Remove { name: body.name()?.to_vec(), is_directory: opcode == abi::RMDIR }
        }
        abi::RENAME | abi::RENAME2 => {
            let new_parent = body.u64()?;
            let flags = if opcode == abi::RENAME2 { (body.u32()?, body.u32()?).0 } else { 0 };
            let (name, new_name) = (body.name()?.to_vec(), body.name()?.to_vec());
            Operation::Rename { name, new_parent, new_name, flags }
        }
        abi::WRITE => {
            let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()? as usize);
            let (_write_flags, _lock_owner, _flags, _padding) = (body.u32()?, body.u64()?, body.u32()?, body.u32()?);
            let start = abi::IN_HEADER_BYTES + abi::WRITE_IN_BYTES;
            let end = start.checked_add(size).filter(|_| size == body.0.len())?;
            Operation::Write { handle, offset, data: start..end }
        }
        abi::FLUSH => Operation::Flush { handle: body.u64()? },
        abi::FSYNC => Operation::Sync { handle: body.u64()? },
        abi::FSYNCDIR => Operation::SyncDir,
        abi::FALLOCATE => {
            Operation::Allocate { handle: body.u64()?, offset: body.u64()?, length: body.u64()?, mode: body.u32()? }
        }
        abi::SYMLINK | abi::LINK | abi::SETXATTR | abi::REMOVEXATTR | abi::TMPFILE => Operation::Refused(opcode),
        other => Operation::Other(other),
    })
}

fn set_attr(body: &mut Cursor<'_>) -> Option<Operation> {
    let (valid, _padding, handle, size) = (body.u32()?, body.u32()?, body.u64()?, body.u64()?);
    let (_lock_owner, _atime, mtime_s, _ctime) = (body.u64()?, body.u64()?, body.u64()?, body.u64()?);
    let (_atime_ns, mtime_ns, _ctime_ns, mode) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
    let (_unused, uid, gid, _unused_too) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
    let has = |bit: u32| valid & bit != 0;
    // Seconds before 1970 come as negative numbers.
    let given = SetTime::Ms(
        u64::try_from(mtime_s as i64)
            .map_or(0, |s| s.saturating_mul(1000).saturating_add(u64::from(mtime_ns / 1_000_000))),
    );
    let mtime = match (has(abi::FATTR_MTIME), has(abi::FATTR_MTIME_NOW)) {
        (false, false) => None,
        (_, true) => Some(SetTime::Now),
        (true, false) => Some(given),
    };
    let change = AttrChange {
        size: has(abi::FATTR_SIZE).then_some(size),
        mode: has(abi::FATTR_MODE).then_some(mode & abi::PERMISSION_BITS),
        uid: has(abi::FATTR_UID).then_some(uid),
        gid: has(abi::FATTR_GID).then_some(gid),
        mtime,
    };
    Some(Operation::SetAttr { handle: has(abi::FATTR_FH).then_some(handle), change })
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
