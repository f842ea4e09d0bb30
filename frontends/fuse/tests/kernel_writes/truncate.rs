//! truncate(2), which must reach the server without an open file.
#![expect(unsafe_code, reason = "truncate(2) has no safe wrapper")]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Cuts the file of that name.
pub(crate) fn truncate(path: &Path, size: i64) -> std::io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the string ends with a zero byte and lives until the call returns.
    match unsafe { libc::truncate(path.as_ptr(), size) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
