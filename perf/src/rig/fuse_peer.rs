//! Peers of one process: a mount of the bucket by rclone, or by s3fs, with its cache on the same disk.

use super::{Rig, unmount};
use crate::host::first_line;
use anyhow::{Result, bail};
use forebay_tests::{ACCESS_KEY, Process, S3Server, SECRET_KEY};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Where `rclone copy` puts what it copies.
const COPY: &str = "copy";
const MOUNTED_WITHIN: Duration = Duration::from_secs(20);

/// Which program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    Rclone,
    S3fs,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Rclone => "rclone",
            Self::S3fs => "s3fs",
        }
    }
}

pub(crate) struct FusePeer {
    peer: Peer,
    dir: PathBuf,
    endpoint: String,
    bucket: String,
    server_pid: u32,
    process: Option<Process>,
}

impl FusePeer {
    pub(crate) fn start(peer: Peer, folder: &Path, server: &S3Server, bucket: &str) -> Result<Self> {
        if Command::new(peer.name()).arg("--version").output().is_err() {
            bail!("{} is not installed: deploy/install.sh --perf installs it", peer.name());
        }
        let dir = folder.join(peer.name());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join("mnt"))?;
        let endpoint = server.endpoint();
        let mut rig = Self { peer, dir, endpoint, bucket: bucket.into(), server_pid: server.pid(), process: None };
        rig.begin()?;
        Ok(rig)
    }

    fn arguments(&self) -> Vec<String> {
        let at = |name: &str| self.dir.join(name).display().to_string();
        let given = |words: &[&str]| words.iter().map(|word| (*word).to_string()).collect::<Vec<_>>();
        match self.peer {
            Peer::Rclone => {
                let mut words = given(&["mount", "--config", "/dev/null", "--read-only", "--vfs-cache-mode", "full"]);
                words.extend(given(&["--vfs-cache-max-age", "24h", "--dir-cache-time", "1h", "--attr-timeout", "1s"]));
                words.extend(["--cache-dir".into(), at("cache"), format!(":s3:{}", self.bucket), at("mnt")]);
                words
            }
            Peer::S3fs => {
                let mut words = vec![self.bucket.clone(), at("mnt"), "-f".into()];
                let options = [
                    format!("url={}", self.endpoint),
                    format!("passwd_file={}", at("password")),
                    format!("use_cache={}", at("cache")),
                    "use_path_request_style".into(),
                    "ro".into(),
                    "max_stat_cache_size=200000".into(),
                ];
                words.extend(options.into_iter().flat_map(|option| ["-o".to_string(), option]));
                words
            }
        }
    }

    fn begin(&mut self) -> Result<()> {
        std::fs::create_dir_all(self.dir.join("cache"))?;
        let password = self.dir.join("password");
        std::fs::write(&password, format!("{ACCESS_KEY}:{SECRET_KEY}\n"))?;
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600))?;
        let mut process = Process::start(self.peer.name(), &mut self.command(&self.arguments()), &self.dir.join("log"));
        let (mountpoint, until) = (self.dir.join("mnt"), Instant::now() + MOUNTED_WITHIN);
        while !crate::rig::is_mounted(&mountpoint) {
            if let Some(status) = process.ended() {
                bail!("{} ended with {status}: {}", self.peer.name(), process.log_tail(5));
            }
            if Instant::now() > until {
                bail!("{} has not mounted within {MOUNTED_WITHIN:?}: {}", self.peer.name(), process.log_tail(5));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
        Ok(())
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(self.peer.name());
        command.args(arguments);
        // What is meant for other clouds would be taken for this server.
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(variable);
        }
        if self.peer == Peer::Rclone {
            let settings = [
                ("PROVIDER", "Other"),
                ("ACCESS_KEY_ID", ACCESS_KEY),
                ("SECRET_ACCESS_KEY", SECRET_KEY),
                ("REGION", "us-east-1"),
                ("ENDPOINT", &self.endpoint),
                ("FORCE_PATH_STYLE", "true"),
            ];
            command.envs(settings.map(|(name, value)| (format!("RCLONE_S3_{name}"), value.to_string())));
        }
        command
    }

    fn end(&mut self) {
        unmount(&self.dir.join("mnt"));
        if let Some(mut process) = self.process.take() {
            process.stop(Duration::from_secs(5));
        }
    }
}

impl Rig for FusePeer {
    fn name(&self) -> &str {
        self.peer.name()
    }

    fn version(&self) -> String {
        first_line(self.peer.name(), &["--version"])
    }

    fn commands(&self) -> Vec<String> {
        vec![format!("{} {}", self.peer.name(), self.arguments().join(" "))]
    }

    fn processes(&self) -> Vec<(String, u32)> {
        let own = self.process.iter().map(|process| (self.peer.name().to_string(), process.pid()));
        own.chain([("versitygw".to_string(), self.server_pid)]).collect()
    }

    fn folder(&self) -> Option<PathBuf> {
        self.mountpoint()
    }

    fn mountpoint(&self) -> Option<PathBuf> {
        Some(self.dir.join("mnt"))
    }

    fn loads(&self) -> bool {
        self.peer == Peer::Rclone
    }

    fn load(&mut self) -> Option<Result<String>> {
        self.loads().then(|| {
            let words = ["copy", "--config", "/dev/null", "--transfers", "32", "--checkers", "32", "--fast-list"];
            let mut words: Vec<String> = words.map(String::from).to_vec();
            words.extend([format!(":s3:{}", self.bucket), self.dir.join(COPY).display().to_string()]);
            let output = self.command(&words).output()?;
            if !output.status.success() {
                bail!("rclone copy: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(format!("rclone {}", words.join(" ")))
        })
    }

    fn empty(&mut self) -> Result<()> {
        self.end();
        if self.dir.join(COPY).exists() {
            std::fs::remove_dir_all(self.dir.join(COPY))?;
        }
        std::fs::remove_dir_all(self.dir.join("cache"))?;
        self.begin()
    }
}

impl Drop for FusePeer {
    fn drop(&mut self) {
        self.end();
    }
}
