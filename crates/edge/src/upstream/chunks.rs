//! Undoes the chunks of an answer.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::{EMPTY_HEADER, Status};

use super::head::{MOST_FIELDS, Malformed};

/// Where in a body of chunks the input begins.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: State,
    extension_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// So many bytes of a chunk are still to come.
    Data(u64),
    /// Its end of line is still to come.
    DataEnd,
    Trailers,
    Over,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    Over,
}

impl Chunks {
    /// Takes the next piece out of `input`; `None` when more has to come.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = line(input)? else { return Ok(None) };
                    let (size, extension_bytes) = size(line)?;
                    let length = line.len();
                    input.advance(length + 2);
                    self.extension_bytes += extension_bytes;
                    if self.extension_bytes > MOST_EXTENSIONS {
                        return Err(Malformed("too much in the extensions of chunks"));
                    }
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(left) => {
                    let come = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    if come == 0 {
                        return Ok(None);
                    }
                    let left = left - come as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Some(Piece::Data(input.split_to(come).freeze())));
                }
                State::DataEnd => {
                    let is_right = b"\r\n".starts_with(&input[..input.len().min(2)]);
                    if !is_right {
                        return Err(Malformed("a chunk longer than it says"));
                    }
                    if input.len() < 2 {
                        return Ok(None);
                    }
                    input.advance(2);
                    self.state = State::Size;
                }
                State::Trailers => {
                    let Some((trailers, length)) = trailers(input)? else { return Ok(None) };
                    input.advance(length);
                    self.state = State::Over;
                    if !trailers.is_empty() {
                        return Ok(Some(Piece::Trailers(trailers)));
                    }
                }
                State::Over => return Ok(Some(Piece::Over)),
            }
        }
    }
}

/// The first line of `input`, which a carriage return and a line feed must end.
fn line(input: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let Some(end) = input.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return match input.len() > MOST_EXTENSIONS {
            true => Err(Malformed("too much in the extensions of chunks")),
            false => Ok(None),
        };
    };
    match input[end..] {
        [b'\r', b'\n', ..] => Ok(Some(&input[..end])),
        [b'\r'] => Ok(None),
        _ => Err(Malformed("a line of chunks that does not end as it should")),
    }
}

/// The size that a line tells, and how many bytes follow it.
fn size(line: &[u8]) -> Result<(u64, usize), Malformed> {
    let wrong = Malformed("the size of a chunk is no number");
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = line[digits..].trim_ascii_start();
    if digits == 0 || !(rest.is_empty() || rest[0] == b';') {
        return Err(wrong);
    }
    let number = std::str::from_utf8(&line[..digits]).map_err(|_| wrong)?;
    let size = u64::from_str_radix(number, 16).map_err(|_| wrong)?;
    Ok((size, line.len() - digits))
}

/// The fields after the last chunk, and how long they are.
fn trailers(input: &[u8]) -> Result<Option<(HeaderMap, usize)>, Malformed> {
    if input.starts_with(b"\r\n") {
        return Ok(Some((HeaderMap::new(), 2)));
    }
    let is_lone = |at: usize| input[at] == b'\n' && (at == 0 || input[at - 1] != b'\r');
    if (0..input.len()).any(is_lone) {
        return Err(Malformed("a line of trailers that does not end as it should"));
    }
    let mut fields = [EMPTY_HEADER; MOST_FIELDS];
    let (length, fields) = match httparse::parse_headers(input, &mut fields) {
        Ok(Status::Complete(parsed)) => parsed,
        Ok(Status::Partial) if input.len() <= MOST_EXTENSIONS => return Ok(None),
        _ => return Err(Malformed("what follows the chunks are no fields")),
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        if let (Ok(name), Ok(value)) = (name, value) {
            trailers.append(name, value);
        }
    }
    Ok(Some((trailers, length)))
}

/// Bytes of extensions in one body, and of its trailers.
const MOST_EXTENSIONS: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and the trailers of `text`, which comes in pieces of `step`; and what is left.
    fn undo(text: &str, step: usize) -> Result<(String, usize, String), Malformed> {
        let (mut chunks, mut input) = (Chunks::default(), BytesMut::new());
        let (mut body, mut fields) = (String::new(), 0);
        for piece in text.as_bytes().chunks(step) {
            input.extend_from_slice(piece);
            while let Some(piece) = chunks.next(&mut input)? {
                match piece {
                    Piece::Data(data) => body.push_str(std::str::from_utf8(&data).unwrap()),
                    Piece::Trailers(trailers) => fields = trailers.len(),
                    Piece::Over => break,
                }
            }
        }
        match chunks.state == State::Over {
            true => Ok((body, fields, String::from_utf8(input.to_vec()).unwrap())),
            false => Err(Malformed("it broke off")),
        }
    }

    #[test]
    fn a_body_is_the_same_in_whatever_pieces_it_comes() {
        let text = "5\r\nhello\r\n1 ;a=b\r\n!\r\n0000\r\nx: y\r\nz: 1\r\n\r\nmore";
        for step in 1..text.len() {
            let expected = ("hello!".to_owned(), 2, "more".to_owned());
            assert_eq!(undo(text, step), Ok(expected), "{step}");
        }
        assert_eq!(undo("0\r\n\r\n", 1), Ok((String::new(), 0, String::new())));
    }

    #[test]
    fn what_is_no_chunk_is_refused_in_whatever_pieces_it_comes() {
        for text in [
            "5\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n0\r\n\r\n",
            "3\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "ffffffffffffffff1\r\nhello",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "0\r\nx: y\n\r\n",
            "0\r\nx y\r\n\r\n",
            "0\r\n\n",
        ] {
            for step in 1..=text.len() {
                assert!(undo(text, step).is_err(), "{text:?} {step}");
            }
        }
        assert!(undo(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(20_000)), 512).is_err());
        assert!(undo(&format!("0\r\nx: {}\r\n\r\n", "a".repeat(20_000)), 512).is_err());
    }
}
