//! What `forebay` accepts. Pure.

use crate::failure::EXIT_CODES;
use clap::{Args, Parser, Subcommand};
use forebay_base::{ByteSize, Span};
use std::ffi::OsString;
use std::path::PathBuf;

/// A distributed cache between compute and storage.
#[derive(Parser, Debug)]
#[command(name = "forebay", version, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Configuration file [default: $FOREBAY_CONFIG, $FOREBAY_DIR/forebay.toml, ~/.forebay/forebay.toml, /etc/forebay/forebay.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Overrides one setting, e.g. --set cluster.rpc_timeout=2s
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Starts a whole cluster on this host: master, worker and mount
    Up(Up),
    /// Stops the cluster that `up` started
    Down(Down),
    /// Runs a master in the foreground
    #[command(disable_help_flag = true)]
    Master(Role),
    /// Runs a worker in the foreground
    #[command(disable_help_flag = true)]
    Worker(Role),
    /// Runs a FUSE mount in the foreground
    #[command(disable_help_flag = true)]
    Fuse(Role),
    /// Starts a role in a session of its own; used by `up`
    #[command(hide = true, disable_help_flag = true)]
    Detached(Detached),
    /// Works on the namespace: mounts, listings, contents, cache
    #[command(after_help = EXIT_CODES)]
    Fs {
        #[command(subcommand)]
        verb: FsVerb,
    },
    /// Looks at what the master does in the background, and ends it
    #[command(after_help = EXIT_CODES)]
    Job {
        #[command(subcommand)]
        verb: JobVerb,
    },
    /// Looks at the cluster
    #[command(after_help = EXIT_CODES)]
    Admin {
        #[command(subcommand)]
        verb: AdminVerb,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Up {
    /// Where configuration, data, logs and the mount live [default: ~/.forebay]
    #[arg(long, value_name = "D", env = "FOREBAY_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The master listens on this port, the worker's cores from 100 above it, HTTP of the roles from 80 above it
    /// [default: 7400]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=65000))]
    pub(crate) port_base: Option<u16>,
}

#[derive(Args, Debug)]
pub(crate) struct Down {
    /// The directory given to `up` [default: ~/.forebay]
    #[arg(long, value_name = "D", env = "FOREBAY_DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Role {
    /// As for the role's own binary
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Detached {
    /// The binary
    pub(crate) binary: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum FsVerb {
    /// Shows a bucket or directory in the namespace
    Mount(Mount),
    /// Removes a mount; refuses while files are open there
    Unmount {
        /// Even while files are open there
        #[arg(long)]
        force: bool,
        /// Where it is mounted
        path: String,
    },
    /// Lists the mounts
    Mounts {
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// Lists a directory
    Ls {
        /// Everything below it, one full path a line
        #[arg(short = 'R', long)]
        recursive: bool,
        /// Sizes in KiB, MiB, GiB
        #[arg(short = 'h', long = "human")]
        human: bool,
        /// A JSON array; with -R one JSON object a line
        #[arg(long)]
        json: bool,
        /// Prints help
        #[arg(long, action = clap::ArgAction::Help)]
        help: Option<bool>,
        #[arg(default_value = "/")]
        path: String,
    },
    /// Shows one file or directory, with what is cached of it
    Stat {
        /// One JSON object
        #[arg(long)]
        json: bool,
        path: String,
    },
    /// Writes files to standard output
    Cat {
        #[arg(required = true)]
        paths: Vec<String>,
    },
    /// Fetches files into the cache, as a job of the master, and reports exactly what happened
    #[command(after_help = "Example:\n  forebay fs load -R --bandwidth 200MiB /data/train")]
    Load(Load),
    /// Drops files from the cache; the store keeps them
    Free {
        /// Everything below the directories named
        #[arg(short = 'R', long)]
        recursive: bool,
        #[arg(required = true)]
        paths: Vec<String>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Mount {
    /// An option of the store, e.g. --option endpoint=http://host:9000
    #[arg(long = "option", value_name = "K=V", value_parser = key_value)]
    pub(crate) options: Vec<(String, String)>,
    /// Reads more options from a file, one k=v a line: keeps secrets out of the process list
    #[arg(long, value_name = "FILE")]
    pub(crate) option_file: Option<PathBuf>,
    /// How old metadata may be before the store is asked again: a time such as 30s, 0s, or never
    #[arg(long, default_value = "30s", value_parser = freshness)]
    pub(crate) freshness: Span,
    /// Refuses writes through this mount
    #[arg(long)]
    pub(crate) readonly: bool,
    /// Absolute path in the namespace that does not exist yet
    pub(crate) path: String,
    /// s3://bucket/prefix or file:///directory
    pub(crate) uri: String,
}

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

#[derive(Subcommand, Debug)]
pub(crate) enum AdminVerb {
    /// Capacity, use, hit rates and troubles of workers and mounts
    Report {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Checks this host for its roles: kernel, limits, disks, ports, clock, cluster; says how to mend what is wrong
    #[command(after_help = "Example:\n  forebay admin doctor --no-speed\n\nExit code 1 when a check fails.")]
    Doctor(Doctor),
    /// Writes a tarball for a bug report: versions, configuration, doctor, report, logs; no secrets
    #[command(after_help = "Example:\n  forebay admin collect --output /tmp/forebay.tar.gz")]
    Collect(Collect),
}

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// The directory given to `up`; its forebay.toml is used
    #[arg(long, value_name = "D")]
    pub(crate) dir: Option<PathBuf>,
    /// Checks this role only; may be given more than once [default: those that this host has]
    #[arg(long = "role", value_name = "ROLE", value_parser = ["master", "worker", "fuse"])]
    pub(crate) roles: Vec<String>,
    /// Leaves the short measurement of each tier's disk out
    #[arg(long)]
    pub(crate) no_speed: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Collect {
    /// Where to write [default: forebay-collect-DATE.tar.gz in the current directory]
    #[arg(long, value_name = "FILE.tar.gz")]
    pub(crate) output: Option<PathBuf>,
    /// The directory given to `up`; its forebay.toml is used
    #[arg(long, value_name = "D")]
    pub(crate) dir: Option<PathBuf>,
    /// Most that is taken of the end of each log
    #[arg(long, value_name = "SIZE", default_value = "4MiB")]
    pub(crate) log_size: forebay_base::ByteSize,
}

/// Reads `k=v`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_string(), value.to_string())),
        _ => Err("want key=value".into()),
    }
}

fn bandwidth(text: &str) -> Result<u64, String> {
    let bytes = text.trim().trim_end_matches("/s").parse::<ByteSize>()?.0;
    if bytes == 0 { Err("want more than 0".into()) } else { Ok(bytes) }
}

fn freshness(text: &str) -> Result<Span, String> {
    text.parse().map_err(|_| "want a time such as 30s, 0s, 5m or never".into())
}

/// clap's error as one line: what was wrong, then where to look.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let said: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let said = said.join(" ");
    format!("{}: see forebay --help", said.strip_prefix("error: ").unwrap_or(&said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn clap_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mount_arguments() {
        let parse = |args: &[&str]| Cli::try_parse_from(["forebay", "fs", "mount"].iter().chain(args));
        let cli =
            parse(&["--option", "endpoint=http://h:1/?a=b", "--freshness", "never", "/a", "s3://b"]).expect("valid");
        let Command::Fs { verb: FsVerb::Mount(mount) } = cli.command else { panic!("mount") };
        assert_eq!(mount.options, [("endpoint".to_string(), "http://h:1/?a=b".to_string())]);
        assert_eq!(mount.freshness, Span::Never);
        for bad in [&["--option", "x", "/a", "s3://b"][..], &["--freshness", "soon", "/a", "s3://b"], &["/a"]] {
            let error = parse(bad).expect_err("it is wrong");
            let line = one_line(&error);
            assert!(!line.contains('\n') && line.ends_with("see forebay --help"), "{line}");
        }
    }

    #[test]
    fn roles_take_everything() {
        let cli = Cli::try_parse_from(["forebay", "worker", "--help"]).expect("passed through");
        assert!(matches!(cli.command, Command::Worker(role) if role.arguments == ["--help"]));
        let cli =
            Cli::try_parse_from(["forebay", "master", "--config", "/c", "--print-config"]).expect("passed through");
        assert_eq!(cli.config, Some("/c".into()));
        assert!(matches!(cli.command, Command::Master(role) if role.arguments == ["--print-config"]));
        let cli = Cli::try_parse_from(["forebay", "detached", "--", "/b", "--config", "/c"]).expect("passed through");
        assert_eq!(cli.config, None);
        assert!(matches!(cli.command, Command::Detached(role) if role.arguments == ["--config", "/c"]));
    }
}
