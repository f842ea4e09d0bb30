//! Whether the kernel gives this process io_uring instances. The one file of this crate with `unsafe`.
#![expect(unsafe_code, reason = "io_uring_setup has no safe wrapper in the libraries that are here")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Entries of a ring, as the worker's runtime asks for them.
const ENTRIES: u32 = 128;
/// `struct io_uring_params` has 120 bytes, aligned to 8.
const PARAMS_WORDS: usize = 15;

/// Makes `wanted` rings, all held at once, and gives how many there were and what refused the next one.
pub(crate) fn make(wanted: usize) -> (usize, Option<io::Error>) {
    let mut held = Vec::with_capacity(wanted);
    while held.len() < wanted {
        match setup() {
            Ok(ring) => held.push(ring),
            Err(error) => return (held.len(), Some(error)),
        }
    }
    (held.len(), None)
}

fn setup() -> io::Result<OwnedFd> {
    let mut params = [0u64; PARAMS_WORDS];
    // SAFETY: the kernel reads and writes one `io_uring_params` behind the pointer, which has its size and alignment and
    // lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, params.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(result).map_err(|_| io::Error::other("io_uring_setup gave no descriptor"))?;
    // SAFETY: the descriptor is fresh and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    #[test]
    fn kernel_gives_rings() {
        let (made, why) = super::make(3);
        assert_eq!((made, why.map(|error| error.to_string())), (3, None));
    }
}
