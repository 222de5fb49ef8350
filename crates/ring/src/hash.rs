//! The hash functions that clients use, as they use them.

use md5::{Digest, Md5};

/// Bob Jenkins' one-at-a-time: libmemcached's default.
pub(crate) fn one_at_a_time(bytes: &[u8]) -> u32 {
    let mut hash = 0_u32;
    for byte in bytes {
        hash = hash.wrapping_add(u32::from(*byte));
        hash = hash.wrapping_add(hash << 10);
        hash ^= hash >> 6;
    }
    hash = hash.wrapping_add(hash << 3);
    hash ^= hash >> 11;
    hash.wrapping_add(hash << 15)
}

pub(crate) fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// The `at`th four bytes of the MD5, little-endian: one point of a ketama ring.
pub(crate) fn md5_word(digest: &[u8; 16], at: usize) -> u32 {
    let word = &digest[4 * at..4 * at + 4];
    u32::from_le_bytes([word[0], word[1], word[2], word[3]])
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// MurmurHash3, 32 bits, seed 0, over one byte for each character.
pub(crate) fn murmur3(bytes: impl ExactSizeIterator<Item = u8>) -> u32 {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut hash = 0_u32;
    let mut block = 0_u32;
    let mut held = 0;
    for byte in bytes {
        block |= u32::from(byte) << (8 * held);
        held += 1;
        if held == 4 {
            hash =
                (hash ^ scramble(block)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
            (block, held) = (0, 0);
        }
    }
    if held > 0 {
        hash ^= scramble(block);
    }
    hash ^= len;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

fn scramble(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur3_is_the_reference() {
        for (text, hash) in [("", 0), ("hello", 0x248b_fa47), ("hello, world", 0x149b_bb7f)] {
            assert_eq!(murmur3(text.bytes().collect::<Vec<_>>().into_iter()), hash, "{text}");
        }
    }
}
