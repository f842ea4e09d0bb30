//! What is mounted where, from `/proc/self/mountinfo`, and detaching a FUSE mount whose server is gone.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whether a FUSE file system is mounted exactly at `path`.
pub(crate) fn is_fuse_mount(path: &Path) -> bool {
    std::fs::read("/proc/self/mountinfo").is_ok_and(|text| has_fuse_at(&text, path.as_os_str().as_bytes()))
}

/// Detaches the mount at `path`; true when nothing is mounted there afterwards.
pub(crate) fn detach(path: &Path) -> bool {
    if rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).is_err() {
        // Without CAP_SYS_ADMIN only the set-uid helper may do it.
        let helper =
            Command::new("fusermount3").arg("-uz").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).status();
        return helper.is_ok_and(|status| status.success()) && !is_fuse_mount(path);
    }
    !is_fuse_mount(path)
}

/// A line: `id parent major:minor root mountpoint options [tags] - type source options`.
fn has_fuse_at(mountinfo: &[u8], path: &[u8]) -> bool {
    mountinfo.split(|byte| *byte == b'\n').any(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let Some(mountpoint) = fields.nth(4) else { return false };
        let kind = fields.skip_while(|field| *field != b"-").nth(1).unwrap_or_default();
        kind.starts_with(b"fuse") && unescape(mountpoint) == path
    })
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_fuse_mounts_only() {
        let text = b"36 35 98:0 / /a\\040b rw,noatime master:1 - fuse.forebay forebay rw\n\
                     37 35 98:0 / /c rw - ext4 /dev/vda rw\nshort line\n";
        assert!(has_fuse_at(text, b"/a b"));
        assert!(!has_fuse_at(text, b"/c"));
        assert!(!has_fuse_at(text, b"/a"));
    }

    #[test]
    fn unescapes() {
        assert_eq!(unescape(b"/x\\011y\\134z\\9"), b"/x\ty\\z\\9");
    }
}
