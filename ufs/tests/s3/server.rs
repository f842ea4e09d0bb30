//! Starts a real S3 server (versitygw over a directory) on a free port for tests, and stops it.
//!
//! The program is installed once per user with `go install`, under a file lock, and kept in `~/.cache/forebay/bin`.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PACKAGE: &str = "github.com/versity/versitygw/cmd/versitygw@v1.8.0";

/// The keys of the server's root user.
pub(crate) const ACCESS_KEY: &str = "forebay-test";
/// See `ACCESS_KEY`.
pub(crate) const SECRET_KEY: &str = "forebay-test-secret";

/// A running server; ends with the value.
pub(crate) struct S3Server {
    child: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl S3Server {
    /// Starts a server with these buckets.
    pub(crate) fn start(buckets: &[&str]) -> S3Server {
        let program = installed();
        let directory = tempfile::tempdir().expect("a temporary directory");
        for bucket in buckets {
            fs::create_dir_all(directory.path().join("data").join(bucket)).expect("a bucket's directory");
        }
        // Another process may take the port before the server does: then it ends, and another port is tried.
        for _ in 0..10 {
            let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = free.local_addr().expect("its address");
            drop(free);
            let log = File::create(directory.path().join("log")).expect("a log file");
            let mut child = Command::new(&program)
                .args([
                    "--access",
                    ACCESS_KEY,
                    "--secret",
                    SECRET_KEY,
                    "--quiet",
                    "--port",
                    &address.to_string(),
                    "posix",
                ])
                .arg(directory.path().join("data"))
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a second handle"))
                .stderr(log)
                .spawn()
                .expect("versitygw starts");
            if answers(&mut child, address) {
                return S3Server { child, address, directory };
            }
        }
        let log = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        panic!("versitygw does not start: {log}");
    }

    /// `http://127.0.0.1:port`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The directory of a bucket.
    pub(crate) fn bucket_directory(&self, bucket: &str) -> PathBuf {
        self.directory.path().join("data").join(bucket)
    }

    /// Multipart uploads that were begun and not ended: the server keeps a directory for each.
    pub(crate) fn multipart_uploads(&self, bucket: &str) -> usize {
        let objects = fs::read_dir(self.bucket_directory(bucket).join(".sgwtmp/multipart"));
        let uploads = |object: fs::DirEntry| fs::read_dir(object.path()).map_or(0, Iterator::count);
        objects.map_or(0, |objects| objects.flatten().map(uploads).sum())
    }

    /// Kills it at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn answers(child: &mut Child, address: SocketAddr) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if child.try_wait().expect("its state").is_some() {
            return false;
        }
        if TcpStream::connect(address).is_ok() {
            // A stranger on the port would answer too, while ours is about to end.
            std::thread::sleep(Duration::from_millis(100));
            return child.try_wait().expect("its state").is_none();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

fn installed() -> PathBuf {
    let home = std::env::var("HOME").expect("HOME is set");
    let bin = Path::new(&home).join(".cache/forebay/bin");
    fs::create_dir_all(&bin).expect("a directory for programs");
    let program = bin.join("versitygw");
    let lock = File::create(bin.join(".versitygw.lock")).expect("a lock file");
    lock.lock().expect("the lock");
    if !program.exists() {
        let mut go = Command::new("go");
        let go =
            go.args(["install", PACKAGE]).env("GOBIN", &bin).output().expect("go runs: it is needed for the S3 server");
        assert!(go.status.success(), "go install {PACKAGE}: {}", String::from_utf8_lossy(&go.stderr));
    }
    program
}
