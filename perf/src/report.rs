//! The report: Markdown with tables, the charts beside it, and everything as JSON.

use crate::chart::{self, Group, shown};
use crate::results::{Results, Series, Spread, Unit};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Rigs that are no peers but limits.
const LIMITS: [&str; 3] = ["ext4", "loopback TCP", "s3"];

const STATES: &str = "\
**warm**: in the rig's cache, not in the kernel's: pages, names and attributes of the mount are dropped before each \
measurement (a remount; for ext4 POSIX_FADV_DONTNEED on each file, names stay). What a peer keeps in files of its own may \
be in the kernel's page cache; Forebay reads its SSD tier by direct I/O. **hot**: the same pass again at once. **cold**: \
the rig's cache is empty and the server's files are out of the page cache (Alluxio keeps its names). fio reads no byte \
twice in one measurement. CPU is user and system time of each process and its children, in ticks of 10 ms.";

/// How much better the first is: above 1 is better whatever the unit.
fn ratio(own: &Spread, other: &Spread, unit: Unit) -> f64 {
    if unit == Unit::Milliseconds { other.median / own.median } else { own.median / other.median }
}

/// Forebay beside a limit or its best peer, for one job.
struct Standing {
    job: String,
    other: String,
    ratio: f64,
}

fn standings(results: &Results, limits: bool) -> Vec<Standing> {
    let mut all = Vec::new();
    for job in results.jobs() {
        let Some(own) = results.of_job(job).find(|series| series.rig == "forebay") else { continue };
        let Some(own_spread) = own.spread() else { continue };
        let others = results
            .of_job(job)
            .filter(|series| series.rig != "forebay" && LIMITS.contains(&series.rig.as_str()) == limits);
        let worst = others
            .filter_map(|series| Some((series.rig.clone(), ratio(&own_spread, &series.spread()?, own.unit))))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((other, ratio)) = worst {
            all.push(Standing { job: job.into(), other, ratio });
        }
    }
    all.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    all
}

fn standing_table(out: &mut String, title: &str, standings: &[Standing]) {
    if standings.is_empty() {
        return;
    }
    let _ = writeln!(out, "| job | {title} | Forebay / it |\n|---|---|---:|");
    for standing in standings {
        let _ = writeln!(out, "| {} | {} | {} |", standing.job, standing.other, shown(standing.ratio));
    }
    out.push('\n');
}

fn processes(figures: &BTreeMap<String, f64>) -> String {
    let parts = figures.iter().filter(|(_, value)| **value > 0.0);
    parts
        .map(|(name, value)| format!("{} {}", name.trim_start_matches("forebay-"), shown(*value)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The middle of each process's CPU, per something.
fn cpu_per(series: &Series, per: impl Fn(&crate::results::Sample) -> f64) -> BTreeMap<String, f64> {
    let mut names: Vec<&String> = series.samples.iter().flat_map(|sample| sample.cpu_s.keys()).collect();
    names.sort();
    names.dedup();
    let median = |name: &String| {
        series.median_of(|sample| sample.cpu_s.get(name).copied().unwrap_or(0.0) / per(sample).max(1e-12))
    };
    names.into_iter().map(|name| (name.clone(), median(name))).collect()
}

fn job_table(out: &mut String, results: &Results, job: &str) {
    let unit = results.of_job(job).next().map_or("", |series| series.unit.shown());
    let _ = writeln!(out, "**{job}**, {unit}\n");
    out.push_str("| rig | min | median | max | daemons' CPU s per GiB | CPU us per operation | by process, CPU us per operation | reader's CPU us per operation | latency and more |\n");
    out.push_str("|---|---:|---:|---:|---:|---:|---|---:|---|\n");
    for series in results.of_job(job) {
        let Some(spread) = series.spread() else { continue };
        let gib = |sample: &crate::results::Sample| sample.bytes as f64 / f64::from(1 << 30);
        let operations = |sample: &crate::results::Sample| sample.operations as f64 / 1e6;
        let by_process = cpu_per(series, operations);
        let per_gib = match series.samples.iter().any(|sample| sample.bytes > 0) {
            true => shown(cpu_per(series, gib).values().sum::<f64>().max(0.0)),
            false => String::new(),
        };
        let mut names: Vec<&String> = series.samples.iter().flat_map(|sample| sample.more.keys()).collect();
        names.sort();
        names.dedup();
        let more = names.into_iter().map(|name| {
            format!("{} {}", name, shown(series.median_of(|sample| sample.more.get(name).copied().unwrap_or(0.0))))
        });
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {per_gib} | {} | {} | {} | {} |",
            series.rig,
            shown(spread.min),
            shown(spread.median),
            shown(spread.max),
            shown(by_process.values().sum::<f64>().max(0.0)),
            processes(&by_process),
            shown(series.median_of(|sample| sample.reader_cpu_s / operations(sample).max(1e-12))),
            more.collect::<Vec<_>>().join(", "),
        );
    }
    let commands = results.of_job(job).filter_map(|series| series.samples.first()).map(|sample| &sample.command);
    if let Some(command) = commands.into_iter().find(|command| !command.is_empty()) {
        let _ = writeln!(out, "\n`{command}`");
    }
    out.push('\n');
}

fn memory_table(out: &mut String, results: &Results) {
    out.push_str("| rig | process | idle MiB | most MiB seen |\n|---|---|---:|---:|\n");
    let mib = |bytes: u64| shown(bytes as f64 / f64::from(1 << 20));
    for rig in &results.rigs {
        for (process, idle) in &rig.idle_resident_bytes {
            let samples =
                results.series.iter().filter(|series| series.rig == rig.name).flat_map(|series| &series.samples);
            let most = samples.filter_map(|sample| sample.resident_bytes.get(process)).max().copied().unwrap_or(*idle);
            let _ = writeln!(out, "| {} | {process} | {} | {} |", rig.name, mib(*idle), mib(most.max(*idle)));
        }
    }
    out.push('\n');
}

fn file_name(group: &str) -> String {
    let letters =
        group.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' });
    format!("{}.png", letters.collect::<String>())
}

/// The report's text.
pub(crate) fn markdown(results: &Results, command: &str) -> String {
    let mut out = String::from("# Performance\n\n");
    let _ = writeln!(out, "`{command}`\n");
    for fact in &results.host {
        let _ = writeln!(out, "- {fact}");
    }
    for failure in &results.failures {
        let what = if failure.job.is_empty() { "did not start" } else { &failure.job };
        let _ = writeln!(out, "- **{}: {what}**: {}", failure.rig, failure.reason.replace('\n', " "));
    }
    let _ = writeln!(out, "\n{STATES}\n\n## Where Forebay stands, worst first\n");
    standing_table(&mut out, "best peer", &standings(results, false));
    standing_table(&mut out, "limit", &standings(results, true));
    let mut groups: Vec<&str> = Vec::new();
    for series in &results.series {
        if !groups.contains(&series.group.as_str()) {
            groups.push(&series.group);
        }
    }
    for group in groups {
        let _ = writeln!(out, "## {group}\n\n![{group}]({})\n", file_name(group));
        let jobs = results.jobs();
        for job in jobs.into_iter().filter(|job| results.of_job(job).any(|series| series.group == group)) {
            job_table(&mut out, results, job);
        }
    }
    out.push_str("## Memory\n\n");
    memory_table(&mut out, results);
    out.push_str("## Rigs\n\n");
    for rig in &results.rigs {
        let _ = writeln!(out, "- **{}**: {}", rig.name, rig.version);
        for command in &rig.commands {
            let _ = writeln!(out, "  - `{command}`");
        }
    }
    out
}

/// Writes everything into a folder.
pub(crate) fn write(results: &Results, command: &str, folder: &Path, name: &str) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    std::fs::write(folder.join(format!("{name}.md")), markdown(results, command))?;
    std::fs::write(folder.join(format!("{name}.json")), serde_json::to_vec_pretty(results)?)?;
    let mut charts: BTreeMap<&str, Vec<Group<'_>>> = BTreeMap::new();
    for job in results.jobs() {
        let series: Vec<&Series> = results.of_job(job).collect();
        if let Some(first) = series.first() {
            charts.entry(&first.group).or_default().push(Group { title: job.into(), series });
        }
    }
    for (group, bars) in charts {
        chart::draw(
            &format!("{group}: median of the rounds, line from least to most"),
            &bars,
            &folder.join(file_name(group)),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Sample;

    #[test]
    fn the_worst_ratio_comes_first() {
        let mut results = Results::default();
        for (job, rig, operations) in
            [("a", "forebay", 10), ("a", "rclone", 5), ("a", "ext4", 100), ("b", "forebay", 10), ("b", "s3fs", 40)]
        {
            let sample = Sample { seconds: 1.0, operations, ..Sample::default() };
            results.series_mut(job, rig, Unit::PerSecond, "g").samples.push(sample);
        }
        let peers = standings(&results, false);
        assert_eq!((peers[0].job.as_str(), peers[0].ratio), ("b", 0.25));
        assert_eq!((peers[1].job.as_str(), peers[1].ratio), ("a", 2.0));
        assert_eq!(standings(&results, true)[0].ratio, 0.1);
        let text = markdown(&results, "command");
        assert!(text.find("| b | s3fs | 0.25 |") < text.find("| a | rclone | 2.0 |"), "{text}");
    }
}
