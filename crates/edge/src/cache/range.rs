//! The part of a body that a client wants.

use http::{HeaderMap, header};

use super::{date::date_ms, question::Question};

/// What a Range asks for, of a body of known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// No range, or one that is better ignored: several, of another unit, malformed, or of a body
    /// that has changed since.
    Whole,
    /// From the first, up to and without the second.
    Bytes(u64, u64),
    /// Beyond the end.
    Unsatisfiable,
}

pub(super) fn wanted(question: &Question, stored: &HeaderMap, length: u64) -> Part {
    let mut ranges = question.headers.get_all(header::RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Part::Whole };
    if !is_still(question, stored) {
        return Part::Whole;
    }
    range.to_str().map_or(Part::Whole, |range| parse(range, length))
}

/// If-Range: a strong tag, or the exact date of the last change.
fn is_still(question: &Question, stored: &HeaderMap) -> bool {
    let Some(condition) = question.headers.get(header::IF_RANGE) else { return true };
    if condition.as_bytes().starts_with(b"W/") {
        return false;
    }
    if condition.as_bytes().starts_with(b"\"") {
        return stored.get(header::ETAG) == Some(condition);
    }
    let asked = date_ms(&question.headers, &header::IF_RANGE);
    asked.is_some() && asked == date_ms(stored, &header::LAST_MODIFIED)
}

/// One range: `bytes=0-99`, `bytes=100-`, `bytes=-5`. Several at once would let a small request
/// make a large answer, so they get the whole body, which RFC 9110 14.2 allows.
fn parse(range: &str, length: u64) -> Part {
    let Some((unit, spec)) = range.split_once('=') else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Part::Whole;
    }
    let Some((from, to)) = spec.trim().split_once('-') else { return Part::Whole };
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(from), number(to)) {
        (None, Some(suffix)) if from.is_empty() => match suffix.min(length) {
            0 => Part::Unsatisfiable,
            suffix => Part::Bytes(length - suffix, length),
        },
        (Some(from), _) if !to.is_empty() && number(to).is_none_or(|to| to < from) => Part::Whole,
        (Some(from), _) if from >= length => Part::Unsatisfiable,
        (Some(from), to_number) if to.is_empty() || to_number.is_some() => {
            Part::Bytes(from, to_number.map_or(length, |to| to.saturating_add(1).min(length)))
        }
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_ranges_are_cut_to_the_body_and_others_get_all_of_it() {
        for (range, part) in [
            ("bytes=0-1", Part::Bytes(0, 2)),
            ("bytes=5-", Part::Bytes(5, 10)),
            ("bytes=-3", Part::Bytes(7, 10)),
            ("bytes=-30", Part::Bytes(0, 10)),
            ("bytes=8-99999999999999999999999", Part::Bytes(8, 10)),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=-", Part::Whole),
            ("items=0-1", Part::Whole),
            ("bytes", Part::Whole),
        ] {
            assert_eq!(parse(range, 10), part, "{range}");
        }
        assert_eq!(parse("bytes=0-", 0), Part::Unsatisfiable);
    }
}
