//! Parts of a page that changes, under random visits: no bytes are ever those of another page.

use proptest::prelude::*;
use throng_edge::cache::Policy;

use crate::{
    parts::{LATER, LETTERS, letters},
    site::Site,
};

/// What visitors do to a page that changes.
#[derive(Clone, Debug)]
enum Move {
    Range(usize, usize),
    From(usize),
    Last(usize),
    All,
    Change,
    Wait(u64),
    Purge,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (0..26_usize, 0..26_usize).prop_map(|(a, b)| Move::Range(a.min(b), a.max(b))),
        1 => (0..26_usize).prop_map(Move::From),
        1 => (1..30_usize).prop_map(Move::Last),
        2 => Just(Move::All),
        1 => Just(Move::Change),
        2 => (0..40_000_u64).prop_map(Move::Wait),
        1 => Just(Move::Purge),
    ];
    prop::collection::vec(one, 1..40)
}

/// Whatever was asked before: bytes are those of the page whose tag they carry, which is not older than
/// a minute and was not purged, and a part says which bytes it has.
fn check(moves: &[Move], heeds_if_range: bool) {
    let site = Site::new(Policy::rfc());
    let versions = [LETTERS, LATER, "0123456789!?abcdefghijklmn"];
    let tags = ["\"0\"", "\"1\"", "\"2\""];
    // When each version was last sent by the origin.
    let (mut now_ms, mut current) = (0_u64, 0_usize);
    let sent = std::cell::RefCell::new([None::<u64>; 3]);
    for (step, one) in moves.iter().enumerate() {
        let range = match *one {
            Move::Range(from, to) => Some(format!("bytes={from}-{to}")),
            Move::From(from) => Some(format!("bytes={from}-")),
            Move::Last(count) => Some(format!("bytes=-{count}")),
            Move::All => None,
            Move::Change => {
                current = (current + 1) % 3;
                continue;
            }
            Move::Wait(ms) => {
                site.wait(ms);
                now_ms += ms;
                continue;
            }
            Move::Purge => {
                site.cache.purge("example.org", "/", false);
                *sent.borrow_mut() = [None; 3];
                continue;
            }
        };
        let fields: Vec<_> = range.iter().map(|range| ("range", range.as_str())).collect();
        let got = site.ask("GET", "/", &fields, |asked| {
            let mut asked = asked.clone();
            if !heeds_if_range {
                asked.remove("if-range");
            }
            sent.borrow_mut()[current] = Some(now_ms);
            if asked.get("if-none-match").is_some_and(|tag| tag == tags[current]) {
                return Some((304, vec![("etag", tags[current].to_owned())], ""));
            }
            letters(versions[current], tags[current], &asked)
        });
        let version = tags.iter().position(|tag| *tag == got.field("etag")).unwrap();
        let text = versions[version];
        let sent_ms = sent.borrow()[version].expect("it was purged");
        assert!(now_ms - sent_ms < 60_000, "step {step}: too old");
        assert!(got.asked.len() <= 2, "step {step}");
        let body = std::str::from_utf8(&got.body).unwrap();
        match got.status {
            200 => assert_eq!(body, text, "step {step}"),
            206 => {
                let (from, rest) =
                    got.field("content-range")[6..].split_once('-').expect("a range");
                let (last, complete) = rest.split_once('/').unwrap();
                let (from, last): (usize, usize) = (from.parse().unwrap(), last.parse().unwrap());
                assert_eq!((&text[from..=last], "26"), (body, complete), "step {step}");
                let asked = match *one {
                    Move::Range(from, to) => (from, to),
                    Move::From(from) => (from, 25),
                    Move::Last(count) => (26 - count.min(26), 25),
                    _ => panic!("nobody asked for a part"),
                };
                assert_eq!((from, last), asked, "step {step}");
            }
            status => panic!("step {step}: {status}"),
        }
    }
    site.cache.purge("example.org", "/", false);
    assert_eq!(site.cache.bytes(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_asked_before_bytes_are_those_of_the_page_that_they_are_said_to_be_of(
        moves in moves(),
        heeds_if_range in any::<bool>(),
    ) {
        check(&moves, heeds_if_range);
    }
}

/// `THRONG_TEST_LONG` runs a hundred times as many.
fn cases() -> u32 {
    if std::env::var_os("THRONG_TEST_LONG").is_some() { 100_000 } else { 1_000 }
}
