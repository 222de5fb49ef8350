//! Parts of pages (206): stored, cut, put together and completed, and what lies about itself.

use http::{HeaderMap, HeaderValue, StatusCode};
use throng_edge::cache::{Answered, Outcome, Policy, Step};

use crate::site::{CACHE_CONTROL, Got, Said, Site, message, page, read};

pub(crate) const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";
pub(crate) const LATER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

fn site() -> Site {
    Site::new(Policy::rfc())
}

/// An origin that answers a Range as it should, with the letters of `text`.
pub(crate) fn letters(text: &'static str, tag: &str, asked: &HeaderMap) -> Option<Said> {
    let mut fields = vec![(CACHE_CONTROL, "max-age=60".to_owned()), ("etag", tag.to_owned())];
    let is_still = asked.get("if-range").is_none_or(|wanted| wanted == tag);
    let range = asked.get("range").filter(|_| is_still).map(|range| range.to_str().unwrap());
    let Some(range) = range else { return Some((200, fields, text)) };
    let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (from, last): (usize, usize) = match (from.parse(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) => (from, to.min(text.len() - 1)),
        (Ok(from), Err(_)) => (from, text.len() - 1),
        (Err(_), Ok(suffix)) => (text.len() - suffix.min(text.len()), text.len() - 1),
        (Err(_), Err(_)) => panic!("{range}"),
    };
    fields.push(("content-range", format!("bytes {from}-{last}/{}", text.len())));
    Some((206, fields, &text[from..=last]))
}

fn ask(site: &Site, range: &str) -> Got {
    site.ask("GET", "/", &[("range", range)], |asked| letters(LETTERS, "\"1\"", asked))
}

/// A part as the origin has it, without asking for it in particular.
fn part(fields: &[(&'static str, &str)], body: &'static str) -> Option<Said> {
    let (_, mut all, _) = page(fields).unwrap();
    all.push((CACHE_CONTROL, "max-age=60".to_owned()));
    Some((206, all, body))
}

fn forbidden(_: &HeaderMap) -> Option<Said> {
    panic!("the origin is asked");
}

fn seen(got: &Got) -> (u16, &str, &str) {
    (got.status, got.field("content-range"), std::str::from_utf8(&got.body).unwrap())
}

#[test]
fn a_range_inside_of_a_stored_part_is_cut_from_it() {
    let site = site();
    let first = ask(&site, "bytes=4-9");
    assert_eq!(first.field("cache-status"), "throng; fwd=uri-miss; fwd-status=206; stored");
    for (range, expected) in [
        ("bytes=4-9", ("bytes 4-9/26", "efghij")),
        ("bytes=5-7", ("bytes 5-7/26", "fgh")),
        ("bytes=9-9", ("bytes 9-9/26", "j")),
    ] {
        let got = site.ask("GET", "/", &[("range", range)], forbidden);
        assert_eq!(seen(&got), (206, expected.0, expected.1));
        assert_eq!(got.field("content-length"), expected.1.len().to_string());
        assert_eq!((got.outcome, got.field("age")), (Outcome::Hit, "0"));
    }
    for range in ["bytes=3-5", "bytes=9-10", "bytes=4-", "bytes=-3", "bytes=4-5,7-8", "lines=4-5"] {
        let question = site.question("GET", "/", &[("range", range)]);
        assert!(matches!(site.cache.ask(&question, false), Step::Fetch(_)), "{range}");
    }
    site.wait(60_000);
    assert_eq!(ask(&site, "bytes=5-7").asked.len(), 1, "it is stale");
}

#[test]
fn the_end_of_a_page_answers_ranges_that_count_from_it() {
    let site = site();
    let _ = ask(&site, "bytes=-6");
    let got = site.ask("GET", "/", &[("range", "bytes=-2")], forbidden);
    assert_eq!(seen(&got), (206, "bytes 24-25/26", "yz"));
    let got = site.ask("GET", "/", &[("range", "bytes=22-")], forbidden);
    assert_eq!(seen(&got), (206, "bytes 22-25/26", "wxyz"));
    let got = site.ask("GET", "/", &[("range", "bytes=23-99")], forbidden);
    assert_eq!(seen(&got), (206, "bytes 23-25/26", "xyz"));
}

#[test]
fn parts_with_one_strong_tag_answer_together_and_become_the_page() {
    let site = site();
    let _ = ask(&site, "bytes=0-4");
    let _ = ask(&site, "bytes=3-9");
    let _ = ask(&site, "bytes=20-25");
    let got = site.ask("GET", "/", &[("range", "bytes=2-8")], forbidden);
    assert_eq!(seen(&got), (206, "bytes 2-8/26", "cdefghi"));
    let _ = ask(&site, "bytes=10-19");
    let got = site.ask("GET", "/", &[], forbidden);
    assert_eq!(seen(&got), (200, "", LETTERS));
    assert_eq!((got.field("etag"), got.field("content-length")), ("\"1\"", "26"));
    let got = site.ask("GET", "/", &[("if-none-match", "\"1\"")], forbidden);
    assert_eq!(got.status, 304);
    assert_eq!(site.ask("HEAD", "/", &[], forbidden).field("content-length"), "26");
}

#[test]
fn a_page_of_which_parts_are_there_is_asked_only_for_the_rest() {
    for (parts, rest) in [
        (vec!["bytes=0-9"], "bytes=10-"),
        (vec!["bytes=-6"], "bytes=0-19"),
        (vec!["bytes=0-4", "bytes=5-9", "bytes=12-13", "bytes=20-25"], "bytes=10-19"),
    ] {
        let site = site();
        parts.iter().for_each(|range| drop(ask(&site, range)));
        let got = site.ask("GET", "/", &[], |asked| letters(LETTERS, "\"1\"", asked));
        assert_eq!(seen(&got), (200, "", LETTERS));
        let status = "throng; fwd=partial; fwd-status=206; stored";
        assert_eq!((got.field("cache-status"), got.field("content-length")), (status, "26"));
        let [asked] = &got.asked[..] else { panic!("{:?}", got.asked) };
        assert_eq!(
            (asked["range"].to_str().unwrap(), &asked["if-range"]),
            (rest, &HeaderValue::from_static("\"1\""))
        );
        assert_eq!(seen(&site.ask("GET", "/", &[], forbidden)), (200, "", LETTERS));
    }
}

#[test]
fn a_page_that_has_changed_meanwhile_is_never_mixed_with_what_it_was() {
    let site = site();
    let _ = ask(&site, "bytes=0-9");
    // The origin heeds If-Range.
    let got = site.ask("GET", "/", &[], |asked| letters(LATER, "\"2\"", asked));
    assert_eq!((seen(&got), got.asked.len()), ((200, "", LATER), 1));

    // It does not, and sends the rest of another page.
    let site = self::site();
    let _ = ask(&site, "bytes=0-9");
    let origin = |asked: &HeaderMap| {
        let mut asked = asked.clone();
        asked.remove("if-range");
        letters(LATER, "\"2\"", &asked)
    };
    let got = site.ask("GET", "/", &[], origin);
    assert_eq!((seen(&got), got.asked.len()), ((200, "", LATER), 2));
    assert_eq!(got.field("cache-status"), "throng; fwd=partial; fwd-status=200; stored");

    // A part of the new page puts an end to those of the old.
    let site = self::site();
    let _ = ask(&site, "bytes=0-9");
    let _ =
        site.ask("GET", "/", &[("range", "bytes=10-12")], |asked| letters(LATER, "\"2\"", asked));
    let got =
        site.ask("GET", "/", &[("range", "bytes=0-9")], |asked| letters(LATER, "\"2\"", asked));
    assert_eq!((seen(&got), got.asked.len()), ((206, "bytes 0-9/26", "ABCDEFGHIJ"), 1));
}

#[test]
fn a_rest_that_is_not_what_was_asked_for_is_asked_for_again_in_full() {
    let claims: [(&str, &str); 7] = [
        ("bytes 10-24/26", "klmnopqrstuvwxy"),
        ("bytes 9-25/26", "jklmnopqrstuvwxyz"),
        ("bytes 10-25/27", "klmnopqrstuvwxyz"),
        ("bytes 10-25/*", "klmnopqrstuvwxyz"),
        ("bytes 0-25/26", LETTERS),
        ("bytes 25-10/26", "klmnopqrstuvwxyz"),
        ("", "klmnopqrstuvwxyz"),
    ];
    for (claim, body) in claims {
        let site = site();
        let _ = ask(&site, "bytes=0-9");
        let origin = |asked: &HeaderMap| match asked.contains_key("range") {
            true => part(&[("etag", "\"1\""), ("content-range", claim)], body),
            false => letters(LETTERS, "\"1\"", asked),
        };
        let got = site.ask("GET", "/", &[], origin);
        assert_eq!((seen(&got), got.asked.len()), ((200, "", LETTERS), 2), "{claim}");
    }
    for status in [304, 412, 416] {
        let site = site();
        let _ = ask(&site, "bytes=0-9");
        let origin = |asked: &HeaderMap| match asked.contains_key("range") {
            true => Some((status, vec![], "")),
            false => letters(LETTERS, "\"1\"", asked),
        };
        let got = site.ask("GET", "/", &[], origin);
        assert_eq!((seen(&got), got.asked.len()), ((200, "", LETTERS), 2), "{status}");
    }
}

#[test]
fn a_rest_that_is_longer_or_shorter_than_it_says_breaks_off_and_is_not_stored() {
    for body in ["klmnopqrstuvwxyz!", "klmnopqrstuvwxy", ""] {
        let site = site();
        let _ = ask(&site, "bytes=0-9");
        let question = site.question("GET", "/", &[]);
        let Step::Fetch(fetch) = site.cache.ask(&question, false) else { panic!("a fetch") };
        let said = part(&[("etag", "\"1\""), ("content-range", "bytes 10-25/26")], body);
        let (status, headers, body) = message(said.unwrap());
        let Answered::Fill(served, mut filling) = fetch.answered(status, headers) else {
            panic!("it looks right")
        };
        assert_eq!(served.status, StatusCode::OK);
        filling.push(body);
        filling.finish();
        assert_eq!(read(served.body), None, "a visitor must see that it is not whole");
        let got = site.ask("GET", "/", &[], |asked| letters(LETTERS, "\"1\"", asked));
        assert_eq!((seen(&got), got.asked.len()), ((200, "", LETTERS), 1));
    }
}

#[test]
fn a_part_whose_length_is_not_what_it_says_answers_its_own_question_and_no_other() {
    let site = site();
    let fields = [("etag", "\"1\""), ("content-range", "bytes 4-9/10")];
    let lie = |_: &HeaderMap| part(&fields, "01234");
    let got = site.ask("GET", "/", &[("range", "bytes=-5")], lie);
    assert_eq!(seen(&got), (206, "bytes 4-9/10", "01234"));
    let got = site.ask("GET", "/", &[("range", "bytes=-5")], forbidden);
    assert_eq!(seen(&got), (206, "bytes 4-9/10", "01234"), "word for word what the origin said");
    for fields in [
        vec![("range", "bytes=6-8")],
        vec![("range", "bytes=6-")],
        vec![("range", "bytes=-1")],
        vec![("range", "bytes=4-9")],
        vec![("range", "bytes=-5"), ("if-range", "\"1\"")],
        vec![("range", "bytes=-5"), ("if-none-match", "\"1\"")],
        vec![],
    ] {
        let question = site.question("GET", "/", &fields);
        let Step::Fetch(fetch) = site.cache.ask(&question, false) else { panic!("{fields:?}") };
        let range = fields.iter().find(|(name, _)| *name == "range").map(|(_, range)| *range);
        let asked = fetch.headers();
        assert_eq!(asked.get("range").map(|range| range.to_str().unwrap()), range);
    }
    // It neither makes a page with others, nor puts an end to them.
    let _ = site.ask("GET", "/", &[("range", "bytes=0-3")], |_| {
        part(&[("etag", "\"1\""), ("content-range", "bytes 0-3/10")], "abcd")
    });
    let question = site.question("GET", "/", &[]);
    let Step::Fetch(fetch) = site.cache.ask(&question, false) else { panic!("a fetch") };
    assert_eq!(fetch.headers()["range"], "bytes=4-", "of which the lie has nothing");
}

#[test]
fn parts_without_a_strong_tag_are_never_put_together() {
    for tag in ["W/\"1\"", "1", ""] {
        let site = site();
        let say = |claim: &str, body| part(&[("etag", tag), ("content-range", claim)], body);
        let ask = |range: &str, claim: &str, body| {
            site.ask("GET", "/", &[("range", range)], |_| say(claim, body))
        };
        let _ = ask("bytes=0-4", "bytes 0-4/10", "abcde");
        let _ = ask("bytes=5-9", "bytes 5-9/10", "fghij");
        let got = site.ask("GET", "/", &[("range", "bytes=1-3")], forbidden);
        assert_eq!(seen(&got), (206, "bytes 1-3/10", "bcd"), "alone it may be cut");
        assert_eq!(ask("bytes=3-6", "bytes 3-6/10", "defg").asked.len(), 1);
        let question = site.question("GET", "/", &[]);
        let Step::Fetch(fetch) = site.cache.ask(&question, false) else { panic!("a fetch") };
        assert!(!fetch.headers().contains_key("range"), "{tag}");
    }
}

#[test]
fn parts_that_contradict_each_other_under_one_tag_are_not_mixed() {
    let site = site();
    let _ = ask(&site, "bytes=0-9");
    let _ =
        site.ask("GET", "/", &[("range", "bytes=8-25")], |asked| letters(LATER, "\"1\"", asked));
    let got = site.ask("GET", "/", &[("range", "bytes=9-11")], forbidden);
    assert_eq!(seen(&got), (206, "bytes 9-11/26", "JKL"));
    let got = site.ask("GET", "/", &[], |asked| letters(LATER, "\"1\"", asked));
    assert_eq!(seen(&got), (200, "", LATER));
    assert_eq!(got.asked[0]["range"], "bytes=0-7");
}

#[test]
fn a_part_that_breaks_off_is_not_stored() {
    let site = site();
    let question = site.question("GET", "/", &[("range", "bytes=0-9")]);
    let Step::Fetch(fetch) = site.cache.ask(&question, false) else { panic!("a fetch") };
    let (status, headers, body) = message(letters(LETTERS, "\"1\"", &fetch.headers()).unwrap());
    let Answered::Fill(served, mut filling) = fetch.answered(status, headers) else {
        panic!("it is stored")
    };
    filling.push(body.slice(..5));
    drop(filling);
    assert_eq!(read(served.body), None);
    assert_eq!((ask(&site, "bytes=0-2").asked.len(), site.cache.addresses()), (1, 1));
}

#[test]
fn parts_take_no_more_room_than_a_page_may_and_leave_no_count_behind() {
    let mut policy = Policy::rfc();
    policy.max_object_bytes = 12;
    let site = Site::new(policy);
    for from in 0..20 {
        let _ = ask(&site, &format!("bytes={from}-{}", from + 4));
    }
    let kept = (0..20)
        .filter(|from| {
            let range = format!("bytes={from}-{}", from + 4);
            let question = site.question("GET", "/", &[("range", &range)]);
            matches!(site.cache.ask(&question, false), Step::Serve(_))
        })
        .count();
    assert!((1..=8).contains(&kept), "{kept}");
    let big = ask(&site, "bytes=0-12");
    assert_eq!((seen(&big).2.len(), ask(&site, "bytes=0-12").asked.len()), (13, 1));
    // A page that may not be stored is not put together either.
    let question = site.question("GET", "/", &[]);
    let Step::Fetch(fetch) = site.cache.ask(&question, false) else { panic!("a fetch") };
    assert!(!fetch.headers().contains_key("range"));
    drop(fetch);
    assert_eq!(site.cache.purge("example.org", "/", false), 2);
    assert_eq!((site.cache.bytes(), site.cache.addresses()), (0, 0));

    let site = self::site();
    for from in 0..1_000 {
        let _ = site.ask("GET", "/", &[("range", &format!("bytes={from}-{from}"))], |_| {
            part(&[("content-range", &format!("bytes {from}-{from}/*"))], "x")
        });
    }
    assert_eq!(site.cache.purge("example.org", "/", false), 32);
    assert_eq!(site.cache.bytes(), 0);
}

#[test]
fn a_purge_takes_parts_and_those_that_are_on_their_way() {
    for is_by_tag in [false, true] {
        let site = site();
        let purge = || match is_by_tag {
            true => site.cache.purge_all(false),
            false => drop(site.cache.purge("example.org", "/", false)),
        };
        let _ = ask(&site, "bytes=0-9");
        purge();
        assert_eq!(ask(&site, "bytes=0-9").asked.len(), 1);

        // Asked for before the purge, answered after it.
        let question = site.question("GET", "/", &[("range", "bytes=10-19")]);
        let Step::Fetch(fetch) = site.cache.ask(&question, false) else { panic!("a fetch") };
        purge();
        let (status, headers, body) = message(letters(LETTERS, "\"1\"", &fetch.headers()).unwrap());
        let Answered::Fill(served, mut filling) = fetch.answered(status, headers) else {
            panic!("a visitor waits for it")
        };
        filling.push(body);
        filling.finish();
        assert_eq!(read(served.body).unwrap(), "klmnopqrst");
        assert_eq!(ask(&site, "bytes=10-19").asked.len(), 1);

        // Purged while its body came.
        purge();
        let Step::Fetch(fetch) = site.cache.ask(&question, false) else { panic!("a fetch") };
        let (status, headers, body) = message(letters(LETTERS, "\"1\"", &fetch.headers()).unwrap());
        let Answered::Fill(_, mut filling) = fetch.answered(status, headers) else {
            panic!("it is stored")
        };
        filling.push(body);
        purge();
        filling.finish();
        assert_eq!(ask(&site, "bytes=10-19").asked.len(), 1);
    }
}

#[test]
fn a_post_takes_parts_and_a_private_part_is_not_stored() {
    let site = site();
    let _ = ask(&site, "bytes=0-9");
    let _ = site.ask("POST", "/", &[], |_| Some((200, vec![], "")));
    assert_eq!(ask(&site, "bytes=0-9").asked.len(), 1);
    for control in ["private", "no-store", "no-cache"] {
        let site = self::site();
        let say = |_: &HeaderMap| {
            let fields = vec![
                (CACHE_CONTROL, control.to_owned()),
                ("content-range", "bytes 0-4/10".to_owned()),
            ];
            Some((206, fields, "abcde"))
        };
        let fields = [("range", "bytes=0-4")];
        let _ = site.ask("GET", "/", &fields, say);
        assert_eq!(site.ask("GET", "/", &fields, say).asked.len(), 1, "{control}");
    }
    // Nobody asked for a part.
    let site = self::site();
    let say = |_: &HeaderMap| part(&[("content-range", "bytes 0-4/10")], "abcde");
    let _ = site.ask("GET", "/", &[], say);
    assert_eq!(site.ask("GET", "/", &[("range", "bytes=0-4")], say).asked.len(), 1);
}

#[test]
fn a_visitor_who_is_signed_in_neither_gets_parts_nor_leaves_any() {
    let site = Site::new(Policy::talks());
    let ann = [("range", "bytes=0-4"), ("cookie", "sessionid=ann")];
    let _ = site.ask("GET", "/", &ann, |asked| letters(LATER, "\"1\"", asked));
    assert_eq!(seen(&ask(&site, "bytes=0-4")).2, "abcde");
    let got = site.ask("GET", "/", &ann, |asked| letters(LATER, "\"1\"", asked));
    assert_eq!((got.outcome, seen(&got).2), (Outcome::Pass, "ABCDE"));
}

#[test]
fn parts_are_kept_for_whom_they_vary() {
    let site = site();
    let ask = |language: &str, text: &'static str| {
        let fields = [("range", "bytes=0-2"), ("accept-language", language)];
        let got = site.ask("GET", "/", &fields, |asked| {
            let (status, mut fields, body) = letters(text, "\"1\"", asked)?;
            fields.push(("vary", "accept-language".to_owned()));
            Some((status, fields, body))
        });
        (got.asked.len(), String::from_utf8(got.body.to_vec()).unwrap())
    };
    assert_eq!(ask("de", LETTERS), (1, "abc".into()));
    assert_eq!(ask("en", LATER), (1, "ABC".into()));
    assert_eq!(ask("de", LATER), (0, "abc".into()));
    assert_eq!(ask("en", LETTERS), (0, "ABC".into()));
}
