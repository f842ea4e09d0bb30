//! Which keys there are: relative, `/`-separated, every component one that a file name can be.

use crate::failure::Failure;
use forebay_base::ErrorKind;

/// The longest file name; longer components exist in object stores but cannot be named through a file system.
pub(crate) const NAME_MAX_BYTES: usize = 255;

/// Whether `name` can be a component of a path.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && name.len() <= NAME_MAX_BYTES && !name.contains(['/', '\0'])
}

/// Refuses keys that no path leads to. The empty key is the root.
pub(crate) fn check_key(key: &str) -> Result<(), Failure> {
    match key.split('/').find(|name| !is_name(name)) {
        Some(_) if key.is_empty() => Ok(()),
        Some(name) => Err(Failure::new(
            ErrorKind::Invalid,
            format!(
                "a key is a relative path without empty, . or .. components, each at most {NAME_MAX_BYTES} bytes; got \
                 the component \"{}\"",
                name.escape_debug().take(80).collect::<String>()
            ),
        )),
        None => Ok(()),
    }
}

/// Refuses the root as well, for operations on files.
pub(crate) fn check_file_key(key: &str) -> Result<(), Failure> {
    if key.is_empty() {
        return Err(Failure::new(ErrorKind::IsADirectory, "the empty key is the mount's root directory"));
    }
    check_key(key)
}

/// Refuses the root as well, which is neither removed nor renamed.
pub(crate) fn check_own_key(key: &str) -> Result<(), Failure> {
    if key.is_empty() {
        return Err(Failure::new(ErrorKind::Busy, "the empty key is the mount's root directory"));
    }
    check_key(key)
}

/// Refuses the root as well, which is there always.
pub(crate) fn check_new_key(key: &str) -> Result<(), Failure> {
    if key.is_empty() {
        return Err(Failure::new(ErrorKind::Exists, "the empty key is the mount's root directory"));
    }
    check_key(key)
}

/// Whether `key` lies below `directory`.
pub(crate) fn is_below(key: &str, directory: &str) -> bool {
    key.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// The last component; empty for the root.
pub(crate) fn last_name(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for good in ["", "a", "a/b c/d+%#", "...", ".a", "a..", "\u{fc}/\u{4e16}"] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        let long = "x".repeat(256);
        for bad in ["/", "/a", "a/", "a//b", ".", "a/../b", "a/.", "a\0b", long.as_str()] {
            assert_eq!(check_key(bad).unwrap_err().kind, ErrorKind::Invalid, "{bad}");
        }
        assert_eq!(check_file_key("").unwrap_err().kind, ErrorKind::IsADirectory);
        assert_eq!(last_name("a/b"), "b");
    }
}
