//! Requests through the edge and back, byte by byte.

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::BodyExt;
use throng_core::{Clock, Secret};
use throng_edge::{AccessLog, Body, Config, Edge, Policy, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::wire::{BackEnd, bypass, ok, run, start};

#[tokio::test]
async fn a_back_end_sees_who_asks_and_nothing_that_concerns_one_hop() {
    let back_end =
        BackEnd::page("connection: x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\nx-all: 1\r\n", "hello")
            .await;
    let site = run(Config::default(), &[&back_end]).await;
    let got = site
        .connect()
        .await
        .get("/a?b=1", "connection: x-mine, keep-alive\r\nx-mine: 1\r\nte: trailers\r\nproxy-authorization: x\r\n\
              x-forwarded-for: 6.6.6.6\r\nx-request-id: forged\r\nforwarded: for=6.6.6.6\r\nx-real-ip: 6.6.6.6\r\n")
        .await;
    let seen = back_end.last().to_ascii_lowercase();
    assert!(seen.starts_with("get /a?b=1 http/1.1\r\n"), "{seen}");
    for field in [
        "host: example.org",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: example.org",
        "forwarded: for=127.0.0.1;host=\"example.org\";proto=http",
        "via: 1.1 throng",
    ] {
        assert!(seen.contains(&format!("\r\n{field}\r\n")), "{field} in {seen}");
    }
    for gone in
        ["x-mine", "te: ", "proxy-auth", "6.6.6.6", "forged", "keep-alive", "\r\nconnection"]
    {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    assert!(got.contains("x-all: 1\r\n") && got.ends_with("hello"), "{got}");
    assert!(!got.contains("x-hop") && !got.contains("keep-alive"), "{got}");
    let id = got.split("x-request-id: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
    assert!(seen.contains(&format!("x-request-id: {id}\r\n")), "{seen} {id}");
}

#[tokio::test]
async fn a_trusted_peer_speaks_for_its_visitors() {
    let back_end = BackEnd::page("", "hello").await;
    let config = Config { trusted_peers: vec!["127.0.0.0/8".parse().unwrap()], ..bypass() };
    let site = run(config, &[&back_end]).await;
    let fields = "x-forwarded-for: 6.6.6.6\r\nx-forwarded-proto: https\r\nx-request-id: abc\r\n";
    let got = site.connect().await.get("/", fields).await;
    let seen = back_end.last().to_ascii_lowercase();
    for field in
        ["x-forwarded-for: 6.6.6.6, 127.0.0.1", "x-forwarded-proto: https", "x-request-id: abc"]
    {
        assert!(seen.contains(field), "{field} in {seen}");
    }
    assert!(got.contains("x-request-id: abc"));
}

#[tokio::test]
async fn malformed_requests_get_400_and_reach_nobody() {
    let back_end = BackEnd::page("", "hello").await;
    let site = run(bypass(), &[&back_end]).await;
    let host = "host: a\r\n";
    let huge = format!("GET / HTTP/1.1\r\n{host}x: {}\r\n\r\n", "a".repeat(70 << 10));
    let many = format!("GET / HTTP/1.1\r\n{host}{}\r\n", "x: 1\r\n".repeat(200));
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), "400"),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n".into(), "400"),
        ("GET / HTTP/1.1\r\nhost: a/../b\r\n\r\n".into(), "400"),
        (
            format!("POST / HTTP/1.1\r\n{host}content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
            "400",
        ),
        (format!("POST / HTTP/1.1\r\n{host}content-length: +5\r\n\r\nhello"), "400"),
        (format!("POST / HTTP/1.1\r\n{host}content-length: 5, 5\r\n\r\nhello"), "400"),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"
            ),
            "400",
        ),
        (format!("POST / HTTP/1.1\r\n{host}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"), "400"),
        (format!("POST / HTTP/1.0\r\n{host}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"), "400"),
        (format!("GET / HTTP/1.1\r\n{host}x : 1\r\n\r\n"), "400"),
        (format!("GET / HTTP/1.1\r\n{host}x: 1\r\n folded\r\n\r\n"), "400"),
        (format!("GET / HTTP/1.1\r\n{host}x\r\n\r\n"), "400"),
        (format!("GET / HTTP/1.1\r\n{host}x: a\0b\r\n\r\n"), "400"),
        (format!("GET / HTTP/1.1\r\n{host}x: a\rb\r\n\r\n"), "400"),
        (format!("GET  / HTTP/1.1\r\n{host}\r\n"), "400"),
        (format!("G\x01T / HTTP/1.1\r\n{host}\r\n"), "400"),
        (format!("GET / HTTP/3.9\r\n{host}\r\n"), "400"),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n".into(), "405"),
        (format!("TRACE / HTTP/1.1\r\n{host}\r\n"), "405"),
        (huge, "431"),
        (many, "431"),
        (format!("POST / HTTP/1.1\r\n{host}content-length: 99999999999\r\n\r\n"), "413"),
    ] {
        let got = site.raw(request.as_bytes()).await;
        assert!(got.starts_with(&format!("HTTP/1.1 {status}")), "{request:.200}: {got}");
        assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{request:.200}: {got}");
    }
    assert_eq!(back_end.requests(), 0);
}

#[tokio::test]
async fn bodies_are_framed_anew_so_that_nobody_can_hide_a_request_in_one() {
    let back_end = BackEnd::page("", "hello").await;
    let site = run(bypass(), &[&back_end]).await;
    // hyper reads the chunks; whatever else was claimed does not go on.
    let hidden = "GET /admin HTTP/1.1\r\nhost: a\r\n\r\n";
    let lengths = [
        "transfer-encoding: chunked\r\ncontent-length: 6",
        "content-length: 6\r\ntransfer-encoding: chunked",
    ];
    for lengths in lengths {
        let smuggled = format!(
            "POST / HTTP/1.1\r\nhost: a\r\n{lengths}\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n{hidden}",
            hidden.len()
        );
        // The connection ends with the one answer (RFC 9112 6.3), so that nothing follows it.
        let got = site.raw(smuggled.as_bytes()).await;
        assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{got}");
    }
    for seen in back_end.seen.lock().unwrap().iter() {
        let head = seen.to_ascii_lowercase();
        assert!(!(head.contains("content-length") && head.contains("transfer-encoding")), "{seen}");
        assert!(!head.starts_with("get /admin"), "{seen}");
    }
    // A response that tries the same ends with what its length says.
    let evil = BackEnd::new(|_| format!("{}{}", ok("", "one"), ok("", "two"))).await;
    let site = run(bypass(), &[&evil]).await;
    let mut client = site.connect().await;
    for _ in 0..3 {
        assert!(client.get("/", "").await.ends_with("one"));
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_costs_its_sender_the_connection() {
    let back_end = BackEnd::page("", "hello").await;
    let site = run(Config { head_timeout_ms: 100, ..bypass() }, &[&back_end]).await;
    let mut client = site.connect().await;
    client.stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx-slow").await.unwrap();
    let rest = client.rest().await;
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{rest}");
    assert_eq!(back_end.requests(), 0);
}

#[tokio::test]
async fn a_body_that_is_too_long_or_stops_is_cut_off() {
    let back_end = BackEnd::new(|_| ok("", "done")).await;
    let config = Config { max_body_bytes: 10, body_timeout_ms: 100, ..bypass() };
    let site = run(config, &[&back_end]).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
    let sent = |rest: &str| format!("{head}{rest}").into_bytes();
    let got = site.raw(&sent("content-length: 10\r\n\r\n0123456789")).await;
    assert!(got.ends_with("done"), "{got}");
    let got = site.raw(&sent("content-length: 11\r\n\r\n0123456789a")).await;
    assert!(got.starts_with("HTTP/1.1 413"), "{got}");
    let got = site.raw(&sent("content-length: 10\r\n\r\n012")).await;
    assert!(got.starts_with("HTTP/1.1 408"), "{got}");
}

#[tokio::test]
async fn a_service_in_this_process_stands_behind_the_edge_without_a_socket() {
    let service = tower::service_fn(|request: Request<Body>| async move {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        let asked = format!("{} {} {host}", request.method(), request.uri());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(Response::new(http_body_util::Full::new(
            [asked.as_bytes(), b" ", &body[..]].concat().into(),
        )))
    });
    let upstreams = vec![Upstream::service("app", service)];
    let edge = Edge::new(Config::default(), upstreams, &Clock::system()).unwrap();
    let ask = async |method: &str, body: &'static str| {
        let request = Request::builder()
            .method(method)
            .uri("http://example.org/x?y")
            .header("host", "example.org");
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = edge.handle(request, "10.1.1.1".parse().unwrap(), "http").await;
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        (response.into_body().collect().await.unwrap().to_bytes(), status)
    };
    assert_eq!(ask("POST", "text").await.0, "POST /x?y example.org text");
    let (body, status) = ask("GET", "").await;
    assert_eq!(
        (&body[..], &status[..]),
        (&b"GET /x?y example.org "[..], "throng; fwd=uri-miss; fwd-status=200; stored")
    );
    assert!(ask("GET", "").await.1.starts_with("throng; hit"));
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let count = stream.read(&mut head).await.unwrap();
        let head = String::from_utf8_lossy(&head[..count]).to_ascii_lowercase();
        assert!(
            head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"),
            "{head}"
        );
        assert!(head.contains("sec-websocket-key: abc"), "{head}");
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nfirst").await.unwrap();
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).await.unwrap();
        stream.write_all(&echo).await.unwrap();
    });
    let edge = Edge::new(Config::default(), vec![Upstream::http(&url).unwrap()], &Clock::system())
        .unwrap();
    // Not served, so not checked: the back end takes one connection only.
    let address = {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let serving = edge.clone();
        tokio::spawn(async move {
            let (stream, peer) = server.accept().await.unwrap();
            let service =
                hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let edge = serving.clone();
                    async move {
                        Ok::<_, Infallible>(
                            edge.handle(request.map(Body::new), peer.ip(), "http").await,
                        )
                    }
                });
            let io = hyper_util::rt::TokioIo::new(stream);
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(io, service)
                .with_upgrades()
                .await;
        });
        address
    };
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: abc\r\n\r\n").await.unwrap();
    client.write_all(b"ping").await.unwrap();
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.unwrap();
    let all = String::from_utf8_lossy(&all).into_owned();
    assert!(all.starts_with("HTTP/1.1 101"), "{all}");
    assert!(
        all.to_ascii_lowercase().contains("upgrade: websocket")
            && all.ends_with("\r\n\r\nfirstping"),
        "{all}"
    );
}

#[tokio::test]
async fn events_reach_the_visitor_one_by_one() {
    let events = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: 1\n\n<pause>ms=300;data: 2\n\n";
    let back_end = BackEnd::new(move |_| events.to_owned()).await;
    // The pause is longer than another body might make.
    let site = run(Config { body_timeout_ms: 100, ..Config::default() }, &[&back_end]).await;
    let mut client = site.connect().await;
    client
        .stream
        .write_all(b"GET /events HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut first = Vec::new();
    while !first.windows(7).any(|bytes| bytes == b"data: 1") {
        let mut chunk = [0; 1024];
        let count = client.stream.read(&mut chunk).await.unwrap();
        first.extend_from_slice(&chunk[..count]);
    }
    assert!(!String::from_utf8_lossy(&first).contains("data: 2"));
    assert!(client.rest().await.contains("data: 2"));
}

#[tokio::test]
async fn purges_need_the_token_and_reach_addresses_tags_and_patterns() {
    let back_end = BackEnd::page("surrogate-key: t\r\n", "hello").await;
    let config = Config { purge_token: Some(Secret::new("s3cret")), ..Config::default() };
    let site = run(config, &[&back_end]).await;
    let mut client = site.connect().await;
    let mut asked = 0;
    for (fields, status, is_gone) in [
        ("", "403", false),
        ("authorization: Bearer wrong!\r\n", "403", false),
        ("authorization: Bearer s3cret\r\n", "200", true),
        ("authorization: Bearer s3cret\r\nsurrogate-key: other\r\n", "200", false),
        ("authorization: Bearer s3cret\r\nsurrogate-key: other t\r\n", "200", true),
        ("authorization: Bearer s3cret\r\nx-ban: *.org/*\r\n", "200", true),
    ] {
        assert!(client.get("/p", "").await.ends_with("hello"));
        asked += usize::from(asked == 0);
        let got =
            client.ask(&format!("PURGE /p HTTP/1.1\r\nhost: example.org\r\n{fields}\r\n")).await;
        assert!(got.starts_with(&format!("HTTP/1.1 {status}")), "{got}");
        client.get("/p", "").await;
        asked += usize::from(is_gone);
        assert_eq!(back_end.requests(), asked, "{fields}");
    }
    // Without a token in the configuration there are no purges.
    let site = run(Config::default(), &[&back_end]).await;
    let got = site
        .raw(b"PURGE /p HTTP/1.1\r\nhost: a\r\nauthorization: Bearer \r\nconnection: close\r\n\r\n")
        .await;
    assert!(got.starts_with("HTTP/1.1 403"), "{got}");
}

#[tokio::test]
async fn a_read_only_site_can_be_read() {
    let back_end = BackEnd::page("", "hello").await;
    let site = run(Config::default(), &[&back_end]).await;
    site.edge.set_read_only(true);
    assert!(site.get("/").await.ends_with("hello"));
    let got = site
        .raw(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .await;
    assert!(got.starts_with("HTTP/1.1 503") && got.contains("retry-after: 5"), "{got}");
    assert!(got.contains("Nothing can be changed right now"), "{got}");
    assert_eq!(back_end.requests(), 1);
    site.edge.set_read_only(false);
    let got = site
        .raw(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
}

#[tokio::test]
async fn each_request_leaves_a_line_and_counts() {
    let back_end = BackEnd::page("", "hello").await;
    let (log, writer) = AccessLog::pair();
    let upstream = Upstream::http(&back_end.url()).unwrap();
    let edge = Edge::new(Config::default(), vec![upstream], &Clock::system())
        .unwrap()
        .with_access_log(log);
    let site = start(edge).await;
    let (out, mut lines) = tokio::io::duplex(1 << 16);
    let written = tokio::spawn(writer.run(out));
    site.get("/a?b").await;
    site.get("/a?b").await;
    let mut text = String::new();
    while text.lines().count() < 2 {
        let mut chunk = [0; 4096];
        let count = lines.read(&mut chunk).await.unwrap();
        text.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
    }
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["cache"], &lines[1]["cache"]), (&"miss".into(), &"hit".into()));
    assert_eq!(lines[0]["target"], "/a?b");
    assert_eq!((&lines[1]["status"], &lines[1]["bytes"]), (&200.into(), &5.into()));
    assert_eq!(lines[0]["server"], back_end.address.as_str());
    let figures = site.edge.prometheus();
    for line in [
        "throng_edge_requests_total{cache=\"hit\"} 1",
        "throng_edge_answers_total{status=\"2xx\"} 2",
        "throng_edge_sent_bytes_total 10",
    ] {
        assert!(figures.contains(line), "{line} in {figures}");
    }
    assert!(
        figures.contains(&format!("throng_edge_server_up{{server=\"{}\"}} 1", back_end.address))
    );
    written.abort();
}

#[tokio::test]
async fn http_2_in_the_clear_is_served_as_well() {
    let back_end = BackEnd::page("", "hello").await;
    let site = run(Config::default(), &[&back_end]).await;
    let stream = tokio::net::TcpStream::connect(&site.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://example.org/a")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    assert!(back_end.last().to_ascii_lowercase().contains("host: example.org\r\n"));
}

#[test]
fn a_wrong_upstream_or_setting_is_refused_with_what_would_be_right() {
    for (url, reason) in [
        ("localhost:8000", "only `http://host:port`"),
        ("ftp://a", "only `http://host:port`"),
        ("http://a/path", "nothing more"),
        ("http://u:p@a", "nothing more"),
        ("http://", "it is no URL"),
    ] {
        let error = Upstream::http(url).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(
        Edge::new(Config::default(), vec![], &Clock::system()).unwrap_err().to_string(),
        "an edge needs at least one upstream"
    );
    let config = Config { max_connections: 0, policy: Policy::rfc(), ..Config::default() };
    let error =
        Edge::new(config, vec![Upstream::http("http://a").unwrap()], &Clock::system()).unwrap_err();
    assert!(error.to_string().starts_with("cannot use max_connections = 0"), "{error}");
}
