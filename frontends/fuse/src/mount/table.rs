//! /proc/self/mountinfo: what is mounted where. Pure but for reading that file.

use crate::error::FuseError;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountLine {
    /// `major:minor`.
    pub device: String,
    /// Where.
    pub path: PathBuf,
    /// `fuse.forebay`, `ext4`, ...
    pub file_system_type: String,
}

/// The topmost mount at exactly this path.
pub fn find(path: &Path) -> Result<Option<MountLine>, FuseError> {
    let text = std::fs::read("/proc/self/mountinfo")
        .map_err(|error| FuseError::system("cannot read /proc/self/mountinfo", error))?;
    Ok(parse(&text).rfind(|line| line.path == path))
}

fn parse(text: &[u8]) -> impl DoubleEndedIterator<Item = MountLine> + '_ {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        // 36 35 98:0 /root /mount/point options [optional fields] - type source options
        let mut fields = line.split(|byte| *byte == b' ');
        let device = fields.nth(2)?;
        let path = fields.nth(1)?;
        let file_system_type = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(MountLine {
            device: String::from_utf8_lossy(device).into_owned(),
            path: OsString::from_vec(unescape(path)).into(),
            file_system_type: String::from_utf8_lossy(file_system_type).into_owned(),
        })
    })
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'\\'
            && let Some((digits, behind)) = tail.split_first_chunk::<3>()
            && let Ok(digits) = std::str::from_utf8(digits)
            && let Ok(byte) = u8::from_str_radix(digits, 8)
        {
            out.push(byte);
            rest = behind;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read() {
        let text = b"36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext4 /dev/root rw\n\
                     40 35 0:55 / /mnt/f ro - fuse.forebay forebay ro,user_id=0\n\nbroken\n";
        let lines: Vec<MountLine> = parse(text).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].path, Path::new("/mnt/a b"));
        assert_eq!(lines[1].device, "0:55");
        assert_eq!(lines[1].file_system_type, "fuse.forebay");
        assert!(find(Path::new("/")).unwrap().is_some());
    }
}
