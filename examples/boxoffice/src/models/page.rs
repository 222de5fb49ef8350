//! Pages of a list, read by key range: a cursor names the last row seen, never a row number.

use std::{fmt, str::FromStr};

/// Some rows of a list, and where the next page begins.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Pass it as `after` to read on; `None` at the end of the list.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page of at most `limit` rows out of `rows`, of which one more than `limit` was asked for.
    pub(crate) fn cut(mut rows: Vec<T>, limit: u64, cursor: impl Fn(&T) -> Cursor) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(cursor) } else { None };
        Self { items: rows, next }
    }

    /// The same page of other items, such as rows with their authors attached.
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(each).collect(), next: self.next }
    }
}

/// The key of the last row of a page: a day and an id, written `2026-05-01.123`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The day the row sorts by, `YYYY-MM-DD`; empty in lists sorted by id alone.
    pub day: String,
    /// The row's id.
    pub id: i64,
}

impl Cursor {
    /// A cursor of a list sorted by id alone.
    #[must_use]
    pub fn id(id: i64) -> Self {
        Self { day: String::new(), id }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.day.is_empty() {
            true => write!(f, "{}", self.id),
            false => write!(f, "{}.{}", self.day, self.id),
        }
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (day, id) = text.split_once('.').unwrap_or(("", text));
        let is_day = |byte: u8| byte.is_ascii_digit() || byte == b'-';
        if !(day.is_empty() || day.len() == 10 && day.bytes().all(is_day)) {
            return Err(BadCursor);
        }
        let id = id.parse().map_err(|_| BadCursor)?;
        Ok(Self { day: day.to_owned(), id })
    }
}

/// A cursor that this site did not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCursor;

impl fmt::Display for BadCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a page of this list")
    }
}

impl std::error::Error for BadCursor {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_a_url_and_strangers_do_not() {
        for text in ["2026-05-01.123", "77", "2026-05-01.-1"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for text in ["", ".", "2026.1", "x.1", "2026-05-01.", "2026-05-01.x", "1.2.3", "١"] {
            assert_eq!(text.parse::<Cursor>(), Err(BadCursor), "{text}");
        }
    }
}
