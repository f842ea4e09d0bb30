//! fio on the large file, synchronous reads of each job; its JSON read back.

use super::{Access, Bench};
use crate::data_set::LARGE;
use crate::results::Sample;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

pub(crate) fn measure(
    folder: &Path,
    pattern: &str,
    block_kib: u32,
    jobs: u32,
    access: Access,
    bench: &Bench,
) -> Result<Sample> {
    let mut arguments = vec![
        "--name=read".to_string(),
        "--readonly".into(),
        "--thread".into(),
        // The harness has put the caches into the state that the job wants.
        "--invalidate=0".into(),
        "--output-format=json".into(),
        "--group_reporting".into(),
        "--randrepeat=0".into(),
        format!("--rw={pattern}"),
        format!("--bs={block_kib}k"),
        format!("--numjobs={jobs}"),
        // Without time_based: no byte is read twice, so that a warm job does not end as a hot one.
        format!("--runtime={}", bench.seconds),
        format!("--ioengine={}", if access == Access::Mmap { "mmap" } else { "psync" }),
        format!("--direct={}", u8::from(access == Access::Direct)),
        format!("--filename={}", folder.join(LARGE).display()),
    ];
    if jobs > 1 {
        arguments.push(format!("--size={}M", bench.data.large_mib / jobs as usize));
        arguments.push(format!("--offset_increment={}M", bench.data.large_mib / jobs as usize));
    }
    let output = Command::new("fio").args(&arguments).output().context("fio does not run: install it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // Its report says nothing then.
        let said = text.split('{').next().unwrap_or_default();
        bail!("fio: {} {}", said.trim(), String::from_utf8_lossy(&output.stderr).trim());
    }
    let start = text.find('{').context("fio prints JSON")?;
    let mut sample = parse(&text[start..])?;
    arguments.retain(|argument| !argument.starts_with("--filename"));
    sample.command = format!("fio {} --filename=MNT/{LARGE}", arguments.join(" "));
    Ok(sample)
}

fn parse(text: &str) -> Result<Sample> {
    let report: Value = serde_json::from_str(text).context("fio's report")?;
    let read = &report["jobs"][0]["read"];
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let mut sample = Sample {
        seconds: number(&read["runtime"]) / 1e3,
        operations: number(&read["total_ios"]) as u64,
        bytes: number(&read["io_bytes"]) as u64,
        ..Sample::default()
    };
    if sample.seconds <= 0.0 || sample.bytes == 0 {
        bail!("fio read {} bytes in {} s", sample.bytes, sample.seconds);
    }
    for (name, percentile) in [("p50_us", "50.000000"), ("p99_us", "99.000000")] {
        sample.more.insert(name.into(), number(&read["clat_ns"]["percentile"][percentile]) / 1e3);
    }
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fios_report() {
        let text = r#"{"jobs":[{"read":{"io_bytes":8192,"runtime":1000,"total_ios":2,
            "clat_ns":{"percentile":{"50.000000":5000,"99.000000":9000}}}}]}"#;
        let sample = parse(text).expect("parsed");
        assert_eq!((sample.operations, sample.bytes, sample.seconds), (2, 8192, 1.0));
        assert_eq!(sample.more["p99_us"], 9.0);
        assert!(parse(r#"{"jobs":[]}"#).is_err());
    }
}
