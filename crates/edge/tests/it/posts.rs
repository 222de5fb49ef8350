//! POSTs that say they are the page.

use bytes::Bytes;
use http::HeaderMap;
use throng_edge::cache::{Outcome, Policy, Step};

use crate::site::{CACHE_CONTROL, Site, message, minute, page, read};

fn site() -> Site {
    Site::new(Policy::talks())
}

#[test]
fn a_post_that_says_it_is_the_page_answers_those_who_read_it_afterwards() {
    let site = site();
    let said = |place: &'static str, control: &'static str| {
        move |_: &HeaderMap| page(&[(CACHE_CONTROL, control), ("content-location", place)])
    };
    let silent_origin = |_: &HeaderMap| page(&[]);
    let reads = || site.get("/a?b", || page(&[("x-new", "1")])).outcome;
    let _ = site.get("/a?b", minute);
    for place in ["/a?b", "http://example.org/a?b", "//EXAMPLE.org/a?b", "a?b"] {
        let got = site.ask("POST", "/a?b", &[], said(place, "max-age=60"));
        assert_eq!((got.outcome, &got.body[..]), (Outcome::Pass, &b"0123456789"[..]));
        assert_eq!(got.field("cache-status"), "throng; fwd=method; fwd-status=200; stored");
        assert_eq!(reads(), Outcome::Hit, "{place}");
        assert_eq!(site.ask("HEAD", "/a?b", &[], silent_origin).outcome, Outcome::Hit);
        // A POST is never answered from here.
        assert_eq!(site.ask("POST", "/a?b", &[], silent_origin).asked.len(), 1);
        assert_eq!(
            reads(),
            Outcome::Miss,
            "the second one said nothing, so it has only changed it"
        );
    }
    for (place, control) in [
        ("/a?b", "private, max-age=60"),
        ("/a?b", "no-store"),
        ("/a?b", "max-age=0"),
        ("/a?b", "public"),
        ("/a?c", "max-age=60"),
        ("/a", "max-age=60"),
        ("http://other.org/a?b", "max-age=60"),
    ] {
        let _ = site.ask("POST", "/a?b", &[], said(place, control));
        assert_eq!(reads(), Outcome::Miss, "{place} {control}");
    }
    for (name, value) in [
        ("cookie", "sessionid=ann"),
        ("cookie", "_ga=1"),
        ("authorization", "Basic eA=="),
        ("if-match", "\"1\""),
        ("range", "bytes=0-1"),
    ] {
        let _ = site.ask("POST", "/a?b", &[(name, value)], said("/a?b", "max-age=60"));
        assert_eq!(reads(), Outcome::Miss, "{name}");
    }
    let put = site.ask("PUT", "/a?b", &[], said("/a?b", "max-age=60"));
    assert!(!put.field("cache-status").contains("stored"));
    assert_eq!(reads(), Outcome::Miss);
    let fails = |_: &HeaderMap| {
        let (_, fields, body) = said("/a?b", "max-age=60")(&HeaderMap::new()).unwrap();
        Some((500, fields, body))
    };
    let _ = site.ask("POST", "/a?b", &[], fails);
    assert_eq!(reads(), Outcome::Hit, "what failed has changed nothing");
}

#[test]
fn a_purge_counts_for_a_post_that_is_on_its_way() {
    let site = site();
    let question = site.question("POST", "/", &[]);
    let said = || {
        let (status, headers, _) =
            message(page(&[(CACHE_CONTROL, "max-age=60"), ("content-location", "/")]).unwrap());
        (status, headers)
    };
    let Step::Pass(pass) = site.cache.ask(&question, false) else { panic!("it passes") };
    site.cache.purge("example.org", "/", false);
    let (status, mut headers) = said();
    assert!(pass.answered(status, &mut headers).is_none());
    // One that is never answered leaves nothing behind, and neither does one that breaks off.
    let Step::Pass(pass) = site.cache.ask(&question, false) else { panic!("it passes") };
    drop(pass);
    let Step::Pass(pass) = site.cache.ask(&question, false) else { panic!("it passes") };
    let (status, mut headers) = said();
    let (served, mut filling) = pass.answered(status, &mut headers).expect("it is kept");
    filling.push(Bytes::from_static(b"01"));
    drop(filling);
    assert_eq!(read(served.body), None);
    assert_eq!((site.cache.bytes(), site.cache.addresses()), (0, 0));
}
