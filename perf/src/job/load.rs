//! How fast everything comes from the store onto the rig's own disk, and is durable there.

use super::Bench;
use crate::results::Sample;
use crate::rig::Rig;
use anyhow::{Context, Result};
use std::time::Instant;

pub(crate) fn measure(rig: &mut dyn Rig, bench: &Bench) -> Result<Sample> {
    let started = Instant::now();
    let command = rig.load().context("a rig that loads")??;
    rustix::fs::sync();
    let seconds = started.elapsed().as_secs_f64();
    let bytes = bench.data.bytes();
    Ok(Sample { seconds, operations: bench.data.files(), bytes, command, ..Sample::default() })
}
