//! Real sockets: the tokio client against the tokio server and against the glommio server, over TCP and Unix sockets,
//! and raw bytes against both servers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use forebay_base::{ClusterId, ErrorKind, KindError, limits};
use forebay_net::message::data::{Read, ReadItem, ReadReply, ReadResult};
use forebay_net::message::handshake::{Hello, Role};
use forebay_net::message::namespace::{Attr, Lookup, Resolve};
use forebay_net::message::{Op, Wire, decode};
use forebay_net::transport::glommio::{PayloadPart, ShardReply, ShardServer, ShardService};
use forebay_net::transport::tokio::{Connection, Server, Service};
use forebay_net::{Endpoint, Flags, Header, Identity, Peer, Secret};
use rkyv::util::AlignedVec;
use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(20);

fn secret(text: &str) -> Secret {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, format!("{text}-0123456789abcdef")).unwrap();
    Secret::load(Some(&path)).unwrap()
}

fn identity(role: Role, cluster: u128) -> Identity {
    Identity { role, cluster_id: ClusterId(cluster), secret: secret("right") }
}

fn attr(file_id: u64) -> Attr {
    Attr {
        file_id,
        version: 1,
        size: 2,
        mtime_ms: 3,
        block_bytes: 4,
        page_bytes: 5,
        mode: 6,
        uid: 7,
        gid: 8,
        nlink: 9,
        mount_id: 10,
        kind: 1,
        valid_for_ms: 11,
    }
}

/// The byte at `offset` of the file every shard here serves.
fn pattern(offset: u64) -> u8 {
    (offset.wrapping_mul(31) >> 3) as u8
}

/// `Lookup` answers `parent + 1`; the name "slow" takes long, "missing" is not there, "panic" panics.
struct Namespace {
    running: AtomicUsize,
    dropped: Arc<AtomicUsize>,
}

struct CountsDrop(Arc<AtomicUsize>);
static VERIFIES_DROPPED: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

impl Drop for CountsDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Service for Namespace {
    async fn call(
        &self,
        peer: Arc<Peer>,
        op: Op,
        body: AlignedVec,
        _deadline: Duration,
    ) -> Result<AlignedVec, KindError> {
        assert_eq!(peer.role, Role::Frontend);
        match op {
            Op::Lookup => {
                let request: Lookup = decode(&body)?;
                self.running.fetch_add(1, Ordering::SeqCst);
                match request.name.as_slice() {
                    b"slow" => {
                        let _counts = CountsDrop(self.dropped.clone());
                        tokio::time::sleep(LONG).await;
                    }
                    b"pause" => tokio::time::sleep(Duration::from_millis(100)).await,
                    b"missing" => return Err(KindError::new(ErrorKind::NotFound, "missing: no such name")),
                    b"panic" => panic!("as asked"),
                    _ => {}
                }
                Ok(attr(request.parent + 1).to_bytes())
            }
            _ => Err(KindError::new(ErrorKind::Unsupported, format!("{op:?}: not here"))),
        }
    }
}

fn namespace() -> Arc<Namespace> {
    Arc::new(Namespace { running: AtomicUsize::new(0), dropped: Arc::default() })
}

fn lookup(parent: u64, name: &str) -> Lookup {
    Lookup { parent, name: name.into() }
}

async fn exercise_namespace(endpoint: Endpoint) {
    let connection = Connection::connect(&endpoint, &identity(Role::Frontend, 0), LONG).await.unwrap();
    assert_eq!(connection.cluster_id(), ClusterId(7));
    let calls = (0..2000u64).map(|parent| {
        let connection = connection.clone();
        tokio::spawn(async move { connection.call(&lookup(parent, "x"), LONG).await.unwrap().file_id })
    });
    for (parent, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), parent as u64 + 1);
    }
    let error = connection.call(&lookup(1, "missing"), LONG).await.unwrap_err();
    assert_eq!(error, KindError::new(ErrorKind::NotFound, "missing: no such name"));
    let error = connection.call(&Resolve { path: b"/".to_vec() }, LONG).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    let error = connection.call(&lookup(1, "panic"), LONG).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
    let huge = lookup(1, &"x".repeat(limits::BODY_BYTES_MAX as usize + 1));
    assert_eq!(connection.call(&huge, LONG).await.unwrap_err().kind, ErrorKind::Invalid);
    let large = lookup(1, &"x".repeat(3 << 20));
    assert_eq!(connection.call(&large, LONG).await.unwrap().file_id, 2);
    assert!(!connection.is_closed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_to_tokio_over_tcp_and_unix() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sockets/master.sock");
    for endpoint in [Endpoint::Tcp("127.0.0.1:0".into()), Endpoint::Unix(path.clone())] {
        let server = Server::bind(&endpoint, identity(Role::Master, 7), namespace()).await.unwrap();
        let reached = match &endpoint {
            Endpoint::Tcp(_) => Endpoint::Tcp(server.local_address()),
            Endpoint::Unix(path) => Endpoint::Unix(path.clone()),
        };
        exercise_namespace(reached.clone()).await;
        let error = Server::bind(&reached, identity(Role::Master, 7), namespace()).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Busy);
        assert!(error.message.contains("in use"), "{error}");
        server.shutdown().await;
        let error = Connection::connect(&reached, &identity(Role::Frontend, 0), LONG).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.message.contains(&reached.to_string()), "{error}");
    }
    assert!(!path.exists(), "the socket is removed with its server");
}

#[tokio::test]
async fn deadlines_end_calls_and_work() {
    let service = namespace();
    let server =
        Server::bind(&Endpoint::Tcp("127.0.0.1:0".into()), identity(Role::Master, 7), service.clone()).await.unwrap();
    let endpoint = Endpoint::Tcp(server.local_address());
    let connection = Connection::connect(&endpoint, &identity(Role::Frontend, 7), LONG).await.unwrap();
    let started = Instant::now();
    let error = connection.call(&lookup(1, "slow"), Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("Lookup within 50 ms"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
    while service.dropped.load(Ordering::SeqCst) == 0 {
        assert!(started.elapsed() < Duration::from_secs(5), "the server goes on with the work");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(connection.call(&lookup(1, "x"), LONG).await.unwrap().file_id, 2);
    server.shutdown().await;
}

#[tokio::test]
async fn requests_of_one_connection_run_side_by_side_up_to_a_cap() {
    let service = namespace();
    let server =
        Server::bind(&Endpoint::Tcp("127.0.0.1:0".into()), identity(Role::Master, 7), service.clone()).await.unwrap();
    let endpoint = Endpoint::Tcp(server.local_address());
    let connection = Connection::connect(&endpoint, &identity(Role::Frontend, 7), LONG).await.unwrap();
    let started = Instant::now();
    let paused = futures::future::join_all((0..200).map(|_| {
        let connection = connection.clone();
        async move { connection.call(&lookup(1, "pause"), LONG).await.unwrap() }
    }));
    paused.await;
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    let before = service.running.load(Ordering::SeqCst);
    let many = futures::future::join_all((0..400).map(|_| {
        let connection = connection.clone();
        async move { connection.call(&lookup(1, "slow"), Duration::from_millis(700)).await.unwrap_err() }
    }));
    let watch = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        service.running.load(Ordering::SeqCst) - before
    };
    let (_, running) = futures::future::join(many, watch).await;
    assert_eq!(running, 256);
    server.shutdown().await;
}

#[tokio::test]
async fn a_dying_server_fails_all_that_waits() {
    let server =
        Server::bind(&Endpoint::Tcp("127.0.0.1:0".into()), identity(Role::Master, 7), namespace()).await.unwrap();
    let endpoint = Endpoint::Tcp(server.local_address());
    let connection = Connection::connect(&endpoint, &identity(Role::Frontend, 7), LONG).await.unwrap();
    let waiting = tokio::spawn({
        let connection = connection.clone();
        async move { connection.call(&lookup(1, "slow"), LONG).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let started = Instant::now();
    server.shutdown().await;
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(started.elapsed() < Duration::from_secs(6));
    assert!(connection.is_closed());
    let error = connection.call(&lookup(1, "x"), LONG).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("broke"), "{error}");
}

/// Serves file 1, whose bytes follow `pattern`, from an owner the server must not copy.
struct Shard {
    page: Rc<Vec<u8>>,
}

#[derive(Default)]
struct Session {
    requests: Cell<u32>,
}

impl ShardService for Shard {
    type Session = Session;

    async fn call(
        &self,
        session: Rc<Session>,
        peer: Rc<Peer>,
        op: Op,
        body: AlignedVec,
        _deadline: Duration,
    ) -> Result<ShardReply, KindError> {
        assert_eq!(peer.role, Role::Frontend);
        session.requests.set(session.requests.get() + 1);
        if op == Op::CacheStatus {
            return std::future::pending().await;
        }
        if op == Op::Verify {
            let _counts = CountsDrop(VERIFIES_DROPPED.clone());
            return std::future::pending().await;
        }
        if op != Op::Read {
            return Err(KindError::new(ErrorKind::Unsupported, format!("{op:?}: not here")));
        }
        let request: Read = decode(&body)?;
        if request.items.len() > 3 {
            glommio::timer::sleep(Duration::from_millis(2)).await;
        }
        let mut reply = ShardReply { body: AlignedVec::new(), payload: Vec::new() };
        let mut results = Vec::new();
        for item in &request.items {
            if item.file_id != 1 {
                return Err(KindError::new(ErrorKind::NotFound, format!("file {}: unknown", item.file_id)));
            }
            let start = item.offset as usize;
            let owner: Rc<dyn AsRef<[u8]>> = self.page.clone();
            reply.payload.push(PayloadPart::new(owner, start..start + item.length as usize));
            results.push(ReadResult { status: 0, length: item.length, source: 1, message: String::new() });
        }
        reply.body = ReadReply { results, checksums: Vec::new() }.to_bytes();
        Ok(reply)
    }
}

/// A shard on its own executor and thread, stopped when dropped.
struct RunningShard {
    tcp: String,
    stop: Option<futures::channel::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl RunningShard {
    fn start(unix: Option<PathBuf>) -> RunningShard {
        let (started, start) = std::sync::mpsc::channel();
        let (stop, stopped) = futures::channel::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let executor = glommio::LocalExecutorBuilder::default().io_memory(256 << 10).make().unwrap();
            executor.run(async move {
                let page = Rc::new((0..4u64 << 20).map(pattern).collect::<Vec<u8>>());
                let server = bind_shard("127.0.0.1:0", unix.as_deref(), page.clone()).unwrap();
                started.send(server.tcp_address()).unwrap();
                drop(futures::future::select(Box::pin(server.run()), stopped).await);
                // Cancelled tasks drop what they hold when they are scheduled next.
                for _ in 0..100 {
                    glommio::yield_if_needed().await;
                    glommio::timer::sleep(Duration::from_millis(1)).await;
                    if Rc::strong_count(&page) == 1 {
                        break;
                    }
                }
                assert_eq!(Rc::strong_count(&page), 1, "a stopped server holds nothing");
            });
        });
        let tcp = start.recv_timeout(LONG).unwrap();
        RunningShard { tcp, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for RunningShard {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn bind_shard(tcp: &str, unix: Option<&Path>, page: Rc<Vec<u8>>) -> Result<ShardServer, KindError> {
    ShardServer::bind(tcp, unix, identity(Role::Worker, 7), Rc::new(Shard { page }))
}

fn read_request(ranges: &[(u64, u32)]) -> Read {
    let item = |&(offset, length): &(u64, u32)| ReadItem { file_id: 1, version: 1, offset, length, ticket: vec![] };
    Read { items: ranges.iter().map(item).collect(), want_checksums: false, waited_ms: 0 }
}

fn expect_payload(ranges: &[(u64, u32)], payload: &Bytes) {
    let want: Vec<u8> =
        ranges.iter().flat_map(|&(offset, length)| (offset..offset + u64::from(length)).map(pattern)).collect();
    assert_eq!(payload.len(), want.len());
    assert!(payload[..] == want[..], "payload differs");
    assert_eq!(payload.as_ptr().align_offset(4096), 0, "direct I/O could not take it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_to_glommio_over_tcp_and_unix() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("worker.sock");
    let shard = RunningShard::start(Some(path.clone()));
    for endpoint in [Endpoint::Tcp(shard.tcp.clone()), Endpoint::Unix(path.clone())] {
        let connection = Connection::connect(&endpoint, &identity(Role::Frontend, 7), LONG).await.unwrap();
        let calls = (0..600u64).map(|n| {
            let connection = connection.clone();
            tokio::spawn(async move {
                let ranges: Vec<(u64, u32)> = match n % 4 {
                    0 => vec![(n, 1 << 20)],
                    1 => vec![(n, 100), (n * 7, 0), (n + 5000, 17_000)],
                    2 => (0..50).map(|item| (item * 991 + n, 4096)).collect(),
                    _ => vec![(n, 1)],
                };
                let (reply, payload) = connection.call_payload(&read_request(&ranges), LONG).await.unwrap();
                assert_eq!(reply.results.len(), ranges.len());
                expect_payload(&ranges, &payload);
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        let mut unknown = read_request(&[(0, 1)]);
        unknown.items[0].file_id = 9;
        let error = connection.call(&unknown, LONG).await.unwrap_err();
        assert_eq!(error, KindError::new(ErrorKind::NotFound, "file 9: unknown"));
        let all = [(0, 4 << 20), (0, 4 << 20)];
        let (_, payload) = connection.call_payload(&read_request(&all), LONG).await.unwrap();
        expect_payload(&all, &payload);
        let beyond = [(0, 4 << 20), (0, 4 << 20), (0, 1)];
        let error = connection.call(&read_request(&beyond), LONG).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal, "{error}");
        let status = forebay_net::message::data::CacheStatus { files: vec![] };
        let error = connection.call(&status, Duration::from_millis(30)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        let (_, payload) = connection.call_payload(&read_request(&[(3, 5)]), LONG).await.unwrap();
        expect_payload(&[(3, 5)], &payload);
    }
    drop(shard);
    assert!(!path.exists(), "the socket is removed with its server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_at_a_shard_ends_with_its_connection() {
    let shard = RunningShard::start(None);
    let mut client = RawClient::connect(&shard.tcp);
    client.shake_hands();
    client.send(Op::Verify as u16, 10, &[]);
    client.send(Op::Load as u16, 11, &[]);
    assert_eq!(client.receive().0.request_id, 11, "the first goes on");
    drop(client);
    // The call's own deadline is 5 s.
    let ended = async {
        while VERIFIES_DROPPED.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(4), ended).await.expect("it ends with its connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_does_not_stop_its_neighbours() {
    let shard = RunningShard::start(None);
    let endpoint = Endpoint::Tcp(shard.tcp.clone());
    let mut stuck = RawClient::connect(&shard.tcp);
    stuck.shake_hands();
    for request_id in 10..200 {
        stuck.send(Op::Read as u16, request_id, &read_request(&[(0, 1 << 20)]).to_bytes());
    }
    let connection = Connection::connect(&endpoint, &identity(Role::Frontend, 7), LONG).await.unwrap();
    let started = Instant::now();
    for _ in 0..100 {
        connection.call_payload(&read_request(&[(5, 4096)]), LONG).await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_servers_refuse_strangers() {
    let shard = RunningShard::start(None);
    let server =
        Server::bind(&Endpoint::Tcp("127.0.0.1:0".into()), identity(Role::Master, 7), namespace()).await.unwrap();
    for address in [shard.tcp.clone(), server.local_address()] {
        let endpoint = Endpoint::Tcp(address.clone());
        let wrong = Identity { secret: secret("wrong"), ..identity(Role::Frontend, 0) };
        let error = Connection::connect(&endpoint, &wrong, LONG).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Denied);
        assert_eq!(error.message, format!("cluster secret does not match that of {address}"));
        let none = Identity { secret: Secret::none(), ..identity(Role::Frontend, 0) };
        assert_eq!(Connection::connect(&endpoint, &none, LONG).await.err().unwrap().kind, ErrorKind::Denied);
        let error = Connection::connect(&endpoint, &identity(Role::Frontend, 8), LONG).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.message.contains("cluster"), "{error}");
        tokio::task::spawn_blocking(move || refuse_raw(&address)).await.unwrap();
    }
    server.shutdown().await;
}

/// What a client that does not keep to the rules sees. Blocking.
fn refuse_raw(address: &str) {
    // A version nobody speaks.
    let mut client = RawClient::connect(address);
    let hello = Hello { version_min: 2, version_max: 3, role: 1, cluster_id: 0, nonce: [0; 32] };
    client.send(Op::Hello as u16, 1, &hello.to_bytes());
    let (header, body) = client.receive();
    assert_eq!(header.deadline_ms_or_status, u32::from(ErrorKind::Unsupported.code()));
    assert!(String::from_utf8(body).unwrap().contains("speaks 2 to 3, this process 1 to 1"));
    client.expect_closed();

    // A wrong proof.
    let mut client = RawClient::connect(address);
    let hello = Hello { version_min: 1, version_max: 1, role: 4, cluster_id: 0, nonce: [0; 32] };
    client.send(Op::Hello as u16, 1, &hello.to_bytes());
    assert_eq!(client.receive().0.deadline_ms_or_status, 0);
    client.send(Op::Prove as u16, 2, &forebay_net::message::handshake::Prove { proof: [7; 32] }.to_bytes());
    let (header, body) = client.receive();
    assert_eq!(header.deadline_ms_or_status, u32::from(ErrorKind::Denied.code()));
    assert!(String::from_utf8(body).unwrap().contains("cluster secret does not match"));
    client.expect_closed();

    // A request before the handshake, a proof before the hello, no frame at all.
    let mut client = RawClient::connect(address);
    client.send(Op::Lookup as u16, 1, &lookup(1, "x").to_bytes());
    client.expect_closed();
    let mut client = RawClient::connect(address);
    client.send(Op::Prove as u16, 1, &forebay_net::message::handshake::Prove { proof: [7; 32] }.to_bytes());
    client.expect_closed();
    let mut client = RawClient::connect(address);
    client.stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    client.expect_closed();

    // Large lengths from a stranger, too large ones from a friend.
    let mut client = RawClient::connect(address);
    client.send_header(Op::Hello as u16, 5000, 0);
    client.expect_closed();
    for (body_bytes, payload_bytes) in [(limits::BODY_BYTES_MAX + 1, 0), (0, u32::MAX), (0, 1)] {
        let mut client = RawClient::connect(address);
        client.shake_hands();
        client.send_header(Op::Lookup as u16, body_bytes, payload_bytes);
        client.expect_closed();
    }

    // A wrong checksum ends the connection; a body that is none gets an error and the connection goes on.
    let mut client = RawClient::connect(address);
    client.shake_hands();
    for op in [Op::Read, Op::Lookup] {
        client.send(op as u16, 5, &[0xff; 7]);
        let (header, _) = client.receive();
        assert_eq!(header.request_id, 5);
        let kind = ErrorKind::from_code(header.deadline_ms_or_status as u16).unwrap();
        assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported), "{kind}");
    }
    client.send(0x7777, 6, &[]);
    assert_eq!(client.receive().0.deadline_ms_or_status, u32::from(ErrorKind::Unsupported.code()));
    client.send(Op::Hello as u16, 7, &hello.to_bytes());
    assert_eq!(client.receive().0.deadline_ms_or_status, u32::from(ErrorKind::Unsupported.code()));
    let mut frame = RawClient::frame(Op::Lookup as u16, 8, &lookup(1, "x").to_bytes());
    *frame.last_mut().unwrap() ^= 1;
    client.stream.write_all(&frame).unwrap();
    client.expect_closed();
}

/// A client of plain blocking bytes.
struct RawClient {
    stream: TcpStream,
}

impl RawClient {
    fn connect(address: &str) -> RawClient {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        RawClient { stream }
    }

    fn frame(op: u16, request_id: u64, body: &[u8]) -> Vec<u8> {
        let header = Header {
            flags: Flags(0),
            op,
            request_id,
            body_bytes: body.len() as u32,
            payload_bytes: 0,
            deadline_ms_or_status: 5000,
        };
        [&header.encode(body)[..], body].concat()
    }

    fn send(&mut self, op: u16, request_id: u64, body: &[u8]) {
        self.stream.write_all(&Self::frame(op, request_id, body)).unwrap();
    }

    /// A header whose lengths are not those of what follows: nothing.
    fn send_header(&mut self, op: u16, body_bytes: u32, payload_bytes: u32) {
        let mut frame = Self::frame(op, 1, &[]);
        frame[16..20].copy_from_slice(&body_bytes.to_le_bytes());
        frame[20..24].copy_from_slice(&payload_bytes.to_le_bytes());
        self.stream.write_all(&frame).unwrap();
    }

    fn receive(&mut self) -> (Header, Vec<u8>) {
        let mut head = [0; 32];
        self.stream.read_exact(&mut head).unwrap();
        let header = Header::decode(&head).unwrap();
        let mut body = vec![0; header.body_bytes as usize];
        self.stream.read_exact(&mut body).unwrap();
        Header::verify(&head, &body).unwrap();
        assert!(header.flags.contains(Flags::REPLY));
        (header, body)
    }

    fn shake_hands(&mut self) {
        let us = identity(Role::Frontend, 7);
        let handshake = forebay_net::handshake::ClientHandshake::new(&us, "server", [9; 32]);
        self.send(Op::Hello as u16, 1, &handshake.hello().to_bytes());
        let (_, body) = self.receive();
        let (prove, _) = handshake.on_hello_reply(&Wire::from_bytes(&body).unwrap()).unwrap();
        self.send(Op::Prove as u16, 2, &prove.to_bytes());
        assert_eq!(self.receive().0.deadline_ms_or_status, 0);
    }

    fn expect_closed(&mut self) {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            Ok(_) => panic!("got bytes, want a closed connection"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

#[test]
fn a_taken_port_or_socket_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("worker.sock");
    let shard = RunningShard::start(Some(path.clone()));
    let executor = glommio::LocalExecutorBuilder::default().io_memory(256 << 10).make().unwrap();
    executor.run(async {
        let page = Rc::new(Vec::new());
        let error = bind_shard(&shard.tcp, None, page.clone()).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Busy);
        assert_eq!(error.message, format!("port in use: {} is taken by another process", shard.tcp));
        let error = bind_shard("127.0.0.1:0", Some(&path), page.clone()).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Busy);
        assert!(error.message.contains("socket in use"), "{error}");
        let error = bind_shard("nonsense", None, page).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains("\"nonsense\", want host:port"), "{error}");
    });
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::Tcp(silent.local_addr().unwrap().to_string());
    let started = Instant::now();
    let error = Connection::connect(&endpoint, &identity(Role::Frontend, 0), Duration::from_millis(80)).await;
    let error = error.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("no answer within 80 ms"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}
