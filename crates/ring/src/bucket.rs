//! Partitions without a ring: 4,096 buckets, and Nydus' hosts.

use crate::hash;

/// How many buckets there are.
pub const BUCKETS: u16 = 4_096;

/// The bucket of `key`: the first three hex digits of its MD5, so that SQL
/// (`left(md5(key), 3)`), Python and Rust agree.
#[must_use]
pub fn bucket(key: &[u8]) -> u16 {
    let digest = hash::md5(key);
    u16::from(digest[0]) << 4 | u16::from(digest[1]) >> 4
}

/// The host of `key` among `hosts`, by Nydus' `PartitionRouter`; `None` without hosts.
///
/// Nydus ran on Python 2, whose CRC is signed and whose remainder takes the divisor's sign: the
/// host is another than by an unsigned CRC unless their number is a power of two.
#[must_use]
pub fn nydus_partition(key: &[u8], hosts: usize) -> Option<usize> {
    let hosts = i64::try_from(hosts).ok().filter(|hosts| *hosts > 0)?;
    let signed = hash::crc32(key).cast_signed();
    usize::try_from(i64::from(signed).rem_euclid(hosts)).ok()
}

/// The MD5 of `bytes` in hex: how keys are hashed that a server does not take.
#[must_use]
pub fn md5_hex(bytes: &[u8]) -> String {
    hash::md5(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
