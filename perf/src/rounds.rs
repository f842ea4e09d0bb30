//! Runs every job on every rig, round by round, A B C A B C, so that what the machine does meanwhile meets all alike.

use crate::accounting;
use crate::job::{Bench, Job, Kind, State};
use crate::kernel_caches;
use crate::results::{Failure, Results, Sample};
use crate::rig::Rig;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What was written behind gets this long before anything is measured.
const SETTLE: Duration = Duration::from_millis(1500);

/// Rigs that hold the whole data set.
type Filled = BTreeSet<String>;

/// All rounds. Past the budget no further job of a second or later round begins.
pub(crate) fn run(
    rigs: &mut [Box<dyn Rig>],
    jobs: &[Job],
    bench: &Bench,
    rounds: usize,
    budget: Duration,
    results: &mut Results,
) {
    let (started, mut filled) = (Instant::now(), Filled::new());
    for round in 0..rounds {
        for job in jobs {
            if round > 0 && started.elapsed() > budget {
                eprintln!("the time is over in round {}: the rest of it is left out", round + 1);
                return;
            }
            for rig in rigs.iter_mut() {
                let failed = |failure: &Failure| failure.rig == rig.name() && failure.job == job.name;
                if !job.applies(&**rig) || results.failures.iter().any(failed) {
                    continue;
                }
                match measure(&mut **rig, job, bench, &mut filled) {
                    Ok(sample) => {
                        let shown = sample.value(job.unit);
                        eprintln!(
                            "{}  {:<44} {:<12} {shown:>12.1} {}",
                            round + 1,
                            job.name,
                            rig.name(),
                            job.unit.shown()
                        );
                        results.series_mut(&job.name, rig.name(), job.unit, job.group).samples.push(sample);
                    }
                    Err(error) => {
                        let reason = format!("{error:#}");
                        eprintln!("{}  {:<44} {:<12} failed: {reason}", round + 1, job.name, rig.name());
                        results.failures.push(Failure { rig: rig.name().into(), job: job.name.clone(), reason });
                    }
                }
            }
        }
    }
}

fn measure(rig: &mut dyn Rig, job: &Job, bench: &Bench, filled: &mut Filled) -> Result<Sample> {
    prepare(rig, job, bench, filled)?;
    let (before, own) = (accounting::usage(&rig.processes()), accounting::own_cpu_s());
    let mut sample = job.run(rig, bench)?;
    let after = accounting::usage(&rig.processes());
    sample.reader_cpu_s = accounting::own_cpu_s() - own;
    sample.cpu_s = accounting::used_between(&before, &after);
    sample.resident_bytes = after.resident_bytes;
    Ok(sample)
}

fn prepare(rig: &mut dyn Rig, job: &Job, bench: &Bench, filled: &mut Filled) -> Result<()> {
    match job.state {
        State::Cold => {
            rig.empty().context("emptying the cache")?;
            filled.remove(rig.name());
            kernel_caches::drop_pages(&bench.data.paths(&bench.store_folder));
            if let Some(mountpoint) = rig.mountpoint() {
                kernel_caches::drop_names(&mountpoint)?;
            }
            kernel_caches::drop_machine(bench.reach)
        }
        State::Warm => {
            fill(rig, job, bench, filled)?;
            match (rig.mountpoint(), rig.folder()) {
                (Some(mountpoint), _) => kernel_caches::drop_names(&mountpoint)?,
                (None, Some(folder)) => kernel_caches::drop_pages(&bench.data.paths(&folder)),
                (None, None) => {}
            }
            Ok(())
        }
        State::Hot => {
            fill(rig, job, bench, filled)?;
            // fio stops after its seconds: the pass before it has to see the whole file.
            let whole =
                if matches!(job.kind, Kind::Fio { .. }) { &Job { kind: Kind::Large, ..job.clone() } } else { job };
            whole.run(rig, bench).context("the pass before").map(drop)
        }
    }
}

/// Lists and reads everything once, unless that was done.
fn fill(rig: &mut dyn Rig, job: &Job, bench: &Bench, filled: &mut Filled) -> Result<()> {
    if filled.contains(rig.name()) {
        return Ok(());
    }
    if let Some(folder) = rig.folder() {
        Job { kind: Kind::List, ..job.clone() }.run(rig, bench).context("listing everything")?;
        let paths = bench.data.paths(&folder);
        let errors = forebay_tests::each_file(paths.len(), 4, |index| {
            let read =
                std::fs::File::open(&paths[index]).and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink()));
            read.map(drop).map_err(|error| format!("{}: {error}", paths[index].display()))
        });
        if let Some(error) = errors.first() {
            anyhow::bail!("filling the cache: {error}");
        }
        rustix::fs::sync();
        std::thread::sleep(SETTLE);
    }
    filled.insert(rig.name().to_string());
    Ok(())
}
