//! The limit: the very files that the S3 server keeps, on the disk's own file system.

use super::Rig;
use crate::host::first_line;
use anyhow::Result;
use std::path::PathBuf;

pub(crate) struct Ext4 {
    folder: PathBuf,
}

impl Ext4 {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }
}

impl Rig for Ext4 {
    fn name(&self) -> &str {
        "ext4"
    }

    fn version(&self) -> String {
        let kind = first_line("findmnt", &["-n", "-o", "FSTYPE", "-T", &self.folder.to_string_lossy()]);
        format!("the disk's own file system ({kind}), no daemon")
    }

    fn commands(&self) -> Vec<String> {
        Vec::new()
    }

    fn processes(&self) -> Vec<(String, u32)> {
        Vec::new()
    }

    fn folder(&self) -> Option<PathBuf> {
        Some(self.folder.clone())
    }

    fn empty(&mut self) -> Result<()> {
        Ok(())
    }
}
