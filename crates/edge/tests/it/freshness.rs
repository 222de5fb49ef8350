//! What RFC 9111 says about storing, freshness, validation and selection.

use throng_edge::cache::{Outcome, Policy};

use crate::site::{CACHE_CONTROL, START_MS, Site, date, minute, page};

fn site() -> Site {
    Site::new(Policy::rfc())
}

/// Whether a second request `after_ms` is answered from the store.
fn is_reused(fields: &[(&'static str, &str)], after_ms: u64) -> bool {
    let site = site();
    assert_eq!(site.get("/", || page(fields)).asked.len(), 1);
    site.wait(after_ms);
    site.get("/", || page(fields)).asked.is_empty()
}

#[test]
fn a_page_is_fresh_for_as_long_as_it_says_and_no_longer() {
    for (fields, ms) in [
        (vec![(CACHE_CONTROL, "max-age=60".to_owned())], 60_000),
        (vec![(CACHE_CONTROL, "max-age=600, s-maxage=60".to_owned())], 60_000),
        (vec![("expires", date(START_MS + 60_000))], 60_000),
        (vec![("expires", date(START_MS + 5_000)), (CACHE_CONTROL, "max-age=60".into())], 60_000),
        (vec![(CACHE_CONTROL, "max-age=60".into()), ("age", "40".into())], 20_000),
        (
            vec![(CACHE_CONTROL, "no-store".into()), ("cdn-cache-control", "max-age=9".into())],
            9_000,
        ),
        (vec![("last-modified", date(START_MS - 100_000)), ("date", date(START_MS))], 10_000),
        // Apparent age: the date is 30 s back, of which up to one is rounding.
        (vec![("date", date(START_MS - 30_000)), (CACHE_CONTROL, "max-age=60".into())], 30_999),
    ] {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert!(is_reused(&fields, ms - 1), "{fields:?} just before {ms} ms");
        assert!(!is_reused(&fields, ms), "{fields:?} at {ms} ms");
    }
}

#[test]
fn what_must_not_be_stored_is_not() {
    for fields in [
        vec![],
        vec![(CACHE_CONTROL, "no-store, max-age=60")],
        vec![(CACHE_CONTROL, "private, max-age=60")],
        vec![(CACHE_CONTROL, "max-age=60"), ("vary", "accept, *")],
        vec![(CACHE_CONTROL, "max-age=60"), ("cdn-cache-control", "no-store")],
        vec![(CACHE_CONTROL, "max-age=60"), ("surrogate-control", "no-store")],
        vec![("expires", "0")],
    ] {
        assert!(!is_reused(&fields, 0), "{fields:?}");
    }
}

#[test]
fn an_answer_to_authorization_is_stored_only_where_it_says_so() {
    for (control, is_shared) in [
        ("max-age=60", false),
        ("max-age=60, public", true),
        ("s-maxage=60", true),
        ("max-age=60, must-revalidate", true),
    ] {
        let site = site();
        let answer = || page(&[(CACHE_CONTROL, control)]);
        let _ = site.ask("GET", "/", &[("authorization", "x")], |_| answer());
        assert_eq!(site.get("/", answer).asked.is_empty(), is_shared, "{control}");
    }
}

#[test]
fn a_stale_page_is_validated_and_takes_the_new_fields() {
    let site = site();
    let tagged =
        |color| page(&[(CACHE_CONTROL, "max-age=9"), ("etag", "\"1\""), ("x-color", color)]);
    let _ = site.get("/", || tagged("red"));
    site.wait(9_000);
    let got = site.get("/", || {
        let (_, fields, _) = tagged("blue").unwrap();
        Some((304, fields, ""))
    });
    assert_eq!(
        (got.outcome, got.status, &got.body[..]),
        (Outcome::Validated, 200, &b"0123456789"[..])
    );
    assert_eq!(got.asked[0]["if-none-match"], "\"1\"");
    assert_eq!(got.field("x-color"), "blue");
    site.wait(8_999);
    let got = site.get("/", || None);
    assert_eq!((got.outcome, got.field("x-color"), got.field("age")), (Outcome::Hit, "blue", "8"));
}

#[test]
fn visitors_with_a_copy_of_their_own_are_told_that_it_is_right() {
    let site = site();
    let changed = date(START_MS - 5_000);
    let answer =
        || page(&[(CACHE_CONTROL, "max-age=60"), ("etag", "W/\"a\""), ("last-modified", &changed)]);
    // The first one too: the store needs the page, the visitor does not.
    let earlier = date(START_MS - 6_000);
    for (fields, status) in [
        ([("if-none-match", "\"a\"")], 304),
        ([("if-none-match", "\"b\", W/\"a\"")], 304),
        ([("if-none-match", "\"b\"")], 200),
        ([("if-modified-since", changed.as_str())], 304),
        ([("if-modified-since", earlier.as_str())], 200),
    ] {
        let got = site.ask("GET", "/", &fields, |headers| {
            assert!(!headers.contains_key("if-none-match"));
            answer()
        });
        assert_eq!(got.status, status, "{fields:?}");
        assert_eq!(got.field("etag"), "W/\"a\"");
        assert_eq!(got.body.is_empty(), status == 304);
    }
}

#[test]
fn parts_are_cut_out_of_a_stored_whole_and_fetched_as_they_are_otherwise() {
    let site = site();
    let ranged = |site: &Site, range: &str| {
        site.ask("GET", "/", &[("range", range)], |headers| {
            assert_eq!(headers["range"], range);
            Some((206, vec![(CACHE_CONTROL, "max-age=60".into())], "12"))
        })
    };
    assert_eq!(ranged(&site, "bytes=1-2").outcome, Outcome::Miss);
    let _ = site.get("/", minute);
    let got = ranged(&site, "bytes=1-2");
    assert_eq!((got.status, got.outcome, &got.body[..]), (206, Outcome::Hit, &b"12"[..]));
    assert_eq!((got.field("content-range"), got.field("content-length")), ("bytes 1-2/10", "2"));
    let got = ranged(&site, "bytes=99-");
    assert_eq!((got.status, got.field("content-range")), (416, "bytes */10"));
    assert_eq!(ranged(&site, "bytes=0-1,5-6").status, 200);
}

#[test]
fn head_is_answered_from_a_stored_get_without_its_body() {
    let site = site();
    let _ = site.get("/", minute);
    let got = site.ask("HEAD", "/", &[], |_| None);
    assert_eq!((got.status, got.outcome, got.body.len()), (200, Outcome::Hit, 0));
    assert_eq!(got.field("content-length"), "10");
}

#[test]
fn a_head_that_tells_of_a_new_body_makes_the_stored_one_stale() {
    let site = site();
    let tagged = |tag| page(&[(CACHE_CONTROL, "max-age=60"), ("etag", tag)]);
    let _ = site.get("/", || tagged("\"1\""));
    site.wait(60_000);
    let _ = site.ask("HEAD", "/", &[], |_| tagged("\"1\""));
    let _ = site.get("/", || tagged("\"1\""));
    assert!(site.get("/", || None).asked.is_empty());
    // With a directive of its own a client can see the origin past a fresh page.
    let _ = site.ask("HEAD", "/", &[(CACHE_CONTROL, "no-cache")], |_| tagged("\"2\""));
    assert_eq!(site.get("/", || tagged("\"2\"")).asked[0]["if-none-match"], "\"1\"");
}

#[test]
fn each_variant_is_stored_beside_the_others() {
    let site = site();
    let answer = || page(&[(CACHE_CONTROL, "max-age=60"), ("vary", "Accept-Encoding, X-A")]);
    let ask = |fields: &[(&str, &str)]| site.ask("GET", "/", fields, |_| answer()).asked.len();
    assert_eq!(ask(&[("accept-encoding", "gzip")]), 1);
    assert_eq!(ask(&[("accept-encoding", "br")]), 1);
    assert_eq!(ask(&[("accept-encoding", "br"), ("x-a", "1")]), 1);
    assert_eq!(ask(&[("accept-encoding", "gzip;q=1.0")]), 0);
    assert_eq!(ask(&[("accept-encoding", "br"), ("x-a", "1")]), 0);
    assert_eq!(ask(&[("accept-encoding", "br"), ("x-a", "2")]), 1);
}

#[test]
fn unsafe_methods_invalidate_what_they_have_changed_when_they_succeed() {
    for (method, status, place, is_gone) in [
        ("POST", 200, "", true),
        ("DELETE", 204, "", true),
        ("M-SEARCH", 302, "", true),
        ("POST", 500, "", false),
        ("POST", 404, "", false),
        ("OPTIONS", 200, "", false),
        ("POST", 201, "/a/b", true),
        ("POST", 201, "b", true),
        ("POST", 201, "http://EXAMPLE.org/a/b#c", true),
        ("POST", 201, "http://example.com/a/b", false),
    ] {
        let site = site();
        let _ = site.get("/a/b", minute);
        let target = if place.is_empty() { "/a/b" } else { "/a/form" };
        let _ =
            site.ask(method, target, &[], |_| Some((status, vec![("location", place.into())], "")));
        let is_asked = !site.get("/a/b", minute).asked.is_empty();
        assert_eq!(is_asked, is_gone, "{method} {status} {place}");
    }
}

#[test]
fn fields_of_one_hop_and_withheld_ones_are_not_stored() {
    let site = site();
    let answer = || {
        page(&[
            (CACHE_CONTROL, "max-age=60, no-cache=\"x-mine\""),
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("x-mine", "1"),
            ("x-all", "1"),
            ("proxy-authenticate", "1"),
        ])
    };
    let _ = site.get("/", answer);
    let got = site.get("/", || None);
    for gone in ["connection", "x-hop", "x-mine", "proxy-authenticate"] {
        assert_eq!(got.field(gone), "", "{gone}");
    }
    assert_eq!(got.field("x-all"), "1");
}

#[test]
fn a_failing_origin_is_stood_in_for_only_where_nothing_forbids_it() {
    for (control, is_served) in [
        ("max-age=1", true),
        ("max-age=1, stale-if-error=60", true),
        ("max-age=1, stale-if-error=1", false),
        ("max-age=1, must-revalidate", false),
        ("max-age=1, proxy-revalidate", false),
        ("s-maxage=1", false),
        ("no-cache", false),
    ] {
        for failure in [None, Some((503, vec![], "down"))] {
            let site = site();
            let _ = site.get("/", || page(&[(CACHE_CONTROL, control), ("etag", "\"1\"")]));
            site.wait(5_000);
            let got = site.get("/", || failure.clone());
            let is_stale = got.outcome == Outcome::Stale;
            assert_eq!(
                (is_stale, got.status == 200),
                (is_served, is_served),
                "{control} {failure:?}"
            );
        }
    }
}

#[test]
fn client_directives_count_where_the_policy_lets_them() {
    for (directive, asks) in [
        ("no-cache", true),
        ("max-age=5", true),
        ("max-age=50", false),
        ("min-fresh=55", true),
        ("min-fresh=40", false),
        ("no-store", true),
        ("only-if-cached", false),
    ] {
        for (policy, asks) in [(Policy::rfc(), asks), (Policy::talks(), false)] {
            let site = Site::new(policy);
            let _ = site.get("/", minute);
            site.wait(10_000);
            let got = site.ask("GET", "/", &[(CACHE_CONTROL, directive)], |_| minute());
            assert_eq!(!got.asked.is_empty(), asks, "{directive}");
        }
    }
    let site = site();
    assert_eq!(site.ask("GET", "/x", &[(CACHE_CONTROL, "only-if-cached")], |_| None).status, 504);
}
