//! A real S3 server: versitygw over a directory, installed once with `go install` and kept in ~/.cache/forebay/bin.

use crate::ports::free_port;
use crate::process::Process;
use crate::s3_put::Bucket;
use crate::wait::eventually;
use rustix::process::Signal;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PACKAGE: &str = "github.com/versity/versitygw/cmd/versitygw@v1.8.0";

/// The access key of every test server.
pub const ACCESS_KEY: &str = "forebay-test";
/// The secret key of every test server.
pub const SECRET_KEY: &str = "forebay-test-secret";

/// A running server with its data in a directory.
#[derive(Debug)]
pub struct S3Server {
    process: Option<Process>,
    port: u16,
    data: PathBuf,
    folder: PathBuf,
}

impl S3Server {
    /// Starts one that keeps its data below `folder`.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        let data = folder.join("s3");
        std::fs::create_dir_all(&data).expect("a data directory");
        let mut server = Self { process: None, port: free_port(), data, folder: folder.to_path_buf() };
        server.restart();
        server
    }

    /// Starts it again on the same port with the same data.
    pub fn restart(&mut self) {
        self.process = None;
        let mut command = Command::new(installed());
        command.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
        command.args(["--quiet", "--port", &self.address(), "posix"]).arg(&self.data);
        let process = Process::start("versitygw", &mut command, &self.folder.join("versitygw.log"));
        eventually("versitygw to answer", Duration::from_secs(20), || TcpStream::connect(self.address()).ok());
        self.process = Some(process);
    }

    /// Its process id; 0 while it is killed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    /// Where a bucket's objects lie as plain files.
    #[must_use]
    pub fn folder_of(&self, bucket: &str) -> PathBuf {
        self.data.join(bucket)
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL for the option `endpoint`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Makes a bucket.
    #[must_use]
    pub fn bucket(&self, name: &str) -> Bucket {
        std::fs::create_dir_all(self.data.join(name)).expect("a bucket is a directory of the server");
        Bucket {
            address: self.address(),
            name: name.into(),
            access_key: ACCESS_KEY.into(),
            secret_key: SECRET_KEY.into(),
        }
    }

    /// Options of a mount of this server, as `--option` arguments.
    #[must_use]
    pub fn mount_options(&self) -> Vec<String> {
        Self::mount_options_at(self.endpoint())
    }

    /// The same for a way to it that is not the direct one.
    #[must_use]
    pub fn mount_options_at(endpoint: String) -> Vec<String> {
        let pairs = [
            ("endpoint", endpoint),
            ("region", "us-east-1".into()),
            ("path_style", "true".into()),
            ("access_key", ACCESS_KEY.into()),
            ("secret_key", SECRET_KEY.into()),
        ];
        pairs.into_iter().flat_map(|(key, value)| ["--option".to_string(), format!("{key}={value}")]).collect()
    }

    /// SIGKILL: connections are refused from now on.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGSTOP: connections are accepted by the kernel and nothing answers.
    pub fn hang(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::CONT);
    }
}

/// The binary, installed under a lock if it is not there.
fn installed() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let folder = home.join(".cache/forebay/bin");
    std::fs::create_dir_all(&folder).expect("a cache directory");
    let lock = std::fs::File::create(folder.join("versitygw.lock")).expect("a lock file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("a lock on a local file");
    let binary = folder.join("versitygw");
    if !binary.is_file() {
        let go = if Path::new("/usr/local/go/bin/go").exists() { "/usr/local/go/bin/go" } else { "go" };
        let output = Command::new(go).args(["install", PACKAGE]).env("GOBIN", &folder).output();
        let output = output.unwrap_or_else(|error| panic!("go does not run ({error}): install it for the S3 server"));
        assert!(output.status.success(), "go install {PACKAGE}: {}", String::from_utf8_lossy(&output.stderr));
    }
    binary
}
