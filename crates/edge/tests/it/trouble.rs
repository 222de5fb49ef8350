//! Back ends that are full, dead, drained or slow, and an edge that is being stopped.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use throng_core::Clock;
use throng_edge::{Body, ClientLimits, Config, Edge, Error, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
};

use crate::wire::{BackEnd, bypass, ok, run};

#[tokio::test]
async fn a_full_site_says_so_and_still_serves_what_is_cached() {
    let back_end = BackEnd::new(|head| match head.starts_with("GET /slow") {
        true => format!("<pause>ms=1000;{}", ok("", "slow")),
        false => ok("", "quick"),
    })
    .await;
    let config = Config { max_requests_per_server: 1, max_queue: 1, ..Config::default() };
    let site = run(config, &[&back_end]).await;
    assert!(site.get("/cached").await.ends_with("quick"));
    let mut clients = Vec::new();
    for number in 0..2 {
        let mut client = site.connect().await;
        let request = format!("GET /slow/{number} HTTP/1.1\r\nhost: a\r\n\r\n");
        client.stream.write_all(request.as_bytes()).await.unwrap();
        clients.push(client);
        // The first has its place, the second waits for one.
        while site.edge.servers()[0].working_on == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut refused = site.get("/slow/2").await;
    // The second may have come after this one.
    if !refused.starts_with("HTTP/1.1 503") {
        refused = clients[1].answer().await;
    }
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 5"), "{refused}");
    assert!(site.get("/cached").await.ends_with("quick"));
}

/// Two servers with a place each. One request has been at the first in vain and waits for the second;
/// whoever waits behind it has the first as soon as that is free.
#[tokio::test]
async fn a_request_that_waits_for_another_server_holds_up_none_behind_it() {
    let gates: [Arc<Semaphore>; 2] = std::array::from_fn(|_| Arc::new(Semaphore::new(0)));
    let (asked, first) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(2)));
    let server = |own: usize| {
        let (gates, asked, first) = (gates.clone(), Arc::clone(&asked), Arc::clone(&first));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (gate, first) = (Arc::clone(&gates[own]), Arc::clone(&first));
            asked.fetch_add(1, Ordering::SeqCst);
            async move {
                let is_first = request.uri().path() == "/again"
                    && first.compare_exchange(2, own, Ordering::SeqCst, Ordering::SeqCst).is_ok();
                gate.acquire().await.unwrap().forget();
                let status = if is_first { 503 } else { 200 };
                let response = Response::builder().status(status);
                Ok::<_, Infallible>(response.body(Body::from("page".to_owned())).unwrap())
            }
        });
        Upstream::service(format!("app{own}"), service)
    };
    let (clock, _hand) = Clock::manual(0);
    let config = Config { max_requests_per_server: 1, ..bypass() };
    let edge = Edge::new(config, vec![server(0), server(1)], &clock).unwrap();
    let send = |path: &'static str| {
        let edge = edge.clone();
        tokio::spawn(async move {
            let request = Request::get(path).header("host", "a").body(Body::empty()).unwrap();
            let response = edge.handle(request, "10.1.1.1".parse().unwrap(), "http").await;
            response.into_body().collect().await.unwrap().to_bytes()
        })
    };
    let until_asked = async |times: usize| {
        while asked.load(Ordering::SeqCst) < times {
            tokio::task::yield_now().await;
        }
    };
    let settle = async || {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    let again = send("/again");
    until_asked(1).await;
    let first = first.load(Ordering::SeqCst);
    let held = send("/held");
    until_asked(2).await;
    let next = send("/next");
    settle().await;
    // Its first answer frees the first server for the next, and it waits for the second.
    gates[first].add_permits(1);
    until_asked(3).await;
    let last = send("/last");
    settle().await;
    gates[first].add_permits(1);
    assert_eq!(next.await.unwrap(), "page");
    let patience = tokio::time::timeout(Duration::from_secs(60), until_asked(4)).await;
    assert!(patience.is_ok(), "a server is free and somebody waits for one");
    gates[first].add_permits(1);
    assert_eq!(last.await.unwrap(), "page");
    gates[1 - first].add_permits(2);
    assert_eq!(held.await.unwrap(), "page");
    assert_eq!(again.await.unwrap(), "page");
}

#[tokio::test]
async fn only_so_many_stale_pages_are_fetched_anew_at_a_time() {
    let (gate, asked) = (Arc::new(Semaphore::new(2)), Arc::new(AtomicUsize::new(0)));
    let service = {
        let (gate, asked) = (Arc::clone(&gate), Arc::clone(&asked));
        tower::service_fn(move |_: Request<Body>| {
            let (gate, asked) = (Arc::clone(&gate), Arc::clone(&asked));
            async move {
                asked.fetch_add(1, Ordering::Relaxed);
                gate.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(Response::new(Body::from("page".to_owned())))
            }
        })
    };
    let (clock, hand) = Clock::manual(0);
    let config = Config { max_refreshes: 1, ..Config::default() };
    let edge = Edge::new(config, vec![Upstream::service("app", service)], &clock).unwrap();
    let get = async |path: &str| {
        let request = Request::get(path).header("host", "a").body(Body::empty()).unwrap();
        let response = edge.handle(request, "10.1.1.1".parse().unwrap(), "http").await;
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "page");
        status
    };
    for path in ["/1", "/2"] {
        assert!(get(path).await.contains("fwd=uri-miss"));
    }
    hand.advance(Duration::from_secs(61));
    // The first has its place until the back end answers it; who asks for the second is served.
    assert!(get("/1").await.contains("stale-while-revalidate"));
    for _ in 0..10 {
        assert!(get("/2").await.contains("stale-while-revalidate"));
        tokio::task::yield_now().await;
    }
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    gate.add_permits(2);
    while get("/2").await.contains("stale-while-revalidate") {
        tokio::task::yield_now().await;
    }
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_dead_back_end_costs_no_visitor_an_answer() {
    let alive = BackEnd::page("", "hello").await;
    let dead = BackEnd::page("", "").await;
    let broken = BackEnd::new(|_| "connection: close".into()).await;
    let failing =
        BackEnd::new(|_| "HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops".into()).await;
    dead.abort();
    let site = run(bypass(), &[&dead, &alive, &broken, &failing]).await;
    for number in 0..50 {
        let got = site.get(&format!("/{number}")).await;
        assert!(got.ends_with("hello"), "{number}: {got}");
    }
    // What did not reach a back end may be sent to another, whatever it is.
    let site = run(bypass(), &[&dead, &alive]).await;
    for _ in 0..20 {
        let post =
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
        assert!(site.raw(post).await.ends_with("hello"));
    }
    // What may have reached one may not.
    let site = run(bypass(), &[&broken]).await;
    let before = broken.requests();
    let post = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    assert!(site.raw(post).await.starts_with("HTTP/1.1 502"));
    assert_eq!(broken.requests(), before + 1);
}

#[tokio::test]
async fn a_drained_back_end_gets_nothing_new() {
    let (one, two) = (BackEnd::page("", "one").await, BackEnd::page("", "two").await);
    let site = run(bypass(), &[&one, &two]).await;
    assert!(site.edge.drain(&one.address, true) && !site.edge.drain("nobody", true));
    for _ in 0..20 {
        assert!(site.get("/").await.ends_with("two"));
    }
    site.edge.drain(&one.address, false);
    site.edge.set_weight(&two.address, 0);
    assert!(site.get("/").await.ends_with("one"));
}

#[tokio::test]
async fn back_ends_come_and_go_while_visitors_ask() {
    let (one, two) = (BackEnd::page("", "one").await, BackEnd::page("", "two").await);
    let site = run(bypass(), &[&one]).await;
    let upstream = |back_end: &BackEnd| Upstream::http(&back_end.url()).unwrap();
    assert!(site.get("/").await.ends_with("one"));
    site.edge.set_weight(&one.address, 0);
    // One that stays keeps its weight, so only the new one is asked.
    site.edge.set_upstreams(vec![upstream(&one), upstream(&two)]).unwrap();
    let before = one.requests();
    for _ in 0..20 {
        assert!(site.get("/").await.ends_with("two"));
    }
    assert_eq!(one.requests(), before);
    // One that left and came back is new.
    site.edge.set_upstreams(vec![upstream(&two)]).unwrap();
    site.edge.set_upstreams(vec![upstream(&one)]).unwrap();
    assert!(site.get("/").await.ends_with("one"));
    // What cannot be leaves everything as it was.
    assert!(matches!(site.edge.set_upstreams(Vec::new()), Err(Error::NoUpstream)));
    let twice = site.edge.set_upstreams(vec![upstream(&two), upstream(&two)]);
    assert!(twice.unwrap_err().to_string().contains("is there twice"));
    assert!(site.get("/").await.ends_with("one"));
}

#[tokio::test]
async fn a_new_back_end_is_checked_and_one_that_left_no_more() {
    let (one, two) = (BackEnd::page("", "one").await, BackEnd::page("", "two").await);
    let mut config = bypass();
    config.health.path = Some("/up".into());
    config.health.interval_ms = 5;
    let site = run(config, &[&one]).await;
    site.edge.set_upstreams(vec![Upstream::http(&two.url()).unwrap()]).unwrap();
    while two.requests() < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let left = one.requests();
    while two.requests() < 10 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // A check may have been under way when it left.
    assert!(one.requests() <= left + 1);
}

#[tokio::test]
async fn a_balancer_in_front_says_who_the_visitor_is_and_nobody_else_may() {
    let back_end = BackEnd::page("", "hello").await;
    let mut config = bypass();
    config.proxy_protocol = true;
    config.trusted_peers = vec!["127.0.0.1".parse().unwrap()];
    let site = run(config.clone(), &[&back_end]).await;
    let get = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let header = "PROXY TCP4 192.0.2.7 192.0.2.9 56324 443\r\n";
    assert!(site.raw(format!("{header}{get}").as_bytes()).await.ends_with("hello"));
    assert!(back_end.last().to_ascii_lowercase().contains("x-forwarded-for: 192.0.2.7"));
    assert_eq!(site.raw(get.as_bytes()).await, "", "without the header it is closed");
    config.trusted_peers.clear();
    let site = run(config, &[&back_end]).await;
    assert_eq!(site.raw(format!("{header}{get}").as_bytes()).await, "");
    assert_eq!(back_end.requests(), 1);
}

#[tokio::test]
async fn a_client_that_asks_too_much_is_told_to_wait_and_others_are_not() {
    let back_end = BackEnd::page("", "hello").await;
    let config = Config {
        trusted_peers: vec!["127.0.0.1".parse().unwrap()],
        client: ClientLimits { requests_per_s: 1, burst: 3, ..ClientLimits::default() },
        ..Config::default()
    };
    let site = run(config, &[&back_end]).await;
    let get = async |who: &str| {
        let fields = format!("host: a\r\nx-forwarded-for: {who}\r\nconnection: close");
        site.raw(format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()).await
    };
    let mut last = String::new();
    for _ in 0..20 {
        last = get("192.0.2.7").await;
    }
    assert!(last.starts_with("HTTP/1.1 429"), "{last}");
    let retry = last.lines().find_map(|line| line.strip_prefix("retry-after: "));
    assert!(retry.is_some_and(|wait| (1..=2).contains(&wait.parse::<u32>().unwrap())), "{last}");
    assert!(get("192.0.2.8").await.ends_with("hello"));
    assert!(!site.edge.prometheus().contains("throng_edge_limited_total 0"));
}

#[tokio::test]
async fn what_is_under_way_at_shutdown_is_finished() {
    let back_end = BackEnd::new(|_| format!("<pause>ms=200;{}", ok("", "slow"))).await;
    let mut site = run(bypass(), &[&back_end]).await;
    let mut client = site.connect().await;
    client.stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    while back_end.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    site.trigger.take().unwrap().request();
    assert!(client.rest().await.ends_with("slow"));
    (&mut site.task).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(&site.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_on_a_slow_page_costs_one_request_even_when_the_first_visitor_leaves() {
    let back_end = BackEnd::new(|_| format!("<pause>ms=500;{}", ok("", "slow"))).await;
    let site = run(Config::default(), &[&back_end]).await;
    let mut first = site.connect().await;
    first.stream.write_all(b"GET / HTTP/1.1\r\nhost: example.org\r\n\r\n").await.unwrap();
    while back_end.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(first);
    let herd: Vec<_> = (0..300)
        .map(|_| {
            let address = site.address.clone();
            tokio::spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                stream
                    .write_all(b"GET / HTTP/1.1\r\nhost: example.org\r\nconnection: close\r\n\r\n")
                    .await
                    .unwrap();
                let mut all = String::new();
                stream.read_to_string(&mut all).await.unwrap();
                all
            })
        })
        .collect();
    for visitor in herd {
        assert!(visitor.await.unwrap().ends_with("slow"));
    }
    assert_eq!(back_end.requests(), 1);
}
