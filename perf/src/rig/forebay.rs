//! Forebay as a user starts it: `forebay up --dir`, one mount of the bucket, default settings.

use super::{Rig, WireTarget, unmount};
use anyhow::{Context, Result, bail};
use forebay_tests::{S3Server, free_ports};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const ROLES: [&str; 3] = ["master", "worker", "fuse"];
/// Ports that `up` takes from its base: the master's, and a hundred behind it one a core.
const PORTS: u16 = 140;
/// Tables of headers stay when nothing is held.
const TABLES_BYTES_MAX: u64 = 32 << 20;
const FREED_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Forebay {
    name: String,
    binaries: PathBuf,
    dir: PathBuf,
    port: u16,
    mount: Vec<String>,
    server_pid: u32,
}

impl Forebay {
    /// Starts a cluster of the binaries in a folder and mounts the bucket at `/data`.
    pub(crate) fn start(name: &str, binaries: &Path, folder: &Path, server: &S3Server, bucket: &str) -> Result<Self> {
        let dir = folder.join(name);
        std::fs::create_dir_all(&dir)?;
        let mut mount = vec!["fs".to_string(), "mount".into(), "--freshness".into(), "1h".into()];
        mount.extend(server.mount_options());
        mount.extend(["/data".into(), format!("s3://{bucket}")]);
        let binaries = binaries.to_path_buf();
        let rig = Self { name: name.into(), binaries, dir, port: free_ports(PORTS), mount, server_pid: server.pid() };
        rig.up()?;
        rig.cli(&rig.mount)?;
        Ok(rig)
    }

    fn run(&self, arguments: &[String]) -> Result<String> {
        let mut command = Command::new(self.binaries.join("forebay"));
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FOREBAY_")) {
            command.env_remove(variable);
        }
        // Files, not pipes: the roles that `up` leaves behind would keep a pipe open.
        let said = self.dir.join("cli.log");
        let log = std::fs::File::create(&said)?;
        command.args(arguments).stdout(log.try_clone()?).stderr(log);
        let status = command.status().with_context(|| format!("{}/forebay", self.binaries.display()))?;
        let text = std::fs::read_to_string(&said)?;
        if !status.success() {
            bail!("forebay {}: {}", arguments.first().map_or("", String::as_str), text.trim());
        }
        Ok(text)
    }

    fn up(&self) -> Result<()> {
        let dir = self.dir.display().to_string();
        self.run(&["up".into(), "--dir".into(), dir, "--port-base".into(), self.port.to_string()]).map(drop)
    }

    fn config(&self) -> PathBuf {
        self.dir.join("forebay.toml")
    }

    fn cli(&self, arguments: &[String]) -> Result<String> {
        let config = self.config().display().to_string();
        self.run(&[&["--config".to_string(), config], arguments].concat())
    }

    fn pid(&self, role: &str) -> Option<u32> {
        std::fs::read_to_string(self.dir.join(format!("run/{role}.pid"))).ok()?.split_whitespace().next()?.parse().ok()
    }

    fn report(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.cli(&["admin".into(), "report".into(), "--json".into()])?)?)
    }

    fn cached_bytes(&self) -> Result<u64> {
        let report = self.report()?;
        let workers = report["workers"].as_array().context("a report has workers")?;
        let tiers = workers.iter().flat_map(|worker| worker["tiers"].as_array().into_iter().flatten());
        Ok(tiers.map(|tier| tier["used_bytes"].as_u64().unwrap_or(0)).sum())
    }
}

impl Rig for Forebay {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> String {
        crate::host::first_line(&self.binaries.join("forebay").to_string_lossy(), &["--version"])
    }

    fn commands(&self) -> Vec<String> {
        vec![
            "forebay up --dir DIR --port-base N".into(),
            "forebay fs mount --freshness 1h --option endpoint=... /data s3://BUCKET".into(),
        ]
    }

    fn processes(&self) -> Vec<(String, u32)> {
        let roles = ROLES.iter().filter_map(|role| Some((format!("forebay-{role}"), self.pid(role)?)));
        roles.chain([("versitygw".to_string(), self.server_pid)]).collect()
    }

    fn folder(&self) -> Option<PathBuf> {
        Some(self.dir.join("mnt/data"))
    }

    fn mountpoint(&self) -> Option<PathBuf> {
        Some(self.dir.join("mnt"))
    }

    fn wire(&self) -> Option<WireTarget> {
        Some(WireTarget::Forebay { config: self.config() })
    }

    fn empty(&mut self) -> Result<()> {
        self.cli(&["fs".into(), "unmount".into(), "--force".into(), "/data".into()])?;
        let until = Instant::now() + FREED_WITHIN;
        let mut left = self.cached_bytes();
        while left.as_ref().is_ok_and(|bytes| *bytes > TABLES_BYTES_MAX) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(200));
            left = self.cached_bytes();
        }
        // Mounted again whatever happened, or the jobs that follow would all fail.
        self.cli(&self.mount)?;
        match left? {
            0..=TABLES_BYTES_MAX => Ok(()),
            bytes => bail!("the worker still holds {bytes} bytes of an unmounted store"),
        }
    }

    fn loads(&self) -> bool {
        true
    }

    fn load(&mut self) -> Option<Result<String>> {
        let command = ["fs", "load", "-R", "/data"].map(String::from);
        Some(self.cli(&command).map(|_| format!("forebay {}", command.join(" "))))
    }

    fn restart_cache(&mut self) -> Option<Result<()>> {
        let restarted = || -> Result<()> {
            let pid = self.pid("worker").context("the worker runs")?;
            let pid = rustix::process::Pid::from_raw(pid as i32).context("a process id")?;
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
            while Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists() {
                std::thread::sleep(Duration::from_millis(2));
            }
            self.up()
        };
        Some(restarted())
    }

    fn store_read_bytes(&self) -> Option<u64> {
        let report = self.report().ok()?;
        let workers = report["workers"].as_array()?.iter();
        let live = workers.filter(|worker| worker["live"].as_bool() == Some(true));
        Some(live.map(|worker| worker["counters"]["store_read_bytes"].as_u64().unwrap_or(0)).sum())
    }
}

impl Drop for Forebay {
    fn drop(&mut self) {
        let _ = self.run(&["down".into(), "--dir".into(), self.dir.display().to_string()]);
        unmount(&self.dir.join("mnt"));
    }
}
