//! memcached's protocol as far as the cache speaks it: meta commands, the classic ones that servers
//! before 1.6 know, and classic `get`.
//!
//! Reading is incremental and trusts nothing: a line or a value beyond its bound, or a word that is
//! no reply, is [`Rubbish`], after which the connection is of no use. What a classic `get` brings is
//! read by [`Hits`](super::hits::Hits).

use bytes::{Buf, Bytes, BytesMut};

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// `HD`, `STORED`, `DELETED`: done, with what flags were asked for.
    Done(Flags),
    /// `VA`: a value with its flags.
    Value(Bytes, Flags),
    /// `EN`: not there.
    Missing,
    /// `NF`, `NOT_FOUND`: nothing to change.
    NotFound,
    /// `NS`, `NOT_STORED`: not stored.
    NotStored,
    /// `EX`, `EXISTS`: something else is stored by now.
    Exists,
    /// Digits alone: the sum of a classic `incr` or `decr`.
    Number(u64),
    /// `MN`: the answer to `mn`, which does nothing.
    NoOp,
    /// `VERSION`.
    Version(String),
    /// `CLIENT_ERROR` or `SERVER_ERROR`: this command was refused, the connection is well.
    Refused(String),
}

/// The return flags of a meta reply, as far as they were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(super) client_flags: u32,
    pub(super) cas: u64,
    /// Seconds left, `None` when it never ends.
    pub(super) ttl_s: Option<u64>,
    /// This caller is to load.
    pub(super) won: bool,
    /// Another is loading.
    pub(super) is_taken: bool,
    /// Marked as stale.
    pub(super) is_stale: bool,
}

/// What a memcached never says.
#[derive(Debug, thiserror::Error)]
#[error("it answered what is no reply: {0:?}")]
pub(crate) struct Rubbish(String);

/// Takes one reply off `buffer`; `None` while it is not all there.
pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Reply>, Rubbish> {
    let Some(end) = buffer.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return if buffer.len() >= MAX_LINE { Err(rubbish(buffer)) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&buffer[..end]).map_err(|_| rubbish(buffer))?;
    let line = line.strip_suffix('\r').unwrap_or(line);
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut tokens = rest.split_ascii_whitespace();
    let reply = match word {
        "VA" => {
            let len =
                tokens.next().and_then(|len| len.parse().ok()).ok_or_else(|| rubbish(buffer))?;
            let flags = flags(tokens).ok_or_else(|| rubbish(buffer))?;
            let value = take_value(buffer, end + 1, len)?;
            return Ok(value.map(|value| Reply::Value(value, flags)));
        }
        "HD" => Reply::Done(flags(tokens).ok_or_else(|| rubbish(buffer))?),
        "EN" => Reply::Missing,
        "STORED" | "DELETED" => Reply::Done(Flags::default()),
        "NF" | "NOT_FOUND" => Reply::NotFound,
        "NS" | "NOT_STORED" => Reply::NotStored,
        "EX" | "EXISTS" => Reply::Exists,
        "MN" => Reply::NoOp,
        "VERSION" => Reply::Version(rest.to_owned()),
        "CLIENT_ERROR" | "SERVER_ERROR" | "ERROR" => Reply::Refused(line.to_owned()),
        // `decr` leaves blanks behind a sum that has become shorter.
        digits if rest.trim().is_empty() => match digits.parse() {
            Ok(number) => Reply::Number(number),
            Err(_) => return Err(rubbish(buffer)),
        },
        _ => return Err(rubbish(buffer)),
    };
    buffer.advance(end + 1);
    Ok(Some(reply))
}

fn take_value(buffer: &mut BytesMut, start: usize, len: usize) -> Result<Option<Bytes>, Rubbish> {
    if len > MAX_VALUE {
        return Err(rubbish(buffer));
    }
    if buffer.len() < start + len + 2 {
        return Ok(None);
    }
    if &buffer[start + len..start + len + 2] != b"\r\n" {
        return Err(rubbish(&buffer[start + len..]));
    }
    buffer.advance(start);
    // A small value is copied, so that the buffer it came in can be used again.
    let value = if len <= MAX_COPIED {
        let value = Bytes::copy_from_slice(&buffer[..len]);
        buffer.advance(len);
        value
    } else {
        buffer.split_to(len).freeze()
    };
    buffer.advance(2);
    Ok(Some(value))
}

fn flags<'a>(tokens: impl Iterator<Item = &'a str>) -> Option<Flags> {
    let mut flags = Flags::default();
    for token in tokens {
        let mut chars = token.chars();
        let name = chars.next()?;
        let argument = chars.as_str();
        match name {
            'f' => flags.client_flags = argument.parse().ok()?,
            'c' => flags.cas = argument.parse().ok()?,
            't' if argument == "-1" => flags.ttl_s = None,
            't' => flags.ttl_s = Some(argument.parse().ok()?),
            'W' => flags.won = true,
            'Z' => flags.is_taken = true,
            'X' => flags.is_stale = true,
            _ => {}
        }
    }
    Some(flags)
}

pub(super) fn rubbish(bytes: &[u8]) -> Rubbish {
    Rubbish(String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned())
}

/// A reply that has no place where it came.
pub(super) fn rubbish_reply(reply: &Reply) -> Rubbish {
    Rubbish(format!("{reply:?}").chars().take(40).collect())
}

/// Longer than any line that memcached writes: a key of 250 bytes and a dozen flags.
pub(super) const MAX_LINE: usize = 2_048;
/// What is copied out of the buffer rather than cut out of it.
const MAX_COPIED: usize = 4 << 10;
/// The largest item that any memcached can be configured to hold.
pub(super) const MAX_VALUE: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Reply>, Rubbish> {
        take(&mut BytesMut::from(bytes))
    }

    #[test]
    fn replies_of_a_real_server_are_read() {
        let won = Flags { won: true, ..Flags::default() };
        assert_eq!(read(b"VA 0 t-1 W\r\n\r\n").unwrap(), Some(Reply::Value(Bytes::new(), won)));
        let flags = Flags {
            cas: 128_159,
            ttl_s: Some(30),
            is_stale: true,
            is_taken: true,
            ..Flags::default()
        };
        let old = Reply::Value(Bytes::from_static(b"old"), flags);
        assert_eq!(read(b"VA 3 t30 c128159 Z X\r\nold\r\n").unwrap(), Some(old));
        for (text, reply) in [
            (&b"HD\r\n"[..], Reply::Done(Flags::default())),
            (b"EN\r\n", Reply::Missing),
            (b"NF\r\n", Reply::NotFound),
            (b"NS\r\n", Reply::NotStored),
            (b"EX\r\n", Reply::Exists),
            (b"VERSION 1.6.18\r\n", Reply::Version("1.6.18".to_owned())),
            (
                b"CLIENT_ERROR bad command line format\r\n",
                Reply::Refused("CLIENT_ERROR bad command line format".to_owned()),
            ),
            (b"MN\r\n", Reply::NoOp),
            (b"STORED\r\n", Reply::Done(Flags::default())),
            (b"NOT_STORED\r\n", Reply::NotStored),
            (b"EXISTS\r\n", Reply::Exists),
            (b"NOT_FOUND\r\n", Reply::NotFound),
            (b"9 \r\n", Reply::Number(9)),
        ] {
            assert_eq!(read(text).unwrap(), Some(reply));
        }
    }

    #[test]
    fn rubbish_is_refused_and_never_waited_for() {
        for text in [
            "HTTP/1.1 200 OK\r\n",
            "VA\r\n",
            "VA x\r\n",
            "VA 99999999999\r\n",
            "VA 2 t9\r\nabc\r\n",
            "VALUE k 1 1\r\n1\r\n",
            "END\r\n",
            "12 apples\r\n",
            "-1\r\n",
            "\r\n",
            "VA 1 cx\r\n1\r\n",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(read(&[b'x'; MAX_LINE]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut buffer) {}
        }

        #[test]
        fn a_reply_in_pieces_is_the_same_reply(value: Vec<u8>, cut: prop::sample::Index) {
            let mut whole = format!("VA {} f16 c7 t60\r\n", value.len()).into_bytes();
            whole.extend(&value);
            whole.extend(b"\r\nEN\r\n");
            let cut = cut.index(whole.len());
            let mut buffer = BytesMut::from(&whole[..cut]);
            let mut replies = Vec::new();
            while let Some(reply) = take(&mut buffer).unwrap() {
                replies.push(reply);
            }
            buffer.extend_from_slice(&whole[cut..]);
            while let Some(reply) = take(&mut buffer).unwrap() {
                replies.push(reply);
            }
            let flags = Flags { client_flags: 16, cas: 7, ttl_s: Some(60), ..Flags::default() };
            prop_assert_eq!(replies, [Reply::Value(value.into(), flags), Reply::Missing]);
        }
    }
}
