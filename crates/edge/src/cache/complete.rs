//! Fetches that have to do with parts: those of a part, and those of what is missing of a page
//! (RFC 9111 3.3).

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    claim::Span,
    control::Control,
    fetch::{Answered, Fetch},
    fill::{Filling, Hole},
    parts::{self, Holed},
    serve::{Outcome, serve},
    terms::{Terms, Times},
};

impl Holed {
    /// The fields that ask for what is missing, and for all if the page is another by now.
    pub(super) fn ask(&self, headers: &mut HeaderMap) {
        let Span { from, to, complete } = self.hole;
        let range = match complete == Some(to) {
            true => format!("bytes={from}-"),
            false => format!("bytes={from}-{}", to - 1),
        };
        let tag = parts::strong_tag(&self.newest.headers);
        if let (Ok(range), Some(tag)) = (HeaderValue::try_from(range), tag) {
            headers.insert(header::RANGE, range);
            headers.insert(header::IF_RANGE, tag.clone());
        }
    }

    /// Whether an answer is what was asked for: those bytes of that page, and as many.
    pub(super) fn is_filled_by(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let length: Option<u64> = length.and_then(|length| length.parse().ok());
        status == StatusCode::PARTIAL_CONTENT
            && Span::of(headers) == Some(self.hole)
            && length.is_none_or(|length| length == self.hole.to - self.hole.from)
            && parts::strong_tag(headers).is_some()
            && parts::strong_tag(headers) == parts::strong_tag(&self.newest.headers)
    }

    /// Whether an answer that does not fill the hole is none to a request for the page either.
    pub(super) fn is_refused_by(status: StatusCode) -> bool {
        matches!(status.as_u16(), 206 | 304 | 412 | 416)
    }
}

impl Fetch {
    /// Whether the visitor wants a part, and gets what the origin says to that.
    pub(super) fn is_of_part(&self) -> bool {
        self.question.asks_part() && self.stale.is_none()
    }

    /// Whether the answer may turn out to be [`Answered::Again`].
    pub(crate) fn may_ask_again(&self) -> bool {
        self.holed.is_some()
    }

    /// What the origin says to somebody who wants a part: the part, or the page.
    pub(super) fn part_answered(
        self,
        (status, headers): (StatusCode, HeaderMap),
        times: Times,
    ) -> Answered {
        if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            self.refuse_part(status, times.answered);
            return self.forward(None, headers);
        }
        let control = Control::of_response(&headers);
        let head = (status, &headers);
        match Terms::of(self.policy(), &self.question, head, &control, times) {
            Ok(terms) => self.fill(terms, (status, headers), times),
            Err(why) => {
                self.refuse_part(status, times.answered);
                self.forward(Some(why), headers)
            }
        }
    }

    /// The origin has sent what was missing.
    pub(super) fn completed(self, holed: Holed, newer: &HeaderMap, times: Times) -> Answered {
        let complete = holed.hole.complete.unwrap_or(holed.hole.to);
        let headers = holed.newest.updated_headers(newer);
        let headers = parts::whole_headers(headers, complete);
        let control = Control::of_response(&headers);
        let mut judged = headers.clone();
        if let Some(age) = newer.get(header::AGE) {
            judged.insert(header::AGE, age.clone());
        }
        let head = (StatusCode::OK, &judged);
        let Ok(terms) = Terms::of(self.policy(), &self.question, head, &control, times) else {
            return self.again();
        };
        let Holed { before, hole, after, .. } = holed;
        let hole = Hole { left: hole.to - hole.from, is_overrun: false, after };
        let entry = self.coming(terms, (StatusCode::OK, headers), times);
        let total = &self.cache.inner.store.total;
        for run in before {
            entry.content.push(run, total);
        }
        self.keep(&entry);
        let how = (Outcome::Miss, self.stored_note());
        let served = serve(&entry, &self.question, times.answered, how);
        Answered::Fill(served, Filling::new(&self.cache, entry, None).of_hole(hole))
    }

    /// What there is of the page is worthless: all of it is asked for.
    pub(super) fn again(mut self) -> Answered {
        let inner = &self.cache.inner;
        inner.store.with_existing(&self.question.key, |slot| {
            slot.take_out_parts(&inner.store.total, |part| part.fits(&self.question));
        });
        self.note.forward_status = None;
        Answered::Again(self)
    }
}
