//! What `forebay fs pin` and `fs unpin` accept. Pure.

use clap::Args;
use std::ffi::OsString;

pub(crate) const PIN_HELP: &str = "\
What is pinned is loaded, also what comes later, and not evicted. Pins may hold 80 % of each core's cache; what is beyond
is said and not pinned.

Example:
  forebay fs pin /data/model && forebay fs pin";

pub(crate) const UNPIN_HELP: &str = "\
Wildcards stand for pinned paths.

Example:
  forebay fs unpin '/data/model-*'";

#[derive(Args, Debug)]
pub(crate) struct Pin {
    /// One JSON object a line; without paths a JSON array
    #[arg(long)]
    pub(crate) json: bool,
    /// Files and directories, these with all below them; wildcards are expanded in the namespace. None: lists the pins
    pub(crate) paths: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Unpin {
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Pinned paths; they need not exist any more
    #[arg(required = true)]
    pub(crate) paths: Vec<OsString>,
}
