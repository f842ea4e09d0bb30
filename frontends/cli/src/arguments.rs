//! What `forebay` accepts. Pure.

mod change;
mod copy;
mod find;
mod fs;
mod job;
mod pin;
mod policy;

pub(crate) use change::*;
pub(crate) use copy::*;
pub(crate) use find::*;
pub(crate) use fs::*;
pub(crate) use job::*;
pub(crate) use pin::*;
pub(crate) use policy::*;

use crate::failure::EXIT_CODES;
use clap::{Args, Parser, Subcommand};
use forebay_base::Span;
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
    /// Works on configuration files
    #[command(after_help = EXIT_CODES)]
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Writes a completion script for a shell
    #[command(after_help = "Example:\n  forebay completion bash > /etc/bash_completion.d/forebay")]
    Completion {
        /// Which one
        #[arg(value_enum)]
        shell: CompletionShell,
    },
    /// Writes the manual pages, one for each verb
    #[command(after_help = "Example:\n  forebay man --dir /usr/local/share/man/man1")]
    Man {
        /// Here, as forebay*.1; without it the page of `forebay` goes to standard output
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Shells that are completed.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub(crate) enum CompletionShell {
    Bash,
    Zsh,
    Fish,
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
pub(crate) enum AdminVerb {
    /// Capacity, use, hit rates and troubles of workers and mounts
    #[command(after_help = "Example:\n  forebay admin report capacity --json")]
    Report(Report),
    /// Says of files what is cached of them where, how warm it is, what pins it, and why pages of them left the cache
    #[command(after_help = "Example:\n  forebay admin explain /data/train/part-0001")]
    Explain {
        /// One JSON object a file
        #[arg(long)]
        json: bool,
        /// Files; wildcards are expanded in the namespace
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// What holds below a path instead of what its mount says
    PathPolicy {
        #[command(subcommand)]
        verb: PolicyVerb,
    },
    /// Checks this host for its roles: kernel, limits, disks, ports, clock, cluster; says how to mend what is wrong
    #[command(after_help = "Example:\n  forebay admin doctor --no-speed\n\nExit code 1 when a check fails.")]
    Doctor(Doctor),
    /// Writes a tarball for a bug report: versions, configuration, doctor, report, logs; no secrets
    #[command(after_help = "Example:\n  forebay admin collect --output /tmp/forebay.tar.gz")]
    Collect(Collect),
    /// Shows or changes the log filter of the running master and workers; a mount reads log.level again on SIGHUP
    #[command(after_help = "Example:\n  forebay admin log-level worker forebay_worker=debug,info")]
    LogLevel {
        /// Whose
        #[arg(value_name = "ROLE", default_value = "all", value_parser = ["all", "master", "worker"])]
        role: String,
        /// The new tracing filter, in force until the process ends; without it the filters are shown
        #[arg(value_name = "FILTER")]
        filter: Option<String>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigVerb {
    /// Turns an alluxio-site.properties into a configuration, with the mount commands and what could not be taken over
    #[command(
        after_help = "Example:\n  forebay config import -o /etc/forebay/forebay.toml /opt/alluxio/conf/alluxio-site.properties"
    )]
    Import(ImportConfig),
}

#[derive(Args, Debug)]
pub(crate) struct ImportConfig {
    /// The configuration goes here instead of to standard output; a file that exists is not replaced
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Keys of the store go here, mode 0600, for `forebay fs mount --option-file` [default: the output with .options behind]
    #[arg(long, value_name = "FILE")]
    pub(crate) option_file: Option<PathBuf>,
    /// The properties file
    #[arg(value_name = "alluxio-site.properties")]
    pub(crate) file: PathBuf,
}

/// A part of the report.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReportPart {
    /// Workers and their tiers
    Capacity,
    /// Hit rates and counters
    Metrics,
    /// Mounts and their health
    Mounts,
    /// Jobs that run
    Jobs,
}

#[derive(Args, Debug)]
pub(crate) struct Report {
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Only this part
    #[arg(value_enum)]
    pub(crate) part: Option<ReportPart>,
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
        assert_eq!(mount.freshness, Some(Span::Never));
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
