//! Where the configuration comes from: `--config`, else the first default file that exists; `--set` and the
//! environment on top.

use crate::failure::Failure;
use forebay_base::settings::{Loaded, Overrides, load};
use std::path::{Path, PathBuf};

/// A configuration file, if any, and what overrides it.
#[derive(Clone, Debug)]
pub(crate) struct SettingsSource {
    file: Option<PathBuf>,
    flags: Vec<String>,
}

impl SettingsSource {
    /// `config` if given, else the first default place that holds a file.
    pub(crate) fn new(config: Option<PathBuf>, flags: Vec<String>) -> Self {
        let file = config.or_else(|| {
            if let Some(named) = variable("FOREBAY_CONFIG") {
                return Some(named);
            }
            let in_dir = variable("FOREBAY_DIR").map(|dir| dir.join("forebay.toml"));
            let in_home = variable("HOME").map(|home| home.join(".forebay/forebay.toml"));
            let installed = Some(PathBuf::from("/etc/forebay/forebay.toml"));
            [in_dir, in_home, installed].into_iter().flatten().find(|path| path.exists())
        });
        Self { file, flags }
    }

    /// The same overrides over another file.
    pub(crate) fn with_file(&self, file: &Path) -> Self {
        Self { file: Some(file.to_path_buf()), flags: self.flags.clone() }
    }

    /// The configuration that `forebay up` wrote in `dir`, if one is named.
    pub(crate) fn in_dir(&self, dir: Option<&Path>) -> Self {
        dir.map_or_else(|| self.clone(), |dir| self.with_file(&dir.join("forebay.toml")))
    }

    /// The file, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads and checks.
    pub(crate) fn load(&self) -> Result<Loaded, Failure> {
        let text = match &self.file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("configuration: {}: {error}", path.display())))?,
        };
        let overrides = Overrides { flags: self.flags.clone(), environment: environment() };
        load(&text, &overrides).map_err(|problems| {
            let place = self.file.as_ref().map_or("configuration".into(), |path| path.display().to_string());
            Failure::usage(problems.0.iter().map(|problem| format!("{place}: {problem}\n")).collect::<String>())
        })
    }

    /// The same choice as arguments for a role's binary.
    pub(crate) fn as_arguments(&self) -> Vec<std::ffi::OsString> {
        let mut arguments = Vec::new();
        if let Some(file) = &self.file {
            arguments.extend(["--config".into(), file.clone().into_os_string()]);
        }
        for flag in &self.flags {
            arguments.extend(["--set".into(), flag.into()]);
        }
        arguments
    }
}

fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
