//! What `forebay fs copy-to` and `fs copy-from` accept. Pure.

use clap::Args;
use std::ffi::OsString;

pub(crate) const COPY_FROM_HELP: &str = "\
A directory at PATH, or a / behind it, means: into it, under the names that the sources have. Directories that are missing
on the way are made. A file that is there already is kept unless --overwrite is given.

Example:
  forebay fs copy-from -R results/ /data/runs/2026-11/
  forebay fs copy-from --overwrite model.bin /data/model.bin";

#[derive(Args, Debug)]
pub(crate) struct CopyTo {
    /// Directories with everything below them
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Files copied at once
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) threads: u8,
    /// One JSON object at the end
    #[arg(long)]
    pub(crate) json: bool,
    /// Files and directories of the namespace, then a local file or directory
    #[arg(required = true, num_args = 2.., value_names = ["SOURCE", "DESTINATION"])]
    pub(crate) paths: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct CopyFrom {
    /// Directories with everything below them; empty ones are not made
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Replaces files that are there
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Files copied at once
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) threads: u8,
    /// One JSON object at the end
    #[arg(long)]
    pub(crate) json: bool,
    /// Local files and directories, then a path of the namespace
    #[arg(required = true, num_args = 2.., value_names = ["LOCAL", "PATH"])]
    pub(crate) paths: Vec<OsString>,
}
