//! When a certificate is valid. It is all that the edge wants to know of X.509 beyond its names.

use crate::cache::date::days_since_1970;

/// `notBefore` and `notAfter` in seconds since 1970; `None` when this is no certificate.
///
/// Source: RFC 5280 4.1: `Certificate { tbs { [0] version, serial, signature, issuer, validity {
/// notBefore, notAfter } … } … }`.
pub(super) fn validity_s(certificate: &[u8]) -> Option<[i64; 2]> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut tbs, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(tbs, VERSION) {
        tbs = rest;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        tbs = element(tbs, tag)?.1;
    }
    let (validity, _) = element(tbs, SEQUENCE)?;
    let (begins_s, validity) = time_s(validity)?;
    let (ends_s, _) = time_s(validity)?;
    Some([begins_s, ends_s])
}

/// A moment in seconds since 1970, and what follows it.
fn time_s(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, text, rest) = tagged(bytes)?;
    let text = std::str::from_utf8(text).ok()?;
    let seconds = match tag {
        UTC_TIME => {
            let years = text.get(..2)?.parse::<i64>().ok()?;
            seconds(if years < 50 { 2000 + years } else { 1900 + years }, text.get(2..)?)
        }
        GENERALIZED_TIME => seconds(text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => None,
    };
    seconds.map(|seconds| (seconds, rest))
}

/// A year, and `MMDDhhmmssZ` in it.
fn seconds(year: i64, rest: &str) -> Option<i64> {
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    let in_day = part(4)? * 3_600 + part(6)? * 60 + part(8)?;
    if rest.get(10..)? != "Z" || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86_400 + in_day)
}

/// The content of the first element, which has this tag, and what follows it.
fn element(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = tagged(bytes)?;
    (tag == wanted).then_some((content, rest))
}

fn tagged(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_become_seconds() {
        assert_eq!(seconds(1970, "0101000000Z"), Some(0));
        assert_eq!(seconds(2000, "0229235959Z"), Some(951_868_799));
        assert_eq!(seconds(2038, "0119031408Z"), Some(1 << 31));
        assert_eq!(seconds(2026, "1121160000Z"), Some(1_795_276_800));
        assert_eq!(seconds(2026, "1321160000Z"), None);
        assert_eq!(seconds(2026, "11211600Z"), None);
    }

    #[test]
    fn what_is_no_certificate_is_never_valid() {
        for bytes in [b"".as_slice(), b"\x30", b"\x30\x82\xff", b"\x30\x02\x30\x00", &[0x30; 99]] {
            assert_eq!(validity_s(bytes), None);
        }
    }
}
