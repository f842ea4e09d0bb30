//! What all rigs of a run share: a directory on the disk under test, the S3 server with the data set, and the results.

use crate::Options;
use crate::accounting;
use crate::data_set::DataSet;
use crate::host;
use crate::job::Bench;
use crate::kernel_caches::Reach;
use crate::results::{Failure, Results, RigFacts};
use crate::rig::alluxio::Alluxio;
use crate::rig::ext4::Ext4;
use crate::rig::forebay::Forebay;
use crate::rig::fuse_peer::{FusePeer, Peer};
use crate::rig::loopback::Loopback;
use crate::rig::server::Server;
use crate::rig::{Rig, WireTarget};
use anyhow::{Context, Result, bail};
use forebay_tests::S3Server;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Every rig by name, in the order of a round.
pub(crate) const RIGS: [&str; 7] = ["ext4", "tcp", "s3", "forebay", "rclone", "s3fs", "alluxio"];

const BUCKET: &str = "perf";

/// A run under way.
pub(crate) struct Session {
    pub(crate) bench: Bench,
    pub(crate) results: Results,
    server: S3Server,
    // Dropped last: everything lives in it.
    temporary: tempfile::TempDir,
}

/// What a panic said: the parts that are shared with the tests end that way.
fn caught<T>(start: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(start)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            bail!("{}", text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_default())
        }
    }
}

impl Session {
    /// Makes the data set.
    pub(crate) fn start(options: &Options) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("the rigs mount and remount file systems: run it as root");
        }
        let place = options.dir.clone().unwrap_or_else(std::env::temp_dir);
        let temporary = tempfile::Builder::new()
            .prefix("forebay-perf-")
            .tempdir_in(&place)
            .with_context(|| place.display().to_string())?;
        let large_mib = options.large_mib.unwrap_or(if options.quick { 256 } else { 1024 }).max(4);
        let data = DataSet { large_mib, small_files: options.small_files() };
        let server = caught(|| Ok(S3Server::start(temporary.path()))).context("the S3 server")?;
        eprintln!("{} MiB in one file and {} files of 100 KiB go into the S3 server", data.large_mib, data.small_files);
        data.put(&server.bucket(BUCKET))?;
        rustix::fs::sync();
        let results = Results { host: host::facts(temporary.path()), ..Results::default() };
        let bench = Bench {
            data,
            seconds: options.seconds.unwrap_or(if options.quick { 1 } else { 5 }).max(1),
            reach: if options.drop_machine { Reach::Machine } else { Reach::Files },
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?,
            store_folder: server.folder_of(BUCKET),
        };
        Ok(Self { bench, results, server, temporary })
    }

    fn start_rig(&self, name: &str) -> Result<Box<dyn Rig>> {
        let (folder, server) = (self.temporary.path(), &self.server);
        Ok(match name {
            "ext4" => Box::new(Ext4::new(self.bench.store_folder.clone())),
            "tcp" => Box::new(Loopback::start(folder)?),
            "s3" => Box::new(Server::new(server, BUCKET, &self.bench.runtime)?),
            "forebay" => Box::new(Forebay::start(name, &binaries()?, folder, server, BUCKET)?),
            "rclone" => Box::new(FusePeer::start(Peer::Rclone, folder, server, BUCKET)?),
            "s3fs" => Box::new(FusePeer::start(Peer::S3fs, folder, server, BUCKET)?),
            "alluxio" => Box::new(Alluxio::start(folder, server, BUCKET)?),
            other => bail!("{other} is no rig"),
        })
    }

    /// Starts rigs; one that does not start, or shows wrong bytes, is a failure of the run and left out.
    pub(crate) fn start_rigs(&mut self, names: &[&str]) -> Vec<Box<dyn Rig>> {
        let mut running = Vec::new();
        for name in names {
            eprintln!("starting {name}");
            let started = caught(|| self.start_rig(name));
            self.take_in(name, started, &mut running);
        }
        running
    }

    /// Starts Forebay from other binaries, under another name.
    pub(crate) fn start_forebay(&mut self, name: &str, binaries: &Path, running: &mut Vec<Box<dyn Rig>>) {
        let (folder, server) = (self.temporary.path(), &self.server);
        let started = caught(|| Ok(Box::new(Forebay::start(name, binaries, folder, server, BUCKET)?) as Box<dyn Rig>));
        self.take_in(name, started, running);
    }

    fn take_in(&mut self, name: &str, started: Result<Box<dyn Rig>>, running: &mut Vec<Box<dyn Rig>>) {
        let checked = started.and_then(|rig| {
            match rig.folder() {
                Some(folder) => self.bench.data.check(&folder)?,
                None => debug_assert!(rig.store().is_some() || matches!(rig.wire(), Some(WireTarget::Plain { .. }))),
            }
            Ok(rig)
        });
        match checked {
            Ok(rig) => {
                self.results.rigs.push(RigFacts {
                    name: rig.name().into(),
                    version: rig.version(),
                    commands: rig.commands(),
                    idle_resident_bytes: accounting::usage(&rig.processes()).resident_bytes,
                });
                running.push(rig);
            }
            Err(error) => {
                let reason = format!("{error:#}");
                eprintln!("{name} does not start: {reason}");
                self.results.failures.push(Failure { rig: name.into(), job: String::new(), reason });
            }
        }
    }
}

/// Where the roles' executables are: beside this one, unless the environment names another place.
fn binaries() -> Result<PathBuf> {
    let folder = match std::env::var_os("FOREBAY_TEST_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe()?.parent().context("an executable lies in a folder")?.to_path_buf(),
    };
    for name in ["forebay", "forebay-master", "forebay-worker", "forebay-fuse"] {
        if !folder.join(name).is_file() {
            bail!("{}: is not there: build it first, `make perf` does", folder.join(name).display());
        }
    }
    Ok(folder)
}
