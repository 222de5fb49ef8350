//! Weighted rendezvous hashing: every pair of address and back end has a distance, and the nearest
//! back end has the address. Nothing is built or kept, weights are exact, and edges agree because
//! the hash is fixed.

use super::Standing;

/// FNV-1a over the parts, mixed at the end (splitmix64) because FNV alone leaves the high bits of
/// short texts alike.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // A byte that no text has keeps ("ab", "c") and ("a", "bc") apart.
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    mix(hash)
}

/// How far `server` is from `address`; a heavier one is nearer to everything.
pub(super) fn distance(address: u64, server: &Standing) -> f64 {
    let mixed = mix(address ^ server.seed);
    // Uniform in (0, 1): the logarithm makes shares exactly proportional to weights.
    let uniform = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -uniform.ln() / server.weight()
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::hash;

    #[test]
    fn parts_are_told_apart_and_the_hash_never_changes() {
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        // Edges of two versions stand before the same back ends while one replaces the other.
        assert_eq!(hash(&["example.org", "/events/7"]), PINNED);
    }

    const PINNED: u64 = 11_922_866_301_536_191_364;
}
