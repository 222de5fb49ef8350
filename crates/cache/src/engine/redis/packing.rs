//! An item and its flags as one string, since Redis has no place for flags.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::engine::Item;

/// An item as one string: its bytes, behind a mark and the flags where there are some. What others
/// read has none.
pub(super) fn pack(item: Item) -> Bytes {
    if item.flags == 0 && !item.bytes.starts_with(&MARK) {
        return item.bytes;
    }
    let mut packed = BytesMut::with_capacity(MARK.len() + 4 + item.bytes.len());
    packed.put_slice(&MARK);
    packed.put_u32_le(item.flags);
    packed.put_slice(&item.bytes);
    packed.freeze()
}

pub(super) fn unpack(packed: Vec<u8>) -> Item {
    let mut bytes = Bytes::from(packed);
    if bytes.len() < MARK.len() + 4 || !bytes.starts_with(&MARK) {
        return Item { bytes, flags: 0 };
    }
    bytes.advance(MARK.len());
    let flags = bytes.get_u32_le();
    Item { bytes, flags }
}

const MARK: [u8; 4] = [0xf4, 0xe7, 0xff, b'f'];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_unpacks(mut bytes: Vec<u8>, flags in prop_oneof![Just(0), any::<u32>()], is_marked: bool) {
            if is_marked {
                bytes.splice(0..0, MARK);
            }
            let item = Item { bytes: bytes.into(), flags };
            prop_assert_eq!(unpack(pack(item.clone()).into()), item);
        }

        #[test]
        fn any_bytes_unpack_without_panic(bytes: Vec<u8>) {
            unpack(bytes);
        }
    }
}
