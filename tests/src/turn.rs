//! One heavy test at a time on a machine: a lock on a file that every test process takes.

use std::fs::File;

/// Held while a cluster runs; released when dropped or when the process dies.
#[derive(Debug)]
pub struct Turn {
    _file: File,
}

impl Turn {
    /// Waits for its turn.
    #[must_use]
    pub fn take() -> Self {
        let path = std::env::temp_dir().join("forebay-tests.lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("a lock on a local file");
        Self { _file: file }
    }
}
