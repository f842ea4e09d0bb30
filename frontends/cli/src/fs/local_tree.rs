//! Files of a local directory, depth first and in order of name. Holds the names of one directory for each level.
//!
//! Links are followed to files, never to directories: a tree has no loops.

use std::path::{Path, PathBuf};

/// Something that was met.
#[derive(Debug)]
pub(crate) enum Seen {
    /// A file, and its path from where the walk began; empty for that itself.
    File { path: PathBuf, below: PathBuf },
    /// What is not copied, and why.
    Failed { path: PathBuf, why: String },
}

/// A walk under way.
pub(crate) struct LocalTree {
    start: PathBuf,
    /// What is to be looked at, the next one last.
    waiting: Vec<PathBuf>,
    is_start: bool,
}

impl LocalTree {
    /// One file, or all below a directory.
    pub(crate) fn at(start: PathBuf) -> Self {
        Self { waiting: vec![start.clone()], start, is_start: true }
    }

    fn look(&mut self, path: PathBuf) -> Option<Seen> {
        let is_start = std::mem::take(&mut self.is_start);
        let failed =
            |path: &Path, error: std::io::Error| Some(Seen::Failed { path: path.into(), why: error.to_string() });
        let is_link = match path.symlink_metadata() {
            Ok(meta) => meta.file_type().is_symlink(),
            Err(error) => return failed(&path, error),
        };
        let meta = match path.metadata() {
            Ok(meta) => meta,
            Err(error) => return failed(&path, error),
        };
        if meta.is_file() {
            let below = path.strip_prefix(&self.start).unwrap_or(Path::new("")).to_path_buf();
            return Some(Seen::File { path, below });
        }
        if !meta.is_dir() {
            return Some(Seen::Failed { path, why: "is neither a file nor a directory".into() });
        }
        if is_link && !is_start {
            return Some(Seen::Failed { path, why: "is a link to a directory, which is not followed".into() });
        }
        let names = std::fs::read_dir(&path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<PathBuf>, _>>()
        });
        match names {
            Ok(mut names) => {
                names.sort_unstable_by(|a, b| b.cmp(a));
                self.waiting.append(&mut names);
                None
            }
            Err(error) => failed(&path, error),
        }
    }
}

impl Iterator for LocalTree {
    type Item = Seen;

    fn next(&mut self) -> Option<Seen> {
        loop {
            let path = self.waiting.pop()?;
            if let Some(seen) = self.look(path) {
                return Some(seen);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_come_in_order_and_links_make_no_loops() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("b/deep")).expect("made");
        for name in ["a", "b/deep/x", "b/y", "c"] {
            std::fs::write(at(name), "x").expect("written");
        }
        symlink("a", at("link")).expect("linked");
        symlink(".", at("loop")).expect("linked");
        symlink("nowhere", at("dangling")).expect("linked");
        let (mut files, mut failed) = (Vec::new(), Vec::new());
        for seen in LocalTree::at(directory.path().into()) {
            match seen {
                Seen::File { below, .. } => files.push(below.display().to_string()),
                Seen::Failed { path, .. } => failed.push(path),
            }
        }
        assert_eq!(files, ["a", "b/deep/x", "b/y", "c", "link"]);
        assert_eq!(failed, [at("dangling"), at("loop")]);
        let one: Vec<Seen> = LocalTree::at(at("link")).collect();
        assert!(matches!(&one[..], [Seen::File { below, .. }] if below.as_os_str().is_empty()), "{one:?}");
    }
}
