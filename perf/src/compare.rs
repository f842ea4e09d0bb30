//! Two commits of Forebay on one machine, interleaved: the ratio of each round, and its spread.

use crate::chart::shown;
use crate::host::root;
use crate::results::{Results, Unit, spread};
use crate::session::Session;
use crate::{Options, report, rounds};
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

const PACKAGES: [&str; 4] = ["forebay-cli", "forebay-master", "forebay-worker", "forebay-fuse"];

fn git(arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").arg("-C").arg(root()).args(arguments).output().context("git")?;
    if !output.status.success() {
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Builds a commit in a worktree and a target directory of its own, kept for the next time. Gives its executables.
fn build(commit: &str) -> Result<PathBuf> {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let target = home.join(".cache/forebay/compare").join(commit);
    let release = target.join("release");
    if PACKAGES.iter().all(|package| release.join(package.replace("-cli", "")).is_file()) {
        return Ok(release);
    }
    let tree = tempfile::Builder::new().prefix("forebay-compare-").tempdir()?;
    let checkout = tree.path().join("tree").display().to_string();
    git(&["worktree", "add", "--detach", &checkout, commit])?;
    eprintln!("building {commit}");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--target-dir"]).arg(&target).current_dir(&checkout);
    let status = cargo.args(PACKAGES.iter().flat_map(|package| ["-p", package])).status();
    git(&["worktree", "remove", "--force", &checkout])?;
    if !status.context("cargo")?.success() {
        bail!("{commit} does not build");
    }
    Ok(release)
}

/// Runs both; `false` when something failed on either.
pub(crate) fn run(base: &str, head: &str, options: &Options) -> Result<bool> {
    let mut jobs = options.plan()?;
    let mut sides = Vec::new();
    for (name, revision) in [("base", base), ("head", head)] {
        let commit = git(&["rev-parse", "--verify", &format!("{revision}^{{commit}}")])?;
        sides.push((name, commit.clone(), build(&commit)?));
    }
    let mut session = Session::start(options)?;
    let mut running = Vec::new();
    for (name, _, binaries) in &sides {
        session.start_forebay(name, binaries, &mut running);
    }
    jobs.retain(|job| running.iter().any(|rig| job.applies(&**rig)));
    rounds::run(&mut running, &jobs, &session.bench, options.rounds(), options.budget(), &mut session.results);
    drop(running);
    let commits: Vec<String> = sides.iter().map(|(name, commit, _)| format!("{name} is {commit}")).collect();
    let table = ratios(&session.results);
    let text = format!("# {base} and {head}\n\n{}\n\n{table}", commits.join(", "));
    report::write(&session.results, &format!("forebay-perf compare {base} {head}"), &options.out, "compare-report")?;
    std::fs::write(options.out.join("compare.md"), &text)?;
    println!("{text}");
    Ok(session.results.failures.is_empty())
}

/// Head over base, round by round; above 1 the head is better, whatever the unit.
fn ratios(results: &Results) -> String {
    let mut out = String::from("| job | unit | base | head | head / base: min | median | max | verdict |\n");
    out.push_str("|---|---|---:|---:|---:|---:|---:|---|\n");
    for job in results.jobs() {
        let of = |rig: &str| results.of_job(job).find(|series| series.rig == rig);
        let (Some(base), Some(head)) = (of("base"), of("head")) else { continue };
        let less_is_better = base.unit == Unit::Milliseconds;
        let figures = base.samples.iter().zip(&head.samples).map(|(before, after)| {
            let ratio = after.value(base.unit) / before.value(base.unit);
            if less_is_better { ratio.recip() } else { ratio }
        });
        let Some(ratios) = spread(figures) else { continue };
        let verdict = match () {
            () if ratios.min > 1.0 => "better in every round",
            () if ratios.max < 1.0 => "worse in every round",
            () => "no difference beyond the noise",
        };
        let median = |series: &crate::results::Series| series.spread().map_or(0.0, |spread| spread.median);
        let _ = writeln!(
            out,
            "| {job} | {} | {} | {} | {:.3} | {:.3} | {:.3} | {verdict} |",
            base.unit.shown(),
            shown(median(base)),
            shown(median(head)),
            ratios.min,
            ratios.median,
            ratios.max
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Sample;

    #[test]
    fn verdicts_need_every_round() {
        let mut results = Results::default();
        for (job, rig, unit, seconds) in [
            ("faster", "base", Unit::PerSecond, [2.0, 2.2]),
            ("faster", "head", Unit::PerSecond, [1.0, 1.0]),
            ("slower", "base", Unit::Milliseconds, [1.0, 1.0]),
            ("slower", "head", Unit::Milliseconds, [2.0, 3.0]),
            ("noise", "base", Unit::PerSecond, [1.0, 2.0]),
            ("noise", "head", Unit::PerSecond, [2.0, 1.0]),
        ] {
            let samples = seconds.map(|seconds| Sample { seconds, operations: 1, ..Sample::default() });
            results.series_mut(job, rig, unit, "g").samples.extend(samples);
        }
        let text = ratios(&results);
        let line = |job: &str| text.lines().find(|line| line.contains(job)).expect("a row").to_string();
        assert!(line("faster").ends_with("| 2.000 | 2.100 | 2.200 | better in every round |"), "{text}");
        assert!(line("slower").contains("worse in every round"), "{text}");
        assert!(line("noise").contains("no difference"), "{text}");
    }
}
