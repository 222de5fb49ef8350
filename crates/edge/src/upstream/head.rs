//! The head of an answer as a back end wrote it: what it says, and how its body ends.
//!
//! Heads are read by the parser that hyper uses. What two servers might read in two ways is refused,
//! also where hyper takes a guess: a length beside a coding, several lengths, another coding beside
//! chunks.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use httparse::{Header, ParserConfig, Response, Status};

/// What is at the beginning of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// Bytes up to the body.
    pub(crate) length: usize,
    pub(crate) framing: Framing,
    /// Whether the connection can be used again after it.
    pub(crate) is_persistent: bool,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    Nothing,
    /// After so many bytes.
    Length(u64),
    /// After a chunk of no bytes.
    Chunked,
    /// With the connection.
    Close,
}

/// What cannot be an answer, or could be more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the back end does not answer as HTTP has it: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Head {
    /// The fields of a head that [`parse`] has found in `input`.
    pub(crate) fn fields(&self, input: &[u8]) -> HeaderMap {
        // All values share one allocation.
        let all = Bytes::copy_from_slice(&input[..self.length]);
        let mut room = UNREAD;
        // It was whole before; how its body ends is known.
        let fields = parse(&all, &mut room, true).ok().flatten();
        let fields = fields.map_or(&[][..], |(_, fields)| fields);
        let mut headers = HeaderMap::with_capacity(fields.len() + 4);
        for Header { name, value } in fields {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_maybe_shared(all.slice_ref(value));
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        headers
    }
}

/// Where the fields of a head are put; nobody has to clear it before.
pub(crate) type Room<'i> = [MaybeUninit<Header<'i>>; MOST_FIELDS];

/// Reads the head at the beginning of `input`, and its fields into `room`; `None` when more has to
/// come. `is_bare` when it answers a HEAD.
pub(crate) fn parse<'f, 'i>(
    input: &'i [u8],
    room: &'f mut Room<'i>,
    is_bare: bool,
) -> Result<Option<(Head, &'f [Header<'i>])>, Malformed> {
    let mut response = Response::new(&mut []);
    let parser = ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut response, input, room) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if input.len() > MOST_HEAD => return Err(Malformed("a long head")),
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed("too many fields")),
        Err(_) => return Err(Malformed("no head")),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed("no status"))?;
    let fields: &[Header<'_>] = response.headers;
    let is_recent = response.version == Some(1);
    let said = Said::of(fields)?;
    let framing = said.framing(status, is_bare, is_recent)?;
    let may_persist = if is_recent { !said.is_closing } else { said.is_kept && !said.is_closing };
    let is_persistent =
        may_persist && framing != Framing::Close && status != StatusCode::SWITCHING_PROTOCOLS;
    Ok(Some((Head { status, length, framing, is_persistent }, fields)))
}

/// What the fields say about the connection.
#[derive(Debug, Default)]
struct Said {
    length: Option<u64>,
    coding: Option<Coding>,
    is_closing: bool,
    is_kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Chunked,
    /// One that nobody here knows, which ends with the connection.
    Other,
}

impl Said {
    fn of(fields: &[Header<'_>]) -> Result<Self, Malformed> {
        let mut said = Self::default();
        for Header { name, value } in fields {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            match name.len() {
                10 if is("connection") => {
                    for one in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                        said.is_closing |= one.eq_ignore_ascii_case(b"close");
                        said.is_kept |= one.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if is("content-length") => {
                    let length = number(value).ok_or(Malformed("a length that is no number"))?;
                    if said.length.replace(length).is_some() {
                        return Err(Malformed("two lengths"));
                    }
                }
                17 if is("transfer-encoding") => {
                    let coding = Coding::of(value)?;
                    let first = said.coding.replace(coding);
                    if first.is_some_and(|first| Coding::Chunked == first || first != coding) {
                        return Err(Malformed("a coding besides chunks"));
                    }
                }
                _ => {}
            }
        }
        Ok(said)
    }

    /// RFC 9112 6.3.
    fn framing(
        &self,
        status: StatusCode,
        is_bare: bool,
        is_recent: bool,
    ) -> Result<Framing, Malformed> {
        if is_bare || status.is_informational() || matches!(status.as_u16(), 204 | 304) {
            return Ok(Framing::Nothing);
        }
        match (self.coding, self.length) {
            (Some(_), Some(_)) => Err(Malformed("a length and a coding")),
            (Some(_), None) if !is_recent => Err(Malformed("a coding in HTTP/1.0")),
            (Some(Coding::Chunked), None) => Ok(Framing::Chunked),
            (None, Some(length)) => Ok(Framing::Length(length)),
            (Some(Coding::Other) | None, None) => Ok(Framing::Close),
        }
    }
}

impl Coding {
    fn of(value: &[u8]) -> Result<Self, Malformed> {
        let all = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        match all.filter(|one| one.eq_ignore_ascii_case(b"chunked")).count() {
            0 => Ok(Self::Other),
            1 if !value.contains(&b',') => Ok(Self::Chunked),
            _ => Err(Malformed("a coding besides chunks")),
        }
    }
}

/// Digits and nothing else.
fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// As other proxies take.
pub(crate) const MOST_FIELDS: usize = 100;
/// No fields yet.
pub(crate) const UNREAD: Room<'_> = [const { MaybeUninit::uninit() }; MOST_FIELDS];
/// Of one head, and of the trailers of one answer.
pub(crate) const MOST_HEAD: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Head>, Malformed> {
        read_as(text, false)
    }

    fn read_as(text: &str, is_bare: bool) -> Result<Option<Head>, Malformed> {
        Ok(parse(text.as_bytes(), &mut { UNREAD }, is_bare)?.map(|(head, _)| head))
    }

    #[test]
    fn a_head_says_how_its_body_ends() {
        for (fields, framing, is_persistent) in [
            ("content-length: 5\r\n", Framing::Length(5), true),
            ("Content-Length: 5\r\nConnection: Close\r\n", Framing::Length(5), false),
            ("transfer-encoding: Chunked\r\n", Framing::Chunked, true),
            ("connection: keep-alive\r\n", Framing::Close, false),
            ("transfer-encoding: gzip\r\n", Framing::Close, false),
        ] {
            let head = read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\nhello")).unwrap().unwrap();
            assert_eq!((head.framing, head.is_persistent), (framing, is_persistent), "{fields}");
        }
        let old = "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n";
        assert!(!read(old).unwrap().unwrap().is_persistent);
        let kept = "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n";
        assert!(read(kept).unwrap().unwrap().is_persistent);
        let bare = read_as("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", true);
        assert_eq!(bare.unwrap().unwrap().framing, Framing::Nothing);
        let unchanged = "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(read(unchanged).unwrap().unwrap().framing, Framing::Nothing);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for fields in [
            "content-length: 5\r\ncontent-length: 5\r\n",
            "content-length: 5\r\ncontent-length: 6\r\n",
            "content-length: 5, 5\r\n",
            "content-length: +5\r\n",
            "content-length: \r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: gzip\r\ncontent-length: 5\r\n",
            "a : b\r\n",
            "a: b\r\n c\r\n",
            "a: b\rc\r\n",
        ] {
            assert!(read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).is_err(), "{fields}");
        }
        assert!(read("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(read("HTTP/2 200\r\n\r\n").is_err());
        assert_eq!(read("HTTP/1.1 200 OK\r\na: b\r\n"), Ok(None));
        assert!(read(&format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(70_000))).is_err());
        let many = "a: b\r\n".repeat(101);
        assert!(read(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")).is_err());
    }
}
