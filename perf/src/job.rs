//! What is measured, and in which state of the caches. The lists below are the whole plan; `run` measures one job on one
//! rig once.

mod files;
mod fio;
mod load;
mod restart;
mod wire;

use crate::data_set::DataSet;
use crate::kernel_caches::Reach;
use crate::results::{Sample, Unit};
use crate::rig::Rig;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// How the caches stand before a measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// The rig's cache is empty, and so are the kernel's: the first read ever.
    Cold,
    /// Everything is in the rig's cache; the kernel holds neither pages nor names of the mount.
    Warm,
    /// The same job ran right before, unmeasured: the kernel holds what the rig lets it hold.
    Hot,
}

/// How fio reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Buffered,
    Direct,
    Mmap,
}

/// The work.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// fio on the large file.
    Fio { pattern: &'static str, block_kib: u32, jobs: u32, access: Access },
    /// Opens, reads and closes small files.
    Small { files: usize, threads: usize, shuffled: bool },
    /// stat of every small file.
    Stat { files: usize, threads: usize },
    /// `ls -lR`
    List,
    /// Reads the large file once from its start to its end.
    Large,
    /// Copies everything from the store to the rig's own disk, by the rig's own command.
    Load,
    /// 60 % stat, 20 % open and close, 10 % listings, 10 % names that do not exist.
    Mix { operations: usize, threads: usize },
    /// A protocol over loopback TCP: so many bytes a call, one call at a time on each connection.
    Wire { bytes: u32, connections: usize },
    /// SIGKILL of the process that holds the cache, until the first right read.
    Restart,
}

/// One row of the report.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) group: &'static str,
    pub(crate) unit: Unit,
    pub(crate) state: State,
    pub(crate) kind: Kind,
}

/// What jobs share.
pub(crate) struct Bench {
    pub(crate) data: DataSet,
    /// Seconds of a measurement that has no end of its own.
    pub(crate) seconds: u64,
    pub(crate) reach: Reach,
    pub(crate) runtime: tokio::runtime::Runtime,
    /// The objects as plain files.
    pub(crate) store_folder: PathBuf,
}

fn fio(pattern: &'static str, block_kib: u32, jobs: u32, access: Access, state: State) -> Job {
    let what = match (pattern, block_kib) {
        ("read", _) => "1 MiB sequential".to_string(),
        (_, kib) => format!("{kib} KiB random"),
    };
    let how = match (access, state) {
        (Access::Direct, _) => "O_DIRECT",
        (Access::Mmap, _) => "mmap, warm",
        (Access::Buffered, State::Hot) => "buffered, hot",
        (Access::Buffered, _) => "buffered, warm",
    };
    let plural = if jobs == 1 { "job" } else { "jobs" };
    let unit = if block_kib < 128 { Unit::PerSecond } else { Unit::MegabytesPerSecond };
    let kind = Kind::Fio { pattern, block_kib, jobs, access };
    let group = match (pattern, block_kib) {
        ("read", _) => "fio 1 MiB sequential",
        (_, 4) => "fio 4 KiB random",
        _ => "fio 128 KiB random",
    };
    Job { name: format!("{what}, {jobs} {plural}, {how}"), group, unit, state, kind }
}

fn small(files: usize, threads: usize, shuffled: bool, state: State) -> Job {
    let order = if shuffled { "shuffled" } else { "ordered" };
    let how = match state {
        State::Cold => "cold",
        State::Warm => "warm",
        State::Hot => "hot",
    };
    let plural = if threads == 1 { "thread" } else { "threads" };
    let name = format!("{files} x 100 KiB, {order}, {threads} {plural}, {how}");
    let group = if state == State::Cold { "cold first read" } else { "small files" };
    Job { name, group, unit: Unit::FilesPerSecond, state, kind: Kind::Small { files, threads, shuffled } }
}

fn job(name: &str, group: &'static str, unit: Unit, state: State, kind: Kind) -> Job {
    Job { name: name.into(), group, unit, state, kind }
}

fn wire(bytes: u32, connections: usize, unit: Unit) -> Job {
    let size = if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) };
    let plural = if connections == 1 { "connection" } else { "connections" };
    let name = format!("{size} a call, {connections} {plural}");
    Job { name, group: "worker protocol over TCP", unit, state: State::Hot, kind: Kind::Wire { bytes, connections } }
}

/// The plan of a run. Cold jobs and the restart come last in a round, since they leave caches empty.
pub(crate) fn plan(quick: bool, files: usize) -> Vec<Job> {
    use Access::{Buffered, Direct, Mmap};
    use State::{Cold, Hot, Warm};
    let mut jobs = Vec::new();
    if quick {
        jobs.extend([
            fio("read", 1024, 1, Buffered, Warm),
            fio("read", 1024, 1, Buffered, Hot),
            fio("randread", 4, 1, Direct, Warm),
            fio("randread", 4, 4, Direct, Warm),
            fio("randread", 4, 1, Mmap, Warm),
            fio("randread", 128, 4, Direct, Warm),
            small(files, 1, false, Warm),
            small(files, 4, true, Warm),
        ]);
    } else {
        for (pattern, block_kib) in [("read", 1024), ("randread", 4), ("randread", 128)] {
            for count in [1, 4] {
                for (access, state) in [(Buffered, Warm), (Buffered, Hot), (Direct, Warm), (Mmap, Warm)] {
                    jobs.push(fio(pattern, block_kib, count, access, state));
                }
            }
        }
        let mut counts = vec![files.min(10_000)];
        counts.extend((files > 10_000).then_some(files));
        for (index, count) in counts.into_iter().enumerate() {
            for (threads, shuffled) in [(1, false), (4, false), (1, true), (4, true)] {
                jobs.push(small(count, threads, shuffled, Warm));
            }
            if index == 0 {
                jobs.push(small(count, 1, false, Hot));
                jobs.push(small(count, 4, true, Hot));
            }
        }
    }
    let stats = files.min(10_000);
    let stat = |threads| Kind::Stat { files: stats, threads };
    jobs.extend([
        job("stat storm, 1 thread, warm", "metadata", Unit::PerSecond, Warm, stat(1)),
        job("stat storm, 4 threads, warm", "metadata", Unit::PerSecond, Warm, stat(4)),
        job("ls -lR, warm", "metadata", Unit::PerSecond, Warm, Kind::List),
        job(
            "metadata mix, 4 threads, warm",
            "metadata",
            Unit::PerSecond,
            Warm,
            Kind::Mix { operations: 2 * stats, threads: 4 },
        ),
        wire(4 << 10, 1, Unit::PerSecond),
        wire(1 << 20, 1, Unit::MegabytesPerSecond),
        wire(1 << 20, 8, Unit::MegabytesPerSecond),
        job("killed cache to first right read", "restart", Unit::Milliseconds, Warm, Kind::Restart),
        job("one large file, cold", "cold first read", Unit::MegabytesPerSecond, Cold, Kind::Large),
        small(files.min(1_000), 4, false, Cold),
        job("everything loaded, cold", "cold first read", Unit::MegabytesPerSecond, Cold, Kind::Load),
    ]);
    jobs
}

impl Job {
    /// Whether a rig can do this at all.
    pub(crate) fn applies(&self, rig: &dyn Rig) -> bool {
        match self.kind {
            Kind::Wire { .. } => rig.wire().is_some(),
            Kind::Restart => rig.store_read_bytes().is_some(),
            Kind::Load => rig.loads(),
            Kind::Large | Kind::Small { .. } if self.state == State::Cold => {
                rig.folder().is_some() || rig.store().is_some()
            }
            _ => rig.folder().is_some(),
        }
    }

    /// Does it once. `Sample`'s CPU and memory are the caller's to fill in.
    pub(crate) fn run(&self, rig: &mut dyn Rig, bench: &Bench) -> Result<Sample> {
        if let Kind::Wire { bytes, connections } = self.kind {
            let target = rig.wire().context("a rig that speaks a protocol")?;
            return bench.runtime.block_on(wire::measure(&target, bytes, connections, bench.seconds));
        }
        if let Kind::Load = self.kind {
            return load::measure(rig, bench);
        }
        if let Kind::Restart = self.kind {
            return restart::measure(rig, bench);
        }
        let Some(folder) = rig.folder() else {
            let store = rig.store().context("a rig that shows files or objects")?;
            return bench.runtime.block_on(files::read_objects(store, &self.kind, &bench.data));
        };
        match &self.kind {
            Kind::Fio { pattern, block_kib, jobs, access } => {
                fio::measure(&folder, pattern, *block_kib, *jobs, *access, bench)
            }
            Kind::Small { files, threads, shuffled } => {
                files::small(&folder, &bench.data.small_names(*files, *shuffled), *threads)
            }
            Kind::Stat { files, threads } => files::stat(&folder, &bench.data.small_names(*files, false), *threads),
            Kind::List => files::list(&folder),
            Kind::Large => files::large(&folder, bench.data.large_bytes()),
            Kind::Mix { operations, threads } => files::mix(&folder, &bench.data, *operations, *threads),
            Kind::Wire { .. } | Kind::Load | Kind::Restart => unreachable!("answered above"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_each_once() {
        for quick in [true, false] {
            let mut names: Vec<String> = plan(quick, 100_000).into_iter().map(|job| job.name).collect();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }
}
