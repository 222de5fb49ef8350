//! Values on a shared engine: the JSON behind a header that says until when it is fresh.
//!
//! ```text
//! 0    2 magic bytes, then 1 byte of format, 1 byte of tags
//! 4    8 fresh until, milliseconds since 1970 UTC, little-endian like all that follows
//! 12   8 version, i64::MIN for none
//! 20   4 how long loading took, milliseconds
//! 24   for each tag: 1 byte of length, its name, 8 bytes of generation
//! ..   JSON
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What an engine stores for the cache itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) fresh_until_ms: i64,
    pub(crate) version: Option<i64>,
    pub(crate) load_ms: u32,
    /// Each tag and the generation that it had when the value was loaded.
    pub(crate) tags: Vec<(String, u64)>,
    pub(crate) json: Bytes,
}

impl Sealed {
    pub(crate) fn seal(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER + 64 * self.tags.len() + self.json.len());
        bytes.put_slice(&MAGIC);
        bytes.put_u8(FORMAT);
        bytes.put_u8(u8::try_from(self.tags.len()).unwrap_or(u8::MAX));
        bytes.put_i64_le(self.fresh_until_ms);
        bytes.put_i64_le(self.version.unwrap_or(i64::MIN));
        bytes.put_u32_le(self.load_ms);
        for (name, generation) in self.tags.iter().take(MAX_TAGS) {
            bytes.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
            bytes.put_slice(&name.as_bytes()[..name.len().min(MAX_TAG_BYTES)]);
            bytes.put_u64_le(*generation);
        }
        bytes.put_slice(&self.json);
        bytes.freeze()
    }

    /// Reads what [`seal`](Self::seal) wrote; `None` for anything else.
    pub(crate) fn open(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < HEADER || bytes[..2] != MAGIC || bytes[2] != FORMAT {
            return None;
        }
        let count = bytes[3];
        bytes.advance(4);
        let fresh_until_ms = bytes.get_i64_le();
        let version = Some(bytes.get_i64_le()).filter(|version| *version != i64::MIN);
        let load_ms = bytes.get_u32_le();
        let tags = (0..count).map(|_| read_tag(&mut bytes)).collect::<Option<_>>()?;
        Some(Self { fresh_until_ms, version, load_ms, tags, json: bytes })
    }
}

fn read_tag(bytes: &mut Bytes) -> Option<(String, u64)> {
    let len = usize::from(bytes.try_get_u8().ok()?);
    if bytes.len() < len {
        return None;
    }
    let name = String::from_utf8(bytes.split_to(len).into()).ok()?;
    Some((name, bytes.try_get_u64_le().ok()?))
}

/// How many tags a value can have.
pub(crate) const MAX_TAGS: usize = 255;
/// How long a tag's name can be.
pub(crate) const MAX_TAG_BYTES: usize = 255;
const MAGIC: [u8; 2] = [0xf4, 0xe7];
const FORMAT: u8 = 1;
const HEADER: usize = 24;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_sealed_opens(fresh_until_ms: i64, version in proptest::option::of(0_i64..), load_ms: u32, tags in proptest::collection::vec(("[a-z:.é]{0,20}", any::<u64>()), 0..5), json: Vec<u8>) {
            let sealed = Sealed { fresh_until_ms, version, load_ms, tags, json: json.into() };
            prop_assert_eq!(Sealed::open(sealed.seal()), Some(sealed));
        }

        #[test]
        fn anything_else_is_refused_without_panic(bytes: Vec<u8>, cut: usize) {
            prop_assert_eq!(Sealed::open(bytes.into()), None);
            let sealed = Sealed { fresh_until_ms: 1, version: None, load_ms: 1, tags: vec![("a".to_owned(), 1)], json: Bytes::new() };
            let mut whole = sealed.seal();
            whole.truncate(cut % whole.len());
            prop_assert_eq!(Sealed::open(whole), None);
        }
    }
}
