//! Where everything of a local cluster lies under its directory, and the first configuration.

use crate::failure::Failure;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The roles in the order in which they start.
pub(crate) const ROLES: [&str; 3] = ["master", "worker", "fuse"];

/// The master's port unless told otherwise.
pub(crate) const PORT_BASE: u16 = 7400;

/// The worker's first port lies this much above the master's.
pub(crate) const WORKER_PORT_OFFSET: u16 = 100;

/// HTTP of the master, the worker and the mount, in that order, from this much above the master's port.
pub(crate) const HTTP_PORT_OFFSET: u16 = 80;

/// The SSD tier's default size, or half of the free space where that is less.
const CACHE_BYTES: u64 = 10 << 30;

/// A socket's path must fit into `sockaddr_un`: 107 bytes with `/run/worker-65535.sock` at its end.
const DIR_BYTES_MAX: usize = 107 - "/run/worker-65535.sock".len();

/// The directory of a local cluster, absolute and without symbolic links.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The layout in `dir`, or in the user's default place. The directory is created.
    pub(crate) fn create(dir: Option<&Path>) -> Result<Self, Failure> {
        let dir = Self::place(dir)?;
        std::fs::create_dir_all(&dir).map_err(|error| Failure::failed(format!("up: {}: {error}", dir.display())))?;
        let layout = Self::open(Some(&dir))?;
        let text = layout.dir.to_str().ok_or_else(|| {
            Failure::usage(format!("up: {}: want a directory whose name is UTF-8", layout.dir.display()))
        })?;
        if text.len() > DIR_BYTES_MAX {
            return Err(Failure::usage(format!(
                "up: {text}: has {} bytes, want at most {DIR_BYTES_MAX}: Unix socket paths are short",
                text.len()
            )));
        }
        Ok(layout)
    }

    /// The layout in a directory that exists.
    pub(crate) fn open(dir: Option<&Path>) -> Result<Self, Failure> {
        let dir = Self::place(dir)?;
        let dir = dir.canonicalize().map_err(|error| {
            Failure::failed(format!("{}: {error}: want the directory given to `forebay up`", dir.display()))
        })?;
        Ok(Self { dir })
    }

    fn place(dir: Option<&Path>) -> Result<PathBuf, Failure> {
        match dir {
            Some(dir) => Ok(dir.to_path_buf()),
            None => std::env::var_os("HOME")
                .filter(|home| !home.is_empty())
                .map(|home| Path::new(&home).join(".forebay"))
                .ok_or_else(|| Failure::usage("HOME: is not set: give --dir D")),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("forebay.toml")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub(crate) fn mountpoint(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    pub(crate) fn pid_file(&self, role: &str) -> PathBuf {
        self.run().join(format!("{role}.pid"))
    }

    pub(crate) fn log(&self, role: &str) -> PathBuf {
        self.dir.join("log").join(format!("{role}.log"))
    }

    /// Makes the directories, but not a mount point that may be a mount already.
    pub(crate) fn make_directories(&self) -> Result<(), Failure> {
        for name in ["master", "worker", "cache", "run", "log"] {
            let path = self.dir.join(name);
            std::fs::create_dir_all(&path)
                .map_err(|error| Failure::failed(format!("up: {}: {error}", path.display())))?;
        }
        Ok(())
    }

    /// Writes the secret, if there is none, and the configuration.
    pub(crate) fn write_config(&self, port_base: u16) -> Result<(), Failure> {
        let secret = self.dir.join("secret");
        write_secret(&secret).map_err(|error| Failure::failed(format!("up: {}: {error}", secret.display())))?;
        let text = self.config_text(port_base, cache_bytes(&self.dir)?);
        let path = self.config();
        // Renamed into place: an interrupted `up` leaves no half a configuration.
        let part = self.dir.join("forebay.toml.part");
        std::fs::write(&part, text)
            .and_then(|()| std::fs::rename(&part, &path))
            .map_err(|error| Failure::failed(format!("up: {}: {error}", path.display())))
    }

    fn config_text(&self, port_base: u16, cache_bytes: u64) -> String {
        let quoted = |name: &str| toml::Value::String(self.dir.join(name).to_string_lossy().into_owned()).to_string();
        let cache = format!("{}={}MiB", self.dir.join("cache").display(), cache_bytes >> 20);
        format!(
            "# Written by `forebay up`. To change something: edit, `forebay down`, `forebay up`.\n\
             # All settings with their meaning: forebay worker --help\n\n\
             [cluster]\n\
             masters = [\"127.0.0.1:{port_base}\"]\n\
             secret_file = {}\n\
             socket_dir = {}\n\n\
             [master]\n\
             listen = \"127.0.0.1:{port_base}\"\n\
             http = \"127.0.0.1:{}\"\n\
             dir = {}\n\n\
             [worker]\n\
             listen = \"127.0.0.1:{}\"\n\
             http = \"127.0.0.1:{}\"\n\
             dir = {}\n\
             mem_capacity = \"256MiB\"\n\
             ssd = [{}]\n\n\
             [fuse]\n\
             http = \"127.0.0.1:{}\"\n\
             mountpoint = {}\n",
            quoted("secret"),
            quoted("run"),
            port_base + HTTP_PORT_OFFSET,
            quoted("master"),
            port_base + WORKER_PORT_OFFSET,
            port_base + HTTP_PORT_OFFSET + 1,
            quoted("worker"),
            toml::Value::String(cache),
            port_base + HTTP_PORT_OFFSET + 2,
            quoted("mnt"),
        )
    }
}

fn write_secret(path: &Path) -> std::io::Result<()> {
    let mut file = match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        opened => opened?,
    };
    let mut random = [0u8; 32];
    getrandom::fill(&mut random).map_err(|error| std::io::Error::other(error.to_string()))?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn cache_bytes(dir: &Path) -> Result<u64, Failure> {
    let stat = rustix::fs::statvfs(dir).map_err(|error| Failure::failed(format!("up: {}: {error}", dir.display())))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let bytes = CACHE_BYTES.min(free / 2);
    if bytes < 64 << 20 {
        return Err(Failure::failed(format!("up: {}: has {} MiB free, want at least 128", dir.display(), free >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::settings::{Overrides, load};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn written_configuration_is_valid_and_secret_is_private() {
        let temp = tempfile::tempdir().expect("a directory");
        let layout = Layout::create(Some(&temp.path().join("a \"b\" c"))).expect("made");
        layout.make_directories().expect("made");
        layout.write_config(17400).expect("written");
        let text = std::fs::read_to_string(layout.config()).expect("there");
        let loaded = load(&text, &Overrides::default()).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        assert_eq!(loaded.settings.worker.listen, "127.0.0.1:17500");
        let http = [&loaded.settings.master.http, &loaded.settings.worker.http, &loaded.settings.fuse.http];
        assert_eq!(
            http.map(|address| address.as_deref().expect("on")),
            ["127.0.0.1:17480", "127.0.0.1:17481", "127.0.0.1:17482"]
        );
        assert_eq!(loaded.settings.fuse.mountpoint, layout.mountpoint());
        let secret = loaded.settings.cluster.secret_file.expect("set");
        let mode = secret.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let first = std::fs::read(&secret).expect("there");
        layout.write_config(17400).expect("again");
        assert_eq!(std::fs::read(&secret).expect("there"), first, "the secret is drawn once");
    }

    #[test]
    fn directory_too_long_for_sockets_is_refused() {
        let temp = tempfile::tempdir().expect("a directory");
        assert!(Layout::create(Some(&temp.path().join("x".repeat(100)))).is_err());
    }
}
