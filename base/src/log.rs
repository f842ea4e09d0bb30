//! Logging: installs the process's `tracing` subscriber, and changes its filter while the process runs. ERROR means a
//! person must look; nothing per operation above DEBUG. Events of the target `audit` go to a file of their own where
//! one is set, whatever the filter.

use crate::settings::{LogSettings, Start, command_line};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

/// The target of events that tell who changed what.
pub const AUDIT: &str = "audit";
/// Longest filter that is looked at.
const FILTER_BYTES_MAX: usize = 4096;

type Boxed<S> = Box<dyn Layer<S> + Send + Sync>;
type Replace = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// The running filter.
struct Running {
    replace: Replace,
    /// Directives in front of the operator's own.
    quiet: &'static str,
    level: Mutex<String>,
}

static RUNNING: OnceLock<Running> = OnceLock::new();

fn filter(quiet: &str, level: &str) -> Result<EnvFilter, String> {
    if level.len() > FILTER_BYTES_MAX {
        return Err(format!("log.level: got {} bytes, want at most {FILTER_BYTES_MAX}", level.len()));
    }
    let wrong = |error: &dyn std::fmt::Display| format!("log.level: got \"{level}\", want a tracing filter: {error}");
    if level.trim().is_empty() {
        return Err(wrong(&"it is empty"));
    }
    // Alone first, so that a mistake is the operator's own.
    EnvFilter::try_new(level).map_err(|error| wrong(&error))?;
    EnvFilter::try_new(format!("{quiet}{level}")).map_err(|error| wrong(&error))
}

fn lines<S, W>(writer: W, json: bool) -> Boxed<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    if json { layer.json().boxed() } else { layer.boxed() }
}

fn open_audit_file(path: &Path) -> Result<File, String> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(|error| format!("master.audit_file {}: cannot be opened: {error}", path.display()))
}

/// Installs the subscriber, writing to standard error. `quiet` holds directives in front of `log.level`, each with a
/// comma behind it. Fails on a filter that cannot be read, an audit file that cannot be opened, or a second call.
pub fn install(settings: &LogSettings, quiet: &'static str, audit_file: Option<&Path>) -> Result<(), String> {
    let audit_file = audit_file.map(open_audit_file).transpose()?;
    let (wanted, handle) = reload::Layer::new(filter(quiet, &settings.level)?);
    let apart = audit_file.is_some();
    let usual = lines(std::io::stderr, settings.json)
        .with_filter(wanted.and(filter_fn(move |metadata| !apart || metadata.target() != AUDIT)));
    let audit = audit_file.map(|file| {
        lines(Mutex::new(file), settings.json).with_filter(filter_fn(|metadata| metadata.target() == AUDIT))
    });
    tracing_subscriber::registry().with(usual).with(audit).try_init().map_err(|error| error.to_string())?;
    let replace: Replace = Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
    let _ = RUNNING.set(Running { replace, quiet, level: Mutex::new(settings.level.clone()) });
    Ok(())
}

/// The filter in force; empty when nothing was installed.
#[must_use]
pub fn level() -> String {
    RUNNING
        .get()
        .map(|running| running.level.lock().unwrap_or_else(PoisonError::into_inner).clone())
        .unwrap_or_default()
}

/// Changes the filter of this process until it ends.
pub fn set_level(level: &str) -> Result<(), String> {
    let Some(running) = RUNNING.get() else { return Err("this process has no log of its own".into()) };
    let mut now = running.level.lock().unwrap_or_else(PoisonError::into_inner);
    (running.replace)(filter(running.quiet, level)?)?;
    tracing::info!("log.level is \"{level}\" now, it was \"{now}\"");
    *now = level.to_string();
    Ok(())
}

/// Reads the configuration again as the process did when it started and takes over `log.level`, and nothing else.
/// What a role does on SIGHUP.
pub fn reread(program: &str) {
    match command_line(program, "", std::env::args().skip(1), std::env::vars()) {
        Start::Run(loaded) => match set_level(&loaded.settings.log.level) {
            Ok(()) => tracing::info!("configuration read again: log.level is taken over, all else needs a restart"),
            Err(problem) => tracing::warn!("log.level stays: {problem}"),
        },
        Start::Refuse(problem) => tracing::warn!("log.level stays: the configuration is wrong: {problem}"),
        Start::Print(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn settings(level: &str) -> LogSettings {
        LogSettings { level: level.into(), json: false }
    }

    // One test: a process has one subscriber.
    #[test]
    fn the_filter_changes_while_the_process_runs_and_audit_has_its_own_file() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("audit.log");
        assert!(set_level("info").is_err(), "nothing is installed yet");
        assert!(install(&settings("forebay=wat=x"), "", None).is_err());
        let nowhere = folder.path().join("no/audit.log");
        assert!(
            install(&settings("info"), "", Some(&nowhere)).expect_err("no directory").contains("master.audit_file")
        );
        install(&settings("warn"), "loud=error,", Some(&path)).expect("installed");
        assert!(install(&settings("warn"), "", None).is_err(), "a second time");
        assert_eq!(level(), "warn");
        assert!(!tracing::enabled!(tracing::Level::DEBUG));
        tracing::info!(target: AUDIT, op = "Mount", path = "/data", "done");
        set_level("debug").expect("valid");
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        assert!(!tracing::enabled!(target: "loud", tracing::Level::WARN), "quiet directives stay");
        for wrong in ["", "forebay=wat=x", &"x".repeat(5000)] {
            let problem = set_level(wrong).expect_err("wrong");
            assert!(problem.starts_with("log.level: got"), "{problem}");
        }
        assert_eq!(level(), "debug");
        tracing::error!("not for the audit file");
        std::thread::sleep(Duration::from_millis(10));
        let text = std::fs::read_to_string(&path).expect("the audit file");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("op=\"Mount\"") && text.contains("path=\"/data\""), "{text}");
    }
}
