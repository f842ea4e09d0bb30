//! `forebay-perf`: starts every rig by itself, runs the same jobs on all of them in interleaved rounds, and writes
//! perf/out/report.md with charts. `compare` does it for two commits of Forebay.
//!
//! Ends with 1 when a rig that was asked for did not start, or a job failed on it: the report says which and why.

mod accounting;
mod chart;
mod compare;
mod data_set;
mod host;
mod job;
mod kernel_caches;
mod report;
mod results;
mod rig;
mod rounds;
mod session;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use session::{RIGS, Session};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "measures Forebay beside the limit of this machine and its peers")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All rigs, all jobs
    Run {
        #[command(flatten)]
        options: Options,
        /// Rigs to run, by name [default: all]
        #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(RIGS))]
        rigs: Vec<String>,
        /// Copies report and charts to docs/performance.md and docs/performance/
        #[arg(long)]
        publish: bool,
    },
    /// Builds two commits into target directories of their own and runs them interleaved
    Compare {
        /// The commit before
        base: String,
        /// The commit after
        head: String,
        #[command(flatten)]
        options: Options,
    },
    /// Answers the loopback TCP rig
    #[command(hide = true)]
    Answer { address: String },
}

#[derive(Args)]
struct Options {
    /// Small data, short measurements, two rounds, five minutes
    #[arg(long)]
    quick: bool,
    /// Only jobs whose name or group contains one of these
    #[arg(long, value_delimiter = ',')]
    jobs: Vec<String>,
    /// Interleaved rounds [default: 5, quick 2]
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of a measurement without an end of its own [default: 5, quick 1]
    #[arg(long)]
    seconds: Option<u64>,
    /// Small files of 100 KiB [default: 100000, quick 1000]
    #[arg(long)]
    files: Option<usize>,
    /// MiB of the large file [default: 1024, quick 256]
    #[arg(long)]
    large_mib: Option<usize>,
    /// A directory on the disk to use [default: the temporary directory]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the report goes
    #[arg(long, default_value = "perf/out")]
    out: PathBuf,
    /// Before cold jobs drop the caches of the whole machine, not only of the files that are read
    #[arg(long)]
    drop_machine: bool,
}

impl Options {
    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 }).max(1)
    }

    /// After this no job of a later round begins.
    fn budget(&self) -> Duration {
        if self.quick && self.rounds.is_none() { Duration::from_secs(170) } else { Duration::from_secs(24 * 3600) }
    }

    fn plan(&self) -> Result<Vec<job::Job>> {
        let mut jobs = job::plan(self.quick, self.small_files());
        if !self.jobs.is_empty() {
            jobs.retain(|job| {
                self.jobs.iter().any(|wanted| job.name.contains(wanted.as_str()) || job.group.contains(wanted.as_str()))
            });
        }
        if jobs.is_empty() {
            bail!("--jobs {}: no job's name or group contains that", self.jobs.join(","));
        }
        Ok(jobs)
    }

    fn small_files(&self) -> usize {
        self.files.unwrap_or(if self.quick { 1_000 } else { 100_000 }).max(1)
    }
}

fn run(options: &Options, rigs: &[String], publish: bool) -> Result<bool> {
    let jobs = options.plan()?;
    let wanted: Vec<&str> = if rigs.is_empty() { RIGS.to_vec() } else { rigs.iter().map(String::as_str).collect() };
    let mut session = Session::start(options)?;
    let mut running = session.start_rigs(&wanted);
    rounds::run(&mut running, &jobs, &session.bench, options.rounds(), options.budget(), &mut session.results);
    drop(running);
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let command = format!("forebay-perf {command}");
    report::write(&session.results, &command, &options.out, "report")?;
    println!("{}", options.out.join("report.md").display());
    if publish {
        let docs = host::root().join("docs");
        report::write(&session.results, &command, &docs.join("performance"), "report")?;
        let text = std::fs::read_to_string(docs.join("performance/report.md"))?;
        std::fs::write(docs.join("performance.md"), text.replace("](", "](performance/"))?;
        std::fs::remove_file(docs.join("performance/report.md"))?;
        std::fs::remove_file(docs.join("performance/report.json"))?;
    }
    for failure in &session.results.failures {
        eprintln!("{} {}: {}", failure.rig, failure.job, failure.reason);
    }
    Ok(session.results.failures.is_empty())
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run { options, rigs, publish } => run(&options, &rigs, publish),
        Command::Compare { base, head, options } => compare::run(&base, &head, &options),
        Command::Answer { address } => rig::loopback::answer(&address).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("forebay-perf: {error:#}");
            ExitCode::FAILURE
        }
    }
}
