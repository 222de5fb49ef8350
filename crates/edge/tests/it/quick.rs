//! The short way to what is in memory: it answers as the long way does, and leaves alone what is not
//! its business.

use throng_core::Secret;
use throng_edge::{Config, Policy};
use tokio::io::AsyncWriteExt;

use crate::wire::{BackEnd, Client, ok, run};

/// Pages that say which of the origin's requests they answer.
async fn site(fields: &'static str) -> BackEnd {
    let count = std::sync::atomic::AtomicUsize::new(0);
    BackEnd::new(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        ok(fields, &format!("page {number}"))
    })
    .await
}

/// The lines of a head in order, without what differs from one request to the next.
fn lasting(answer: &str) -> Vec<String> {
    let differs = ["x-request-id", "age", "cache-status", "date"];
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<String> = head.lines().map(str::to_ascii_lowercase).collect();
    lines.retain(|line| !differs.iter().any(|name| line.starts_with(&format!("{name}:"))));
    lines.sort();
    lines.push(body.to_owned());
    lines
}

/// Makes the edge take the long way, and means nothing.
const LONG: &str = "Trailer: x\r\n";

#[tokio::test]
async fn both_ways_give_the_same_answer() {
    let fields = "Cache-Control: max-age=60\r\nVary: Accept-Encoding, X-Kind\r\nX-Two: a\r\n\
                  X-Two: b\r\nSurrogate-Key: k\r\nX-Request-Id: of-the-origin\r\n";
    let back_end = site(fields).await;
    let running = run(Config::default(), &[&back_end]).await;
    let mut client = running.connect().await;
    for kind in ["", "X-Kind: a\r\n", "X-Kind: b,  c\r\n", "Accept-Encoding: br, gzip\r\n"] {
        let first = client.get("/a?b=1", kind).await;
        assert!(first.contains("stored"), "{kind}: {first}");
        let short = client.get("/a?b=1", kind).await;
        let long = client.get("/a?b=1", &format!("{LONG}{kind}")).await;
        for answer in [&short, &long] {
            assert!(answer.contains("cache-status: throng; hit; ttl="), "{answer}");
            assert!(answer.contains("age: 0"), "{answer}");
            assert!(!answer.contains("of-the-origin") && answer.contains("x-request-id: "));
        }
        assert_eq!(lasting(&short), lasting(&long), "{kind}");
        assert_eq!(lasting(&short).last(), lasting(&first).last(), "{kind}");
    }
    // What means the same selects the same, also here.
    let same = client.get("/a?b=1", "Accept-Encoding: GZIP;q=1, br\r\n").await;
    assert!(same.contains("; hit"), "{same}");
    assert_eq!(back_end.requests(), 4);
    let heads = "HEAD /a?b=1 HTTP/1.1\r\nHost: example.org\r\n\r\n\
                 HEAD /a?b=1 HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n";
    let heads = running.raw(heads.as_bytes()).await;
    let heads: Vec<&str> = heads.split("\r\n\r\n").collect();
    assert!(heads.len() == 3 && heads[2].is_empty(), "{heads:?}");
    for head in &heads[..2] {
        assert!(head.contains("content-length: 6") && head.contains("; hit"), "{head}");
    }
}

#[tokio::test]
async fn what_asks_for_more_than_a_stored_page_takes_the_long_way() {
    let back_end = site("Cache-Control: max-age=60\r\nETag: \"e\"\r\n").await;
    let config = Config { purge_token: Some(Secret::new("token")), ..Config::default() };
    let running = run(config, &[&back_end]).await;
    let mut client = running.connect().await;
    client.get("/a", "").await;
    for (fields, wanted) in [
        ("Cookie: csrftoken=1; _ga=2\r\n", "; hit"),
        ("Cookie: theme=dark\r\n", "; hit"),
        ("Cookie: a=b; sessionid=1\r\n", "fwd=bypass"),
        ("Cookie: a=b\r\nCookie: sessionid=1\r\n", "fwd=bypass"),
        ("Accept: text/event-stream\r\n", "fwd=request"),
        ("If-None-Match: \"e\"\r\n", "304 Not Modified"),
        ("Range: bytes=0-1\r\n", "206 Partial"),
        ("Cache-Control: no-cache\r\n", "; hit"),
        ("Content-Length: 0\r\n", "; hit"),
    ] {
        let answer = client.get("/a", fields).await;
        assert!(answer.contains(wanted), "{fields}: {answer}");
    }
    let tracked = client.get("/a?utm_source=x", "").await;
    assert!(tracked.contains("; hit"), "{tracked}");
    let other = client.ask("GET /a HTTP/1.1\r\nHost: OTHER\r\n\r\n").await;
    assert!(other.contains("fwd=uri-miss"), "{other}");
    let purged = client
        .ask("PURGE /a HTTP/1.1\r\nHost: example.org\r\nAuthorization: Bearer token\r\n\r\n")
        .await;
    assert!(purged.contains("200 purged"), "{purged}");
    assert!(client.get("/a", "").await.contains("fwd=uri-miss"));
}

#[tokio::test]
async fn answers_come_in_order_whichever_way_they_took() {
    let back_end = BackEnd::new(|request| {
        let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let control = if target.starts_with("/kept") { "max-age=60" } else { "no-store" };
        ok(&format!("Cache-Control: {control}\r\n"), &target)
    })
    .await;
    let running = run(Config::default(), &[&back_end]).await;
    let mut client = running.connect().await;
    for target in ["/kept/1", "/kept/2", "/kept/3"] {
        client.get(target, "").await;
    }
    let targets =
        ["/kept/1", "/other/1", "/kept/2", "/kept/3", "/other/2", "/other/3", "/kept/1", "/kept/9"];
    let all = targets
        .map(|target| format!("GET {target} HTTP/1.1\r\nHost: example.org\r\n\r\n"))
        .concat();
    // All at once, and byte by byte.
    for piece in [all.len(), 1, 7] {
        let mut client = running.connect().await;
        for part in all.as_bytes().chunks(piece) {
            client.stream.write_all(part).await.unwrap();
        }
        for target in targets {
            let answer = client.answer().await;
            assert!(answer.ends_with(&format!("\r\n\r\n{target}")), "{piece}, {target}: {answer}");
        }
    }
    // With a body between them: from there on the connection is hyper's.
    let mut client = running.connect().await;
    let post = "POST /other/4 HTTP/1.1\r\nHost: example.org\r\nContent-Length: 3\r\n\r\nabc";
    let get = "GET /kept/1 HTTP/1.1\r\nHost: example.org\r\n\r\n";
    client.stream.write_all(format!("{get}{post}{get}").as_bytes()).await.unwrap();
    for target in ["/kept/1", "/other/4", "/kept/1"] {
        assert!(client.answer().await.ends_with(target), "{target}");
    }
}

#[tokio::test]
async fn a_large_page_reaches_a_slow_reader_whole() {
    let text = "0123456789".repeat(6_000);
    let body = text.clone();
    let back_end = BackEnd::new(move |_| ok("Cache-Control: max-age=60\r\n", &body)).await;
    let running = run(Config { policy: Policy::rfc(), ..Config::default() }, &[&back_end]).await;
    let mut client = running.connect().await;
    client.get("/", "").await;
    // More than any socket takes while nobody reads.
    let asked = "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".repeat(300);
    let mut client: Client = running.connect().await;
    client.stream.write_all(asked.as_bytes()).await.unwrap();
    for number in 0..300 {
        let answer = client.answer().await;
        assert!(answer.ends_with(&text), "{number}");
        assert!(answer.contains("; hit"), "{number}");
    }
    assert_eq!(back_end.requests(), 1);
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_closed_and_a_busy_one_is_not() {
    let back_end = site("Cache-Control: max-age=60\r\n").await;
    let config = Config { head_timeout_ms: 3_000, ..Config::default() };
    let running = run(config, &[&back_end]).await;
    let mut client = running.connect().await;
    // For longer than the limit, with pauses that are shorter.
    for _ in 0..16 {
        let answer = client.get("/", "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    client.stream.write_all(b"GET / HT").await.unwrap();
    assert_eq!(client.rest().await, "", "closed without a word");
}
