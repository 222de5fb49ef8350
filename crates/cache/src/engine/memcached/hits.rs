//! What a classic `get` brings: the values that were found, cut out of one block.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::protocol::{MAX_LINE, MAX_VALUE, Rubbish, rubbish};

/// The answer to a classic `get` or `gets`, as far as it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hits {
    hits: Vec<Hit>,
    /// How much of the buffer has been read; nothing is taken off it before the end.
    read: usize,
    block: Bytes,
    refused: Option<String>,
}

/// Where a value and its key are in the block.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hit {
    key: Range<usize>,
    value: Range<usize>,
    client_flags: u32,
    cas: u64,
}

/// One value that was found.
pub(crate) struct Found<'a> {
    block: &'a Bytes,
    hit: &'a Hit,
}

impl Hits {
    /// Reads on in what has come; tells whether that is all, and takes it off the buffer then.
    ///
    /// A value is a slice of all that came with it. It is meant to be decoded, not kept.
    pub(crate) fn read_on(&mut self, buffer: &mut BytesMut) -> Result<bool, Rubbish> {
        loop {
            let rest = &buffer[self.read..];
            if let Some(head) = rest.strip_prefix(b"VALUE ").and_then(Head::read) {
                if head.len > MAX_VALUE {
                    return Err(rubbish(rest));
                }
                let value = VALUE + head.end..VALUE + head.end + head.len;
                let Some(after) = rest.get(value.end..value.end + 2) else { return Ok(false) };
                if after != b"\r\n" {
                    return Err(rubbish(&rest[value.end..]));
                }
                let key = self.read + VALUE..self.read + VALUE + head.key_len;
                let value = self.read + value.start..self.read + value.end;
                self.read = value.end + 2;
                if self.hits.is_empty() {
                    // Grown step by step, it would be copied four times for two dozen.
                    self.hits.reserve(HITS);
                }
                self.hits.push(Hit { key, value, client_flags: head.client_flags, cas: head.cas });
                continue;
            }
            let Some(end) = rest.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
                return if rest.len() >= MAX_LINE { Err(rubbish(rest)) } else { Ok(false) };
            };
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            if line != b"END" {
                let text = std::str::from_utf8(line).map_err(|_| rubbish(rest))?;
                let word = text.split(' ').next().unwrap_or_default();
                if !matches!(word, "CLIENT_ERROR" | "SERVER_ERROR" | "ERROR") {
                    return Err(rubbish(rest));
                }
                self.refused = Some(text.to_owned());
            }
            if !self.hits.is_empty() {
                self.block = buffer.split_to(self.read).freeze();
            }
            buffer.advance(end + 1);
            return Ok(true);
        }
    }

    /// What was found, in the order of the question.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Found<'_>> {
        self.hits.iter().map(|hit| Found { block: &self.block, hit })
    }

    /// What the server said instead of going on.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }
}

impl Found<'_> {
    pub(crate) fn key(&self) -> &[u8] {
        &self.block[self.hit.key.clone()]
    }

    pub(crate) fn value(&self) -> Bytes {
        self.block.slice(self.hit.value.clone())
    }

    pub(crate) fn client_flags(&self) -> u32 {
        self.hit.client_flags
    }

    /// Zero where it was not asked for.
    pub(crate) fn cas(&self) -> u64 {
        self.hit.cas
    }
}

/// What stands behind `VALUE`.
struct Head {
    key_len: usize,
    client_flags: u32,
    len: usize,
    cas: u64,
    /// Where the line is over.
    end: usize,
}

impl Head {
    /// Reads in one go. `None` when the line is not all there yet, or not as it should be.
    fn read(text: &[u8]) -> Option<Self> {
        let text = &text[..text.len().min(MAX_LINE - VALUE)];
        let key_len = text.iter().position(|byte| matches!(byte, b' ' | b'\n'));
        let key_len = key_len.filter(|len| *len > 0)?;
        let mut at = key_len;
        let client_flags = u32::try_from(number(text, &mut at)?).ok()?;
        let len = usize::try_from(number(text, &mut at)?).ok()?;
        let cas = if text.get(at) == Some(&b' ') { number(text, &mut at)? } else { 0 };
        at += usize::from(text.get(at) == Some(&b'\r'));
        (text.get(at) == Some(&b'\n')).then_some(Self {
            key_len,
            client_flags,
            len,
            cas,
            end: at + 1,
        })
    }
}

/// The number that stands behind a space, past which `at` is moved.
fn number(text: &[u8], at: &mut usize) -> Option<u64> {
    let rest = text.get(*at..)?.strip_prefix(b" ")?;
    let mut sum = 0_u64;
    let mut digits = 0;
    while let Some(digit) = rest.get(digits).map(|byte| byte.wrapping_sub(b'0'))
        && digit < 10
    {
        sum = sum.checked_mul(10)?.checked_add(u64::from(digit))?;
        digits += 1;
    }
    *at += 1 + digits;
    (digits > 0).then_some(sum)
}

/// How long `VALUE ` is.
const VALUE: usize = 6;
/// For how many values there is room from the first on.
const HITS: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Told = (Vec<(Vec<u8>, u32, u64, Vec<u8>)>, Option<String>);

    /// Reads pieces as they come, and what is left in the buffer.
    fn read(pieces: &[&[u8]]) -> Result<Option<(Told, Vec<u8>)>, Rubbish> {
        let (mut buffer, mut hits) = (BytesMut::new(), Hits::default());
        let mut is_all = false;
        for piece in pieces {
            buffer.extend_from_slice(piece);
            is_all = is_all || hits.read_on(&mut buffer)?;
        }
        let told = |hit: Found<'_>| {
            (hit.key().to_vec(), hit.client_flags(), hit.cas(), hit.value().to_vec())
        };
        let told = (hits.iter().map(told).collect(), hits.refused().map(str::to_owned));
        Ok(is_all.then(|| (told, buffer.to_vec())))
    }

    #[test]
    fn values_of_a_real_server_are_read() {
        let text = b"VALUE k 16 2\r\n\r\n\r\nVALUE l 4 2 77\r\n42\r\nEND\r\nHD\r\n";
        let hits =
            vec![(b"k".to_vec(), 16, 0, b"\r\n".to_vec()), (b"l".to_vec(), 4, 77, b"42".to_vec())];
        assert_eq!(read(&[text]).unwrap(), Some(((hits, None), b"HD\r\n".to_vec())));
        assert_eq!(read(&[b"END\r\n"]).unwrap(), Some(((vec![], None), vec![])));
        let refused = Some("SERVER_ERROR out of memory".to_owned());
        let said = read(&[b"SERVER_ERROR out of memory\r\n"]).unwrap();
        assert_eq!(said, Some(((vec![], refused), vec![])));
    }

    #[test]
    fn rubbish_is_refused_and_never_waited_for() {
        for text in [
            "VALUE k 1\r\n",
            "VALUE k 1 1 x\r\n1\r\n",
            "VALUE k 1 1 1 1\r\n1\r\n",
            "VALUE  1 1\r\n1\r\n",
            "VALUE k 4294967296 1\r\n1\r\n",
            "VALUE k 1 2\r\nabc\r\n",
            "VALUE k 1 99999999999\r\n",
            "VALUE k 1 99999999999999999999999\r\n",
            "VALUE k 1 -1\r\n",
            "HD\r\n",
            "ENDE\r\n",
            "\r\n",
        ] {
            assert!(read(&[text.as_bytes()]).is_err(), "{text:?}");
        }
        assert!(read(&[&[b'x'; MAX_LINE]]).is_err());
    }

    proptest! {
        #[test]
        fn an_answer_in_pieces_is_the_same_answer(values: Vec<Vec<u8>>, cuts: Vec<prop::sample::Index>) {
            let mut whole = Vec::new();
            for (number, value) in values.iter().enumerate() {
                whole.extend(format!("VALUE key:{number} {number} {}\r\n", value.len()).into_bytes());
                whole.extend(value);
                whole.extend(b"\r\n");
            }
            whole.extend(b"END\r\n");
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &whole[cut[0]..cut[1]]).collect();
            let ((hits, refused), left) = read(&pieces).unwrap().unwrap();
            prop_assert_eq!((refused, left), (None, Vec::new()));
            prop_assert_eq!(hits.into_iter().map(|(.., value)| value).collect::<Vec<_>>(), values);
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes: Vec<u8>) {
            let _ = read(&[&bytes]);
        }
    }
}
