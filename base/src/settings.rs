//! Settings: one TOML file per cluster; each value is taken from flags, else the environment, else the file, else the
//! default. Every problem is reported at once as `section.key: got X, want Y`.
//!
//! Invariant: the table in `settings/keys.rs` is the only list of keys; files, flags, environment, `--print-config`
//! and the documentation all come from it.

mod check;
mod command_line;
mod keys;
mod load;
mod value;

pub use check::{ClusterSettings, FuseSettings, LogSettings, MasterSettings, StoreSettings, TierDir, WorkerSettings};
pub use command_line::{Start, command_line};
pub use keys::{KEYS, Key};
pub use load::{Loaded, Overrides, Shown, load};
pub use value::{Cores, Kind, Origin, Value};

/// Everything that can be set, typed and checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[cluster]`: what every process needs to find and trust the others.
    pub cluster: ClusterSettings,
    /// `[master]`
    pub master: MasterSettings,
    /// `[worker]`
    pub worker: WorkerSettings,
    /// `[store]`: how masters and workers talk to under stores.
    pub store: StoreSettings,
    /// `[fuse]`
    pub fuse: FuseSettings,
    /// `[log]`
    pub log: LogSettings,
}

/// All that is wrong with a configuration; never empty.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Problems(pub Vec<String>);
