//! What `forebay fs load` and `forebay job` accept. Pure.

use clap::{Args, Subcommand};
use forebay_base::ByteSize;

#[derive(Args, Debug)]
pub(crate) struct Load {
    /// Everything below the directories named
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Prints the job's number and returns; the job goes on
    #[arg(long, conflicts_with_all = ["progress", "stop"])]
    pub(crate) submit: bool,
    /// Shows a load until it ends: the one of this number or path, else the newest that runs
    #[arg(long, value_name = "ID|PATH", conflicts_with = "stop")]
    pub(crate) progress: Option<Option<String>>,
    /// Ends a load, named in the same way; what is loaded stays
    #[arg(long, value_name = "ID|PATH")]
    pub(crate) stop: Option<Option<String>>,
    /// Most bytes per second from stores, over all workers, e.g. 100MiB
    #[arg(long, value_name = "SIZE", value_parser = bandwidth)]
    pub(crate) bandwidth: Option<u64>,
    /// Reads back from SSD what was loaded and compares it with its checksums; what is wrong is fetched again
    #[arg(long)]
    pub(crate) verify: bool,
    /// Workers that get each block
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) replicas: u16,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[arg(required_unless_present_any = ["progress", "stop"])]
    pub(crate) paths: Vec<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum JobVerb {
    /// Lists the jobs that run
    #[command(after_help = "Example:\n  forebay job ls --all")]
    Ls {
        /// One JSON array
        #[arg(long)]
        json: bool,
        /// Those that have ended too, the last 100
        #[arg(long)]
        all: bool,
    },
    /// Shows one job
    #[command(after_help = "Example:\n  forebay job stat 7 --failures")]
    Stat {
        /// One JSON object
        #[arg(long)]
        json: bool,
        /// Each file that failed, and why
        #[arg(long)]
        failures: bool,
        id: u64,
    },
    /// Ends a job; what it has done stays
    #[command(after_help = "Example:\n  forebay job cancel 7")]
    Cancel { id: u64 },
}

fn bandwidth(text: &str) -> Result<u64, String> {
    let bytes = text.trim().trim_end_matches("/s").parse::<ByteSize>()?.0;
    if bytes == 0 { Err("want more than 0".into()) } else { Ok(bytes) }
}
