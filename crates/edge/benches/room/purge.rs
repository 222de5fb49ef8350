//! A purge of 10,000 of 1,000,000 pages by tag.

use std::{sync::Arc, time::Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use throng_core::Clock;
use throng_edge::cache::{Answered, Cache, Policy, Question, Step};

pub(crate) fn run() {
    let cache = Cache::new(Policy::talks(), Clock::system(), 8 << 30);
    let ask = |number: usize| {
        let target = format!("/events/{number}").parse().unwrap();
        let policy = cache.policy();
        Arc::new(Question::new(policy, "example.org", Method::GET, target, HeaderMap::new()))
    };
    for number in 0..ALL {
        let Step::Fetch(fetch) = cache.ask(&ask(number), false) else { panic!("it is new") };
        let mut said = HeaderMap::new();
        let tag = if number % (ALL / TAGGED) == 0 { "event-7" } else { "others" };
        said.insert("surrogate-key", HeaderValue::from_static(tag));
        let Answered::Fill(_, mut filling) = fetch.answered(StatusCode::OK, said) else {
            panic!("it may be stored")
        };
        filling.push("a page".into());
        filling.finish();
    }
    let tagged = || (0..ALL).step_by(ALL / TAGGED);
    let hits = tagged().filter(|number| is_hit(&cache, &ask(*number))).count();
    assert_eq!(hits, TAGGED);
    let questions: Vec<_> = tagged().map(ask).collect();
    let begun = Instant::now();
    cache.purge_tag("event-7", false);
    let purged = crate::ms(begun);
    let left = questions.iter().filter(|question| is_hit(&cache, question)).count();
    let seen = crate::ms(begun);
    assert_eq!(left, 0, "none of them is served");
    assert!(is_hit(&cache, &ask(1)), "and the others are");
    for (case, ours, target) in [
        ("purge by tag, 10,000 of 1,000,000", purged, "ours <= 5"),
        ("purge by tag, with a look at each", seen, ""),
    ] {
        println!(
            "{}",
            serde_json::json!({ "case": case, "unit": "ms", "ours": ours, "peer": null, "target": target })
        );
    }
}

fn is_hit(cache: &Cache, question: &Arc<Question>) -> bool {
    matches!(cache.ask(question, false), Step::Serve(_))
}

const ALL: usize = 1_000_000;
const TAGGED: usize = 10_000;
