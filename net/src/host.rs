//! Which host this is: clients use a worker's Unix sockets only where both ids agree.

use sha2::{Digest, Sha256};

/// Hash of the machine id and the boot id: equal on one running host only. Random where the host tells neither, so that
/// strangers never look like neighbours.
#[must_use]
pub fn host_id() -> u64 {
    let read = |path| std::fs::read(path).unwrap_or_default();
    let (machine, boot) = (read("/etc/machine-id"), read("/proc/sys/kernel/random/boot_id"));
    let mut first = [0u8; 8];
    if machine.is_empty() && boot.is_empty() {
        getrandom::fill(&mut first).expect("the kernel always has random bytes");
    } else {
        let hash = Sha256::new().chain_update(&machine).chain_update([0]).chain_update(&boot).finalize();
        first.copy_from_slice(&hash[..8]);
    }
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_same_host_has_one_id() {
        assert_eq!(super::host_id(), super::host_id());
        assert_ne!(super::host_id(), 0);
    }
}
