//! Where the binaries under test are. They are built once per test process, by the cargo, into the target directory and
//! with the profile of the running test; `FOREBAY_TEST_BIN_DIR` names ready ones instead.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// The path of `forebay`, `forebay-master`, `forebay-worker` or `forebay-fuse`.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let path = FOLDER.get_or_init(built).join(name);
    assert!(path.is_file(), "{} does not exist: was it built?", path.display());
    path
}

fn built() -> PathBuf {
    if let Some(ready) = std::env::var_os("FOREBAY_TEST_BIN_DIR") {
        return PathBuf::from(ready);
    }
    let test = std::env::current_exe().expect("a test knows its own file");
    let profile = test.parent().and_then(Path::parent).expect("a test lies in <target>/<profile>/deps");
    let target = profile.parent().expect("a profile lies in the target directory");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    cargo.current_dir(root).args(["build", "--offline", "--quiet", "--target-dir"]).arg(target);
    // The same packages as `make up` builds, so that nothing is compiled twice.
    for package in ["forebay-cli", "forebay-master", "forebay-worker", "forebay-fuse"] {
        cargo.args(["-p", package]);
    }
    if profile.file_name().is_some_and(|name| name == "release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the binaries under test do not build");
    profile.to_path_buf()
}
