//! Folders of many files: names spread over directories, work on all of them by several threads, real disk use.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The name of file `index` of many: twenty directories with sub-directories.
#[must_use]
pub fn spread(index: usize) -> String {
    format!("d{:02}/s{}/f{index:05}.bin", index % 20, index / 20 % 3)
}

/// Calls `work` for 0..count from `threads` threads and gives all errors.
pub fn each_file(count: usize, threads: usize, work: impl Fn(usize) -> Result<(), String> + Sync) -> Vec<String> {
    let (next, errors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    if let Err(error) = work(index) {
                        errors.lock().expect("no thread panics with it").push(error);
                    }
                }
            });
        }
    });
    errors.into_inner().expect("no thread panics with it")
}

/// Bytes that a directory really occupies on its disk.
#[must_use]
pub fn disk_use_bytes(folder: &Path) -> u64 {
    let (mut bytes, mut folders) = (0, vec![PathBuf::from(folder)]);
    while let Some(folder) = folders.pop() {
        // Files come and go while this looks: what is gone counts nothing.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bytes
}

/// Makes the kernel forget the cached pages of a file, so that the next read goes to its file system.
pub fn drop_cached(path: &Path) {
    if let Ok(file) = std::fs::File::open(path) {
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
}
