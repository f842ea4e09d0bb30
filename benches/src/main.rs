//! `forebay-load`: targets that no microbenchmark can show, measured in one process beside the limit of this very
//! disk. Prints ratios; asserts no time.

mod engine_rates;
mod fio;
mod hit_ratios;
mod index_costs;
mod namespace_rates;
mod restart;

use clap::{Parser, Subcommand};
use engine_rates::{SHAPES, Shape};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "in-process load on the namespace and on one core's engine")]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// A directory on the disk to use [default: the temporary directory]
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// Interleaved rounds
    #[arg(long, global = true, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, global = true, default_value_t = 3)]
    seconds: u64,
}

#[derive(clap::Args)]
struct Restart {
    /// Pages of large files
    #[arg(long, default_value_t = 1_000_000)]
    pages: u64,
    /// Small files
    #[arg(long, default_value_t = 100_000)]
    small: u64,
}

#[derive(Subcommand)]
enum What {
    /// Lookups, and durable creates, by 256 clients; the fdatasync of the same disk beside them
    Namespace {
        /// Clients at once
        #[arg(long, default_value_t = 256)]
        clients: usize,
    },
    /// Random reads and durable writes by one core, interleaved with fio on the same file system
    Engine {
        /// Size of the file
        #[arg(long, default_value_t = 1024)]
        mib: u32,
        /// Bytes of a read; with --depth measures this kind of read alone
        #[arg(long, requires = "depth")]
        kib: Option<u32>,
        /// Reads at once
        #[arg(long, requires = "kib")]
        depth: Option<usize>,
    },
    /// Bytes and nanoseconds of entries in a core's index
    Index {
        /// Entries of each kind
        #[arg(long, default_value_t = 10_000_000)]
        entries: u64,
    },
    /// The start of a core with so much on SSD, and its memory; the directory is made, without payload
    Restart(Restart),
    /// Hit ratios of every eviction policy over made traces
    Ratios {
        /// Pages that the cache holds
        #[arg(long, default_value_t = 2_000)]
        pages: usize,
    },
}

/// Least, middle and most of some figures.
fn spread(figures: &[f64]) -> (f64, f64, f64) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = if sorted.len().is_multiple_of(2) && middle > 0 {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    };
    (sorted[0], median, sorted[sorted.len() - 1])
}

/// What this process has in memory.
fn resident_bytes() -> std::io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    Ok(text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096)
}

fn shown(label: &str, figures: &[f64]) -> String {
    let (least, median, most) = spread(figures);
    let digits = if most < 100.0 { 2 } else { 0 };
    format!("{label:<44} min {least:>12.digits$}  median {median:>12.digits$}  max {most:>12.digits$}")
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let folder = arguments.dir.unwrap_or_else(std::env::temp_dir);
    let rounds = arguments.rounds.max(1);
    let seconds = arguments.seconds.max(1);
    let result = match arguments.what {
        What::Namespace { clients } => namespace_rates::measure(&folder, rounds, seconds, clients.max(1)),
        What::Engine { mib, kib, depth } => {
            let one = kib.zip(depth).map(|(kib, depth)| Shape { kib: kib.clamp(4, 1024), depth: depth.max(1) });
            let shapes = one.as_ref().map_or(&SHAPES[..], std::slice::from_ref);
            engine_rates::measure(&folder, rounds, seconds, mib.max(1), shapes)
        }
        What::Index { entries } => index_costs::measure(entries.max(1_000), rounds),
        What::Restart(what) => restart::measure(&folder, rounds, &what),
        What::Ratios { pages } => {
            hit_ratios::show(pages.clamp(100, 1_000_000));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay-load: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (1.0, 2.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0]), (1.0, 2.5, 4.0));
    }
}
