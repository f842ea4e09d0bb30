//! CRC32C (Castagnoli) over bytes: the one checksum of disk and wire. Pure.

/// The unit of verification, in bytes: every 4 KiB of cached data has its own checksum.
pub const UNIT_BYTES: usize = 4096;

/// CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// CRC32C of what gave `crc` followed by `bytes`.
#[must_use]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// One checksum for each 4 KiB unit of `bytes`; the last unit may be short and is summed over its real length.
pub fn unit_checksums(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks(UNIT_BYTES).map(crc32c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_value_and_units() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c_append(crc32c(b"12345"), b"6789"), 0xE306_9283);
        let bytes = vec![7u8; UNIT_BYTES + 1];
        let units: Vec<u32> = unit_checksums(&bytes).collect();
        assert_eq!(units, [crc32c(&bytes[..UNIT_BYTES]), crc32c(&[7])]);
    }
}
