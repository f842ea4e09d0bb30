//! What a mount counts: the requests that reached this process. What the kernel answers from its own caches is seen by
//! nobody here.

use crate::fs::Forebay;
use crate::handler::Errno;
use crate::wire::Operation;
use forebay_base::metrics::{Exposition, PerCore, process};
use std::sync::atomic::{AtomicU64, Ordering};

/// Operations by name, in the order of `op_index`.
const OPS: [&str; 27] = [
    "lookup",
    "getattr",
    "open",
    "read",
    "release",
    "opendir",
    "readdir",
    "readdirplus",
    "releasedir",
    "statfs",
    "getxattr",
    "listxattr",
    "forget",
    "interrupt",
    "setattr",
    "mknod",
    "mkdir",
    "create",
    "unlink",
    "rmdir",
    "rename",
    "write",
    "flush",
    "fsync",
    "fallocate",
    "refused",
    "other",
];

/// Errors by name, in the order of `error_index`.
const ERRORS: [&str; 12] =
    ["ENOENT", "ESTALE", "EIO", "EACCES", "EROFS", "EINTR", "ENOSYS", "ENODATA", "EEXIST", "EBUSY", "ENOSPC", "other"];

/// How an open file is read: by the kernel from the worker's local file, through the kernel's page cache, or past it.
const PATHS: [&str; 3] = ["passthrough", "cached", "direct"];
pub(crate) const PASSED: usize = 0;
pub(crate) const CACHED: usize = 1;
pub(crate) const DIRECT: usize = 2;

/// Files opened, by how they are read. What the kernel reads by itself is seen by nobody, so the sizes of the files stand
/// for the bytes.
#[derive(Default)]
pub(crate) struct OpenedFiles {
    opens: [AtomicU64; PATHS.len()],
    bytes: [AtomicU64; PATHS.len()],
}

impl OpenedFiles {
    pub(crate) fn count(&self, place: usize, bytes: u64) {
        self.opens[place].fetch_add(1, Ordering::Relaxed);
        self.bytes[place].fetch_add(bytes, Ordering::Relaxed);
    }
}

fn by_path(counts: &[AtomicU64; PATHS.len()]) -> impl Iterator<Item = (&'static [&'static str], f64)> {
    const LABELS: [[&str; 1]; PATHS.len()] = [[PATHS[0]], [PATHS[1]], [PATHS[2]]];
    const ROWS: &[[&str; 1]] = &LABELS;
    ROWS.iter().zip(counts).map(|(labels, count)| (&labels[..], count.load(Ordering::Relaxed) as f64))
}

forebay_base::metrics_table! {
    /// What one core of a mount counts.
    pub struct FuseMetrics {
        op_seconds: Histogram["op" in OPS] = "forebay_fuse_op_seconds",
            "time from a request read from the kernel to its answer, by operation; refused is what no mount offers";
        errors: Counter["errno" in ERRORS] = "forebay_fuse_errors_total", "requests answered with an error, by errno";
        written_bytes: Counter = "forebay_fuse_written_bytes_total", "bytes taken from the kernel for writes";
        read_bytes: Counter = "forebay_fuse_read_bytes_total", "bytes given to the kernel for reads";
        in_flight: Gauge = "forebay_fuse_requests_in_flight", "requests that wait for a master or a worker";
    }
    computed {
        OPEN_FILES: Gauge = "forebay_fuse_open_files", "open files";
        OPEN_DIRECTORIES: Gauge = "forebay_fuse_open_directories", "open directories";
        NODES: Gauge = "forebay_fuse_nodes", "nodes that the kernel knows";
        LISTED_LOOKUPS: Counter = "forebay_fuse_listed_lookups_total", "lookups answered from what a directory listed before";
        OPENS: Counter["path"] = "forebay_fuse_opens_total",
            "files opened, by how they are read: passthrough means by the kernel, from the worker's local file";
        OPENED_BYTES: Counter["path"] = "forebay_fuse_opened_bytes_total", "sizes of the files opened, by how they are read";
        BACKED: Gauge = "forebay_fuse_backing_files", "local files that the kernel reads by itself now";
        PASSTHROUGH_ON: Gauge = "forebay_fuse_passthrough", "1 while the kernel can read local files by itself";
        THREADS: Gauge = "forebay_fuse_threads", "threads that serve the kernel";
    }
}

/// The metrics of this process.
pub(crate) fn exposition(metrics: &PerCore<FuseMetrics>, forebay: &Forebay, threads: usize) -> String {
    let mut text = Exposition::default();
    process::expose(&mut text, "fuse");
    text.table(metrics.all());
    let [files, directories, nodes] = forebay.counts();
    text.number(&OPEN_FILES, files as f64);
    text.number(&OPEN_DIRECTORIES, directories as f64);
    text.number(&NODES, nodes as f64);
    text.number(&LISTED_LOOKUPS, forebay.listed_lookups() as f64);
    text.computed(&OPENS, by_path(&forebay.opened().opens));
    text.computed(&OPENED_BYTES, by_path(&forebay.opened().bytes));
    let (backed, is_on) = forebay.backed();
    text.number(&BACKED, backed as f64);
    text.number(&PASSTHROUGH_ON, f64::from(u8::from(is_on)));
    text.number(&THREADS, threads as f64);
    text.table(forebay.client().metrics().all());
    text.finish()
}

/// The place of an operation in `OPS`.
pub(crate) fn op_index(operation: &Operation) -> usize {
    match operation {
        Operation::Lookup { .. } => 0,
        Operation::GetAttr => 1,
        Operation::Open { .. } => 2,
        Operation::Read { .. } => READ,
        Operation::Release { .. } => 4,
        Operation::OpenDir => 5,
        Operation::ReadDir { plus: false, .. } => 6,
        Operation::ReadDir { plus: true, .. } => 7,
        Operation::ReleaseDir { .. } => 8,
        Operation::StatFs => 9,
        Operation::GetXattr { .. } => 10,
        Operation::ListXattr { .. } => 11,
        Operation::Forget { .. } => FORGET,
        Operation::Interrupt { .. } => INTERRUPT,
        Operation::SetAttr { .. } => 14,
        Operation::MakeNode { .. } => 15,
        Operation::MakeDir { .. } => 16,
        Operation::Create { .. } => 17,
        Operation::Remove { is_directory: false, .. } => 18,
        Operation::Remove { is_directory: true, .. } => 19,
        Operation::Rename { .. } => 20,
        Operation::Write { .. } => 21,
        Operation::Flush { .. } => 22,
        Operation::Sync { .. } | Operation::SyncDir => 23,
        Operation::Allocate { .. } => 24,
        Operation::Refused(_) => 25,
        Operation::Init(_) | Operation::Destroy | Operation::Other(_) => 26,
    }
}

pub(crate) const READ: usize = 3;
pub(crate) const FORGET: usize = 12;
pub(crate) const INTERRUPT: usize = 13;

/// The place of an errno in `ERRORS`.
pub(crate) fn error_index(errno: i32) -> usize {
    match Errno::from_raw_os_error(errno) {
        Errno::NOENT => 0,
        Errno::STALE => 1,
        Errno::IO => 2,
        Errno::ACCESS | Errno::PERM => 3,
        Errno::ROFS => 4,
        Errno::INTR => 5,
        Errno::NOSYS => 6,
        Errno::NODATA => 7,
        Errno::EXIST => 8,
        Errno::BUSY => 9,
        Errno::NOSPC => 10,
        _ => 11,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_fit_their_names() {
        let read = Operation::Read { handle: 1, offset: 0, size: 1 };
        assert_eq!(OPS[op_index(&read)], "read");
        assert_eq!(OPS[op_index(&Operation::Forget { nodes: vec![] })], "forget");
        assert_eq!(OPS[op_index(&Operation::Interrupt { unique: 1 })], "interrupt");
        let write = Operation::Write { handle: 1, offset: 0, data: 0..1 };
        assert_eq!((OPS[op_index(&write)], OPS[op_index(&Operation::Refused(13))]), ("write", "refused"));
        let remove = Operation::Remove { name: vec![], is_directory: true };
        assert_eq!((OPS[op_index(&remove)], OPS[op_index(&Operation::SyncDir)]), ("rmdir", "fsync"));
        assert_eq!(OPS[op_index(&Operation::ListXattr { size: 0 })], "listxattr");
        assert_eq!(OPS[op_index(&Operation::ReadDir { handle: 1, offset: 0, size: 1, plus: true })], "readdirplus");
        assert_eq!(OPS[op_index(&Operation::Destroy)], "other");
        assert_eq!(ERRORS[error_index(libc::ESTALE)], "ESTALE");
        assert_eq!(ERRORS[error_index(libc::ENODATA)], "ENODATA");
        assert_eq!(ERRORS[error_index(libc::ENOSPC)], "ENOSPC");
        assert_eq!(ERRORS[error_index(libc::ENOTDIR)], "other");
    }
}
