//! Looks a request up and says what to do for it.

use std::{sync::Arc, time::Duration};

use http::header;

use super::{
    Cache,
    entry::{Entry, State},
    fetch::Fetch,
    flight::{Flight, Wait},
    note::Note,
    parts::{self, Cut},
    pass::Pass,
    question::Question,
    serve::{Outcome, Served, serve, serve_part},
    store::Slot,
    vary,
};

/// What to do for a request.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// Send this.
    Serve(Served),
    /// Send this, and fetch behind the visitor's back.
    Refresh(Served, Fetch),
    /// Ask the back end, and tell the fetch what it says.
    Fetch(Fetch),
    /// Somebody is asking already. Wait, then ask the cache again.
    Wait(Wait),
    /// Ask the back end; the answer will not be stored.
    Pass(Pass),
    /// There is nothing, and the client wants nothing else: 504.
    OnlyIfCached,
}

impl Cache {
    /// What to do for `question`. `has_waited` when it comes back from a [`Wait`].
    pub fn ask(&self, question: &Arc<Question>, has_waited: bool) -> Step {
        let pass = |note| Step::Pass(Pass::new(self, question, note));
        if let Some(bypass) = question.bypass {
            let (why, detail) = bypass.said();
            let note = Note { detail, ..Note::forwarded(why) };
            return match question.may_make_page {
                true => Step::Pass(Pass::post(self, question, note)),
                false => pass(note),
            };
        }
        if question.control.no_store {
            return pass(Note::forwarded("request"));
        }
        let now = self.inner.clock.elapsed();
        let look = Look { cache: self, question, now, has_waited };
        // What is not a hit needs a slot for its flight, except where nobody will wait for it.
        let may_fly = !question.is_head() && !question.control.only_if_cached;
        let store = &self.inner.store;
        let plan = match may_fly {
            true => store.with(&question.key, |slot| look.run(slot)),
            false => store
                .with_existing(&question.key, |slot| look.run(slot))
                .unwrap_or_else(|| look.nothing()),
        };
        // Answers are put together after the lock of the slot is free again.
        match plan {
            Plan::Serve(entry, how) => Step::Serve(serve(&entry, question, now, how)),
            Plan::Part(entry, cut, how) => Step::Serve(serve_part(&entry, cut, now, how)),
            Plan::Refresh(entry, how, fetch) => {
                Step::Refresh(serve(&entry, question, now, how), fetch)
            }
            Plan::Step(step) => step,
        }
    }
}

/// A step whose answer is yet to be made.
enum Plan {
    Serve(Arc<Entry>, (Outcome, Note)),
    Part(Arc<Entry>, Cut, (Outcome, Note)),
    Refresh(Arc<Entry>, (Outcome, Note), Fetch),
    Step(Step),
}

struct Look<'a> {
    cache: &'a Cache,
    question: &'a Arc<Question>,
    now: Duration,
    has_waited: bool,
}

impl Look<'_> {
    fn run(&self, slot: &mut Slot) -> Plan {
        let inner = &self.cache.inner;
        slot.take_out(&inner.store.total, |entry| {
            entry.state(self.now, &inner.tags) == State::Gone || !entry.content.is_readable()
        });
        let found = slot.variants.iter().rev().find(|entry| entry.fits(self.question));
        let found = found.or_else(|| slot.variants.iter().rev().find(|e| e.speaks(self.question)));
        let found = found.cloned();
        let Some(entry) = found else {
            return if self.question.asks_part() { self.part(slot) } else { self.missing(slot) };
        };
        slot.touch();
        // A part can be cut only out of what is there.
        // Whoever waited for this part gets what came in its place.
        let is_coming = entry.content.get().is_none();
        if self.question.asks_part() && is_coming && !self.has_waited {
            return self.pass("partial");
        }
        let state = entry.state(self.now, &inner.tags);
        if self.client_refuses(&entry, state) {
            return self.validate(slot, entry, "request");
        }
        match state {
            State::Fresh(left_ms) => {
                let outcome = if self.has_waited { Outcome::Collapsed } else { Outcome::Hit };
                let is_collapsed = self.has_waited;
                let note = Note { is_collapsed, ..Note::hit(signed(left_ms)) };
                match entry.take_due(self.now) {
                    true => self.renew(slot, entry, (outcome, note)),
                    false => Plan::Serve(entry, (outcome, note)),
                }
            }
            State::Stale(since_ms) => self.stale(slot, entry, since_ms),
            State::Gone => self.missing(slot),
        }
    }

    fn stale(&self, slot: &mut Slot, entry: Arc<Entry>, since_ms: u64) -> Plan {
        let is_sick = slot.sick_until.is_some();
        let may_refresh = since_ms < entry.terms.refresh_ms;
        let may_sick = is_sick && since_ms < self.cache.error_window_ms(&entry.terms);
        if may_refresh || may_sick {
            let detail =
                Some(if may_refresh { "stale-while-revalidate" } else { "stale-if-error" });
            let note = Note { detail, ..Note::hit(-signed(since_ms)) };
            return self.renew(slot, entry, (Outcome::Stale, note));
        }
        if let Some(max_stale_s) = self.question.control.max_stale
            && !entry.terms.is_strict
            && since_ms <= max_stale_s.saturating_mul(1000)
        {
            let note = Note { detail: Some("max-stale"), ..Note::hit(-signed(since_ms)) };
            return Plan::Serve(entry, (Outcome::Stale, note));
        }
        self.validate(slot, entry, "stale")
    }

    /// Serves a stored answer, and has it fetched anew unless somebody does already.
    fn renew(&self, slot: &mut Slot, entry: Arc<Entry>, how: (Outcome, Note)) -> Plan {
        let is_resting = slot.sick_until.is_some_and(|until| self.now < until);
        let selector = selector(slot, self.question);
        let is_flying = slot.flights.iter().any(|flight| flight.selects(&selector));
        if is_resting || is_flying || self.question.is_head() {
            return Plan::Serve(entry, how);
        }
        let flight = Flight::new(selector);
        slot.flights.push(Arc::clone(&flight));
        let stale = (Some(Arc::clone(&entry)), Some(flight));
        let fetch = Fetch::new(self.cache, self.question, stale, Note::forwarded("stale"));
        Plan::Refresh(entry, how, fetch)
    }

    /// Asks the origin about a stored answer that may not be used as it is.
    fn validate(&self, slot: &mut Slot, entry: Arc<Entry>, why: &'static str) -> Plan {
        if self.question.control.only_if_cached {
            return Plan::Step(Step::OnlyIfCached);
        }
        if self.question.is_head() {
            return self.pass(why);
        }
        // Requests for a page that must be asked about each time would queue one behind another.
        if entry.terms.lifetime_ms == 0 || why == "request" {
            return self.fly_alone(slot, Some(entry), Note::forwarded(why));
        }
        self.fly(slot, Some(entry), why)
    }

    fn missing(&self, slot: &mut Slot) -> Plan {
        if self.question.control.only_if_cached {
            return Plan::Step(Step::OnlyIfCached);
        }
        let why = if slot.entries().next().is_none() { "uri-miss" } else { "vary-miss" };
        if self.question.is_head() {
            return self.pass(why);
        }
        if slot.pass_until.is_some_and(|until| self.now < until) {
            let note = Note { detail: Some("hit-for-miss"), ..Note::forwarded(why) };
            return self.fly_alone(slot, None, note);
        }
        let most = self.cache.inner.policy.max_object_bytes;
        let holed = parts::holed(&slot.parts, self.question, most);
        let mut plan = self.fly(slot, None, if holed.is_some() { "partial" } else { why });
        if let Plan::Step(Step::Fetch(fetch)) = &mut plan {
            fetch.holed = holed.map(Box::new);
        }
        plan
    }

    /// For a request for a part of what is not there as a page.
    fn part(&self, slot: &mut Slot) -> Plan {
        let (control, asked) = (&self.question.control, &self.question.headers);
        let is_fresh = |entry: &Entry| {
            let state = entry.state(self.now, &self.cache.inner.tags);
            matches!(state, State::Fresh(_)) && !self.client_refuses(entry, state)
        };
        if let Some((entry, cut)) = parts::find(&slot.parts, self.question, is_fresh) {
            slot.touch();
            let left_ms = entry.terms.lifetime_ms.saturating_sub(entry.age_ms(self.now));
            let is_collapsed = self.has_waited;
            let outcome = if is_collapsed { Outcome::Collapsed } else { Outcome::Hit };
            let note = Note { is_collapsed, ..Note::hit(signed(left_ms)) };
            return Plan::Part(entry, cut, (outcome, note));
        }
        if control.only_if_cached {
            return Plan::Step(Step::OnlyIfCached);
        }
        let why = match slot.parts.iter().any(|part| part.fits(self.question)) {
            true => "partial",
            false if slot.entries().next().is_none() => "uri-miss",
            false => "vary-miss",
        };
        // What depends on more than the range is for this visitor alone.
        let is_plain = !parts::CONDITIONS.iter().any(|name| asked.contains_key(name));
        match slot.part_until.is_some_and(|until| self.now < until) {
            true => {
                let note = Note { detail: Some("hit-for-miss"), ..Note::forwarded(why) };
                self.fly_alone(slot, None, note)
            }
            false if is_plain => self.fly(slot, None, why),
            false => self.fly_alone(slot, None, Note::forwarded(why)),
        }
    }

    /// When the address is not known at all and nothing is to be noted about it.
    fn nothing(&self) -> Plan {
        match self.question.control.only_if_cached {
            true => Plan::Step(Step::OnlyIfCached),
            false => self.pass("uri-miss"),
        }
    }

    fn fly(&self, slot: &mut Slot, entry: Option<Arc<Entry>>, why: &'static str) -> Plan {
        let mut selector = selector(slot, self.question);
        if entry.is_none() && self.question.asks_part() {
            let ranges = self.question.headers.get_all(header::RANGE).iter();
            ranges.for_each(|range| selector.push_str(&format!("{range:?}\n")));
        }
        if let Some(flight) = slot.flights.iter().find(|flight| flight.selects(&selector)) {
            return Plan::Step(Step::Wait(flight.wait()));
        }
        let flight = Flight::new(selector);
        slot.flights.push(Arc::clone(&flight));
        let note = Note::forwarded(why);
        let fetch = Fetch::new(self.cache, self.question, (entry, Some(flight)), note);
        Plan::Step(Step::Fetch(fetch))
    }

    /// Fetches for this visitor, with nobody waiting for it.
    fn fly_alone(&self, slot: &mut Slot, entry: Option<Arc<Entry>>, note: Note) -> Plan {
        let flight = Flight::alone();
        slot.flights.push(Arc::clone(&flight));
        let stale = (entry, Some(flight));
        Plan::Step(Step::Fetch(Fetch::new(self.cache, self.question, stale, note)))
    }

    fn pass(&self, why: &'static str) -> Plan {
        Plan::Step(Step::Pass(Pass::new(self.cache, self.question, Note::forwarded(why))))
    }

    /// Whether the client's own directives (RFC 9111 5.2.1) forbid what is stored.
    fn client_refuses(&self, entry: &Entry, state: State) -> bool {
        let control = &self.question.control;
        let left_ms = if let State::Fresh(left_ms) = state { left_ms } else { 0 };
        let too_old = |max_age_s: u64| entry.age_ms(self.now) >= max_age_s.saturating_mul(1000);
        control.no_cache
            || control.max_age.is_some_and(too_old)
            || control.min_fresh.is_some_and(|fresh_s| left_ms < fresh_s.saturating_mul(1000))
    }
}

/// Requests with equal selectors want the same, as far as the stored answers tell.
fn selector(slot: &Slot, question: &Question) -> String {
    let mut names: Vec<_> = slot.entries().flat_map(|entry| entry.varies_on()).collect();
    names.sort_unstable_by_key(|name| name.as_str());
    names.dedup();
    let mut selector = String::new();
    for name in names {
        selector.push_str(name.as_str());
        match vary::selecting(question, name) {
            // The length keeps two lists of values apart that look alike in a row.
            Some(value) => selector.push_str(&format!("={}:{value}\n", value.len())),
            None => selector.push('\n'),
        }
    }
    selector
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
