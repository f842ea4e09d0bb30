//! A whole cluster of real processes in a temporary directory: master, workers, FUSE mount, and an S3 server if wanted.
//!
//! Invariant: when a `Cluster` is gone, so are its processes, its mount and its directory. If the test panicked, the ends
//! of all logs are printed first.

use crate::binaries::binary;
use crate::cli::Cli;
use crate::ports::{free_port, free_ports};
use crate::process::Process;
use crate::report::Report;
use crate::s3_server::S3Server;
use crate::turn::Turn;
use crate::wait::eventually;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const READY: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(10);

/// How a cluster differs from the usual one.
#[derive(Clone, Debug)]
pub struct Options {
    /// Worker processes.
    pub workers: usize,
    /// Cores of each.
    pub worker_cores: u16,
    /// Whether to mount.
    pub fuse: bool,
    /// Whether to start an S3 server.
    pub s3: bool,
    /// SSD tier of the first worker; `None` for a directory of `ssd_capacity` inside the cluster's own.
    pub ssd: Option<Vec<(PathBuf, String)>>,
    /// Capacity of the usual SSD directory.
    pub ssd_capacity: String,
    /// Whether the cluster has a secret.
    pub secret: bool,
    /// Whether the master writes its audit log to `audit.log` in the cluster's folder.
    pub audit: bool,
    /// More settings, as (key, value in TOML).
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 1,
            worker_cores: 2,
            fuse: true,
            s3: false,
            ssd: None,
            ssd_capacity: "4GiB".into(),
            secret: false,
            audit: false,
            settings: Vec::new(),
        }
    }
}

impl Options {
    /// With an S3 server.
    #[must_use]
    pub fn with_s3(mut self) -> Self {
        self.s3 = true;
        self
    }

    /// With an audit log in a file.
    #[must_use]
    pub fn with_audit(mut self) -> Self {
        self.audit = true;
        self
    }

    /// With `section.key` set to `value` (TOML text).
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }
}

/// Where the roles serve HTTP on 127.0.0.1.
#[derive(Clone, Debug)]
pub struct HttpPorts {
    /// The master.
    pub master: u16,
    /// Each worker.
    pub workers: Vec<u16>,
    /// The mount.
    pub fuse: u16,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The S3 server.
    pub s3: Option<S3Server>,
    /// The master, unless it was killed.
    pub master: Option<Process>,
    /// The workers, unless they were killed.
    pub workers: Vec<Option<Process>>,
    /// The FUSE process, unless it was killed.
    pub fuse: Option<Process>,
    /// FUSE processes beside it, with their mount points.
    pub more_fuse: Vec<(Process, PathBuf)>,
    options: Options,
    worker_ports: Vec<u16>,
    http_ports: HttpPorts,
    folder: PathBuf,
    _temporary: tempfile::TempDir,
    _turn: Turn,
}

impl Cluster {
    /// Waits for its turn, then starts everything and waits until it serves.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let turn = Turn::take();
        let temporary = tempfile::Builder::new().prefix("forebay-").tempdir().expect("a temporary directory");
        let folder = temporary.path().to_path_buf();
        for name in ["mnt", "run", "store"] {
            std::fs::create_dir_all(folder.join(name)).expect("a directory of the cluster");
        }
        let worker_ports = (0..options.workers).map(|_| free_ports(options.worker_cores)).collect();
        let http_ports = HttpPorts {
            master: free_port(),
            workers: (0..options.workers).map(|_| free_port()).collect(),
            fuse: free_port(),
        };
        let mut cluster = Self {
            s3: options.s3.then(|| S3Server::start(&folder)),
            master: None,
            workers: (0..options.workers).map(|_| None).collect(),
            fuse: None,
            more_fuse: Vec::new(),
            options,
            worker_ports,
            http_ports,
            folder,
            _temporary: temporary,
            _turn: turn,
        };
        cluster.write_configuration();
        cluster.start_master();
        for index in 0..cluster.workers.len() {
            cluster.start_worker(index);
        }
        if cluster.options.fuse {
            cluster.start_fuse();
        }
        cluster
    }

    fn write_configuration(&self) {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let ssd = match &self.options.ssd {
            Some(directories) => {
                directories.iter().map(|(path, size)| format!("\"{}={size}\"", path.display())).collect::<Vec<_>>()
            }
            None => vec![format!("\"{}={}\"", at("cache0"), self.options.ssd_capacity)],
        };
        let master = format!("\"127.0.0.1:{}\"", free_port());
        let mut settings = vec![
            ("cluster.masters".to_string(), format!("[{master}]")),
            ("cluster.socket_dir".into(), format!("\"{}\"", at("run"))),
            ("master.listen".into(), master),
            ("master.dir".into(), format!("\"{}\"", at("master"))),
            ("worker.listen".into(), format!("\"127.0.0.1:{}\"", self.worker_ports.first().unwrap_or(&1))),
            ("master.http".into(), format!("\"127.0.0.1:{}\"", self.http_ports.master)),
            ("worker.http".into(), format!("\"127.0.0.1:{}\"", self.http_ports.workers.first().unwrap_or(&1))),
            ("fuse.http".into(), format!("\"127.0.0.1:{}\"", self.http_ports.fuse)),
            ("worker.dir".into(), format!("\"{}\"", at("worker0"))),
            ("worker.cores".into(), format!("\"{}\"", self.options.worker_cores)),
            ("worker.ssd".into(), format!("[{}]", ssd.join(", "))),
            ("fuse.mountpoint".into(), format!("\"{}\"", at("mnt"))),
        ];
        if self.options.audit {
            settings.push(("master.audit_file".into(), format!("\"{}\"", at("audit.log"))));
        }
        if self.options.secret {
            std::fs::write(self.folder.join("secret"), "the secret of this test cluster, long enough").expect("a file");
            let path = self.folder.join("secret");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, mode).expect("permissions of an own file");
            settings.push(("cluster.secret_file".into(), format!("\"{}\"", path.display())));
        }
        for (key, value) in &self.options.settings {
            settings.retain(|(known, _)| known != key);
            settings.push((key.clone(), value.clone()));
        }
        settings.sort();
        let (mut text, mut section) = (String::new(), "");
        for (key, value) in &settings {
            let (name, field) = key.split_once('.').expect("section.key");
            if name != section {
                text.push_str(&format!("[{name}]\n"));
                section = name;
            }
            text.push_str(&format!("{field} = {value}\n"));
        }
        std::fs::write(self.config(), text).expect("a configuration file");
    }

    /// Where the roles serve HTTP.
    #[must_use]
    pub fn http_ports(&self) -> &HttpPorts {
        &self.http_ports
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("forebay.toml")
    }

    /// The cluster's directory.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A directory inside the cluster's, for a `file://` mount.
    #[must_use]
    pub fn store(&self, name: &str) -> PathBuf {
        let path = self.folder.join("store").join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// Where the namespace is mounted.
    #[must_use]
    pub fn mountpoint(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    /// The usual SSD directory of worker 0.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.folder.join("cache0")
    }

    /// The command line.
    #[must_use]
    pub fn cli(&self) -> Cli {
        Cli::new(&self.config())
    }

    fn role(&self, role: &str, name: &str, more: &[String]) -> Process {
        let mut command = Command::new(binary(&format!("forebay-{role}")));
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FOREBAY_")) {
            command.env_remove(variable);
        }
        command.arg("--config").arg(self.config()).args(more);
        Process::start(name, &mut command, &self.folder.join(format!("{name}.log")))
    }

    /// Starts the master and waits until it is ready.
    pub fn start_master(&mut self) {
        let mut process = self.role("master", "master", &[]);
        process.wait_for_log("master ready", READY);
        self.master = Some(process);
    }

    /// Starts a worker and waits until it is ready and the master knows it.
    pub fn start_worker(&mut self, index: usize) {
        let mut process = self.spawn_worker(index);
        process.wait_for_log("worker ready", READY);
        self.workers[index] = Some(process);
        let cli = self.cli();
        let running = self.workers.iter().flatten().count();
        eventually("the master to see the workers", READY, || {
            Report::ask(&cli).filter(|report| report.workers.iter().filter(|worker| worker.live).count() >= running)
        });
    }

    /// Starts a worker and waits for nothing; put it into `workers`.
    #[must_use]
    pub fn spawn_worker(&self, index: usize) -> Process {
        let mut more = Vec::new();
        if index > 0 {
            let at = |name: &str| self.folder.join(format!("{name}{index}")).display().to_string();
            let port = self.worker_ports[index];
            for (key, value) in [
                ("listen", format!("127.0.0.1:{port}")),
                ("http", format!("127.0.0.1:{}", self.http_ports.workers[index])),
                ("dir", at("worker")),
                ("ssd", format!("{}={}", at("cache"), self.options.ssd_capacity)),
            ] {
                more.extend(["--set".to_string(), format!("worker.{key}={value}")]);
            }
        }
        self.role("worker", &format!("worker{index}"), &more)
    }

    /// Starts the FUSE process and waits until the mount serves.
    pub fn start_fuse(&mut self) {
        let mut process = self.role("fuse", "fuse", &[]);
        process.wait_for_log("fuse ready", READY);
        self.fuse = Some(process);
        std::fs::read_dir(self.mountpoint()).expect("the mount can be listed when it is ready").for_each(drop);
    }

    /// Mounts the namespace a second time, by a process of its own; gives the mount point.
    pub fn start_another_fuse(&mut self) -> PathBuf {
        let name = format!("fuse{}", self.more_fuse.len() + 1);
        let mountpoint = self.folder.join(format!("mnt-{name}"));
        let settings = [format!("fuse.mountpoint={}", mountpoint.display()), "fuse.http=off".into()];
        let more: Vec<String> = settings.into_iter().flat_map(|setting| ["--set".into(), setting]).collect();
        let mut process = self.role("fuse", &name, &more);
        process.wait_for_log("fuse ready", READY);
        self.more_fuse.push((process, mountpoint.clone()));
        mountpoint
    }

    /// Mounts a `file://` directory.
    pub fn mount_local(&self, path: &str, folder: &Path, more: &[&str]) {
        let uri = format!("file://{}", folder.display());
        let arguments: Vec<&str> = [&["fs", "mount"], more, &[path, &uri]].concat();
        self.cli().ok(&arguments);
    }

    /// Mounts a bucket of the S3 server.
    pub fn mount_s3(&self, path: &str, bucket: &str, more: &[&str]) {
        let options = self.s3.as_ref().expect("the cluster has an S3 server").mount_options();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let uri = format!("s3://{bucket}");
        let arguments: Vec<&str> = [&["fs", "mount"], options.as_slice(), more, &[path, &uri]].concat();
        self.cli().ok(&arguments);
    }

    /// The report; panics when there is none.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::ask(&self.cli()).expect("a report")
    }

    /// Waits until what the workers hold on SSD has not changed for two heartbeats and a bit, and gives those bytes.
    #[must_use]
    pub fn settled_ssd_bytes(&self) -> u64 {
        let (mut last, mut same) = (u64::MAX, 0);
        eventually("the SSD tier to settle", Duration::from_secs(60), || {
            std::thread::sleep(Duration::from_millis(700));
            let now = self.report().used_bytes("SSD");
            same = if now == last { same + 1 } else { 0 };
            last = now;
            (same >= 4).then_some(now)
        })
    }

    /// All logs of all roles as one text.
    #[must_use]
    pub fn logs(&self) -> String {
        self.processes().map(|process| process.log()).collect()
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        let more_fuse = self.more_fuse.iter().map(|(process, _)| process);
        self.fuse.iter().chain(more_fuse).chain(self.workers.iter().flatten()).chain(&self.master)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    let text = std::fs::read(entry.path()).unwrap_or_default();
                    let text = String::from_utf8_lossy(&text).into_owned();
                    let lines: Vec<&str> = text.lines().collect();
                    let tail = lines[lines.len().saturating_sub(40)..].join("\n");
                    eprintln!("--- {} ({} lines)\n{tail}", entry.path().display(), lines.len());
                }
            }
        }
        let mut left = Vec::new();
        let more_fuse = self.more_fuse.iter_mut().map(|(process, _)| process);
        for process in
            self.fuse.iter_mut().chain(more_fuse).chain(self.workers.iter_mut().flatten()).chain(&mut self.master)
        {
            match process.stop(STOP) {
                Some(status) if status.success() || process.was_killed() => {}
                Some(status) => left.push(format!("ended with {status}: {}", process.log_tail(20))),
                None => left.push(format!("had to be killed: {}", process.log_tail(20))),
            }
        }
        for path in self.more_fuse.iter().map(|(_, path)| path).chain([&self.mountpoint()]) {
            while rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).is_ok() {}
        }
        if !left.is_empty() && !std::thread::panicking() {
            panic!("SIGTERM did not end these well within {STOP:?}:\n{}", left.join("\n"));
        }
    }
}
