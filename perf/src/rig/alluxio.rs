//! Alluxio 2.9.4 from Maven Central: master, worker and FUSE process, each a JVM, with a memory tier on tmpfs and the
//! bucket as its root. The jars are fetched once, by `mvn dependency:copy-dependencies` on perf/alluxio/pom.xml.

use super::{Rig, unmount};
use crate::host::{first_line, root};
use anyhow::{Context, Result, bail};
use forebay_tests::{ACCESS_KEY, Process, S3Server, SECRET_KEY, free_ports};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const VERSION: &str = "2.9.4";
/// Jars that break the class path: an older logger binding and a second servlet stack.
const UNWANTED: [&str; 5] =
    ["slf4j-reload4j", "jersey-core-1.19", "jersey-server-1.19", "jersey-servlet-1.19", "jakarta.servlet-api-5"];
const OPENED: [&str; 7] = ["lang", "util", "io", "net", "nio", "util.concurrent", "lang.reflect"];
const SERVES_WITHIN: Duration = Duration::from_secs(90);
const MEM_TIER: &str = "2GB";

pub(crate) struct Alluxio {
    dir: PathBuf,
    memory: PathBuf,
    class_path: String,
    properties: Vec<String>,
    server_pid: u32,
    processes: Vec<(&'static str, Process)>,
}

fn jars() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let folder = home.join(format!(".cache/forebay/alluxio-{VERSION}"));
    let complete = folder.join("complete");
    if !complete.is_file() {
        let output = Command::new("mvn")
            .args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-f"])
            .arg(root().join("perf/alluxio/pom.xml"))
            .arg(format!("-DoutputDirectory={}", folder.display()))
            .output()
            .context("mvn does not run: deploy/install.sh --perf installs it")?;
        if !output.status.success() {
            bail!("mvn dependency:copy-dependencies: {}", String::from_utf8_lossy(&output.stdout).trim());
        }
        std::fs::write(complete, VERSION)?;
    }
    Ok(folder)
}

fn class_path(folder: &Path) -> Result<String> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".jar") && !UNWANTED.iter().any(|unwanted| name.starts_with(unwanted)) {
            paths.push(path.display().to_string());
        }
    }
    paths.sort();
    Ok(paths.join(":"))
}

impl Alluxio {
    pub(crate) fn start(folder: &Path, server: &S3Server, bucket: &str) -> Result<Self> {
        if Command::new("java").arg("-version").output().is_err() {
            bail!("java is not installed: deploy/install.sh --perf installs it");
        }
        let dir = folder.join("alluxio");
        for name in ["mnt", "journal", "logs", "conf", "work", "tmp"] {
            std::fs::create_dir_all(dir.join(name))?;
        }
        let memory = tempfile::Builder::new().prefix("forebay-perf-alluxio-").tempdir_in("/dev/shm")?.keep();
        let mut rig = Self {
            class_path: class_path(&jars()?)?,
            properties: properties(&dir, &memory, server, bucket),
            dir,
            memory,
            server_pid: server.pid(),
            processes: Vec::new(),
        };
        rig.begin()?;
        Ok(rig)
    }

    fn java(&self, heap: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("java");
        command.arg(format!("-Xmx{heap}")).arg("-XX:MaxDirectMemorySize=1g");
        for package in OPENED {
            command.arg(format!("--add-opens=java.base/java.{package}=ALL-UNNAMED"));
        }
        command.arg("--add-opens=java.base/sun.nio.ch=ALL-UNNAMED");
        command.args(&self.properties).args(["-cp", &self.class_path]).args(arguments);
        command.current_dir(&self.dir);
        command
    }

    fn begin(&mut self) -> Result<()> {
        let output = self.java("512m", &["alluxio.cli.Format", "master"]).output()?;
        if !output.status.success() {
            bail!("alluxio.cli.Format: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let mountpoint = self.dir.join("mnt").display().to_string();
        self.spawn("alluxio-master", "1g", &["alluxio.master.AlluxioMaster"])?;
        self.wait("a master that answers", |rig| rig.shell(&["ls", "/"]).is_ok())?;
        self.spawn("alluxio-worker", "1g", &["alluxio.worker.AlluxioWorker"])?;
        self.spawn("alluxio-fuse", "1g", &["alluxio.fuse.AlluxioFuse", "-m", &mountpoint, "-a", "/"])?;
        self.wait("a mount", |rig| super::is_mounted(&rig.dir.join("mnt")))?;
        self.wait("a worker that serves", |rig| std::fs::read(rig.dir.join("mnt/middle/m0.bin")).is_ok())
    }

    fn spawn(&mut self, name: &'static str, heap: &str, arguments: &[&str]) -> Result<()> {
        let log = self.dir.join(format!("{name}.log"));
        let mut command = self.java(heap, arguments);
        self.processes.push((name, Process::start(name, &mut command, &log)));
        Ok(())
    }

    fn wait(&mut self, what: &str, ready: impl Fn(&Self) -> bool) -> Result<()> {
        let until = Instant::now() + SERVES_WITHIN;
        while !ready(self) {
            for (name, process) in &mut self.processes {
                if let Some(status) = process.ended() {
                    bail!("{name} ended with {status} while the rig waited for {what}: {}", process.log_tail(8));
                }
            }
            if Instant::now() > until {
                let tails: String = self.processes.iter().map(|(_, process)| process.log_tail(5)).collect();
                bail!("waited {SERVES_WITHIN:?} in vain for {what}:\n{tails}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn shell(&self, arguments: &[&str]) -> Result<()> {
        let words = [&["alluxio.cli.fs.FileSystemShell"], arguments].concat();
        let output = self.java("256m", &words).output()?;
        if !output.status.success() {
            bail!("alluxio fs {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stdout).trim());
        }
        Ok(())
    }
}

fn properties(dir: &Path, memory: &Path, server: &S3Server, bucket: &str) -> Vec<String> {
    let at = |name: &str| dir.join(name).display().to_string();
    let port = free_ports(8);
    let pairs = [
        ("alluxio.home", at("work")),
        ("alluxio.conf.dir", at("conf")),
        ("alluxio.logs.dir", at("logs")),
        ("alluxio.work.dir", at("work")),
        ("alluxio.tmp.dirs", at("tmp")),
        ("alluxio.master.hostname", "127.0.0.1".into()),
        ("alluxio.master.bind.host", "127.0.0.1".into()),
        ("alluxio.master.rpc.port", port.to_string()),
        ("alluxio.master.web.port", (port + 1).to_string()),
        ("alluxio.worker.hostname", "127.0.0.1".into()),
        ("alluxio.worker.bind.host", "127.0.0.1".into()),
        ("alluxio.worker.rpc.port", (port + 2).to_string()),
        ("alluxio.worker.web.port", (port + 3).to_string()),
        ("alluxio.user.hostname", "127.0.0.1".into()),
        ("alluxio.master.journal.type", "UFS".into()),
        ("alluxio.master.journal.folder", at("journal")),
        ("alluxio.worker.ramdisk.size", MEM_TIER.into()),
        ("alluxio.worker.tieredstore.level0.dirs.path", memory.display().to_string()),
        ("alluxio.master.mount.table.root.ufs", format!("s3://{bucket}")),
        ("alluxio.master.mount.table.root.readonly", "true".into()),
        ("s3a.accessKeyId", ACCESS_KEY.into()),
        ("s3a.secretKey", SECRET_KEY.into()),
        ("alluxio.underfs.s3.endpoint", server.endpoint()),
        ("alluxio.underfs.s3.endpoint.region", "us-east-1".into()),
        ("alluxio.underfs.s3.disable.dns.buckets", "true".into()),
        ("alluxio.underfs.s3.inherit.acl", "false".into()),
        ("alluxio.user.file.readtype.default", "CACHE".into()),
        ("alluxio.user.metrics.collection.enabled", "false".into()),
        ("alluxio.security.authorization.permission.enabled", "false".into()),
    ];
    pairs.into_iter().map(|(name, value)| format!("-D{name}={value}")).collect()
}

impl Rig for Alluxio {
    fn name(&self) -> &str {
        "alluxio"
    }

    fn version(&self) -> String {
        format!("Alluxio {VERSION}, MEM tier {MEM_TIER} on tmpfs; {}", first_line("java", &["-version"]))
    }

    fn commands(&self) -> Vec<String> {
        vec![
            "java ... alluxio.cli.Format master; alluxio.master.AlluxioMaster; alluxio.worker.AlluxioWorker".into(),
            "java ... alluxio.fuse.AlluxioFuse -m MNT -a /".into(),
            self.properties.iter().filter(|pair| !pair.contains("ecretKey")).cloned().collect::<Vec<_>>().join(" "),
        ]
    }

    fn processes(&self) -> Vec<(String, u32)> {
        let own = self.processes.iter().map(|(name, process)| ((*name).to_string(), process.pid()));
        own.chain([("versitygw".to_string(), self.server_pid)]).collect()
    }

    fn folder(&self) -> Option<PathBuf> {
        self.mountpoint()
    }

    fn mountpoint(&self) -> Option<PathBuf> {
        Some(self.dir.join("mnt"))
    }

    fn empty(&mut self) -> Result<()> {
        // Its names stay: Alluxio forgets them only with its journal.
        self.shell(&["free", "-f", "/"])
    }
}

impl Drop for Alluxio {
    fn drop(&mut self) {
        unmount(&self.dir.join("mnt"));
        for (_, mut process) in self.processes.drain(..).rev() {
            process.stop(Duration::from_secs(3));
        }
        let _ = std::fs::remove_dir_all(&self.memory);
    }
}
