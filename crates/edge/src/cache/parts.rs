//! Parts of a page (206) as stored answers: where each belongs, which of them may be used together,
//! and what they answer (RFC 9111 3.3 and 3.4).

use std::sync::{Arc, atomic::AtomicU64};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    Cache,
    claim::Span,
    content::Content,
    entry::{Entry, State},
    question::Question,
    range::{self, Part},
    store::Slot,
};

/// What parts have for a request.
#[derive(Debug)]
pub(super) enum Cut {
    /// One that still comes, or whose length is not what its Content-Range says. It answers the same
    /// question once more, word for word, and nothing else: nobody knows which bytes it has.
    AsItCame,
    /// These bytes.
    Bytes(Span, Vec<Bytes>),
}

/// What is there of a page of known length, but for one hole.
#[derive(Debug)]
pub(super) struct Holed {
    pub(super) newest: Arc<Entry>,
    pub(super) before: Vec<Bytes>,
    pub(super) hole: Span,
    pub(super) after: Vec<Bytes>,
}

/// The stored answer that parts have for `question`, if one of them is fresh.
pub(super) fn find(
    parts: &[Arc<Entry>],
    question: &Question,
    is_fresh: impl Fn(&Entry) -> bool,
) -> Option<(Arc<Entry>, Cut)> {
    if CONDITIONS[..2].iter().any(|name| question.headers.contains_key(name)) {
        return None;
    }
    let fitting = parts.iter().rev().filter(|part| part.fits(question) && is_fresh(part));
    for part in fitting {
        let Some(claim) = &part.claim else { continue };
        let Some(span) = span(part) else {
            let mut asked = question.headers.get_all(header::RANGE).iter();
            let is_same = asked.next() == Some(&claim.asked) && asked.next().is_none();
            let is_plain = !question.headers.contains_key(header::IF_RANGE);
            if is_same && is_plain && part.content.is_readable() {
                return Some((Arc::clone(part), Cut::AsItCame));
            }
            continue;
        };
        // Without a known length only a range with both ends can be inside of anything.
        let length = span.complete.unwrap_or(u64::MAX);
        if let Part::Bytes(from, to) = range::wanted(question, &part.headers, length) {
            let wanted = Span { from, to, complete: span.complete };
            let (runs, end) = forward(&together(parts, part), from, to);
            if end == to {
                return Some((Arc::clone(part), Cut::Bytes(wanted, runs)));
            }
        }
    }
    None
}

/// The page that parts make up but for one hole, which can be asked for by their strong tag.
pub(super) fn holed(
    parts: &[Arc<Entry>],
    question: &Question,
    max_object_bytes: u64,
) -> Option<Holed> {
    let newest = parts.iter().rev().find(|part| part.fits(question) && span(part).is_some())?;
    strong_tag(&newest.headers)?;
    let complete = span(newest)?.complete.filter(|complete| *complete <= max_object_bytes)?;
    let parts = together(parts, newest);
    let (before, from) = forward(&parts, 0, complete);
    let (after, to) = backward(&parts, from, complete);
    let hole = Span { from, to, complete: Some(complete) };
    (from < to && hole.length() < complete).then(|| {
        let newest = Arc::clone(newest);
        Holed { newest, before, hole, after }
    })
}

/// The tag of a representation, if two answers with it have the same bytes.
pub(super) fn strong_tag(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut tags = headers.get_all(header::ETAG).iter();
    let (Some(tag), None) = (tags.next(), tags.next()) else { return None };
    let bytes = tag.as_bytes();
    (bytes.len() >= 2 && bytes.starts_with(b"\"") && bytes.ends_with(b"\"")).then_some(tag)
}

impl Cache {
    /// All of a part has come: what it contradicts goes, and parts that make up the page become it.
    pub(super) fn join(&self, part: &Arc<Entry>) -> Option<Arc<Entry>> {
        let inner = &self.inner;
        let most = inner.policy.max_object_bytes;
        let now = inner.clock.elapsed();
        let is_gone = |entry: &Entry| entry.state(now, &inner.tags) == State::Gone;
        let whole = inner.store.with_existing(&part.key, |slot| {
            // It may have been purged while it came.
            let is_there = slot.parts.iter().any(|other| Arc::ptr_eq(other, part));
            if !is_there || is_gone(part) {
                return None;
            }
            slot.take_out_parts(&inner.store.total, |other| {
                !Arc::ptr_eq(other, part) && (is_gone(other) || replaces(part, other))
            });
            bound(slot, part, most, &inner.store.total);
            let whole = whole(&slot.parts, part, most)?;
            slot.put(Arc::clone(&whole), inner.policy.max_variants, &inner.store.total);
            Some(whole)
        });
        inner.store.make_room();
        whole.flatten()
    }
}

/// Whether `part`, which is newer, leaves no use for `other`.
fn replaces(part: &Entry, other: &Entry) -> bool {
    let (Some(claim), Some(its)) = (&part.claim, &other.claim) else { return false };
    if !part.is_same_variant(other) || other.content.get().is_none() {
        return false;
    }
    if claim.asked == its.asked {
        return true;
    }
    let (Some(own), Some(theirs)) = (span(part), span(other)) else { return false };
    let is_inside = own.from <= theirs.from && theirs.to <= own.to;
    is_inside || !is_same_page(part, other) || !agrees((part, own), (other, theirs))
}

/// Whether both are of one representation, as far as they say.
fn is_same_page(part: &Entry, other: &Entry) -> bool {
    let is_same = |name: &HeaderName| part.headers.get(name) == other.headers.get(name);
    let complete = |entry| span(entry).map(|span| span.complete);
    complete(part) == complete(other)
        && is_same(&header::ETAG)
        && (strong_tag(&part.headers).is_some() || is_same(&header::LAST_MODIFIED))
}

/// Whether both have the same bytes where both have any. A tag may lie.
fn agrees((part, own): (&Entry, Span), (other, theirs): (&Entry, Span)) -> bool {
    let (from, to) = (own.from.max(theirs.from), own.to.min(theirs.to));
    from >= to || common(part, own, (from, to)) == common(other, theirs, (from, to))
}

fn common(part: &Entry, span: Span, (from, to): (u64, u64)) -> Option<&[u8]> {
    part.content.get()?.get((from - span.from) as usize..(to - span.from) as usize)
}

/// The parts of one address take no more room than one page may; the oldest leave first.
fn bound(slot: &mut Slot, newest: &Arc<Entry>, max_bytes: u64, total: &AtomicU64) {
    let mut bytes: u64 = slot.parts.iter().map(|part| part.content.length()).sum();
    while bytes > max_bytes {
        let oldest = slot.parts.iter().find(|part| !Arc::ptr_eq(part, newest)).cloned();
        let Some(oldest) = oldest else { return };
        bytes -= oldest.content.length();
        slot.take_out_parts(total, |other| Arc::ptr_eq(other, &oldest));
    }
}

/// The whole page, if parts that go together with `newest` have all of it.
fn whole(parts: &[Arc<Entry>], newest: &Arc<Entry>, most: u64) -> Option<Arc<Entry>> {
    let complete = span(newest)?.complete.filter(|complete| *complete <= most)?;
    let parts = together(parts, newest);
    let (runs, end) = forward(&parts, 0, complete);
    if end < complete {
        return None;
    }
    let headers = whole_headers(newest.all_headers(), complete);
    // A purge counts for the page if it counts for any part of it.
    let number = parts.iter().map(|part| part.number()).min()?;
    let content = Content::whole(&runs);
    Some(Arc::new(newest.as_whole(headers, content, number)))
}

/// The head of a page of which a part had these fields.
pub(super) fn whole_headers(mut headers: HeaderMap, complete: u64) -> HeaderMap {
    headers.remove(header::CONTENT_RANGE);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(complete));
    headers
}

/// Where the bytes of a part belong, once they are all there and as many as it says.
fn span(part: &Entry) -> Option<Span> {
    let said = part.claim.as_ref()?.said;
    (part.content.get()?.len() as u64 == said.length()).then_some(said)
}

/// Those that are known to be of the same representation as `part`, itself among them. Without a strong
/// tag it stands alone.
fn together<'p>(parts: &'p [Arc<Entry>], part: &'p Arc<Entry>) -> Vec<&'p Arc<Entry>> {
    let is_strong = strong_tag(&part.headers).is_some();
    let goes = |other: &&Arc<Entry>| {
        let is_its_like = is_strong && other.is_same_variant(part) && is_same_page(part, other);
        Arc::ptr_eq(other, part) || is_its_like
    };
    parts.iter().filter(goes).filter(|part| span(part).is_some()).collect()
}

/// Runs of bytes from `from` on without a gap, and where they end, at `to` at the latest.
fn forward(parts: &[&Arc<Entry>], from: u64, to: u64) -> (Vec<Bytes>, u64) {
    let (mut runs, mut at) = (Vec::new(), from);
    while at < to {
        let spans = parts.iter().filter_map(|part| Some((part, span(part)?)));
        let next = spans.filter(|(_, span)| span.from <= at && at < span.to);
        let Some((part, span)) = next.max_by_key(|(_, span)| span.to) else { break };
        let Some(bytes) = part.content.get() else { break };
        let end = span.to.min(to);
        runs.push(bytes.slice((at - span.from) as usize..(end - span.from) as usize));
        at = end;
    }
    (runs, at)
}

/// Runs of bytes up to `to` without a gap, in their order, and where they begin, at `from` at the
/// earliest.
fn backward(parts: &[&Arc<Entry>], from: u64, to: u64) -> (Vec<Bytes>, u64) {
    let (mut runs, mut at) = (Vec::new(), to);
    while at > from {
        let spans = parts.iter().filter_map(|part| Some((part, span(part)?)));
        let next = spans.filter(|(_, span)| span.from < at && at <= span.to);
        let Some((part, span)) = next.min_by_key(|(_, span)| span.from) else { break };
        let Some(bytes) = part.content.get() else { break };
        let begin = span.from.max(from);
        runs.push(bytes.slice((begin - span.from) as usize..(at - span.from) as usize));
        at = begin;
    }
    runs.reverse();
    (runs, at)
}

/// On what an answer to a request for a part depends beside the range.
pub(super) const CONDITIONS: [HeaderName; 3] =
    [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_RANGE];
