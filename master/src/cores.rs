//! Execution over cores: each thread owns the partitions whose number modulo the number of cores is its own.
//!
//! Invariants: every queue holds commands in log order; a command that touches partitions of several cores is in all
//! their queues, and there they meet: all but the lowest hand their partitions to it, it applies, and they get them
//! back before they look at their next job, so nobody reads between meeting and finishing. Since the order is the same
//! in all queues, meetings cannot block each other. A core that panics ends the process: half a master is none.

use crate::feed::Feed;
use crate::namespace::{Command, DirtyRow, Outcome, Partition, Partitions, apply};
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use forebay_base::{ErrorKind, KindError, PartitionId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

type Done = Box<dyn FnOnce(Vec<Outcome>) + Send>;

/// Collects the outcomes of one entry's commands.
struct Gather {
    commands: Arc<Vec<Command>>,
    outcomes: Mutex<Vec<Option<Outcome>>>,
    remaining: AtomicUsize,
    done: Mutex<Option<Done>>,
    feed: Arc<Feed>,
}

impl Gather {
    fn finish(&self, index: usize, outcome: Outcome) {
        if let Outcome::Done { events } = &outcome {
            self.feed.push(events);
        }
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(outcome);
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.complete();
        }
    }

    fn complete(&self) {
        let outcomes = std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner));
        let outcomes = outcomes.into_iter().map(|outcome| outcome.expect("every command finished")).collect();
        if let Some(done) = self.done.lock().unwrap_or_else(PoisonError::into_inner).take() {
            done(outcomes);
        }
    }
}

/// One command that several cores meet for.
struct Meeting {
    index: usize,
    gather: Arc<Gather>,
    /// Partitions on their way to the lowest core.
    give: (Sender<Partitions>, Receiver<Partitions>),
    /// And back, by core.
    back: BTreeMap<usize, (Sender<Partitions>, Receiver<Partitions>)>,
    lowest: usize,
}

enum Job {
    Apply { gather: Arc<Gather>, indexes: Vec<usize> },
    Meet(Arc<Meeting>),
    Read(Box<dyn FnOnce(&Partitions) + Send>),
    Cut(oneshot::Sender<Vec<DirtyRow>>),
}

/// The cores. Commands go in through `dispatch` in log order; reads and cuts through any thread.
pub(crate) struct Cores {
    queues: Mutex<Option<Vec<Sender<Job>>>>,
    senders: Vec<Sender<Job>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    count: u16,
    feed: Arc<Feed>,
}

impl Cores {
    /// Starts `threads` cores over `partitions`, numbered from 0.
    pub(crate) fn start(partitions: Vec<Partition>, threads: usize, feed: Arc<Feed>) -> std::io::Result<Self> {
        let count = partitions.len() as u16;
        let threads = threads.clamp(1, partitions.len().max(1));
        let mut owned: Vec<Partitions> = (0..threads).map(|_| Partitions::new()).collect();
        for partition in partitions {
            let number = partition.id().0;
            owned[usize::from(number) % threads].insert(number, Box::new(partition));
        }
        let (mut senders, mut handles) = (Vec::new(), Vec::new());
        for (core, mine) in owned.into_iter().enumerate() {
            let (sender, receiver) = unbounded();
            senders.push(sender);
            let spawned = std::thread::Builder::new()
                .name(format!("namespace-{core}"))
                .spawn(move || run(core, threads, count, mine, &receiver))?;
            handles.push(spawned);
        }
        Ok(Self { queues: Mutex::new(Some(senders.clone())), senders, threads: Mutex::new(handles), count, feed })
    }

    /// How many partitions there are.
    #[must_use]
    pub(crate) fn partition_count(&self) -> u16 {
        self.count
    }

    fn core_of(&self, partition: u8) -> usize {
        usize::from(partition) % self.senders.len()
    }

    /// Queues the commands of one entry; `done` gets their outcomes, in order, when the last has finished. The caller
    /// calls this in log order, from one thread at a time; `queued` runs before anything else can be queued.
    pub(crate) fn dispatch(&self, commands: Arc<Vec<Command>>, done: Done, queued: impl FnOnce()) {
        let guard = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queued();
        let Some(queues) = &*guard else { return };
        let gather = Arc::new(Gather {
            outcomes: Mutex::new(vec![None; commands.len()]),
            remaining: AtomicUsize::new(commands.len()),
            done: Mutex::new(Some(done)),
            feed: Arc::clone(&self.feed),
            commands: Arc::clone(&commands),
        });
        if commands.is_empty() {
            gather.complete();
            return;
        }
        let mut pending: Vec<Vec<usize>> = vec![Vec::new(); queues.len()];
        let send = |core: usize, job: Job| {
            // A core ends only when its queue is dropped or the process aborts.
            let _ = queues[core].send(job);
        };
        for (index, command) in commands.iter().enumerate() {
            let mut cores: Vec<usize> =
                command.partitions(self.count).into_iter().map(|partition| self.core_of(partition)).collect();
            cores.sort_unstable();
            cores.dedup();
            if let [core] = cores[..] {
                pending[core].push(index);
                continue;
            }
            for &core in &cores {
                let indexes = std::mem::take(&mut pending[core]);
                if !indexes.is_empty() {
                    send(core, Job::Apply { gather: Arc::clone(&gather), indexes });
                }
            }
            let meeting = Arc::new(Meeting {
                index,
                gather: Arc::clone(&gather),
                give: bounded(cores.len()),
                back: cores[1..].iter().map(|&core| (core, bounded(1))).collect(),
                lowest: cores[0],
            });
            for core in cores {
                send(core, Job::Meet(Arc::clone(&meeting)));
            }
        }
        for (core, indexes) in pending.into_iter().enumerate() {
            if !indexes.is_empty() {
                send(core, Job::Apply { gather: Arc::clone(&gather), indexes });
            }
        }
    }

    /// Runs `read` on the core that owns `partition`.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        partition: PartitionId,
        read: impl FnOnce(&Partition) -> T + Send + 'static,
    ) -> Result<T, KindError> {
        if u16::from(partition.0) >= self.count {
            return Err(KindError::new(ErrorKind::NotFound, "file id of no partition: look the path up again"));
        }
        self.read_core(self.core_of(partition.0), move |mine| read(&mine[&partition.0])).await
    }

    /// Runs `read` on one core with all its partitions.
    async fn read_core<T: Send + 'static>(
        &self,
        core: usize,
        read: impl FnOnce(&Partitions) -> T + Send + 'static,
    ) -> Result<T, KindError> {
        let (sender, receiver) = oneshot::channel();
        let job = Job::Read(Box::new(move |mine| drop(sender.send(read(mine)))));
        let closed = || KindError::new(ErrorKind::Closed, "the master is shutting down");
        self.senders[core].send(job).map_err(|_| closed())?;
        receiver.await.map_err(|_| closed())
    }

    /// Answers `read` for each key, with one hop per core that owns any of them. Keys of no partition get `None`.
    pub(crate) async fn read_many<K: Send + Clone + 'static, T: Send + 'static>(
        &self,
        keys: Vec<(PartitionId, K)>,
        read: impl Fn(&Partition, K) -> T + Send + Clone + 'static,
    ) -> Result<Vec<Option<T>>, KindError> {
        let mut by_core: Vec<Vec<(usize, u8, K)>> = vec![Vec::new(); self.senders.len()];
        let mut answers: Vec<Option<T>> = keys.iter().map(|_| None).collect();
        for (index, (partition, key)) in keys.into_iter().enumerate() {
            if u16::from(partition.0) < self.count {
                by_core[self.core_of(partition.0)].push((index, partition.0, key));
            }
        }
        let hops = by_core.into_iter().enumerate().filter(|(_, asked)| !asked.is_empty()).map(|(core, asked)| {
            let read = read.clone();
            self.read_core(core, move |mine| {
                asked
                    .into_iter()
                    .map(|(index, partition, key)| (index, read(&mine[&partition], key)))
                    .collect::<Vec<_>>()
            })
        });
        for (index, answer) in futures::future::try_join_all(hops).await?.into_iter().flatten() {
            answers[index] = Some(answer);
        }
        Ok(answers)
    }

    /// Runs `read` on every partition.
    pub(crate) async fn read_all<T: Send + 'static>(
        &self,
        read: impl Fn(&Partition) -> T + Send + Clone + 'static,
    ) -> Result<Vec<T>, KindError> {
        let keys = (0..self.count).map(|partition| (PartitionId(partition as u8), ())).collect();
        let answers = self.read_many(keys, move |partition, ()| read(partition)).await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// A cut: what changed since the last one, all partitions at one point of the log. `mark` runs at that point.
    pub(crate) async fn cut<M>(&self, mark: impl FnOnce() -> M) -> Result<(M, Vec<DirtyRow>), KindError> {
        let closed = || KindError::new(ErrorKind::Closed, "the master is shutting down");
        let (mark, receivers) = {
            let guard = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            let queues = guard.as_ref().ok_or_else(closed)?;
            let receivers: Vec<_> = queues
                .iter()
                .map(|queue| {
                    let (sender, receiver) = oneshot::channel();
                    queue.send(Job::Cut(sender)).map(|()| receiver).map_err(|_| closed())
                })
                .collect::<Result<_, _>>()?;
            (mark(), receivers)
        };
        let mut rows = Vec::new();
        for receiver in receivers {
            rows.extend(receiver.await.map_err(|_| closed())?);
        }
        Ok((mark, rows))
    }

    /// Takes no more commands. The threads end when the last handle is gone.
    pub(crate) fn close(&self) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        self.close();
        self.senders.clear();
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// Ends the process if its thread panics.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a namespace core panicked: the master ends");
            std::process::abort();
        }
    }
}

fn run(core: usize, cores: usize, count: u16, mut mine: Partitions, jobs: &Receiver<Job>) {
    let _abort = AbortOnPanic;
    for job in jobs {
        match job {
            Job::Apply { gather, indexes } => {
                for index in indexes {
                    let outcome = apply(&mut mine, count, &gather.commands[index]);
                    gather.finish(index, outcome);
                }
            }
            Job::Read(read) => read(&mine),
            Job::Cut(reply) => {
                let rows = mine.values_mut().flat_map(|partition| partition.take_dirty()).collect();
                let _ = reply.send(rows);
            }
            Job::Meet(meeting) => meet(core, cores, count, &mut mine, &meeting),
        }
    }
}

fn meet(core: usize, cores: usize, count: u16, mine: &mut Partitions, meeting: &Meeting) {
    let command = &meeting.gather.commands[meeting.index];
    let home = |partition: &u8| usize::from(*partition) % cores;
    if core != meeting.lowest {
        let named = command.partitions(count);
        let handed = named.iter().filter(|partition| home(partition) == core);
        let handed = handed.filter_map(|partition| mine.remove(partition).map(|own| (*partition, own))).collect();
        meeting.give.0.send(handed).expect("the meeting outlives its participants");
        mine.extend(meeting.back[&core].1.recv().expect("the meeting outlives its participants"));
        return;
    }
    for _ in 0..meeting.back.len() {
        mine.extend(meeting.give.1.recv().expect("the meeting outlives its participants"));
    }
    let outcome = apply(mine, count, command);
    for (&guest, (sender, _)) in &meeting.back {
        let theirs: Vec<u8> = mine.keys().copied().filter(|partition| home(partition) == guest).collect();
        let theirs = theirs.into_iter().filter_map(|partition| mine.remove(&partition).map(|own| (partition, own)));
        sender.send(theirs.collect()).expect("the meeting outlives its participants");
    }
    meeting.gather.finish(meeting.index, outcome);
}
