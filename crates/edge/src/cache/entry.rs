//! One stored answer.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    ahead::Ahead,
    claim::Claim,
    content::Content,
    control::{Control, SURROGATE_CONTROL},
    date,
    fare::Group,
    key::Key,
    question::Question,
    tags::{Standing, Tag, Tags},
    terms::Terms,
    vary::{self, Selection},
};

/// An answer and the terms under which it may be used. Its head never changes; a validation puts
/// another entry with the same body in its place.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) status: StatusCode,
    /// Without what only one hop concerns, without Age and without what is hidden.
    pub(super) headers: HeaderMap,
    /// What was meant for this cache alone.
    hidden: HeaderMap,
    /// The same as bytes on a connection of HTTP/1.1, from the status line on; made when first used.
    pub(super) wire: OnceLock<Box<[u8]>>,
    pub(super) content: Arc<Content>,
    pub(super) group: Arc<Group>,
    pub(super) terms: Terms,
    ahead: Ahead,
    selection: Selection,
    /// Where it belongs, if it is a part.
    pub(super) claim: Option<Claim>,
    /// When its head came, on the clock that never steps back.
    stored_at: Duration,
    /// The same on the wall, in milliseconds since 1970.
    pub(super) stored_unix_ms: i64,
    /// See [`Tags`]: purges after this number count.
    number: u64,
    tags: Vec<Arc<Tag>>,
    checked_bans: AtomicU64,
    is_softened: AtomicBool,
}

/// What an entry is good for at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// For this many more milliseconds.
    Fresh(u64),
    /// Since this many milliseconds.
    Stale(u64),
    /// Not at all: it was purged.
    Gone,
}

/// What beside the response makes an entry.
pub(super) struct Origin<'a> {
    pub(super) question: &'a Question,
    pub(super) terms: Terms,
    pub(super) ahead: Ahead,
    pub(super) stored_at: Duration,
    /// The same moment on the wall, in milliseconds since 1970.
    pub(super) stored_unix_ms: i64,
    pub(super) number: u64,
}

impl Entry {
    pub(super) fn new(
        origin: Origin<'_>,
        (status, mut headers): (StatusCode, HeaderMap),
        (content, group): (Arc<Content>, Arc<Group>),
        tags: &Tags,
    ) -> Self {
        let withheld = Control::of_response(&headers).withheld;
        strip_hop(&mut headers);
        withheld.iter().for_each(|name| drop(headers.remove(name)));
        headers.remove(header::AGE);
        // It names the one request that fetched the page.
        headers.remove(X_REQUEST_ID);
        // Whoever has a clock says when it came, where its origin has none (RFC 9110 6.6.1).
        if !headers.contains_key(header::DATE)
            && let Ok(date) = HeaderValue::try_from(date::text(origin.stored_unix_ms))
        {
            headers.insert(header::DATE, date);
        }
        let names: Vec<String> = tags_of(&headers);
        let tags = tags.named(names.iter().map(String::as_str), origin.stored_at);
        let hidden = take_surrogate(&mut headers);
        Self {
            key: origin.question.key.clone(),
            claim: Claim::of(status, &headers, origin.question),
            status,
            selection: vary::selection(&headers, origin.question),
            headers,
            wire: OnceLock::new(),
            hidden,
            content,
            group,
            terms: origin.terms,
            ahead: origin.ahead,
            stored_at: origin.stored_at,
            stored_unix_ms: origin.stored_unix_ms,
            number: origin.number,
            tags,
            checked_bans: AtomicU64::new(0),
            is_softened: AtomicBool::new(false),
        }
    }

    /// The page that this is the newest part of.
    pub(super) fn as_whole(&self, headers: HeaderMap, content: Arc<Content>, number: u64) -> Self {
        let mut headers = headers;
        let hidden = take_surrogate(&mut headers);
        Self {
            key: self.key.clone(),
            claim: None,
            status: StatusCode::OK,
            selection: self.selection.clone(),
            headers,
            wire: OnceLock::new(),
            hidden,
            content,
            group: Arc::clone(&self.group),
            terms: self.terms.clone(),
            ahead: self.ahead.clone(),
            stored_at: self.stored_at,
            stored_unix_ms: self.stored_unix_ms,
            number,
            tags: self.tags.clone(),
            checked_bans: AtomicU64::new(0),
            is_softened: AtomicBool::new(self.is_softened.load(Ordering::Relaxed)),
        }
    }

    /// The head of this entry as a 304 (or the 200 of a HEAD) brings it up to date (RFC 9111 3.2).
    pub(super) fn updated_headers(&self, newer: &HeaderMap) -> HeaderMap {
        let mut newer = newer.clone();
        strip_hop(&mut newer);
        let mut headers = self.headers.clone();
        headers.extend(self.hidden.clone());
        // A date that this cache wrote is not the origin's word about now.
        headers.remove(header::DATE);
        for name in newer.keys().filter(|name| !TIED_TO_BODY.contains(name)) {
            headers.remove(name);
            for value in newer.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        headers
    }

    /// The head with what was meant for this cache alone.
    pub(super) fn all_headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.extend(self.hidden.clone());
        headers
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn tags(&self) -> &[Arc<Tag>] {
        &self.tags
    }

    /// What requests that this answers have for each field that it varies on.
    pub(super) fn selection(&self) -> &Selection {
        &self.selection
    }

    pub(super) fn fits(&self, question: &Question) -> bool {
        vary::fits(&self.selection, question)
    }

    /// Whether it is in the one language that the visitor likes best; see [`Policy::selects_language`].
    ///
    /// [`Policy::selects_language`]: super::Policy::selects_language
    pub(super) fn speaks(&self, question: &Question) -> bool {
        vary::speaks(&self.selection, &self.headers, question)
    }

    pub(super) fn is_same_variant(&self, other: &Self) -> bool {
        self.selection == other.selection
    }

    /// The fields that this answer varies on.
    pub(super) fn varies_on(&self) -> impl Iterator<Item = &HeaderName> {
        self.selection.iter().map(|(name, _)| name)
    }

    pub(super) fn state(&self, now: Duration, tags: &Tags) -> State {
        let standing =
            tags.standing(self.key.as_str(), &self.tags, self.number, &self.checked_bans);
        let age_ms = self.age_ms(now);
        let is_softened = self.is_softened.load(Ordering::Relaxed);
        let standing = if is_softened { standing.max(Standing::Soft) } else { standing };
        match standing {
            Standing::Gone => State::Gone,
            // It is as old as if it had just run out, or older.
            Standing::Soft => State::Stale(age_ms.saturating_sub(self.terms.lifetime_ms)),
            Standing::Valid if age_ms < self.terms.lifetime_ms => {
                State::Fresh(self.terms.lifetime_ms - age_ms)
            }
            Standing::Valid => State::Stale(age_ms - self.terms.lifetime_ms),
        }
    }

    pub(super) fn age_ms(&self, now: Duration) -> u64 {
        let resident = now.saturating_sub(self.stored_at);
        let resident_ms = u64::try_from(resident.as_millis()).unwrap_or(u64::MAX);
        self.terms.initial_age_ms.saturating_add(resident_ms)
    }

    /// Whether it is time to fetch it anew, fresh as it is.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.ahead.is_due(self.age_ms(now))
    }

    /// Whether the caller is the one who does.
    pub(super) fn take_due(&self, now: Duration) -> bool {
        self.ahead.take(self.age_ms(now))
    }

    /// Makes it stale from now on.
    pub(super) fn soften(&self) {
        self.is_softened.store(true, Ordering::Relaxed);
    }

    /// What it takes in memory beside its body, about.
    pub(super) fn head_bytes(&self) -> u64 {
        let fields: usize = self
            .headers
            .iter()
            .chain(&self.hidden)
            .map(|(name, value)| name.as_str().len() + value.len() + 64)
            .sum();
        let selection: usize = self
            .selection
            .iter()
            .map(|(_, value)| 64 + value.as_ref().map_or(0, String::len))
            .sum();
        (ENTRY_BYTES + fields + selection + self.tags.len() * 8) as u64
    }

    /// Asks the origin whether this is still what it would send.
    pub(super) fn add_validators(&self, request: &mut HeaderMap) {
        if let Some(tag) = self.headers.get(header::ETAG) {
            request.insert(header::IF_NONE_MATCH, tag.clone());
        }
        if let Some(modified) = self.headers.get(header::LAST_MODIFIED) {
            request.insert(header::IF_MODIFIED_SINCE, modified.clone());
        }
    }
}

/// Takes out what concerns only the connection that the message came on (RFC 9110 7.6.1).
pub(crate) fn strip_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // What frames the message is not the sender's to take away.
        .filter(|name| name != header::HOST && name != header::CONTENT_LENGTH)
        .collect();
    listed.iter().chain(&HOP_BY_HOP).for_each(|name| drop(headers.remove(name)));
}

/// Takes out what was meant for caches like this one.
pub(super) fn take_surrogate(headers: &mut HeaderMap) -> HeaderMap {
    let mut taken = HeaderMap::new();
    for name in [SURROGATE_CONTROL, SURROGATE_KEY, CACHE_TAG] {
        for value in headers.get_all(&name) {
            taken.append(name.clone(), value.clone());
        }
        headers.remove(name);
    }
    taken
}

/// Surrogate-Key is split at spaces, Cache-Tag at commas.
fn tags_of(headers: &HeaderMap) -> Vec<String> {
    let keys = headers.get_all(SURROGATE_KEY).iter().filter_map(|value| value.to_str().ok());
    let keys = keys.flat_map(str::split_ascii_whitespace);
    let tags = headers.get_all(CACHE_TAG).iter().filter_map(|value| value.to_str().ok());
    let tags = tags.flat_map(|text| text.split(',')).map(str::trim);
    keys.chain(tags).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What a 304 cannot change, because the stored body goes with it.
const TIED_TO_BODY: [HeaderName; 6] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    HeaderName::from_static("content-md5"),
    header::ETAG,
    header::AGE,
];

const ENTRY_BYTES: usize = 512;
