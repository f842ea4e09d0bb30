//! Frames over a Unix socket that may carry a descriptor: blocking, one request at a time, for plain threads. No runtime here
//! can pass descriptors.
//!
//! Invariants: as on every connection, nothing is served before the handshake, and nothing is allocated by a length that was
//! not checked; at most one descriptor comes with a frame, it belongs to the reply whose first byte it came with, and those
//! that nobody expects are closed.

use super::{HANDSHAKE_BODY_BYTES_MAX, HANDSHAKE_TIMEOUT, next_connection_id, reply, socket_path};
use crate::frame::{FRAME_HEADER_BYTES, Flags, Header};
use crate::handshake::{ClientHandshake, ServerHandshake, fresh_nonce, kind_of_status};
use crate::message::handshake::{Hello, HelloReply, Prove};
use crate::message::{Empty, Message, Op, Wire, decode};
use crate::{Identity, NetError, Peer};
use forebay_base::{ErrorKind, KindError};
use rkyv::util::AlignedVec;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest body: a ticket, or the numbers of a connection's leases.
const BODY_BYTES_MAX: u32 = 64 << 10;

/// The socket for descriptors of the worker whose core 0 has this Unix socket; `None` for a path that is no such socket.
#[must_use]
pub fn descriptor_socket(core_0: &Path) -> Option<PathBuf> {
    let port = core_0.file_name()?.to_str()?.strip_prefix("worker-")?;
    Some(core_0.with_file_name(format!("files-{port}")))
}

/// A listening socket; its file goes with it.
pub struct DescriptorListener {
    listener: UnixListener,
    _file: socket_path::SocketFile,
}

impl DescriptorListener {
    /// Binds, after clearing away what a killed process left.
    pub fn bind(path: &Path) -> Result<Self, KindError> {
        socket_path::clear(path)?;
        let listener = UnixListener::bind(path)
            .map_err(|error| super::listen_error(&format!("unix:{}", path.display()), &error))?;
        Ok(Self { listener, _file: socket_path::SocketFile(path.into()) })
    }

    /// A descriptor of the same socket for the thread that accepts.
    pub fn acceptor(&self) -> std::io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

/// One connection.
pub struct DescriptorStream {
    stream: UnixStream,
    address: String,
    body_bytes_max: u32,
    next_request_id: u64,
}

/// A request as it came.
pub struct Request {
    /// What is asked.
    pub op: Op,
    /// The body, to be decoded.
    pub body: AlignedVec,
    id: u64,
    code: u16,
}

impl DescriptorStream {
    fn new(stream: UnixStream, address: String) -> Self {
        Self { stream, address, body_bytes_max: HANDSHAKE_BODY_BYTES_MAX, next_request_id: 1 }
    }

    /// Connects and proves the secret. `patience` bounds each wait for the other side, now and later.
    pub fn connect(path: &Path, identity: &Identity, patience: Duration) -> Result<Self, KindError> {
        let address = format!("unix:{}", path.display());
        let failed = |error: std::io::Error| NetError::Connect { address: address.clone(), error: error.to_string() };
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_read_timeout(Some(patience)).map_err(failed)?;
        stream.set_write_timeout(Some(patience)).map_err(failed)?;
        let mut this = Self::new(stream, address.clone());
        let handshake = ClientHandshake::new(identity, &address, fresh_nonce());
        let refused =
            |error: KindError| NetError::Refused { address: address.clone(), kind: error.kind, message: error.message };
        let reply: HelloReply = this.call::<Hello>(&handshake.hello()).map_err(refused)?.0;
        let (prove, _) = handshake.on_hello_reply(&reply)?;
        this.call::<Prove>(&prove).map_err(refused)?;
        this.body_bytes_max = BODY_BYTES_MAX;
        Ok(this)
    }

    /// The serving side of a connection that was just accepted. Later waits for a request end after `silence_max`.
    pub fn accept(stream: UnixStream, identity: &Identity, silence_max: Duration) -> Result<(Self, Peer), NetError> {
        let address = match rustix::net::sockopt::socket_peercred(&stream) {
            Ok(peer) => format!("unix:pid={},uid={}", peer.pid.as_raw_nonzero(), peer.uid.as_raw()),
            Err(_) => "unix:unknown".into(),
        };
        let broken = |error: std::io::Error| NetError::Broken { address: address.clone(), error: error.to_string() };
        stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT)).map_err(broken)?;
        stream.set_write_timeout(Some(super::WRITE_TIMEOUT)).map_err(broken)?;
        let mut this = Self::new(stream, address.clone());
        let handshake = ServerHandshake::new(identity, &address, fresh_nonce());
        let hello = this.expect::<Hello>()?;
        let (hello_reply, challenge) = match handshake.on_hello(&hello.1) {
            Ok(answer) => answer,
            Err(error) => return Err(this.refuse(&hello.0, error)),
        };
        this.answer(&hello.0, Ok(hello_reply.to_bytes()), None)?;
        let prove = this.expect::<Prove>()?;
        let role = match handshake.on_prove(&challenge, &prove.1) {
            Ok(role) => role,
            Err(error) => return Err(this.refuse(&prove.0, error)),
        };
        this.answer(&prove.0, Ok(Empty::default().to_bytes()), None)?;
        this.stream.set_read_timeout(Some(silence_max)).map_err(broken)?;
        this.body_bytes_max = BODY_BYTES_MAX;
        Ok((this, Peer { role, connection_id: next_connection_id(), address, is_unix: true }))
    }

    fn broken(&self, error: impl ToString) -> NetError {
        NetError::Broken { address: self.address.clone(), error: error.to_string() }
    }

    fn refuse(&mut self, request: &Request, error: NetError) -> NetError {
        // It is told why if it still listens; the connection ends either way.
        let _ = self.answer(request, Err(error.clone().into()), None);
        error
    }

    fn expect<M: Message>(&mut self) -> Result<(Request, M), NetError> {
        let request = self.next()?.ok_or_else(|| self.broken("closed in its handshake"))?;
        if request.op != M::OP {
            return Err(self.broken(format!("got {:?} in the handshake, want {:?}", request.op, M::OP)));
        }
        let body = decode::<M>(&request.body).map_err(|error| self.broken(error))?;
        Ok((request, body))
    }

    /// Sends a request and waits for its reply, with the descriptor that came with it. After an error of kind `Unavailable` or
    /// `Corrupt` the connection is of no more use.
    pub fn call<M: Message>(&mut self, request: &M) -> Result<(M::Reply, Option<OwnedFd>), KindError> {
        let id = self.next_request_id;
        self.next_request_id += 1;
        let frame = reply::request(M::OP as u16, id, request.to_bytes(), 0)?;
        self.write(&frame, None)?;
        let (header, body, descriptor) = self.read()?.ok_or_else(|| self.broken("closed"))?;
        if !header.flags.contains(Flags::REPLY) || header.request_id != id {
            return Err(self.broken("the reply is to another request").into());
        }
        if header.deadline_ms_or_status != 0 {
            let kind = kind_of_status(header.deadline_ms_or_status);
            return Err(KindError::new(kind, String::from_utf8_lossy(&body).into_owned()));
        }
        let reply =
            M::Reply::from_bytes(&body).map_err(|error| KindError::new(ErrorKind::Corrupt, error.to_string()))?;
        Ok((reply, descriptor))
    }

    /// The next request; `None` when the other side closed. An error ends the connection.
    #[expect(clippy::should_implement_trait, reason = "it is no iterator: it fails")]
    pub fn next(&mut self) -> Result<Option<Request>, NetError> {
        loop {
            let Some((header, body, _)) = self.read()? else { return Ok(None) };
            if header.flags.contains(Flags::REPLY) {
                return Err(self.broken("a reply was sent to a server"));
            }
            let Some(op) = Op::from_code(header.op) else {
                let message = format!("operation {:#06x} is unknown here", header.op);
                let unknown = Err(KindError::new(ErrorKind::Unsupported, message));
                self.write(&reply::reply(header.op, header.request_id, 0, unknown), None)?;
                continue;
            };
            return Ok(Some(Request { op, body, id: header.request_id, code: header.op }));
        }
    }

    /// Answers a request, with a descriptor if there is one.
    pub fn answer(
        &mut self,
        request: &Request,
        result: Result<AlignedVec, KindError>,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), NetError> {
        self.write(&reply::reply(request.code, request.id, 0, result), descriptor)
    }

    fn write(&mut self, frame: &reply::Outgoing, descriptor: Option<BorrowedFd<'_>>) -> Result<(), NetError> {
        let bytes = [&frame.header[..], &frame.body].concat();
        let mut sent = 0;
        if let Some(descriptor) = descriptor {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors = [descriptor];
            if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(self.broken("no room for a descriptor"));
            }
            let pieces = [IoSlice::new(&bytes)];
            let result = rustix::net::sendmsg(&self.stream, &pieces, &mut ancillary, SendFlags::NOSIGNAL);
            sent = result.map_err(|error| self.broken(error))?;
        }
        self.stream.write_all(&bytes[sent..]).map_err(|error| self.broken(error))
    }

    fn read(&mut self) -> Result<Option<(Header, AlignedVec, Option<OwnedFd>)>, NetError> {
        let mut head = [0; FRAME_HEADER_BYTES];
        let (first, descriptor) = self.receive(&mut head)?;
        if first == 0 {
            return Ok(None);
        }
        self.stream.read_exact(&mut head[first..]).map_err(|error| self.broken(error))?;
        let header = Header::decode(&head)?;
        header.check_lengths(self.body_bytes_max, 0)?;
        let mut body = AlignedVec::with_capacity(header.body_bytes as usize);
        body.resize(header.body_bytes as usize, 0);
        self.stream.read_exact(&mut body).map_err(|error| self.broken(error))?;
        Header::verify(&head, &body)?;
        Ok(Some((header, body, descriptor)))
    }

    /// The first bytes of a frame and what comes with them. Ancillary data ends a receive, so it is never another frame's.
    fn receive(&mut self, head: &mut [u8]) -> Result<(usize, Option<OwnedFd>), NetError> {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            let mut pieces = [IoSliceMut::new(head)];
            match rustix::net::recvmsg(&self.stream, &mut pieces, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.broken(error)),
                Ok(got) => break got.bytes,
            }
        };
        let mut descriptor = None;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                // Each one is owned from here on, so that surplus ones are closed.
                for received in descriptors {
                    descriptor.get_or_insert(received);
                }
            }
        }
        Ok((got, descriptor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;
    use crate::message::handout::{LEASE_GRANTED, LeaseFile, LeaseFileReply};
    use crate::message::handshake::Role;
    use forebay_base::ClusterId;
    use std::os::fd::AsFd;

    fn identity(cluster: u128) -> Identity {
        Identity { role: Role::Frontend, cluster_id: ClusterId(cluster), secret: Secret::none() }
    }

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn a_descriptor_comes_with_its_reply_and_the_socket_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = descriptor_socket(&dir.path().join("worker-7500.sock")).unwrap();
        assert_eq!(path, dir.path().join("files-7500.sock"));
        assert_eq!(descriptor_socket(Path::new("/run/master-7400.sock")), None);
        std::fs::write(dir.path().join("file"), b"handed out").unwrap();
        let listener = DescriptorListener::bind(&path).unwrap();
        let acceptor = listener.acceptor().unwrap();
        let file = std::fs::File::open(dir.path().join("file")).unwrap();
        let server = std::thread::spawn(move || {
            assert!(DescriptorStream::accept(acceptor.accept().unwrap().0, &identity(7), PATIENCE).is_err());
            let (mut stream, peer) =
                DescriptorStream::accept(acceptor.accept().unwrap().0, &identity(7), PATIENCE).unwrap();
            assert!(peer.address.contains(&format!("pid={}", std::process::id())), "{}", peer.address);
            let mut served = 0;
            while let Some(request) = stream.next().unwrap() {
                let ticket = decode::<LeaseFile>(&request.body).unwrap().ticket;
                let reply = LeaseFileReply { state: LEASE_GRANTED, lease_id: 9, size: ticket.len() as u64 };
                let descriptor = (served % 2 == 0).then(|| file.as_fd());
                stream.answer(&request, Ok(reply.to_bytes()), descriptor).unwrap();
                served += 1;
            }
            served
        });
        let refused = DescriptorStream::connect(&path, &identity(8), PATIENCE).err().unwrap();
        assert_eq!(refused.kind, ErrorKind::Denied, "{refused}");
        let mut client = DescriptorStream::connect(&path, &identity(0), PATIENCE).unwrap();
        for number in 0..4u64 {
            let ticket = vec![7; 3 << (number * 4)];
            let (reply, descriptor) = client.call(&LeaseFile { ticket: ticket.clone() }).unwrap();
            assert_eq!((reply.lease_id, reply.size), (9, ticket.len() as u64));
            assert_eq!(descriptor.is_some(), number % 2 == 0);
            if let Some(descriptor) = descriptor {
                let mut bytes = [0; 32];
                assert_eq!(rustix::io::pread(&descriptor, &mut bytes, 0), Ok(10));
                assert!(rustix::io::write(&descriptor, b"x").is_err());
            }
        }
        drop(client);
        assert_eq!(server.join().unwrap(), 4);
        drop(listener);
        assert!(!path.exists());
    }
}
