//! Keys on shared engines: Django's `prefix:version:key` where a version is given, and for memcached
//! at most 250 bytes, no spaces, no control characters.

use std::borrow::Cow;

use crate::{Error, Result};

/// What becomes of a key that memcached does not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OddKeys {
    /// It is hashed: `md5:` and 32 hex digits, which is the same in every process.
    #[default]
    Hash,
    /// It is an error.
    Refuse,
}

/// How the cache's keys become memcached's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    pub(crate) odd: OddKeys,
    /// With a version, keys are Django's: `prefix:version:key`. Without, `prefix` comes in front.
    pub(crate) prefix: String,
    pub(crate) version: Option<u32>,
}

impl Keys {
    /// The key as any engine is asked for it.
    pub(crate) fn named<'a>(&self, key: &'a str) -> Cow<'a, str> {
        match self.version {
            Some(version) => format!("{}:{version}:{key}", self.prefix).into(),
            None if self.prefix.is_empty() => key.into(),
            None => format!("{}{key}", self.prefix).into(),
        }
    }

    /// The key as memcached is asked for it.
    pub(crate) fn wire<'a>(&self, key: &'a str) -> Result<Cow<'a, [u8]>> {
        let text = self.named(key);
        let is_plain = text.bytes().all(|byte| byte > b' ' && byte != 0x7f);
        if is_plain && (1..=MAX_BYTES).contains(&text.len()) {
            return Ok(match text {
                Cow::Borrowed(text) => text.as_bytes().into(),
                Cow::Owned(text) => text.into_bytes().into(),
            });
        }
        match self.odd {
            OddKeys::Hash => {
                Ok(format!("md5:{}", throng_ring::md5_hex(text.as_bytes())).into_bytes().into())
            }
            OddKeys::Refuse => Err(Error::value(
                "find or store",
                key,
                "memcached takes keys of 1 to 250 bytes without spaces and control characters",
            )),
        }
    }
}

const MAX_BYTES: usize = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_djangos_and_odd_ones_are_hashed_or_refused() {
        let django = Keys { version: Some(1), ..Keys::default() };
        assert_eq!(django.wire("event:7").unwrap()[..], b":1:event:7"[..]);
        let plain = Keys { prefix: "site.".to_owned(), ..Keys::default() };
        assert_eq!(plain.wire("é").unwrap(), "site.é".as_bytes());
        let strict = Keys { odd: OddKeys::Refuse, ..Keys::default() };
        for odd in ["", "a b", "a\n", "a\u{7f}", &"x".repeat(251)] {
            let hashed = Keys::default().wire(odd).unwrap();
            assert!(hashed.starts_with(b"md5:") && hashed.len() == 36, "{odd}");
            assert!(strict.wire(odd).is_err());
        }
        assert_eq!(strict.wire(&"x".repeat(250)).unwrap().len(), 250);
    }
}
