//! `admin collect`: a tarball for a bug report. Every text goes through `Scrub` on its way in; the system's tar packs it.
//!
//! Invariant: no byte of the secret's file, of a mount's secret option or of a key in the environment is in the tarball.

mod host;
mod scrub;

use crate::arguments::Collect;
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::settings_source::SettingsSource;
use crate::{admin, connection, doctor};
use forebay_base::ByteSize;
use forebay_client::message::cluster::Report;
use scrub::Scrub;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Collects and packs, and says what is inside.
pub(crate) fn collect(arguments: &Collect, source: &SettingsSource) -> Result<(), Failure> {
    let source = source.in_dir(arguments.dir.as_deref());
    let now = output::date(forebay_base::unix_now_ms());
    let name = format!("forebay-collect-{}", now.replace([' ', ':'], "-"));
    let target = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    let failed =
        |path: &Path, error: &std::io::Error| Failure::failed(format!("admin collect: {}: {error}", path.display()));
    // Taken first, so that an output that cannot be written costs nothing. Only its owner may read it.
    let packed = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&target)
        .map_err(|error| failed(&target, &error))?;
    let stage = tempfile::Builder::new()
        .prefix("forebay-collect-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|error| failed(&std::env::temp_dir(), &error))?;
    let folder = stage.path().join(&name);

    let loaded = source.load()?;
    let mut parcel = Parcel { folder: folder.clone(), scrub: Scrub::new(&loaded.settings), listed: Vec::new() };
    parcel.add("configuration.toml", &loaded.to_toml())?;
    parcel.add("doctor.json", &said(doctor::as_json_of(&source).map(|value| value.to_string())))?;
    let report = connection::runtime()?.block_on(async {
        let client = connection::connect(&loaded.settings).await?;
        client.master(&Report::default()).await.map_err(|error| Failure::of("admin report", "master", &error))
    });
    parcel.add("report.json", &said(report.map(|report| admin::as_json(&report, |_| true).to_string())))?;
    parcel.add("versions.txt", &host::versions())?;
    parcel.add("host.txt", &host::facts())?;
    parcel.add("directories.txt", &host::directories(&loaded.settings))?;
    for role in doctor::ROLES {
        let process = doctor::running(role, source.file());
        if let Some(process) = &process {
            parcel.add(&format!("process-{role}.txt"), &host::process(process))?;
        }
        for (number, log) in host::logs(role, source.file(), process.as_ref()).iter().enumerate() {
            let more = if number == 0 { String::new() } else { format!("-{number}") };
            parcel.add(&format!("log-{role}{more}.txt"), &host::tail(log, arguments.log_size.0))?;
        }
        if let Some(text) = host::unit_log(role) {
            parcel.add(&format!("journal-{role}.txt"), &host::end_of(&text, arguments.log_size.0))?;
        }
    }
    let contents = parcel.contents();
    parcel.add("contents.txt", &contents)?;

    let tar = Command::new("tar")
        .args(["--create", "--gzip", "--file", "-", "--directory"])
        .arg(stage.path())
        .arg(&name)
        .stdin(Stdio::null())
        .stdout(packed)
        .output()
        .map_err(|error| Failure::failed(format!("admin collect: tar: {error}: install tar and gzip")))?;
    if !tar.status.success() {
        let why = String::from_utf8_lossy(&tar.stderr);
        let why = why.lines().next().unwrap_or("no reason given").to_string();
        return Err(Failure::failed(format!("admin collect: {}: tar: {why}", target.display())));
    }
    let mut output = Output::open();
    for line in contents.lines() {
        output.line(line)?;
    }
    let bytes = target.metadata().map_or(0, |meta| meta.len());
    output.line(&format!(
        "{}: {}, secrets left out; look through it before you send it",
        target.display(),
        ByteSize(bytes)
    ))?;
    output.flush()
}

/// The text, or why there is none.
fn said(text: Result<String, Failure>) -> String {
    text.unwrap_or_else(|failure| failure.lines().collect::<Vec<_>>().join("\n"))
}

/// What is collected so far.
struct Parcel {
    folder: PathBuf,
    scrub: Scrub,
    listed: Vec<(String, usize, usize)>,
}

impl Parcel {
    /// Adds a file, scrubbed.
    fn add(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let (text, hidden) = self.scrub.clean(text);
        let path = self.folder.join(name);
        std::fs::create_dir_all(&self.folder)
            .and_then(|()| std::fs::write(&path, &text))
            .map_err(|error| Failure::failed(format!("admin collect: {}: {error}", path.display())))?;
        self.listed.push((name.into(), text.len(), hidden));
        Ok(())
    }

    fn contents(&self) -> String {
        let line = |(name, bytes, hidden): &(String, usize, usize)| {
            let hidden = if *hidden == 0 { String::new() } else { format!("  ({hidden} secrets masked)") };
            format!("{name:<22} {:>10}{hidden}\n", ByteSize(*bytes as u64).to_string())
        };
        self.listed.iter().map(line).collect()
    }
}
