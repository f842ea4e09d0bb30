//! Requests from bytes. Pure; every length is checked.

use super::abi;

/// A request of the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// What the reply names.
    pub unique: u64,
    /// The node it is about; 0 for some.
    pub node: u64,
    /// The calling thread, in the server's pid namespace; 0 if it has none there.
    pub pid: u32,
    /// What is wanted.
    pub operation: Operation,
}

/// First words between the kernel and the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Init {
    /// The kernel's protocol.
    pub major: u32,
    /// Its minor version.
    pub minor: u32,
    /// The most read-ahead it will do.
    pub max_readahead: u32,
    /// What it offers, both words.
    pub flags: u64,
}

/// What the kernel wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Start.
    Init(Init),
    /// A name in a directory.
    Lookup {
        /// The name.
        name: Vec<u8>,
    },
    /// The kernel drops (node, lookups). No reply.
    Forget {
        /// What it drops.
        nodes: Vec<(u64, u64)>,
    },
    /// Attributes.
    GetAttr,
    /// Opens a file.
    Open {
        /// As given to open(2).
        flags: u32,
    },
    /// Reads a file.
    Read {
        /// What `Open` gave.
        handle: u64,
        /// First byte.
        offset: u64,
        /// Bytes.
        size: u32,
    },
    /// Closes a file.
    Release {
        /// What `Open` gave.
        handle: u64,
    },
    /// Opens a directory.
    OpenDir,
    /// Reads a directory.
    ReadDir {
        /// What `OpenDir` gave.
        handle: u64,
        /// 0 or the offset of the last entry seen.
        offset: u64,
        /// Bytes that fit.
        size: u32,
        /// Whether attributes are wanted with the names.
        plus: bool,
    },
    /// Closes a directory.
    ReleaseDir {
        /// What `OpenDir` gave.
        handle: u64,
    },
    /// Capacity.
    StatFs,
    /// An extended attribute.
    GetXattr {
        /// Bytes that fit; 0 asks for the length.
        size: u32,
        /// Its name.
        name: Vec<u8>,
    },
    /// Names of extended attributes.
    ListXattr {
        /// Bytes that fit; 0 asks for the length.
        size: u32,
    },
    /// The caller of another request got a signal.
    Interrupt {
        /// That request.
        unique: u64,
    },
    /// The end.
    Destroy,
    /// Something that would change the file system.
    Change,
    /// Anything else, by its number.
    Other(u32),
}

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
        let (_uid, _gid, pid) = (header.u32()?, header.u32()?, header.u32()?);
        let extension_bytes = usize::from(header.u16()?) * 8;
        let _padding = header.u16()?;
        Some((length, opcode, unique, node, pid, extension_bytes))
    };
    let Some((length, opcode, unique, node, pid, extension_bytes)) = read_header() else {
        return Err(bad(0, 0));
    };
    let body_end = length.checked_sub(extension_bytes);
    let body = match body_end {
        Some(end) if length == bytes.len() && end >= abi::IN_HEADER_BYTES => &bytes[abi::IN_HEADER_BYTES..end],
        _ => return Err(bad(unique, opcode)),
    };
    match operation(opcode, node, Cursor(body)) {
        Some(operation) => Ok(Request { unique, node, pid, operation }),
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
        abi::SETATTR
        | abi::SYMLINK
        | abi::MKNOD
        | abi::MKDIR
        | abi::UNLINK
        | abi::RMDIR
        | abi::RENAME
        | abi::LINK
        | abi::WRITE
        | abi::SETXATTR
        | abi::REMOVEXATTR
        | abi::CREATE
        | abi::FALLOCATE
        | abi::RENAME2
        | abi::TMPFILE => Operation::Change,
        other => Operation::Other(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&((40 + body.len()) as u32).to_ne_bytes());
        bytes.extend_from_slice(&opcode.to_ne_bytes());
        bytes.extend_from_slice(&77u64.to_ne_bytes());
        bytes.extend_from_slice(&node.to_ne_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn requests_are_read() {
        let lookup = decode(&request(abi::LOOKUP, 5, b"name\0")).unwrap();
        assert_eq!((lookup.unique, lookup.node), (77, 5));
        assert_eq!(lookup.operation, Operation::Lookup { name: b"name".to_vec() });

        let mut body = Vec::new();
        for word in [3u64, 4096] {
            body.extend_from_slice(&word.to_ne_bytes());
        }
        body.extend_from_slice(&[0, 0, 2, 0]);
        body.extend_from_slice(&[0; 20]);
        let read = decode(&request(abi::READ, 5, &body)).unwrap();
        assert_eq!(read.operation, Operation::Read { handle: 3, offset: 4096, size: 0x2_0000 });

        assert_eq!(decode(&request(abi::MKDIR, 1, b"\0\0\0\0\0\0\0\0x\0")).unwrap().operation, Operation::Change);
        assert_eq!(decode(&request(9999, 1, b"")).unwrap().operation, Operation::Other(9999));
    }

    #[test]
    fn malformed_requests_are_refused_with_their_unique() {
        let no_zero = request(abi::LOOKUP, 5, b"name");
        assert_eq!(decode(&no_zero).unwrap_err().unique, 77);
        let short = request(abi::READ, 5, &[0; 8]);
        assert!(decode(&short).is_err());
        let mut too_many = vec![255, 255, 255, 255, 0, 0, 0, 0];
        too_many.extend_from_slice(&[0; 16]);
        assert!(decode(&request(abi::BATCH_FORGET, 0, &too_many)).is_err());
        let mut lies = request(abi::STATFS, 1, b"");
        lies[0] = 200;
        assert!(decode(&lies).is_err());
        let mut extended = request(abi::STATFS, 1, b"");
        extended[36] = 200;
        assert!(decode(&extended).is_err());
        assert_eq!(decode(&[1, 2, 3]).unwrap_err().unique, 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn no_body_makes_it_panic(opcode in 0u32..60, body in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = decode(&request(opcode, 1, &body));
        }
    }
}
