//! The cache against a naive model: a list of everything that was ever stored, searched in full.

use std::cell::Cell;

use proptest::prelude::*;
use throng_edge::cache::{Outcome, Policy};

use crate::site::{CACHE_CONTROL, Said, Site};

/// How the pages of the site say that they may be kept, in seconds.
#[derive(Clone, Copy, Debug)]
struct Terms {
    control: &'static str,
    lifetime: u64,
    refresh: u64,
    error: u64,
    is_validated: bool,
    tag: &'static str,
}

const PAGES: [Terms; 5] = [
    Terms {
        control: "max-age=10",
        lifetime: 10,
        refresh: 0,
        error: 86_400,
        is_validated: false,
        tag: "a",
    },
    Terms {
        control: "max-age=10, stale-while-revalidate=5, stale-if-error=20",
        lifetime: 10,
        refresh: 5,
        error: 20,
        is_validated: true,
        tag: "a",
    },
    Terms {
        control: "max-age=3, must-revalidate",
        lifetime: 3,
        refresh: 0,
        error: 0,
        is_validated: true,
        tag: "b",
    },
    Terms {
        control: "max-age=0, stale-if-error=9",
        lifetime: 0,
        refresh: 0,
        error: 9,
        is_validated: true,
        tag: "b",
    },
    Terms { control: "no-store", lifetime: 0, refresh: 0, error: 0, is_validated: false, tag: "b" },
];

#[derive(Clone, Debug)]
enum Move {
    /// Page, language, whether the origin is up.
    Get(usize, usize, bool),
    Wait(u64),
    Change(usize),
    Post(usize),
    Purge(usize, bool),
    PurgeTag(bool, bool),
    Ban(usize, bool),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let page = 0..PAGES.len();
    let one = prop_oneof![
        6 => (page.clone(), 0..2_usize, prop::bool::weighted(0.8)).prop_map(|(p, l, up)| Move::Get(p, l, up)),
        3 => (0..7_000_u64).prop_map(Move::Wait),
        1 => Just(Move::Wait(30_000)),
        2 => page.clone().prop_map(Move::Change),
        1 => page.clone().prop_map(Move::Post),
        1 => (page.clone(), any::<bool>()).prop_map(|(p, soft)| Move::Purge(p, soft)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(a, soft)| Move::PurgeTag(a, soft)),
        1 => (page, any::<bool>()).prop_map(|(p, soft)| Move::Ban(p, soft)),
    ];
    prop::collection::vec(one, 1..60)
}

/// One answer that the origin has given and that may be in the store.
#[derive(Clone, Debug)]
struct Record {
    page: usize,
    language: usize,
    version: u32,
    stored_ms: u64,
    is_soft: bool,
}

#[derive(Default)]
struct Model {
    now_ms: u64,
    records: Vec<Record>,
    versions: [u32; PAGES.len()],
    /// Since when a stale answer of the page rests before the origin is asked again.
    sick: [Option<u64>; PAGES.len()],
}

impl Model {
    fn stale_ms(&self, record: &Record) -> Option<u64> {
        let age = self.now_ms - record.stored_ms;
        let lifetime = PAGES[record.page].lifetime * 1000;
        if record.is_soft {
            return Some(age.saturating_sub(lifetime));
        }
        age.checked_sub(lifetime)
    }

    /// What a visitor must get: the outcome, the version, and whether the origin is asked.
    fn get(&mut self, page: usize, language: usize, is_up: bool) -> (Option<Outcome>, u32, bool) {
        let terms = PAGES[page];
        let current = self.versions[page];
        let at = self.records.iter().position(|r| r.page == page && r.language == language);
        let Some(at) = at else {
            if is_up {
                self.store(page, language, current);
                return (Some(Outcome::Miss), current, true);
            }
            return (None, 0, true);
        };
        let record = self.records[at].clone();
        let Some(since) = self.stale_ms(&record) else {
            return (Some(Outcome::Hit), record.version, false);
        };
        let may_fail = since < terms.error * 1000;
        let is_sick = self.sick[page].is_some();
        if since < terms.refresh * 1000 || is_sick && may_fail {
            let rests = self.sick[page].is_some_and(|until| self.now_ms < until);
            if !rests {
                self.asked(page, language, is_up, may_fail);
            }
            return (Some(Outcome::Stale), record.version, !rests);
        }
        let is_unchanged = terms.is_validated && record.version == current;
        self.asked(page, language, is_up, may_fail);
        match is_up {
            true if is_unchanged => (Some(Outcome::Validated), current, true),
            true => (Some(Outcome::Miss), current, true),
            false if may_fail => (Some(Outcome::Stale), record.version, true),
            false => (None, 0, true),
        }
    }

    fn asked(&mut self, page: usize, language: usize, is_up: bool, may_fail: bool) {
        if is_up {
            self.store(page, language, self.versions[page]);
        } else if may_fail {
            self.sick[page] = Some(self.now_ms + 1_000);
        }
    }

    fn store(&mut self, page: usize, language: usize, version: u32) {
        self.sick[page] = None;
        self.records.retain(|r| r.page != page || r.language != language);
        if PAGES[page].control != "no-store" {
            let stored_ms = self.now_ms;
            self.records.push(Record { page, language, version, stored_ms, is_soft: false });
        }
    }

    fn purge(&mut self, is_soft: bool, is_meant: impl Fn(&Record) -> bool) {
        match is_soft {
            true => self.records.iter_mut().filter(|r| is_meant(r)).for_each(|r| r.is_soft = true),
            false => self.records.retain(|r| !is_meant(r)),
        }
    }
}

fn check(moves: &[Move]) {
    let mut policy = Policy::rfc();
    policy.grace_ms = 0;
    let site = Site::new(policy);
    let mut model = Model::default();
    for (step, one) in moves.iter().enumerate() {
        match *one {
            Move::Get(page, language, is_up) => {
                let expected = model.get(page, language, is_up);
                let was_asked = Cell::new(false);
                let language = ["de", "en"][language];
                let got = site.ask(
                    "GET",
                    &format!("/{page}"),
                    &[("accept-language", language)],
                    |asked| {
                        was_asked.set(true);
                        let known =
                            asked.get("if-none-match").map(|tag| tag.to_str().unwrap().to_owned());
                        is_up.then(|| answer(page, model.versions[page], known.as_deref()))
                    },
                );
                let version = got
                    .headers
                    .get("x-version")
                    .map_or(0, |v| v.to_str().unwrap().parse().unwrap());
                let outcome = (got.status != 502).then_some(got.outcome);
                let seen = (outcome, version, was_asked.get());
                assert_eq!(seen, expected, "step {step}: {one:?}");
            }
            Move::Wait(ms) => {
                site.wait(ms);
                model.now_ms += ms;
            }
            Move::Change(page) => model.versions[page] += 1,
            Move::Post(page) => {
                let _ = site.ask("POST", &format!("/{page}"), &[], |_| Some((200, vec![], "")));
                model.purge(false, |r| r.page == page);
                model.sick[page] = None;
            }
            Move::Purge(page, is_soft) => {
                site.cache.purge("example.org", &format!("/{page}"), is_soft);
                model.purge(is_soft, |r| r.page == page);
                if !is_soft {
                    model.sick[page] = None;
                }
            }
            Move::PurgeTag(is_a, is_soft) => {
                let tag = if is_a { "a" } else { "b" };
                site.cache.purge_tag(tag, is_soft);
                model.purge(is_soft, |r| PAGES[r.page].tag == tag);
            }
            Move::Ban(page, is_soft) => {
                site.cache.ban(&format!("*/{page}"), is_soft);
                model.purge(is_soft, |r| r.page == page);
            }
        }
    }
}

fn answer(page: usize, version: u32, known: Option<&str>) -> Said {
    let tag = format!("\"{version}\"");
    let is_known = known == Some(tag.as_str());
    let mut fields = vec![
        (CACHE_CONTROL, PAGES[page].control.to_owned()),
        ("vary", "accept-language".to_owned()),
        ("surrogate-key", PAGES[page].tag.to_owned()),
        ("x-version", version.to_string()),
    ];
    if PAGES[page].is_validated {
        fields.push(("etag", tag));
    }
    if is_known { (304, fields, "") } else { (200, fields, "body") }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cache_does_what_a_list_of_everything_would(moves in moves()) {
        check(&moves);
    }
}

/// `THRONG_TEST_LONG` runs a hundred times as many schedules.
fn cases() -> u32 {
    if std::env::var_os("THRONG_TEST_LONG").is_some() { 100_000 } else { 1_000 }
}
