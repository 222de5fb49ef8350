//! Visitors who want the site's time and memory and not its pages.

use std::time::Duration;

use throng_core::{Clock, Secret};
use throng_edge::{ClientLimits, Config, Edge, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::wire::{BackEnd, Running, bypass, ok, run, start};

/// Waits until the figure of this name is at least `least`.
async fn counts(site: &Running, name: &str, least: u64) -> u64 {
    loop {
        let figures = site.edge.prometheus();
        let line = figures.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        let count: u64 = line.expect(name).parse().unwrap();
        if count >= least {
            return count;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn connections_that_say_nothing_or_little_make_room_for_those_who_ask() {
    let back_end = BackEnd::page("", "hello").await;
    let config = Config { max_connections: 40, head_timeout_ms: 300, ..bypass() };
    let site = run(config, &[&back_end]).await;
    let mut slow = Vec::new();
    for number in 0..120 {
        let mut client = site.connect().await;
        match number % 3 {
            0 => {}
            1 => client.stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx").await.unwrap(),
            // As far as HTTP/2 could be meant.
            _ => client.stream.write_all(b"PR").await.unwrap(),
        }
        slow.push(client);
    }
    assert!(site.get("/").await.ends_with("hello"), "it waits for its turn and gets it");
    counts(&site, "throng_edge_slow_connections_total", 80).await;
    for mut client in slow {
        // Its place was given to somebody else.
        let _ = client.stream.read(&mut [0; 1_000]).await;
    }
    assert_eq!(back_end.requests(), 1);
}

#[tokio::test]
async fn what_cannot_be_understood_or_is_too_large_is_counted_and_costs_no_back_end_anything() {
    let back_end = BackEnd::page("", "hello").await;
    let site = run(bypass(), &[&back_end]).await;
    let huge = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(300 << 10));
    for (request, status) in [
        ("nonsense\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", "400"),
        (huge.as_str(), "431"),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n", "413"),
    ] {
        for _ in 0..25 {
            let got = site.raw(request.as_bytes()).await;
            assert!(got.starts_with(&format!("HTTP/1.1 {status}")), "{request:.99}: {got}");
        }
    }
    assert_eq!(counts(&site, "throng_edge_malformed_total", 100).await, 100);
    assert_eq!(back_end.requests(), 0);
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_off_where_it_is_too_long() {
    // It reads whatever comes and answers nobody.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
        }
    });
    let config = Config { max_body_bytes: 1 << 20, ..bypass() };
    let upstream = Upstream::http(&url).unwrap();
    let site = start(Edge::new(config, vec![upstream], &Clock::system()).unwrap()).await;
    let mut client = site.connect().await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    client.stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(64 << 10));
    let mut sent = 0;
    while client.stream.write_all(chunk.as_bytes()).await.is_ok() {
        sent += chunk.len();
        assert!(sent < 256 << 20, "nobody stops it");
    }
    counts(&site, "throng_edge_refused_total", 1).await;
}

#[tokio::test]
async fn ten_thousand_ranges_of_one_page_are_one_page() {
    let page: &'static str = "0123456789".repeat(100).leak();
    let back_end = BackEnd::page("cache-control: max-age=60\r\n", page).await;
    let site = run(Config::default(), &[&back_end]).await;
    assert!(site.get("/a").await.ends_with(page));
    let ranges: Vec<String> = (0..10_000).map(|n| format!("{}-", n % 900)).collect();
    let fields = format!("range: bytes={}\r\n", ranges.join(","));
    for _ in 0..20 {
        let got = site.connect().await.get("/a", &fields).await;
        assert!(got.starts_with("HTTP/1.1 200") && got.ends_with(page), "{got:.200}");
        assert!(got.len() < 2 * page.len());
    }
    assert_eq!(back_end.requests(), 1);
}

#[tokio::test]
async fn purges_without_the_token_get_403_and_change_nothing() {
    let back_end =
        BackEnd::page("cache-control: max-age=60\r\nsurrogate-key: k\r\n", "hello").await;
    let purge_token = Some(Secret::new("right".to_owned()));
    let site = run(Config { purge_token, ..Config::default() }, &[&back_end]).await;
    assert!(site.get("/a").await.ends_with("hello"));
    for fields in [
        "",
        "authorization: Bearer wrong\r\n",
        "authorization: Bearer righ\r\n",
        "authorization: Bearer rightt\r\n",
        "authorization: Basic right\r\n",
        "authorization: right\r\n",
        "surrogate-key: k\r\n",
        "x-ban: *\r\n",
        "x-forwarded-for: 127.0.0.1\r\nsoft-purge: 1\r\n",
    ] {
        let purge = format!("PURGE /a HTTP/1.1\r\nhost: example.org\r\n{fields}\r\n");
        let got = site.connect().await.ask(&purge).await;
        assert!(got.starts_with("HTTP/1.1 403"), "{fields}: {got}");
    }
    assert!(site.get("/a").await.contains("throng; hit"));
    assert_eq!(back_end.requests(), 1);
}

#[tokio::test]
async fn one_client_gets_no_more_answers_at_a_time_than_it_may() {
    let back_end = BackEnd::new(|_| format!("<pause>ms=30000;{}", ok("", "slow"))).await;
    let client = ClientLimits { requests_at_a_time: 3, ..ClientLimits::default() };
    let site = run(Config { client, ..bypass() }, &[&back_end]).await;
    let mut waiting = Vec::new();
    for number in 1..=3 {
        let mut client = site.connect().await;
        client.stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        while back_end.requests() < number {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        waiting.push(client);
    }
    let got = site.get("/").await;
    assert!(got.starts_with("HTTP/1.1 429") && got.contains("retry-after: 1\r\n"), "{got}");
    drop(waiting);
    // Those who left make room.
    loop {
        let mut client = site.connect().await;
        client.stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(50), client.answer()).await;
        if answer.is_err() {
            break;
        }
    }
}
