//! Logging: installs the process's `tracing` subscriber. ERROR means a person must look; nothing per operation above DEBUG.

use crate::settings::LogSettings;
use tracing_subscriber::EnvFilter;

/// Installs the subscriber, writing to standard error. Fails on a filter that cannot be read or a second call.
pub fn install(settings: &LogSettings) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.level)
        .map_err(|error| format!("log.level: got \"{}\", want a tracing filter: {error}", settings.level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let installed = if settings.json { builder.json().try_init() } else { builder.try_init() };
    installed.map_err(|error| error.to_string())
}
