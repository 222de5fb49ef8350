//! A request on its way to the origin, and what its answer does to the cache.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode, header};

use super::{
    Cache,
    ahead::Ahead,
    content::Content,
    control::Control,
    entry::{Entry, Origin, State, take_surrogate},
    fill::Filling,
    flight::Flight,
    note::Note,
    parts::Holed,
    policy::Policy,
    question::{CONDITIONS, Question},
    serve::{Outcome, Served, serve},
    terms::{Terms, Times},
};

/// A fetch whose answer may be stored. Whoever holds it must ask the origin and say what it said;
/// dropping it lets the next request ask.
#[derive(Debug)]
#[must_use = "others wait for this fetch"]
pub struct Fetch {
    pub(super) cache: Cache,
    pub(super) question: Arc<Question>,
    /// What is stored and may not be used as it is.
    pub(super) stale: Option<Arc<Entry>>,
    pub(super) flight: Option<Arc<Flight>>,
    /// What is stored of it, where only the rest is asked for.
    pub(super) holed: Option<Box<Holed>>,
    pub(super) note: Note,
    /// See `tags.rs`: purges after this number count.
    number: u64,
    pub(super) asked: Duration,
}

/// What to do with the head that the origin sent.
#[derive(Debug)]
#[must_use]
pub enum Answered {
    /// Send this to the visitor, if there is one, and put the origin's body into the filling.
    Fill(Served, Filling),
    /// Send this in its place; the origin's body is not wanted.
    Serve(Served),
    /// Send the origin's answer with these fields; it is not stored.
    Forward(HeaderMap),
    /// What was stored of the page and what the origin said do not go together: ask it again, with the
    /// fields that this fetch has now. It happens once at most.
    Again(Fetch),
}

impl Fetch {
    pub(super) fn new(
        cache: &Cache,
        question: &Arc<Question>,
        (stale, flight): (Option<Arc<Entry>>, Option<Arc<Flight>>),
        note: Note,
    ) -> Self {
        Self {
            number: cache.inner.tags.now(),
            asked: cache.inner.clock.elapsed(),
            cache: cache.clone(),
            question: Arc::clone(question),
            stale,
            flight,
            holed: None,
            note,
        }
    }

    /// The request that this fetch is for.
    #[must_use]
    pub fn question(&self) -> &Arc<Question> {
        &self.question
    }

    /// The fields to send to the origin: the visitor's, with what this cache knows in the place of
    /// what the visitor's own cache knows.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = self.question.onward_headers();
        // When nobody else gets the answer, the visitor's conditions are good enough; whoever waits for a
        // part has asked for the same.
        let is_shared = self.flight.as_ref().is_some_and(|flight| !flight.is_alone());
        let is_page = is_shared && !self.is_of_part();
        if is_page || self.stale.is_some() {
            for name in CONDITIONS {
                headers.remove(name);
            }
        }
        if let Some(stale) = &self.stale {
            stale.add_validators(&mut headers);
        }
        if let Some(holed) = &self.holed {
            holed.ask(&mut headers);
        }
        headers
    }

    /// The origin has answered with this head.
    pub fn answered(mut self, status: StatusCode, headers: HeaderMap) -> Answered {
        let inner = Arc::clone(&self.cache.inner);
        let times = Times {
            asked: self.asked,
            answered: inner.clock.elapsed(),
            answered_unix_ms: inner.clock.now_ms(),
        };
        self.note.forward_status = Some(status.as_u16());
        if status == StatusCode::NOT_MODIFIED
            && let Some(stale) = self.stale.clone()
        {
            return Answered::Serve(self.validated(&stale, &headers, times));
        }
        if is_failure(status)
            && let Some(served) = self.serve_sick(times.answered)
        {
            return Answered::Serve(served);
        }
        if self.is_of_part() {
            return self.part_answered((status, headers), times);
        }
        if let Some(holed) = self.holed.take() {
            if holed.is_filled_by(status, &headers) {
                return self.completed(*holed, &headers, times);
            }
            if Holed::is_refused_by(status) {
                return self.again();
            }
        }
        let control = Control::of_response(&headers);
        match Terms::of(&inner.policy, &self.question, (status, &headers), &control, times) {
            Ok(terms) => self.fill(terms, (status, headers), times),
            Err(why) => {
                self.refuse(status, times.answered);
                self.forward(Some(why), headers)
            }
        }
    }

    /// Stores an answer while it comes.
    pub(super) fn fill(
        self,
        terms: Terms,
        (status, headers): (StatusCode, HeaderMap),
        times: Times,
    ) -> Answered {
        let length = headers.get(header::CONTENT_LENGTH);
        let declared = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let entry = self.coming(terms, (status, headers), times);
        self.keep(&entry);
        let how = (Outcome::Miss, self.stored_note());
        let served = serve(&entry, &self.question, times.answered, how);
        Answered::Fill(served, Filling::new(&self.cache, entry, declared))
    }

    /// Leaves an answer to the visitor, with the reason why nobody else gets it.
    pub(super) fn forward(&self, why: Option<&'static str>, mut headers: HeaderMap) -> Answered {
        take_surrogate(&mut headers);
        let note = Note { detail: why, ..self.note.clone() };
        note.append_to(&mut headers);
        Answered::Forward(headers)
    }

    /// The origin could not be reached or broke off before its head. What may be sent all the same.
    #[must_use]
    pub fn failed(self) -> Option<Served> {
        let now = self.cache.inner.clock.elapsed();
        let served = self.serve_sick(now);
        if served.is_none()
            && let Some(flight) = &self.flight
        {
            flight.failed();
        }
        served
    }

    fn validated(&self, stale: &Arc<Entry>, newer: &HeaderMap, times: Times) -> Served {
        let inner = &self.cache.inner;
        let headers = stale.updated_headers(newer);
        let control = Control::of_response(&headers);
        let mut judged = headers.clone();
        // The age is that of the confirmation, not of the body.
        if let Some(age) = newer.get(header::AGE) {
            judged.insert(header::AGE, age.clone());
        }
        let head = (stale.status, &judged);
        let terms = Terms::of(&inner.policy, &self.question, head, &control, times);
        let is_storable = terms.is_ok();
        let terms = terms.unwrap_or_else(|_| Terms::none());
        let content = Arc::clone(&stale.content);
        let entry = self.entry(terms, (stale.status, headers), content, times);
        let is_stored = is_storable && self.may_store();
        match is_storable {
            true => self.keep(&entry),
            false => self.forget_variant(stale),
        }
        let note = Note { is_stored, ..self.note.clone() };
        serve(&entry, &self.question, times.answered, (Outcome::Validated, note))
    }

    /// An entry whose body is yet to come.
    pub(super) fn coming(
        &self,
        terms: Terms,
        head: (StatusCode, HeaderMap),
        times: Times,
    ) -> Arc<Entry> {
        self.entry(terms, head, Content::coming(), times)
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.cache.inner.policy
    }

    pub(super) fn stored_note(&self) -> Note {
        Note { is_stored: self.may_store(), ..self.note.clone() }
    }

    pub(super) fn entry(
        &self,
        terms: Terms,
        head: (StatusCode, HeaderMap),
        content: Arc<Content>,
        times: Times,
    ) -> Arc<Entry> {
        self.cache.entry((&self.question, self.number), (terms, head), content, times)
    }

    fn may_store(&self) -> bool {
        self.flight.as_ref().is_none_or(|flight| !flight.is_revoked())
    }

    pub(super) fn keep(&self, entry: &Arc<Entry>) {
        let inner = &self.cache.inner;
        inner.store.with(&self.question.key, |slot| {
            // Under the slot's lock: a purge has either revoked the flight, or finds the entry.
            if self.may_store() {
                let (entry, total) = (Arc::clone(entry), &inner.store.total);
                match entry.claim.is_some() {
                    true => {
                        slot.put_part(entry, total);
                        slot.part_until = None;
                    }
                    false => {
                        slot.put(entry, inner.policy.max_variants, total);
                        (slot.pass_until, slot.sick_until) = (None, None);
                    }
                }
            }
            self.land(slot);
        });
        inner.store.make_room();
    }

    /// The answer may not be stored: what it replaces goes, and nobody waits for the next.
    fn refuse(&self, status: StatusCode, now: Duration) {
        let inner = &self.cache.inner;
        let is_failure = status.is_server_error();
        let pause = self.pause(status);
        inner.store.with(&self.question.key, |slot| {
            if !is_failure {
                slot.take_out(&inner.store.total, |entry| entry.fits(&self.question));
                slot.sick_until = None;
            }
            slot.pass_until = Some(now + pause);
            self.land(slot);
        });
        inner.store.make_room();
    }

    /// For how long nobody waits for the next answer after one with this status, which is not stored.
    fn pause(&self, status: StatusCode) -> Duration {
        let policy = self.policy();
        let is_failure = status.is_server_error();
        Duration::from_millis(if is_failure {
            policy.sick_pause_ms
        } else {
            policy.hit_for_miss_ms
        })
    }

    /// The answer to a request for a part may not be stored: nobody waits for the next.
    pub(super) fn refuse_part(&self, status: StatusCode, now: Duration) {
        let inner = &self.cache.inner;
        if self.flight.as_ref().is_none_or(|flight| flight.is_alone()) {
            return;
        }
        inner.store.with(&self.question.key, |slot| {
            slot.part_until = Some(now + self.pause(status));
            self.land(slot);
        });
        inner.store.make_room();
    }

    fn forget_variant(&self, stale: &Arc<Entry>) {
        let inner = &self.cache.inner;
        inner.store.with(&self.question.key, |slot| {
            slot.take_out(&inner.store.total, |entry| Arc::ptr_eq(&entry.content, &stale.content));
            self.land(slot);
        });
    }

    /// What is stored, where it may stand in for an origin that fails.
    fn serve_sick(&self, now: Duration) -> Option<Served> {
        let stale = self.stale.as_ref()?;
        let inner = &self.cache.inner;
        let since_ms = match stale.state(now, &inner.tags) {
            State::Gone => return None,
            State::Fresh(_) => 0,
            State::Stale(since_ms) => since_ms,
        };
        if since_ms >= self.cache.error_window_ms(&stale.terms) || !stale.content.is_readable() {
            return None;
        }
        let pause = Duration::from_millis(inner.policy.sick_pause_ms);
        inner.store.with(&self.question.key, |slot| {
            slot.sick_until = Some(now + pause);
            self.land(slot);
        });
        let ttl_ms = -i64::try_from(since_ms).unwrap_or(i64::MAX);
        let note = Note { detail: Some("stale-if-error"), ..Note::hit(ttl_ms) };
        Some(serve(stale, &self.question, now, (Outcome::Stale, note)))
    }

    /// Takes the flight out of the slot and wakes those who wait for it.
    fn land(&self, slot: &mut super::store::Slot) {
        if let Some(flight) = &self.flight {
            slot.flights.retain(|other| !Arc::ptr_eq(other, flight));
            flight.answered();
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.cache.inner.store.with_existing(&self.question.key, |slot| {
                slot.flights.retain(|other| !Arc::ptr_eq(other, &flight));
            });
        }
    }
}

impl Cache {
    /// What is stored of an answer to `question`, which was asked after this many purges.
    pub(super) fn entry(
        &self,
        (question, number): (&Question, u64),
        (terms, (status, headers)): (Terms, (StatusCode, HeaderMap)),
        content: Arc<Content>,
        times: Times,
    ) -> Arc<Entry> {
        let inner = &self.inner;
        let luck = inner.store.luck(&question.key, times.answered);
        let origin = Origin {
            question,
            ahead: Ahead::new(&inner.policy, &terms, luck),
            terms,
            stored_at: times.answered,
            stored_unix_ms: times.answered_unix_ms,
            number,
        };
        let group = self.group(question.uri.path());
        Arc::new(Entry::new(origin, (status, headers), (content, group), &inner.tags))
    }
}

/// Statuses in whose place RFC 5861 lets a stale answer be sent.
fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}
