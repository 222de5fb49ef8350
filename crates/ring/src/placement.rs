//! The ways to place a key, by name.

use std::{fmt, str::FromStr};

use crate::RingError;

/// How keys are placed: one of the memcached client families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// One-at-a-time modulo the number of servers. Weights and ejection change nothing: the keys of
    /// a dead server have no owner.
    Modula,
    /// 100 points a server by one-at-a-time; the weighted ring as soon as a weight is over 1.
    Ketama,
    /// 100 points a server by MD5; the weighted ring as soon as a weight is over 1.
    KetamaMd5,
    /// About 160 points a server by MD5, as many as its share of the weights.
    KetamaWeighted,
    /// The server that scores highest with the key, by MurmurHash3. Weights change nothing.
    Rendezvous,
    /// CRC-32 modulo the servers, each as often as it weighs; a dead one is rehashed past.
    Crc,
}

impl Placement {
    /// Every placement.
    pub const ALL: [Self; 6] = [
        Self::Modula,
        Self::Ketama,
        Self::KetamaMd5,
        Self::KetamaWeighted,
        Self::Rendezvous,
        Self::Crc,
    ];

    /// Its name, as in a URL's `ring=`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Modula => "modula",
            Self::Ketama => "ketama",
            Self::KetamaMd5 => "ketama-md5",
            Self::KetamaWeighted => "ketama-weighted",
            Self::Rendezvous => "rendezvous",
            Self::Crc => "crc",
        }
    }
}

impl FromStr for Placement {
    type Err = RingError;

    fn from_str(text: &str) -> Result<Self, RingError> {
        let named = Self::ALL.into_iter().find(|placement| placement.name() == text);
        named.ok_or_else(|| RingError::UnknownPlacement(text.to_owned()))
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
