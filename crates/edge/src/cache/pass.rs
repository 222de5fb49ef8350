//! A request that is not for the store, and what its answer does to it all the same.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Method, StatusCode, header};

use super::{
    Cache,
    content::Content,
    control::Control,
    entry::take_surrogate,
    fill::Filling,
    flight::Flight,
    note::Note,
    question::Question,
    serve::{Outcome, Served, serve},
    shelf::Purge,
    terms::{Terms, Times},
};

/// A request whose answer is not stored.
#[derive(Debug)]
#[must_use]
pub struct Pass {
    cache: Cache,
    question: Arc<Question>,
    note: Note,
    /// Where the answer may be kept for those who read.
    posted: Option<Posted>,
}

/// What it takes to keep the answer to a POST.
#[derive(Debug)]
struct Posted {
    flight: Arc<Flight>,
    /// See `tags.rs`: purges after this number count.
    number: u64,
    asked: Duration,
}

impl Pass {
    pub(super) fn new(cache: &Cache, question: &Arc<Question>, note: Note) -> Self {
        Self { cache: cache.clone(), question: Arc::clone(question), note, posted: None }
    }

    /// A POST whose answer may turn out to be a page (RFC 9110 9.3.3).
    pub(super) fn post(cache: &Cache, question: &Arc<Question>, note: Note) -> Self {
        let flight = Flight::alone();
        let inner = &cache.inner;
        let (number, asked) = (inner.tags.now(), inner.clock.elapsed());
        inner.store.with(&question.key, |slot| slot.flights.push(Arc::clone(&flight)));
        let mut pass = Self::new(cache, question, note);
        pass.posted = Some(Posted { flight, number, asked });
        pass
    }

    /// The request that this is for.
    #[must_use]
    pub fn question(&self) -> &Arc<Question> {
        &self.question
    }

    /// The fields to send to the origin.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        self.question.onward_headers()
    }

    /// The origin has answered: what was stored for addresses that the request has changed goes
    /// (RFC 9111 4.4), and the answer gets its Cache-Status. With what is returned, if anything, send
    /// that in its place, and put the body into the filling.
    #[must_use]
    pub fn answered(
        self,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) -> Option<(Served, Filling)> {
        let kept = self.keep_post(status, headers);
        let method = &self.question.method;
        let is_safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method);
        if !is_safe && (status.is_success() || status.is_redirection()) {
            self.invalidate(headers, kept.is_some());
        }
        if *method == Method::HEAD && status == StatusCode::OK {
            self.compare_head(headers);
        }
        take_surrogate(headers);
        let note = Note { forward_status: Some(status.as_u16()), ..self.note.clone() };
        note.append_to(headers);
        kept
    }

    /// Keeps the answer to a POST where it says that it is the page at this address, and for how long.
    fn keep_post(&self, status: StatusCode, headers: &HeaderMap) -> Option<(Served, Filling)> {
        let posted = self.posted.as_ref().filter(|_| status == StatusCode::OK)?;
        let inner = &self.cache.inner;
        let mut places = headers.get_all(header::CONTENT_LOCATION).iter();
        let (Some(place), None) = (places.next(), places.next()) else { return None };
        let target = self.own_target(place.to_str().ok()?)?;
        if self.question.uri.path_and_query().map(|own| own.as_str()) != Some(target.as_str()) {
            return None;
        }
        let control = Control::of_response(headers);
        let is_said = control.s_maxage.or(control.max_age).is_some()
            || !control.is_targeted && headers.contains_key(header::EXPIRES);
        let times = Times {
            asked: posted.asked,
            answered: inner.clock.elapsed(),
            answered_unix_ms: inner.clock.now_ms(),
        };
        let head = (status, headers);
        let terms = Terms::of(&inner.policy, &self.question, head, &control, times).ok()?;
        if !is_said || terms.lifetime_ms == 0 {
            return None;
        }
        let length = headers.get(header::CONTENT_LENGTH);
        let declared = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let whose = (&*self.question, posted.number);
        let head = (status, headers.clone());
        let entry = self.cache.entry(whose, (terms, head), Content::coming(), times);
        // What is there by now is of before the change, and a purge since then counts for this too.
        self.cache.shelve_purge(Purge::Address(self.question.key.as_str().to_owned()));
        let is_kept = inner.store.with(&self.question.key, |slot| {
            let may_stay = !posted.flight.is_revoked();
            slot.clear(&inner.store.total);
            if may_stay {
                slot.put(Arc::clone(&entry), inner.policy.max_variants, &inner.store.total);
            }
            may_stay
        });
        inner.store.make_room();
        let note =
            Note { forward_status: Some(status.as_u16()), is_stored: true, ..self.note.clone() };
        let how = (Outcome::Pass, note);
        is_kept.then(|| {
            let served = serve(&entry, &self.question, times.answered, how);
            (served, Filling::new(&self.cache, Arc::clone(&entry), declared))
        })
    }

    fn invalidate(&self, headers: &HeaderMap, is_kept: bool) {
        let own = self.question.uri.path_and_query().map_or("/", |target| target.as_str());
        if !is_kept {
            self.cache.forget(&self.question.host, own, false);
        }
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            let place = headers.get(name).and_then(|place| place.to_str().ok());
            let target = place.and_then(|place| self.own_target(place));
            if let Some(target) = target.filter(|target| !is_kept || target != own) {
                self.cache.forget(&self.question.host, &target, false);
            }
        }
    }

    /// The target of a reference to this host; others are not ours to invalidate.
    fn own_target(&self, place: &str) -> Option<String> {
        let place = place.split('#').next().unwrap_or(place);
        let rest = match place.split_once("://") {
            Some((_, rest)) => rest,
            None => match place.strip_prefix("//") {
                Some(rest) => rest,
                None if place.starts_with('/') => return Some(place.to_owned()),
                None => {
                    let path = self.question.uri.path();
                    let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
                    return Some(format!("{folder}{place}"));
                }
            },
        };
        let (authority, target) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        authority.eq_ignore_ascii_case(&self.question.host).then(|| target.to_owned())
    }

    /// RFC 9111 4.3.5: a HEAD that tells of another body than the stored one makes that one stale.
    fn compare_head(&self, headers: &HeaderMap) {
        self.cache.inner.store.with_existing(&self.question.key, |slot| {
            for entry in slot.entries().filter(|entry| entry.fits(&self.question)) {
                let differs = |name: &HeaderName| {
                    // The length of a part is not the page's.
                    let counts = entry.claim.is_none() || name != header::CONTENT_LENGTH;
                    let new = headers.get(name).filter(|_| counts);
                    new.is_some_and(|new| entry.headers.get(name) != Some(new))
                };
                if [header::ETAG, header::LAST_MODIFIED, header::CONTENT_LENGTH].iter().any(differs)
                {
                    entry.soften();
                }
            }
        });
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(Posted { flight, .. }) = self.posted.take() {
            self.cache.inner.store.with_existing(&self.question.key, |slot| {
                slot.flights.retain(|other| !Arc::ptr_eq(other, &flight));
            });
        }
    }
}
