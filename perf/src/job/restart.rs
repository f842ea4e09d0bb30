//! How soon a killed cache serves again, and how much of what it held had to be fetched again.

use super::Bench;
use crate::data_set::{DataSet, SMALL_BYTES, content};
use crate::kernel_caches;
use crate::results::Sample;
use crate::rig::Rig;
use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};

/// A worker reports each second.
const REPORTED: Duration = Duration::from_millis(2500);

pub(crate) fn measure(rig: &mut dyn Rig, bench: &Bench) -> Result<Sample> {
    let folder = rig.folder().context("a rig that shows files")?;
    let name = DataSet::small_name(bench.data.small_files / 2);
    let started = Instant::now();
    rig.restart_cache().context("a rig whose cache can be killed")??;
    let got = std::fs::read(folder.join(&name)).with_context(|| name.clone())?;
    let seconds = started.elapsed().as_secs_f64();
    if got != content(&name, SMALL_BYTES) {
        bail!("{name}: wrong bytes after the restart");
    }
    if let Some(mountpoint) = rig.mountpoint() {
        kernel_caches::drop_names(&mountpoint)?;
    }
    let mut total = 0u64;
    for path in bench.data.paths(&folder) {
        total += std::fs::read(&path).with_context(|| path.display().to_string())?.len() as u64;
    }
    std::thread::sleep(REPORTED);
    let fetched = rig.store_read_bytes().context("a rig that says what it fetched")?;
    let mut sample = Sample { seconds, operations: 1, bytes: got.len() as u64, ..Sample::default() };
    sample.more.insert("fetched again, %".into(), 100.0 * fetched as f64 / total as f64);
    Ok(sample)
}
