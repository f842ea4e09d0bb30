//! A small ext4 on a loop device in a temporary directory of its own: a disk that can fill up or fail. Needs root, e2fsprogs and xfsprogs (`xfs_io`).

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted loop disk; unmounted and removed when dropped; drop it after the cluster that uses it.
#[derive(Debug)]
pub struct LoopDisk {
    mountpoint: PathBuf,
    _temporary: tempfile::TempDir,
}

fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{name} does not run ({error}): install it"));
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl LoopDisk {
    /// Makes a disk of `size_bytes` and mounts it.
    #[must_use]
    pub fn mount(size_bytes: u64) -> Self {
        let temporary = tempfile::Builder::new().prefix("forebay-disk-").tempdir().expect("a temporary directory");
        let (image, mountpoint) = (temporary.path().join("image"), temporary.path().join("disk"));
        let file = std::fs::File::create(&image).expect("an image file");
        file.set_len(size_bytes).expect("a sparse image");
        std::fs::create_dir_all(&mountpoint).expect("a mountpoint");
        let (image_text, mount_text) =
            (image.to_string_lossy().into_owned(), mountpoint.to_string_lossy().into_owned());
        tool("mkfs.ext4", &["-q", "-F", "-m", "0", &image_text]);
        tool("mount", &["-o", "loop", &image_text, &mount_text]);
        Self { mountpoint, _temporary: temporary }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mountpoint
    }

    /// From now on everything on it fails with EIO.
    pub fn fail(&self) {
        tool("xfs_io", &["-x", "-c", "shutdown", &self.mountpoint.to_string_lossy()]);
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mountpoint).output();
    }
}
