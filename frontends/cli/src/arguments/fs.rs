//! What `forebay fs` accepts: one type per verb, each with an example. Pure.

use super::{
    COPY_FROM_HELP, Chmod, CopyFrom, CopyTo, FIND_HELP, Find, Load, Mkdir, Mv, PIN_HELP, Pin, Rm, Touch, UNPIN_HELP,
    Unpin, freshness, key_value,
};
use clap::{Args, Subcommand, ValueEnum};
use forebay_base::{ByteSize, Span};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Subcommand, Debug)]
pub(crate) enum FsVerb {
    /// Shows a bucket or directory in the namespace
    #[command(after_help = MOUNT_HELP)]
    Mount(Mount),
    /// Removes a mount; refuses while files are open there
    #[command(after_help = "Example:\n  forebay fs unmount /data")]
    Unmount {
        /// Even while files are open there
        #[arg(long)]
        force: bool,
        /// Where it is mounted
        path: String,
    },
    /// Lists the mounts
    #[command(after_help = "Example:\n  forebay fs mounts --json")]
    Mounts {
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// Lists files and directories
    #[command(after_help = "Example:\n  forebay fs ls -l -h --sort=size -r /data/train")]
    Ls(Ls),
    /// Shows files or directories, with what is cached of them
    #[command(after_help = STAT_HELP)]
    Stat(Stat),
    /// Writes files to standard output
    #[command(after_help = "Example:\n  forebay fs cat '/data/part-*.csv' | wc -l")]
    Cat {
        /// Files; wildcards are expanded in the namespace
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Writes the beginning of files
    #[command(after_help = "Example:\n  forebay fs head -n 5 /data/names.csv")]
    Head(Ends),
    /// Writes the end of files
    #[command(after_help = "Example:\n  forebay fs tail -c 1KiB /data/names.csv")]
    Tail(Ends),
    /// Answers a question about a path by the exit code: 0 yes, 1 no
    #[command(after_help = "Example:\n  forebay fs test -d /data && echo a directory")]
    Test(Test),
    /// Adds up sizes and what is cached, by directory
    #[command(after_help = "Example:\n  forebay fs du -s -h -g /data/train")]
    Du(Du),
    /// Counts directories, files and bytes
    #[command(after_help = "Example:\n  forebay fs count -h /data")]
    Count(Count),
    /// Writes MD5 and CRC32C of files
    #[command(after_help = "Example:\n  forebay fs checksum -R --json /data/train")]
    Checksum(Checksum),
    /// Says which workers and cores own a file's blocks, and who holds how much of them
    #[command(after_help = "Example:\n  forebay fs location /data/big.tar")]
    Location(Location),
    /// Finds files and directories; `-name` works as well as `--name`
    #[command(after_help = FIND_HELP)]
    Find(Find),
    /// Copies files out of the namespace to local files
    #[command(after_help = "Example:\n  forebay fs copy-to -R /data/train /scratch/")]
    CopyTo(CopyTo),
    /// Copies local files into the store behind a path, several at once; each appears whole or not at all
    #[command(after_help = COPY_FROM_HELP)]
    CopyFrom(CopyFrom),
    /// Brings the namespace to what the store has now, and says what changed
    #[command(after_help = "Example:\n  forebay fs refresh -R /data/incoming")]
    Refresh(Refresh),
    /// Compares namespace and cache with the store; exit code 1 if anything differs
    #[command(after_help = CHECK_HELP)]
    Check(Check),
    /// Fetches files into the cache, as a job of the master, and reports exactly what happened
    #[command(after_help = "Example:\n  forebay fs load -R --bandwidth 200MiB /data/train")]
    Load(Load),
    /// Keeps files in the cache, and loads what is missing; without a path it lists what is pinned
    #[command(after_help = PIN_HELP)]
    Pin(Pin),
    /// Takes a pin back: what it held may be evicted again
    #[command(after_help = UNPIN_HELP)]
    Unpin(Unpin),
    /// Makes directories, in their stores too
    #[command(after_help = "Example:\n  forebay fs mkdir -p /data/out/today")]
    Mkdir(Mkdir),
    /// Removes files and directories, from their stores too
    #[command(after_help = "Example:\n  forebay fs rm -R /data/out/yesterday")]
    Rm(Rm),
    /// Gives files and directories other names in their mount
    #[command(after_help = "Example:\n  forebay fs mv /data/out/part /data/out/whole")]
    Mv(Mv),
    /// Makes empty files, or sets the time of files to now
    #[command(after_help = "Example:\n  forebay fs touch /data/out/_SUCCESS")]
    Touch(Touch),
    /// Changes permission bits
    #[command(after_help = "Example:\n  forebay fs chmod -R 750 /data/out")]
    Chmod(Chmod),
    /// Drops files from the cache; the store keeps them
    #[command(after_help = "Example:\n  forebay fs free -R /data/old")]
    Free {
        /// Everything below the directories named
        #[arg(short = 'R', long)]
        recursive: bool,
        /// Even what is pinned: it is loaded again soon
        #[arg(long)]
        force: bool,
        /// Files and directories; wildcards are expanded in the namespace
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
}

const MOUNT_HELP: &str = "\
Example:
  forebay fs mount /data s3://bucket/prefix --option region=eu-west-1
  forebay fs mount --update /data --option-file new-keys.txt --freshness 5m";

const STAT_HELP: &str = "\
Letters of -f:
  %N name   %n path     %z bytes      %y modified  %Y modified, seconds since 1970
  %b blocks %i inode    %u user id    %g group id  %a mode, octal
  %v version  %c cached bytes  %m mount  %F kind  %p the path that pins it, or -
  %% percent sign

Example:
  forebay fs stat -f '%n %z %c' '/data/*.parquet'";

const CHECK_HELP: &str = "\
Without --deep names, sizes and versions are compared, and nothing changes (forebay fs refresh takes differences over).
With --deep each cached byte is compared with a fresh read from the store as well; what differs is dropped from the cache.

Example:
  forebay fs check -R --deep /data/train";

#[derive(Args, Debug)]
pub(crate) struct Mount {
    /// An option of the store, e.g. --option endpoint=http://host:9000
    #[arg(long = "option", value_name = "K=V", value_parser = key_value)]
    pub(crate) options: Vec<(String, String)>,
    /// Reads more options from a file, one k=v a line: keeps secrets out of the process list
    #[arg(long, value_name = "FILE")]
    pub(crate) option_file: Option<PathBuf>,
    /// Changes a mount that exists: what is not named stays as it is, secret options too
    #[arg(long, conflicts_with = "uri")]
    pub(crate) update: bool,
    /// Takes an option away
    #[arg(long = "remove-option", value_name = "K", requires = "update")]
    pub(crate) remove_options: Vec<String>,
    /// How old metadata may be before the store is asked again: a time such as 30s, 0s, or never [default: 30s]
    #[arg(long, value_parser = freshness)]
    pub(crate) freshness: Option<Span>,
    /// Refuses writes through this mount
    #[arg(long)]
    pub(crate) readonly: bool,
    /// Takes --readonly back
    #[arg(long, requires = "update", conflicts_with = "readonly")]
    pub(crate) read_write: bool,
    /// Absolute path in the namespace; of a new mount, one that does not exist yet
    pub(crate) path: String,
    /// s3://bucket/prefix or file:///directory
    #[arg(required_unless_present = "update")]
    pub(crate) uri: Option<String>,
}

/// What a listing is ordered by.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sort {
    Name,
    Size,
    Mtime,
    Cached,
}

#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// How much of each file is cached, in percent
    #[arg(short = 'l', long)]
    pub(crate) long: bool,
    /// Everything below it, one full path a line
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Directories themselves, not what they hold
    #[arg(short = 'd', long)]
    pub(crate) directory: bool,
    /// Asks the store first, whatever the freshness
    #[arg(short = 'f', long)]
    pub(crate) refresh: bool,
    /// Only what is pinned
    #[arg(short = 'p', long)]
    pub(crate) pinned: bool,
    /// Order: by name (rising), by size, mtime or cached bytes (largest and newest first)
    #[arg(long, value_enum, value_name = "KEY")]
    pub(crate) sort: Option<Sort>,
    /// The other way round
    #[arg(short = 'r', long)]
    pub(crate) reverse: bool,
    /// Times to the millisecond
    #[arg(long)]
    pub(crate) timestamp: bool,
    /// Sizes in KiB, MiB, GiB
    #[arg(short = 'h', long = "human")]
    pub(crate) human: bool,
    /// A JSON array; with -R one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Prints help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Files and directories; wildcards are expanded in the namespace
    #[arg(default_value = "/")]
    pub(crate) paths: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Stat {
    /// One line of this format for each path
    #[arg(short = 'f', long, value_name = "FORMAT", conflicts_with = "json")]
    pub(crate) format: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Files and directories; wildcards are expanded in the namespace
    #[arg(required = true)]
    pub(crate) paths: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Ends {
    /// This many bytes, e.g. 1KiB
    #[arg(short = 'c', long, value_name = "BYTES", value_parser = size, conflicts_with = "lines")]
    pub(crate) bytes: Option<ByteSize>,
    /// This many lines [default: 10]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) lines: Option<u64>,
    /// Files; wildcards are expanded in the namespace
    #[arg(required = true)]
    pub(crate) paths: Vec<OsString>,
}

#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("question").required(true).args(["directory", "exists", "file", "filled", "empty"])))]
pub(crate) struct Test {
    /// Is it a directory?
    #[arg(short = 'd')]
    pub(crate) directory: bool,
    /// Does it exist?
    #[arg(short = 'e')]
    pub(crate) exists: bool,
    /// Is it a file?
    #[arg(short = 'f')]
    pub(crate) file: bool,
    /// Does it hold anything: a file of more than 0 bytes, or a directory with entries?
    #[arg(short = 's')]
    pub(crate) filled: bool,
    /// Is it a file of 0 bytes?
    #[arg(short = 'z')]
    pub(crate) empty: bool,
    /// A path, taken as it is
    pub(crate) path: OsString,
}

#[derive(Args, Debug)]
pub(crate) struct Du {
    /// Only the sum of each path
    #[arg(short = 's', long)]
    pub(crate) summary: bool,
    /// What each worker holds
    #[arg(short = 'g', long)]
    pub(crate) workers: bool,
    /// Sizes in KiB, MiB, GiB
    #[arg(short = 'h', long = "human")]
    pub(crate) human: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Prints help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Files and directories; wildcards are expanded in the namespace
    #[arg(default_value = "/")]
    pub(crate) paths: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Count {
    /// Sizes in KiB, MiB, GiB
    #[arg(short = 'h', long = "human")]
    pub(crate) human: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Prints help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Files and directories; wildcards are expanded in the namespace
    #[arg(default_value = "/")]
    pub(crate) paths: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Checksum {
    /// Everything below the directories named
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Files and directories; wildcards are expanded in the namespace
    #[arg(required = true)]
    pub(crate) paths: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Location {
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Files; wildcards are expanded in the namespace
    #[arg(required = true)]
    pub(crate) paths: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Refresh {
    /// Everything below the directories named
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// One JSON object a line for each difference, then one with the sums
    #[arg(long)]
    pub(crate) json: bool,
    /// Files and directories; wildcards are expanded in the namespace
    #[arg(required = true)]
    pub(crate) paths: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Everything below the directories named
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// The cached bytes too, against a fresh read from the store
    #[arg(long)]
    pub(crate) deep: bool,
    /// One JSON object a line for each difference, then one with the sums
    #[arg(long)]
    pub(crate) json: bool,
    /// Files and directories; wildcards are expanded in the namespace
    #[arg(required = true)]
    pub(crate) paths: Vec<OsString>,
}

fn size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| "want a size such as 100, 1KiB or 5MB".into())
}
