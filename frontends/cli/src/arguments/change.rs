//! What the verbs accept that change the namespace. Pure.

use clap::Args;
use std::ffi::OsString;

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| format!("got \"{text}\", want octal digits up to 7777, such as 644"))
}

#[derive(Args, Debug)]
pub(crate) struct Mkdir {
    /// Directories above that are missing too; one that exists is fine
    #[arg(short = 'p', long)]
    pub(crate) parents: bool,
    /// Directories to make
    #[arg(required = true)]
    pub(crate) paths: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Rm {
    /// Directories and all below them
    #[arg(short = 'R', short_alias = 'r', long)]
    pub(crate) recursive: bool,
    /// Files and directories; wildcards are expanded in the namespace
    #[arg(required = true)]
    pub(crate) paths: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Mv {
    /// Replaces what has the name
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Files and directories; wildcards are expanded in the namespace
    #[arg(required = true)]
    pub(crate) from: Vec<OsString>,
    /// The new name, or a directory to move them into; in the same mount
    pub(crate) to: OsString,
}

#[derive(Args, Debug)]
pub(crate) struct Touch {
    /// Files
    #[arg(required = true)]
    pub(crate) paths: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Chmod {
    /// All below directories too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Permission bits, octal
    #[arg(value_parser = octal)]
    pub(crate) mode: u32,
    /// Files and directories; wildcards are expanded in the namespace
    #[arg(required = true)]
    pub(crate) paths: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        assert_eq!(octal("0644"), Ok(0o644));
        for wrong in ["", "8", "10000", "rw", "-1"] {
            assert!(octal(wrong).is_err(), "{wrong}");
        }
    }
}
