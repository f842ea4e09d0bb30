//! A mounted file system being served: the INIT talk, then N threads that each read requests from a descriptor of their
//! own and answer on it.
//!
//! Each thread is a current-thread runtime: a request that has its answer at hand is answered before the next one is
//! read, any other becomes a local task, so that requests run in parallel without hopping threads. Invariant: a reply
//! goes to the descriptor that its request came from.

use crate::buffers::Buffers;
use crate::device;
use crate::dispatch::{Reply, dispatch, read_descriptor, runs_to_its_end};
use crate::error::FuseError;
use crate::handler::{Backing, Content, Errno, Handler};
use crate::interrupts::{Interrupts, LOOK};
use crate::metrics::{FORGET, FuseMetrics, INTERRUPT, READ, error_index, op_index};
use crate::mount::{self, MountOptions};
use crate::wire::{self, Init, InitReply, Operation};
use bytes::Bytes;
use forebay_base::metrics::PerCore;
use futures::future::{AbortHandle, Abortable};
use rustix::event::{PollFd, PollFlags};
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// How to serve.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// Serving threads.
    pub threads: usize,
    /// Largest READ, bytes.
    pub max_read: u32,
    /// The kernel's read-ahead, bytes.
    pub read_ahead_bytes: u64,
    /// Let users other than the mount's owner in.
    pub allow_other: bool,
    /// Let the kernel read backing files, if it can.
    pub passthrough: bool,
}

/// A mount that is being served.
pub struct Session {
    mountpoint: PathBuf,
    threads: Vec<std::thread::JoinHandle<()>>,
    running: watch::Receiver<()>,
    metrics: Arc<PerCore<FuseMetrics>>,
}

/// What one message to a worker carries.
const MAX_WRITE_BYTES: u32 = 1 << 20;
/// Holds the largest request: `max_write` and its headers.
const REQUEST_BYTES: usize = (MAX_WRITE_BYTES + PAGE_BYTES) as usize;
const MAX_BACKGROUND: u16 = 64;
const CONGESTION_THRESHOLD: u16 = 48;
const INIT_TIMEOUT_S: i64 = 10;
/// Requests read in a row before the tasks of this thread get a turn.
const BURST: u32 = 16;
const PAGE_BYTES: u32 = 4096;
/// Backing files lie on no stacked file system; with more, nothing could be stacked on the mount.
const MAX_STACK_DEPTH: u32 = 1;

impl Session {
    /// Mounts at a prepared path and serves it.
    pub fn start<H: Handler>(
        mountpoint: &Path,
        options: &SessionOptions,
        handler: Arc<H>,
    ) -> Result<Session, FuseError> {
        let mount_options = MountOptions { allow_other: options.allow_other, max_read: options.max_read };
        let device = mount::mount(mountpoint, &mount_options)?;
        let started = Self::serve(&device, mountpoint, options, handler);
        match started {
            Ok(session) => {
                mount::set_read_ahead(mountpoint, options.read_ahead_bytes);
                Ok(session)
            }
            Err(error) => {
                // The mount is of no use; what went wrong first is what people should hear.
                let _ = mount::unmount(mountpoint);
                Err(error)
            }
        }
    }

    fn serve<H: Handler>(
        device: &OwnedFd,
        mountpoint: &Path,
        options: &SessionOptions,
        handler: Arc<H>,
    ) -> Result<Session, FuseError> {
        let flags = negotiate(device, options)?;
        handler.began(backing(device, options, flags));
        let interrupts = Arc::new(Interrupts::default());
        let (alive, running) = watch::channel(());
        let alive = Arc::new(alive);
        let metrics = Arc::<PerCore<FuseMetrics>>::default();
        let mut threads = Vec::with_capacity(options.threads);
        for index in 0..options.threads {
            let descriptor = match index {
                0 => device.try_clone(),
                _ => device::clone(device.as_fd()).or_else(|error| {
                    tracing::debug!(%error, "no clone of /dev/fuse, threads share one");
                    device.try_clone()
                }),
            };
            let descriptor = descriptor.map_err(|error| FuseError::system("cannot clone /dev/fuse", error))?;
            let (handler, alive) = (handler.clone(), alive.clone());
            let (interrupts, metrics) = (interrupts.clone(), metrics.clone());
            let thread = std::thread::Builder::new().name(format!("fuse-{index}")).spawn(move || {
                if let Err(error) = thread_main(descriptor, handler, interrupts, metrics) {
                    tracing::error!(%error, "a thread of the mount ended");
                }
                drop(alive);
            });
            threads.push(thread.map_err(|error| FuseError::system("cannot start a thread", error))?);
        }
        Ok(Session { mountpoint: mountpoint.to_path_buf(), threads, running, metrics })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// What the session counts; still right when it is over.
    #[must_use]
    pub fn metrics(&self) -> Arc<PerCore<FuseMetrics>> {
        self.metrics.clone()
    }

    /// Resolves when nobody serves any more: the mount is gone.
    pub async fn ended(&self) {
        let mut running = self.running.clone();
        // The channel never carries a value; it closes when the last thread is done.
        while running.changed().await.is_ok() {}
    }

    /// Unmounts, lazily if something is open, and waits for the threads unless open files keep them busy.
    pub fn unmount(self) -> Result<(), FuseError> {
        mount::unmount(&self.mountpoint)?;
        for _ in 0..20 {
            if self.threads.iter().all(std::thread::JoinHandle::is_finished) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// The way to register backing files, or why there is none.
fn backing(device: &OwnedFd, options: &SessionOptions, flags: u64) -> Result<Backing, String> {
    if !options.passthrough {
        return Err("fuse.passthrough is off".into());
    }
    if flags & wire::PASSTHROUGH == 0 {
        return Err("this kernel offers none; Linux 6.9 or later does".into());
    }
    let device = device.try_clone().map_err(|error| error.to_string())?;
    Backing::new(device).map_err(|error| match error {
        Errno::PERM => "it needs CAP_SYS_ADMIN".into(),
        other => format!("the kernel refuses backing files ({other})"),
    })
}

/// Answers INIT; gives the flags that both sides use.
fn negotiate(device: &OwnedFd, options: &SessionOptions) -> Result<u64, FuseError> {
    let mut buffer = vec![0; REQUEST_BYTES];
    loop {
        let timeout = rustix::event::Timespec { tv_sec: INIT_TIMEOUT_S, tv_nsec: 0 };
        let ready = rustix::event::poll(&mut [PollFd::new(device, PollFlags::IN)], Some(&timeout))
            .map_err(|error| FuseError::system("cannot poll /dev/fuse", error))?;
        if ready == 0 {
            return Err(FuseError::Protocol(format!("no INIT within {INIT_TIMEOUT_S} s")));
        }
        let length = match rustix::io::read(device, &mut buffer) {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(error) => return Err(FuseError::system("cannot read /dev/fuse", error)),
        };
        let request = wire::decode(&buffer[..length]).map_err(|error| FuseError::Protocol(error.to_string()))?;
        let Operation::Init(init) = request.operation else {
            return Err(FuseError::Protocol(format!("first request is {:?}, want INIT", request.operation)));
        };
        let answer = init_answer(&init, options);
        let (errno, body) = match &answer {
            Ok(Some(reply)) => (0, wire::init_reply(reply)),
            // A newer major version: the kernel asks again with ours.
            Ok(None) => (0, [wire::KERNEL_MAJOR, wire::KERNEL_MINOR].map(u32::to_ne_bytes).concat()),
            Err(_) => (libc::EPROTO, Vec::new()),
        };
        let header = wire::out_header(request.unique, errno, body.len());
        rustix::io::writev(device, &[IoSlice::new(&header), IoSlice::new(&body)])
            .map_err(|error| FuseError::system("cannot answer INIT", error))?;
        if let Some(reply) = answer? {
            return Ok(reply.flags);
        }
    }
}

fn init_answer(init: &Init, options: &SessionOptions) -> Result<Option<InitReply>, FuseError> {
    if init.major > wire::KERNEL_MAJOR {
        return Ok(None);
    }
    if init.major < wire::KERNEL_MAJOR || init.minor < wire::KERNEL_MINOR_MIN {
        let message = format!(
            "got version {}.{}, want at least {}.{}",
            init.major,
            init.minor,
            wire::KERNEL_MAJOR,
            wire::KERNEL_MINOR_MIN
        );
        return Err(FuseError::Protocol(message));
    }
    let pages = options.max_read.max(MAX_WRITE_BYTES).div_ceil(PAGE_BYTES).clamp(1, u32::from(u16::MAX));
    let passthrough = if options.passthrough { init.flags & wire::PASSTHROUGH } else { 0 };
    Ok(Some(InitReply {
        max_readahead: init.max_readahead,
        flags: init.flags & wire::INIT_FLAGS_WANTED | passthrough,
        max_stack_depth: if passthrough == 0 { 0 } else { MAX_STACK_DEPTH },
        max_background: MAX_BACKGROUND,
        congestion_threshold: CONGESTION_THRESHOLD,
        max_write: MAX_WRITE_BYTES,
        max_pages: pages as u16,
    }))
}

fn thread_main<H: Handler>(
    descriptor: OwnedFd,
    handler: Arc<H>,
    interrupts: Arc<Interrupts>,
    metrics: Arc<PerCore<FuseMetrics>>,
) -> Result<(), FuseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| FuseError::system("cannot build a runtime", error))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let descriptor = device::watch(descriptor)?;
        let lane = Rc::new(Lane { descriptor, handler, interrupts, metrics, buffers: Buffers::new(REQUEST_BYTES) });
        let mut buffer = lane.buffers.take();
        let mut burst = 0;
        loop {
            let mut ready = lane
                .descriptor
                .ready(device::WAKES)
                .await
                .map_err(|error| FuseError::system("cannot wait for /dev/fuse", error))?;
            loop {
                lane.buffers.room().await;
                let read = ready.try_io(|descriptor| Ok(rustix::io::read(descriptor.get_ref(), &mut buffer)?));
                match read {
                    Err(_would_block) => break,
                    Ok(Ok(0)) => return Ok(()),
                    Ok(Ok(length)) => lane.clone().accept(&mut buffer, length).await,
                    Ok(Err(error)) => match error.raw_os_error() {
                        Some(libc::ENODEV) => return Ok(()),
                        // ENOENT: the request was aborted before it could be read.
                        Some(libc::ENOENT | libc::EINTR) => {}
                        _ => return Err(FuseError::system("cannot read /dev/fuse", error)),
                    },
                }
                burst += 1;
                if burst == BURST {
                    burst = 0;
                    tokio::task::yield_now().await;
                }
            }
        }
    })
}

/// What the tasks of one thread share.
struct Lane<H> {
    descriptor: AsyncFd<OwnedFd>,
    handler: Arc<H>,
    interrupts: Arc<Interrupts>,
    metrics: Arc<PerCore<FuseMetrics>>,
    buffers: Arc<Buffers>,
}

impl<H: Handler> Lane<H> {
    /// Counts a request that has its answer.
    fn count(&self, op: usize, began: Instant, reply: &Reply) {
        let counters = self.metrics.here();
        counters.op_seconds.at(op).record_since(began);
        if reply.errno != 0 {
            counters.errors.at(error_index(reply.errno)).add(1);
        } else if op == READ {
            counters.read_bytes.add(reply.body.length() as u64);
        }
    }

    /// Starts on one request, and ends it too if nothing has to be waited for.
    async fn accept(self: Rc<Self>, buffer: &mut Vec<u8>, length: usize) {
        let request = match wire::decode(&buffer[..length]) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, "request refused");
                if error.unique != 0 {
                    self.send(error.unique, Reply::error(Errno::IO));
                }
                return;
            }
        };
        let (unique, pid) = (request.unique, request.caller.pid);
        let (op, began) = (op_index(&request.operation), Instant::now());
        match &request.operation {
            Operation::Forget { nodes } => {
                nodes.iter().for_each(|(node, lookups)| self.handler.forget(*node, *lookups));
                self.metrics.here().op_seconds.at(FORGET).record_since(began);
                return;
            }
            Operation::Interrupt { unique } => {
                if self.interrupts.arrived(*unique) {
                    self.clone().watch(*unique);
                }
                self.metrics.here().op_seconds.at(INTERRUPT).record_since(began);
                return;
            }
            _ => {}
        }
        let payload = match &request.operation {
            Operation::Write { data, .. } => self.buffers.payload(buffer, data.clone()),
            _ => Bytes::new(),
        };
        self.metrics.here().written_bytes.add(payload.len() as u64);
        let may_end_early = !runs_to_its_end(&request.operation);
        let lane = self.clone();
        let mut work: Pin<Box<dyn Future<Output = Reply>>> =
            Box::pin(async move { dispatch(&*lane.handler, request, payload).await });
        if let std::task::Poll::Ready(reply) = futures::poll!(work.as_mut()) {
            self.count(op, began, &reply);
            self.send(unique, reply);
            return;
        }
        let (abort, registration) = AbortHandle::new_pair();
        if may_end_early && self.interrupts.begin(unique, pid, abort) {
            self.clone().watch(unique);
        }
        tokio::task::spawn_local(async move {
            let waiting = self.metrics.here().in_flight.enter();
            let reply = Abortable::new(work, registration).await.unwrap_or_else(|_| Reply::error(Errno::INTR));
            drop(waiting);
            self.interrupts.end(unique);
            self.count(op, began, &reply);
            self.send(unique, reply);
        });
    }

    /// Looks after a request whose caller got a signal.
    fn watch(self: Rc<Self>, unique: u64) {
        tokio::task::spawn_local(async move {
            while self.interrupts.look(unique) {
                tokio::time::sleep(LOOK).await;
            }
        });
    }

    fn send(&self, unique: u64, reply: Reply) {
        let (mut errno, mut owned) = (reply.errno, Vec::new());
        let body: &[u8] = match &reply.body {
            Content::Memory(bytes) => bytes,
            Content::Descriptor { file, offset, length } => {
                match read_descriptor(file, *offset, *length) {
                    Ok(bytes) => owned = bytes,
                    Err(error) => errno = error.raw_os_error(),
                }
                &owned
            }
        };
        let header = wire::out_header(unique, errno, body.len());
        let written = rustix::io::writev(self.descriptor.get_ref(), &[IoSlice::new(&header), IoSlice::new(body)]);
        match written {
            Ok(_) => {}
            // The caller is gone, or the mount is.
            Err(Errno::NOENT | Errno::NODEV) => Reply::undo(reply.undo, &*self.handler),
            Err(error) => {
                tracing::error!(unique, %error, "the kernel refused a reply of {} bytes", body.len());
                Reply::undo(reply.undo, &*self.handler);
                let header = wire::out_header(unique, libc::EIO, 0);
                // Without any answer the caller would hang for ever.
                let _ = rustix::io::write(self.descriptor.get_ref(), &header);
            }
        }
    }
}
