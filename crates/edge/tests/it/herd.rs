//! Ten thousand visitors on one page that runs out.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::FutureExt;
use throng_edge::cache::{Action, Answered, Fetch, Outcome, Policy, Rule, Step, Woken};

use crate::site::{CACHE_CONTROL, Site, message, page, read};

#[tokio::test]
async fn ten_thousand_waiters_cost_one_origin_request_for_each_expiry() {
    let _quiet = crate::wire::QUIET.lock().await;
    let mut policy = Policy::talks();
    // Without grace, so that visitors do wait.
    policy.grace_ms = 0;
    let site = Arc::new(Site::new(policy));
    let asked = Arc::new(AtomicUsize::new(0));
    for expiry in 1..=3 {
        let (release, _) = tokio::sync::broadcast::channel::<()>(1);
        let visitors: Vec<_> = (0..10_000)
            .map(|_| {
                tokio::spawn(visit(Arc::clone(&site), Arc::clone(&asked), release.subscribe()))
            })
            .collect();
        // Everybody has asked before the origin answers.
        while release.receiver_count() > 1 {
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        let mut collapsed = 0;
        for visitor in visitors {
            collapsed += usize::from(visitor.await.unwrap() == Outcome::Collapsed);
        }
        assert_eq!((asked.load(Ordering::Relaxed), collapsed), (expiry, 9_999));
        site.wait(60_000);
    }
}

#[tokio::test]
async fn a_page_kept_for_a_second_costs_one_request_a_second_and_nobody_waits_for_it() {
    let mut policy = Policy::talks();
    policy.rules = vec![Rule { pattern: "/live/*".into(), action: Action::Keep { ttl_ms: 1_000 } }];
    let site = Site::new(policy);
    let question = site.question("GET", "/live/1", &[]);
    let (mut asked, mut waited, mut served) = (0, 0, 0);
    let mut flying = None;
    // Twenty thousand requests a second, for ten seconds, and an origin that takes 200 ms.
    for ms in 0..10_000 {
        if let Some((fetch, _)) = flying.take_if(|(_, due)| *due == ms) {
            let fetch: Fetch = fetch;
            let (status, headers, body) = message(page(&[]).unwrap());
            let Answered::Fill(_, mut filling) = fetch.answered(status, headers) else {
                panic!("it is stored")
            };
            filling.push(body);
            filling.finish();
        }
        for _ in 0..20 {
            match site.cache.ask(&question, false) {
                Step::Serve(_) => served += 1,
                Step::Fetch(fetch) | Step::Refresh(_, fetch) => {
                    asked += 1;
                    flying = Some((fetch, ms + 200));
                }
                Step::Wait(_) => {
                    assert!(ms < 200, "only those who came before there was a page wait");
                    waited += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        site.wait(1);
    }
    assert_eq!(asked + waited + served, 200_000);
    assert!((2..=10).contains(&asked), "{asked} requests in ten seconds");
}

async fn visit(
    site: Arc<Site>,
    asked: Arc<AtomicUsize>,
    mut released: tokio::sync::broadcast::Receiver<()>,
) -> Outcome {
    let question = site.question("GET", "/", &[]);
    match site.cache.ask(&question, false) {
        Step::Fetch(fetch) => {
            asked.fetch_add(1, Ordering::Relaxed);
            released.recv().await.unwrap();
            let (status, headers, body) = message(page(&[]).unwrap());
            let Answered::Fill(served, mut filling) = fetch.answered(status, headers) else {
                panic!("it is stored")
            };
            filling.push(body);
            filling.finish();
            assert_eq!(read(served.body).unwrap(), "0123456789");
            served.outcome
        }
        Step::Wait(wait) => {
            drop(released);
            assert_eq!(wait.over().await, Woken::Again);
            match site.cache.ask(&question, true) {
                Step::Serve(served) => served.outcome,
                other => panic!("it is stored: {other:?}"),
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_thousand_visitors_of_one_range_cost_one_request_however_it_is_answered() {
    let part = |length: usize| {
        let fields = vec![
            (CACHE_CONTROL, "max-age=60".to_owned()),
            ("content-range", "bytes 0-4/10".to_owned()),
        ];
        (206, fields, &"0123456789"[..length])
    };
    let fields = [("range", "bytes=0-4")];
    // The part, one that lies about its length, and the page, from an origin without ranges.
    for said in [part(5), part(4), page(&[(CACHE_CONTROL, "max-age=60")]).unwrap()] {
        let site = Site::new(Policy::rfc());
        let question = site.question("GET", "/", &fields);
        let Step::Fetch(fetch) = site.cache.ask(&question, false) else { panic!("a fetch") };
        assert_eq!(fetch.headers()["range"], "bytes=0-4");
        let waiters: Vec<_> = (0..999)
            .map(|_| match site.cache.ask(&question, false) {
                Step::Wait(wait) => wait,
                other => panic!("somebody asks already: {other:?}"),
            })
            .collect();
        // Another range is another question.
        let other = site.question("GET", "/", &[("range", "bytes=5-9")]);
        assert!(matches!(site.cache.ask(&other, false), Step::Fetch(_)));
        let (status, headers, body) = message(said);
        let Answered::Fill(first, mut filling) = fetch.answered(status, headers) else {
            panic!("it is stored")
        };
        // They go on as soon as there is a head, and read while it comes.
        let mut served = vec![first];
        for wait in waiters {
            assert_eq!(wait.over().now_or_never(), Some(Woken::Again));
            match site.cache.ask(&question, true) {
                Step::Serve(one) => served.push(one),
                other => panic!("it comes: {other:?}"),
            }
        }
        filling.push(body.clone());
        filling.finish();
        assert_eq!(served.len(), 1_000);
        for one in served {
            assert_eq!((one.status, read(one.body)), (status, Some(body.clone())));
        }
    }
}

#[test]
fn visitors_of_a_range_that_is_not_kept_do_not_queue() {
    let site = Site::new(Policy::rfc());
    let question = site.question("GET", "/", &[("range", "bytes=0-4")]);
    for status in [206, 416, 500] {
        let Step::Fetch(fetch) = site.cache.ask(&question, false) else { panic!("a fetch") };
        let Step::Wait(wait) = site.cache.ask(&question, false) else { panic!("a wait") };
        let fields = vec![
            (CACHE_CONTROL, "private".to_owned()),
            ("content-range", "bytes 0-4/10".to_owned()),
        ];
        let (status, headers, _) = message((status, fields, "01234"));
        assert!(matches!(fetch.answered(status, headers), Answered::Forward(_)));
        assert_eq!(wait.over().now_or_never(), Some(Woken::Again));
        let all: Vec<_> = (0..5).map(|_| site.cache.ask(&question, true)).collect();
        assert!(all.iter().all(|step| matches!(step, Step::Fetch(_))), "{status}: {all:?}");
        // The page is another matter.
        let page = site.question("GET", "/", &[]);
        let Step::Fetch(first) = site.cache.ask(&page, false) else { panic!("a fetch") };
        assert!(matches!(site.cache.ask(&page, false), Step::Wait(_)));
        drop((all, first));
        site.wait(120_000);
    }
    let Step::Fetch(fetch) = site.cache.ask(&question, false) else { panic!("a fetch") };
    let Step::Wait(wait) = site.cache.ask(&question, false) else { panic!("a wait") };
    assert!(fetch.failed().is_none());
    assert_eq!(wait.over().now_or_never(), Some(Woken::Failed));
}
