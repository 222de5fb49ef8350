//! The bytes of a pickle, taken off one by one: lengths, numbers, lines and what is written in them.

use super::PickleError;

/// What is left of a pickle.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], PickleError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(PickleError::Broken)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], PickleError> {
        self.take(LEN)?.try_into().map_err(|_| PickleError::Broken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn length1(&mut self) -> Result<usize, PickleError> {
        Ok(self.byte()?.into())
    }

    pub(super) fn length4(&mut self) -> Result<usize, PickleError> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| PickleError::Broken)
    }

    pub(super) fn length8(&mut self) -> Result<usize, PickleError> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| PickleError::Broken)
    }

    pub(super) fn raw_line(&mut self) -> Result<&'a [u8], PickleError> {
        let end = self.0.iter().position(|b| *b == b'\n').ok_or(PickleError::Broken)?;
        Ok(&self.take(end + 1)?[..end])
    }

    pub(super) fn line(&mut self) -> Result<&'a str, PickleError> {
        std::str::from_utf8(self.raw_line()?).map_err(|_| PickleError::Broken)
    }

    /// A little-endian two's complement number of any length.
    pub(super) fn long(&mut self, len: usize) -> Result<i64, PickleError> {
        let bytes = self.take(len)?;
        let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut number = [fill; 8];
        let (low, high) = bytes.split_at(len.min(8));
        number[..low.len()].copy_from_slice(low);
        let number = i64::from_le_bytes(number);
        if high.iter().any(|byte| *byte != fill) || (number < 0) != (fill != 0) {
            return Err(PickleError::Large);
        }
        Ok(number)
    }

    /// Text with its length before it.
    pub(super) fn text(&mut self, len: usize) -> Result<String, PickleError> {
        String::from_utf8(self.take(len)?.to_vec()).map_err(|_| PickleError::Broken)
    }

    /// A line that is a number, or anything else that Rust writes so.
    pub(super) fn number<T: std::str::FromStr>(&mut self) -> Result<T, PickleError> {
        self.line()?.parse().map_err(|_| PickleError::Broken)
    }
}

/// Protocol 0's text: Latin-1 with `\\u0000` and `\\U00000000` for what that lacks.
pub(super) fn raw_unicode(line: &[u8]) -> Result<String, PickleError> {
    let mut units: Vec<u16> = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&first, after)) = rest.split_first() {
        let digits = match (first, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                units.push(first.into());
                rest = after;
                continue;
            }
        };
        let (code, after) = hex(&after[1..], digits)?;
        // Surrogates are joined below, so that halves written one by one make a whole.
        match u16::try_from(code) {
            Ok(unit) => units.push(unit),
            Err(_) => {
                let whole = char::from_u32(code).ok_or(PickleError::Broken)?;
                units.extend(whole.encode_utf16(&mut [0; 2]).iter());
            }
        }
        rest = after;
    }
    String::from_utf16(&units).map_err(|_| PickleError::Broken)
}

/// Protocol 0's bytes: in quotes, with Python's escapes.
pub(super) fn quoted(line: &[u8]) -> Result<Vec<u8>, PickleError> {
    let [quote @ (b'\'' | b'"'), inside @ .., last] = line else {
        return Err(PickleError::Broken);
    };
    if quote != last {
        return Err(PickleError::Broken);
    }
    let mut bytes = Vec::with_capacity(inside.len());
    let mut rest = inside;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let (&escape, after) = rest.split_first().ok_or(PickleError::Broken)?;
        rest = after;
        bytes.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'\\' | b'\'' | b'"' => escape,
            b'x' => {
                let (code, after) = hex(rest, 2)?;
                rest = after;
                u8::try_from(code).map_err(|_| PickleError::Broken)?
            }
            _ => return Err(PickleError::Broken),
        });
    }
    Ok(bytes)
}

fn hex(text: &[u8], digits: usize) -> Result<(u32, &[u8]), PickleError> {
    let (digits, rest) = text.split_at_checked(digits).ok_or(PickleError::Broken)?;
    let code = digits
        .iter()
        .try_fold(0_u32, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?));
    Ok((code.ok_or(PickleError::Broken)?, rest))
}
