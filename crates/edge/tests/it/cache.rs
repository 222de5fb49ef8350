//! The policy of the talks, purges, bounds, and bodies that are read while they come.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use throng_core::Clock;
use throng_edge::cache::{
    Action, Answered, Cache, Outcome, Policy, Question, Rule, Served, Step, Stored, Woken,
};

use crate::site::{CACHE_CONTROL, Said, Site, message, minute, page, read};

fn site() -> Site {
    Site::new(Policy::talks())
}

fn silent() -> Option<Said> {
    page(&[])
}

#[test]
fn a_visitor_who_is_not_signed_in_gets_pages_of_the_last_minute() {
    let site = site();
    assert_eq!(
        site.get("/events?utm_source=x", silent).field("cache-status"),
        "throng; fwd=uri-miss; fwd-status=200; stored"
    );
    site.wait(59_999);
    let got = site.ask("GET", "/events", &[("cookie", "_ga=1; csrftoken=t")], |_| None);
    assert_eq!((got.outcome, got.field("cache-status")), (Outcome::Hit, "throng; hit; ttl=0"));
    assert_eq!(got.field("age"), "59");
}

#[test]
fn a_visitor_who_is_signed_in_neither_reads_the_store_nor_writes_it() {
    let site = site();
    let _ = site.get("/", silent);
    let personal = || Some((200, vec![(CACHE_CONTROL, "public, max-age=60".into())], "for ann"));
    let got = site.ask("GET", "/", &[("cookie", "sessionid=ann")], |_| personal());
    assert_eq!((got.outcome, &got.body[..]), (Outcome::Pass, &b"for ann"[..]));
    assert_eq!(got.field("cache-status"), "throng; fwd=bypass; fwd-status=200; detail=signed-in");
    assert_eq!(site.get("/", || None).body, "0123456789");
    let _ = site.ask("GET", "/2", &[("cookie", "x=1; sessionid=ann")], |_| personal());
    assert_eq!(site.get("/2", silent).body, "0123456789");
}

#[test]
fn a_page_that_sets_a_cookie_is_never_stored_whatever_it_says() {
    let site = site();
    let signs_in =
        || page(&[(CACHE_CONTROL, "public, s-maxage=60"), ("set-cookie", "sessionid=1")]);
    let _ = site.get("/", signs_in);
    let got = site.get("/", signs_in);
    assert_eq!((got.outcome, got.field("set-cookie")), (Outcome::Miss, "sessionid=1"));
    assert!(got.field("cache-status").ends_with("detail=set-cookie"), "{got:?}");
}

#[test]
fn vary_on_cookie_is_reduced_to_the_cookies_that_the_policy_does_not_know() {
    let site = site();
    let answer = || page(&[("vary", "Cookie")]);
    let ask = |cookie: &str| site.ask("GET", "/", &[("cookie", cookie)], |_| answer()).asked.len();
    assert_eq!(ask("csrftoken=a; _ga=1"), 1);
    assert_eq!(ask("csrftoken=b; _ga=2; _fbp=3"), 0);
    assert_eq!(site.get("/", answer).asked.len(), 0);
    assert_eq!(ask("theme=dark; csrftoken=b"), 1);
    assert_eq!(ask("_ga=7; theme=dark"), 0);
    assert_eq!(ask("theme=light"), 1);
}

#[test]
fn a_rule_keeps_pages_for_a_second_or_lets_them_through() {
    let keep = Rule { pattern: "/live/*".into(), action: Action::Keep { ttl_ms: 1_000 } };
    let bypass = Rule { pattern: "/admin*".into(), action: Action::Bypass };
    let mut policy = Policy::talks();
    policy.rules = vec![keep, bypass];
    policy.grace_ms = 0;
    let site = Site::new(policy);
    let dynamic = || page(&[(CACHE_CONTROL, "max-age=0")]);
    let private = || page(&[(CACHE_CONTROL, "private")]);
    let _ = site.get("/live/1", dynamic);
    site.wait(999);
    assert_eq!(site.get("/live/1", || None).outcome, Outcome::Hit);
    site.wait(1);
    assert_eq!(site.get("/live/1", dynamic).asked.len(), 1);
    let _ = site.get("/live/2", private);
    assert_eq!(site.get("/live/2", private).asked.len(), 1);
    let _ = site.get("/admin/", minute);
    assert_eq!(site.get("/admin/", minute).outcome, Outcome::Pass);
}

#[test]
fn a_stale_page_is_served_while_one_request_fetches_the_new_one() {
    let site = site();
    let answer = || page(&[(CACHE_CONTROL, "max-age=1, stale-while-revalidate=4")]);
    let _ = site.get("/", answer);
    site.wait(4_999);
    let question = site.question("GET", "/", &[]);
    let Step::Refresh(first, fetch) = site.cache.ask(&question, false) else {
        panic!("no refresh")
    };
    let Step::Serve(second) = site.cache.ask(&question, false) else { panic!("a second fetch") };
    assert_eq!((first.outcome, second.outcome), (Outcome::Stale, Outcome::Stale));
    assert_eq!(first.headers["cache-status"], "throng; hit; ttl=-4; detail=stale-while-revalidate");
    let _ = message(answer().unwrap());
    drop(fetch);
    site.wait(1);
    assert_eq!(site.get("/", answer).outcome, Outcome::Miss);
}

#[test]
fn a_sick_back_end_is_left_alone_and_cached_pages_keep_coming() {
    let site = site();
    let _ = site.get("/", minute);
    site.wait(3_600_000);
    let got = site.get("/", || None);
    assert_eq!((got.outcome, got.asked.len()), (Outcome::Stale, 1));
    for _ in 0..3 {
        assert_eq!(site.get("/", || None).asked.len(), 0);
    }
    site.wait(1_000);
    // The visitor has the page before the origin is asked again.
    let got = site.get("/", || None);
    assert_eq!((got.outcome, got.asked.len()), (Outcome::Stale, 1));
    site.wait(1_000);
    assert_eq!(site.get("/", minute).outcome, Outcome::Stale);
    assert_eq!(site.get("/", || None).outcome, Outcome::Hit);
}

#[test]
fn read_only_makes_stale_pages_last_longer() {
    let site = site();
    let _ = site.get("/", minute);
    site.wait(3 * 86_400_000);
    assert_eq!(site.get("/", || None).status, 502);
    site.cache.set_read_only(true);
    assert_eq!(site.get("/", || None).outcome, Outcome::Stale);
}

#[test]
fn a_purge_forgets_all_variants_and_a_soft_one_makes_them_stale() {
    let site = site();
    let answer = || page(&[("vary", "accept-language")]);
    for language in ["de", "en"] {
        let _ = site.ask("GET", "/a?b", &[("accept-language", language)], |_| answer());
    }
    assert_eq!(site.cache.purge("EXAMPLE.org", "/a?b", true), 2);
    let got = site.ask("GET", "/a?b", &[("accept-language", "de")], |_| answer());
    assert_eq!((got.outcome, got.asked.len()), (Outcome::Stale, 1));
    assert_eq!(site.cache.purge("example.org", "/a?b", false), 2);
    assert_eq!(site.get("/a?b", answer).outcome, Outcome::Miss);
    assert_eq!(site.cache.purge("example.org", "/other", false), 0);
}

#[test]
fn a_tag_purge_reaches_every_page_that_carries_the_tag_and_no_other() {
    for is_soft in [false, true] {
        let site = site();
        let tagged = |target: &str| match target {
            "/1" => page(&[("surrogate-key", "event-1 list")]),
            "/2" => page(&[("cache-tag", "list,event-2")]),
            _ => page(&[("surrogate-key", "other")]),
        };
        for target in ["/1", "/2", "/3"] {
            let got = site.get(target, || tagged(target));
            assert_eq!((got.field("surrogate-key"), got.field("cache-tag")), ("", ""));
        }
        site.cache.purge_tag("list", is_soft);
        let gone = if is_soft { Outcome::Stale } else { Outcome::Miss };
        for (target, outcome) in [("/1", gone), ("/2", gone), ("/3", Outcome::Hit)] {
            let got = site.get(target, || tagged(target));
            assert_eq!((got.outcome, got.asked.len()), (outcome, usize::from(outcome == gone)));
            // Once fetched again it is as good as any.
            assert_eq!(site.get(target, || None).outcome, Outcome::Hit, "{target}");
        }
    }
}

#[test]
fn a_tag_survives_a_validation() {
    let site = site();
    let _ = site.get("/", || page(&[("surrogate-key", "t"), ("etag", "\"1\"")]));
    site.wait(70_001);
    let _ = site.get("/", || Some((304, vec![], "")));
    site.cache.purge_tag("t", false);
    assert_eq!(site.get("/", silent).outcome, Outcome::Miss);
}

#[test]
fn a_ban_reaches_the_addresses_that_it_matches() {
    let site = site();
    for target in ["/events/1", "/events/2?p=1", "/about"] {
        let _ = site.get(target, silent);
    }
    site.cache.ban("example.org/events/*", false);
    assert_eq!(site.get("/events/1", silent).outcome, Outcome::Miss);
    assert_eq!(site.get("/events/2?p=1", silent).outcome, Outcome::Miss);
    assert_eq!(site.get("/about", silent).outcome, Outcome::Hit);
    assert_eq!(site.get("/events/1", silent).outcome, Outcome::Hit);
    site.cache.purge_all(true);
    assert_eq!(site.get("/about", silent).outcome, Outcome::Stale);
    // More bans than are kept still reach what is older than them.
    for number in 0..400 {
        site.cache.ban(&format!("example.org/none/{number}"), false);
    }
    site.cache.ban("example.org/events/1", false);
    assert_eq!(site.get("/events/1", silent).outcome, Outcome::Miss);
}

#[test]
fn an_answer_that_was_on_its_way_during_a_purge_is_not_stored() {
    let purges: [fn(&Cache); 5] = [
        |cache| assert_eq!(cache.purge("example.org", "/", false), 0),
        |cache| assert_eq!(cache.purge("example.org", "/", true), 0),
        |cache| cache.purge_tag("t", false),
        |cache| cache.ban("example.org/*", false),
        |cache| cache.purge_all(false),
    ];
    for (number, purge) in purges.into_iter().enumerate() {
        let site = site();
        let old = || page(&[("surrogate-key", "t")]);
        let Step::Fetch(fetch) = site.cache.ask(&site.question("GET", "/", &[]), false) else {
            panic!("nothing is stored")
        };
        purge(&site.cache);
        let (status, headers, body) = message(old().unwrap());
        let Answered::Fill(served, mut filling) = fetch.answered(status, headers) else {
            panic!("it is sent to who asked")
        };
        filling.push(body);
        filling.finish();
        assert_eq!(read(served.body).unwrap(), "0123456789");
        assert_eq!(site.get("/", old).outcome, Outcome::Miss, "purge {number}");
    }
}

fn fetch_while_coming(
    site: &Site,
    fields: &[(&'static str, &str)],
) -> (Served, throng_edge::cache::Filling) {
    let Step::Fetch(fetch) = site.cache.ask(&site.question("GET", "/", &[]), false) else {
        panic!("nothing is stored")
    };
    let (status, headers, _) = message(page(fields).unwrap());
    match fetch.answered(status, headers) {
        Answered::Fill(served, filling) => (served, filling),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_second_visitor_reads_a_body_while_it_still_comes() {
    let site = site();
    let (first, mut filling) = fetch_while_coming(&site, &[]);
    filling.push(Bytes::from_static(b"one "));
    let Step::Serve(second) = site.cache.ask(&site.question("GET", "/", &[]), false) else {
        panic!("its head is stored")
    };
    filling.push(Bytes::from_static(b"two"));
    filling.finish();
    assert!(matches!(second.body, Stored::Coming(_)));
    assert_eq!(read(second.body).unwrap(), "one two");
    assert_eq!(read(first.body).unwrap(), "one two");
    assert_eq!(site.get("/", || None).body, "one two");
}

#[test]
fn a_body_that_breaks_off_is_an_error_to_its_readers_and_not_stored() {
    for fields in [&[][..], &[("content-length", "10")][..]] {
        let site = site();
        let (first, mut filling) = fetch_while_coming(&site, fields);
        filling.push(Bytes::from_static(b"one "));
        // Without a length it is dropped; with one it ends too early.
        match fields.is_empty() {
            true => drop(filling),
            false => filling.finish(),
        }
        assert_eq!(read(first.body), None);
        assert_eq!(site.get("/", silent).outcome, Outcome::Miss);
    }
}

#[test]
fn a_body_too_large_to_store_streams_to_its_readers_at_their_pace() {
    let mut policy = Policy::talks();
    policy.max_object_bytes = 1 << 20;
    let site = Site::new(policy);
    let (first, mut filling) = fetch_while_coming(&site, &[]);
    let Stored::Coming(mut reader) = first.body else { panic!("it comes") };
    let chunk = Bytes::from(vec![7_u8; 64 << 10]);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let (mut pushed, mut read) = (0_usize, 0_usize);
    while pushed < 4 << 20 {
        let room = std::pin::pin!(filling.room()).poll(&mut cx);
        if room.is_ready() {
            filling.push(chunk.clone());
            pushed += chunk.len();
        } else {
            assert!(pushed > 1 << 20, "it waits only once it is not kept");
            let next = std::pin::Pin::new(&mut reader).poll_next(&mut cx);
            let std::task::Poll::Ready(Some(Ok(bytes))) = next else { panic!("{next:?}") };
            read += bytes.len();
        }
        assert!(site.cache.bytes() < 2 << 20);
    }
    assert!(pushed - read <= (1 << 20) + (320 << 10), "{pushed} {read}");
    drop(reader);
    let room = std::pin::pin!(filling.room()).poll(&mut cx);
    assert!(matches!(room, std::task::Poll::Ready(Err(_))), "nobody reads any more");
    drop(filling);
    assert_eq!(site.get("/", silent).outcome, Outcome::Miss);
}

#[test]
fn the_store_keeps_to_its_bytes_and_to_what_is_used() {
    let (clock, _hand) = Clock::manual(0);
    let cache = Cache::new(Policy::talks(), clock, 4 << 20);
    let fetch = |target: String| {
        let question = Question::new(
            cache.policy(),
            "h",
            http::Method::GET,
            target.parse().unwrap(),
            HeaderMap::new(),
        );
        match cache.ask(&question.into(), false) {
            Step::Serve(_) => true,
            Step::Fetch(fetch) => {
                let mut headers = HeaderMap::new();
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(10_000));
                let Answered::Fill(_, mut filling) = fetch.answered(StatusCode::OK, headers) else {
                    panic!("it is stored")
                };
                filling.push(vec![0; 10_000].into());
                filling.finish();
                false
            }
            other => panic!("{other:?}"),
        }
    };
    let mut hits = 0;
    for number in 0..5_000 {
        fetch(format!("/{number}"));
        hits += usize::from(fetch("/often".to_owned()));
        assert!(cache.bytes() <= 4 << 20, "{}", cache.bytes());
    }
    assert!(hits > 4_900, "what is used all the time stays: {hits}");
    assert!(cache.addresses() > 300, "{}", cache.addresses());
    cache.purge_all(false);
}

#[tokio::test]
async fn waiters_hear_that_the_back_end_failed_and_do_not_try_one_by_one() {
    let site = site();
    let question = site.question("GET", "/", &[]);
    let Step::Fetch(fetch) = site.cache.ask(&question, false) else { panic!("nothing is stored") };
    let Step::Wait(first) = site.cache.ask(&question, false) else { panic!("it is being fetched") };
    let Step::Wait(second) = site.cache.ask(&question, false) else {
        panic!("it is being fetched")
    };
    assert!(fetch.failed().is_none());
    assert_eq!((first.over().await, second.over().await), (Woken::Failed, Woken::Failed));

    // A fetch that is given up is taken over by the next.
    let Step::Fetch(fetch) = site.cache.ask(&question, false) else { panic!("nothing is stored") };
    let Step::Wait(wait) = site.cache.ask(&question, false) else { panic!("it is being fetched") };
    drop(fetch);
    assert_eq!(wait.over().await, Woken::Again);
    assert!(matches!(site.cache.ask(&question, true), Step::Fetch(_)));
}

#[test]
fn visitors_of_a_page_that_cannot_be_stored_do_not_queue() {
    let site = site();
    let private = || page(&[(CACHE_CONTROL, "private")]);
    let _ = site.get("/", private);
    let question = site.question("GET", "/", &[]);
    let Step::Fetch(first) = site.cache.ask(&question, false) else { panic!("it is not stored") };
    let Step::Fetch(second) = site.cache.ask(&question, false) else { panic!("it waits") };
    // The moment it can be stored it is, and visitors share it again.
    let (status, headers, body) = message(silent().unwrap());
    let Answered::Fill(_, mut filling) = first.answered(status, headers) else { panic!("stored") };
    filling.push(body);
    filling.finish();
    drop(second);
    assert_eq!(site.get("/", || None).outcome, Outcome::Hit);
}

#[test]
fn each_variant_is_fetched_on_its_own() {
    let site = site();
    let answer = || page(&[("vary", "accept-language")]);
    let _ = site.ask("GET", "/", &[("accept-language", "de")], |_| answer());
    let ask = |language| {
        site.cache.ask(&site.question("GET", "/", &[("accept-language", language)]), false)
    };
    let Step::Fetch(_english) = ask("en") else { panic!("another variant") };
    let Step::Fetch(_french) = ask("fr") else { panic!("another variant again") };
    assert!(matches!(ask("en"), Step::Wait(_)));
}

#[test]
fn a_page_in_the_language_that_a_visitor_likes_best_is_his_where_the_policy_says_so() {
    for (is_set, asked) in [(true, 0), (false, 1)] {
        let mut policy = Policy::rfc();
        policy.selects_language = is_set;
        let site = Site::new(policy);
        let say = |_: &HeaderMap| {
            page(&[
                (CACHE_CONTROL, "max-age=60"),
                ("vary", "accept-language, x-other"),
                ("content-language", "de"),
            ])
        };
        let ask = |fields: &[(&str, &str)]| site.ask("GET", "/", fields, say).asked.len();
        assert_eq!(ask(&[("accept-language", "en, de")]), 1);
        assert_eq!(ask(&[("accept-language", "fr;q=0.5, DE;q=1.0")]), asked);
        assert_eq!(ask(&[("accept-language", "de, en;q=0.9"), ("x-other", "1")]), 1);
        assert_eq!(ask(&[("accept-language", "en, de;q=0.9")]), 1);
        assert_eq!(ask(&[("accept-language", "de-AT, de;q=0.9")]), 1);
        assert_eq!(ask(&[]), 1);
    }
}
