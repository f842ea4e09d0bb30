//! fio (io_uring, direct I/O) as the limit of a disk.

use std::error::Error;
use std::path::Path;
use std::process::Command;

/// What one run did.
pub(crate) struct Run {
    pub(crate) mib_per_s: f64,
    pub(crate) cpu_us_per_op: f64,
}

/// Runs fio with `arguments` on a file for so many seconds; `side` is "read" or "write".
pub(crate) fn run(file: &Path, side: &str, arguments: &[String], seconds: u64) -> Result<Run, Box<dyn Error>> {
    let output = Command::new("fio")
        .args(["--name=limit", "--ioengine=io_uring", "--direct=1", "--output-format=json"])
        .args(["--allrandrepeat=0", "--randrepeat=0", "--time_based"])
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--runtime={seconds}"))
        .args(arguments)
        .output()
        .map_err(|error| format!("fio does not run ({error}): deploy/install.sh --tests installs it"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let from = text.find('{').ok_or_else(|| format!("fio: {}", String::from_utf8_lossy(&output.stderr)))?;
    let report: serde_json::Value = serde_json::from_str(&text[from..])?;
    let job = &report["jobs"][0];
    let number = |value: &serde_json::Value| value.as_f64().ok_or("fio reports no such number");
    let mib_per_s = number(&job[side]["bw_bytes"])? / f64::from(1 << 20);
    let share = (number(&job["usr_cpu"])? + number(&job["sys_cpu"])?) / 100.0;
    let operations = number(&job[side]["total_ios"])?.max(1.0);
    let elapsed_us = number(&job["job_runtime"])? * 1e3;
    Ok(Run { mib_per_s, cpu_us_per_op: share * elapsed_us / operations })
}
