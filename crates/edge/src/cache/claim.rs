//! What an answer that is a part says of itself: which bytes of the page it has (Content-Range).

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::question::Question;

/// Bytes of a page, as Content-Range names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u64,
    /// One behind the last.
    pub(super) to: u64,
    /// How long the page is, where that is told.
    pub(super) complete: Option<u64>,
}

impl Span {
    /// What Content-Range says; `None` when it is missing or says nothing possible.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::CONTENT_RANGE).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let (unit, said) = value.to_str().ok()?.trim().split_once(' ')?;
        let (range, complete) = said.trim().split_once('/')?;
        let (from, last) = range.split_once('-')?;
        let number = |text: &str| -> Option<u64> {
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
        };
        let (from, to) = (number(from)?, number(last)?.checked_add(1)?);
        let complete = if complete == "*" { None } else { Some(number(complete)?) };
        let is_possible = from < to && complete.is_none_or(|complete| to <= complete);
        (unit.eq_ignore_ascii_case("bytes") && is_possible).then_some(Self { from, to, complete })
    }

    pub(super) fn length(self) -> u64 {
        self.to - self.from
    }
}

/// What makes a stored answer a part.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// The Range that it answered.
    pub(super) asked: HeaderValue,
    pub(super) said: Span,
}

impl Claim {
    /// Of an answer to `question`, if it is a part.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap, question: &Question) -> Option<Self> {
        let asked = question.headers.get(header::RANGE).cloned();
        let is_part = status == StatusCode::PARTIAL_CONTENT;
        asked.filter(|_| is_part).zip(Span::of(headers)).map(|(asked, said)| Self { asked, said })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_that_says_nothing_possible_is_none() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(value).unwrap());
            Span::of(&headers).map(|span| (span.from, span.to, span.complete))
        };
        assert_eq!(read("bytes 4-9/10"), Some((4, 10, Some(10))));
        assert_eq!(read("Bytes 0-0/*"), Some((0, 1, None)));
        for value in [
            "bytes 4-9/9",
            "bytes 5-4/10",
            "bytes */10",
            "bytes 4-9",
            "bytes -9/10",
            "bytes 4-/10",
            "bytes +4-9/10",
            "bytes 4-18446744073709551615/*",
            "items 4-9/10",
            "4-9/10",
            "",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
        let mut twice = HeaderMap::new();
        for value in ["bytes 0-1/4", "bytes 2-3/4"] {
            twice.append(header::CONTENT_RANGE, HeaderValue::from_static(value));
        }
        assert_eq!(Span::of(&twice), None);
    }
}
