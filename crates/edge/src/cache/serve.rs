//! Makes an answer for one request out of a stored one: whole, a part, only the head, or the word
//! that nothing has changed.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    claim::Span,
    content::Reader,
    date::date_ms,
    entry::Entry,
    note::Note,
    parts::Cut,
    question::Question,
    range::{self, Part},
};

/// An answer of the cache, ready to send.
#[derive(Debug)]
pub struct Served {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, with Age and Cache-Status.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Stored,
    /// How it came about, for logs and statistics.
    pub outcome: Outcome,
}

/// A body that the cache has, or is getting.
#[derive(Debug)]
pub enum Stored {
    /// All of it.
    Whole(Bytes),
    /// All of it, in several runs.
    Runs(Vec<Bytes>),
    /// It still comes in.
    Coming(Reader),
}

/// What the cache did for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Answered from the store, fresh.
    Hit,
    /// Answered from the store, stale, while it is refreshed or because the back end fails.
    Stale,
    /// Answered with what somebody else was fetching already.
    Collapsed,
    /// The back end said that the stored answer is still right.
    Validated,
    /// Fetched.
    Miss,
    /// Not for the cache.
    Pass,
}

impl Outcome {
    /// One word for logs and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Collapsed => "collapsed",
            Self::Validated => "validated",
            Self::Miss => "miss",
            Self::Pass => "pass",
        }
    }
}

/// Serves `entry`. Its content must be readable.
pub(super) fn serve(
    entry: &Entry,
    question: &Question,
    now: Duration,
    (outcome, note): (Outcome, Note),
) -> Served {
    let mut headers = fields(entry, now, &note);
    let served = |status, headers, body| Served { status, headers, body, outcome };
    let nothing = Stored::Whole(Bytes::new());

    if entry.status == StatusCode::OK && is_unchanged(entry, question) {
        for name in ONLY_WITH_BODY {
            headers.remove(name);
        }
        return served(StatusCode::NOT_MODIFIED, headers, nothing);
    }
    let whole = entry.content.get();
    if let Some(whole) = whole
        && entry.status == StatusCode::OK
        && !question.is_head()
    {
        match range::wanted(question, &entry.headers, whole.len() as u64) {
            Part::Whole => {}
            Part::Bytes(from, to) => {
                let range = format!("bytes {from}-{}/{}", to - 1, whole.len());
                headers.insert(header::CONTENT_RANGE, text(&range));
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
                let part = whole.slice(from as usize..to as usize);
                return served(StatusCode::PARTIAL_CONTENT, headers, Stored::Whole(part));
            }
            Part::Unsatisfiable => {
                let range = format!("bytes */{}", whole.len());
                headers.insert(header::CONTENT_RANGE, text(&range));
                headers.remove(header::CONTENT_LENGTH);
                return served(StatusCode::RANGE_NOT_SATISFIABLE, headers, nothing);
            }
        }
    }
    if question.is_head() {
        if let Some(whole) = whole.filter(|_| !headers.contains_key(header::CONTENT_LENGTH)) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len()));
        }
        return served(entry.status, headers, nothing);
    }
    let body = match whole {
        Some(whole) => Stored::Whole(whole.clone()),
        None => Stored::Coming(entry.content.read()),
    };
    served(entry.status, headers, body)
}

/// The fields of `entry` as it is served `now`.
fn fields(entry: &Entry, now: Duration, note: &Note) -> HeaderMap {
    let mut headers = entry.headers.clone();
    headers.insert(header::AGE, HeaderValue::from(entry.age_ms(now) / 1000));
    note.append_to(&mut headers);
    headers
}

/// Serves a part of a page that is there in parts.
pub(super) fn serve_part(
    entry: &Entry,
    cut: Cut,
    now: Duration,
    (outcome, note): (Outcome, Note),
) -> Served {
    let mut headers = fields(entry, now, &note);
    let body = match cut {
        Cut::AsItCame => match entry.content.get() {
            Some(whole) => Stored::Whole(whole.clone()),
            None => Stored::Coming(entry.content.read()),
        },
        Cut::Bytes(Span { from, to, complete }, mut runs) => {
            let complete = complete.map_or("*".to_owned(), |complete| complete.to_string());
            let range = format!("bytes {from}-{}/{complete}", to - 1);
            headers.insert(header::CONTENT_RANGE, text(&range));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
            match runs.len() {
                1 => Stored::Whole(runs.remove(0)),
                _ => Stored::Runs(runs),
            }
        }
    };
    Served { status: entry.status, headers, body, outcome }
}

/// Whether the client has what `entry` holds (RFC 9110 13.2.2; If-None-Match goes first).
fn is_unchanged(entry: &Entry, question: &Question) -> bool {
    let asked = &question.headers;
    if asked.contains_key(header::IF_NONE_MATCH) {
        let mut tags = asked.get_all(header::IF_NONE_MATCH).iter();
        let own = entry.headers.get(header::ETAG).map(HeaderValue::as_bytes);
        return tags.any(|tags| names_tag(tags.as_bytes(), own));
    }
    let Some(since_ms) = date_ms(asked, &header::IF_MODIFIED_SINCE) else { return false };
    let modified_ms = date_ms(&entry.headers, &header::LAST_MODIFIED)
        .or_else(|| date_ms(&entry.headers, &header::DATE));
    match entry.headers.contains_key(header::LAST_MODIFIED) {
        true => modified_ms.is_some_and(|modified_ms| modified_ms <= since_ms),
        // Only when it was made is known, and that is later than when it changed.
        false => modified_ms.is_some_and(|made_ms| made_ms <= since_ms),
    }
}

/// Whether a list of entity tags has `own`, by the weak comparison.
fn names_tag(list: &[u8], own: Option<&[u8]>) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    let Some(own) = own.map(opaque) else { return false };
    let mut rest = list;
    while !rest.is_empty() {
        rest = rest.trim_ascii_start();
        let start = opaque(rest);
        // A comma may stand inside the quotes.
        let end = match start.first() {
            Some(b'"') => start[1..].iter().position(|byte| *byte == b'"').map(|at| at + 2),
            _ => None,
        };
        let end = end
            .unwrap_or_else(|| start.iter().position(|byte| *byte == b',').unwrap_or(start.len()));
        if start[..end].trim_ascii_end() == own {
            return true;
        }
        let after = &start[end..];
        let next = after.iter().position(|byte| *byte == b',').map_or(after.len(), |at| at + 1);
        rest = &after[next..];
    }
    false
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Digits, spaces and such, made here.
fn text(made: &str) -> HeaderValue {
    HeaderValue::from_str(made).expect("numbers and ASCII are a field value")
}

/// What describes a body that a 304 does not have.
const ONLY_WITH_BODY: [HeaderName; 5] = [
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_RANGE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_tags_is_compared_weakly_and_commas_in_tags_are_part_of_them() {
        let has = |list: &str, own: &str| names_tag(list.as_bytes(), Some(own.as_bytes()));
        assert!(has("\"a\", W/\"b,c\" ,\"d\"", "\"b,c\""));
        assert!(has("\"a\"", "W/\"a\""));
        assert!(has("a, b", "b"));
        assert!(has(" * ", "\"x\""));
        assert!(!has("\"b,c\"", "\"c\""));
        assert!(!has("\"a", "\"a\""));
        assert!(!names_tag(b"\"a\"", None));
    }
}
