//! Requests that two servers might read in two ways. What the edge sends on must be readable in one
//! way only, and say what hyper by itself reads from the same bytes.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use throng_core::Clock;
use throng_edge::{Config, Edge, Policy, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    chance::Chance,
    strict::{Reading, Strict, text},
    wire::{Running, bypass, start},
};

/// What hyper by itself reads from these bytes.
async fn by_hyper(bytes: &[u8]) -> Vec<Reading> {
    let (mut ours, theirs) = tokio::io::duplex(1 << 20);
    let all = Arc::new(Mutex::new(Vec::new()));
    let readings = Arc::clone(&all);
    let service = service_fn(move |request: Request<Incoming>| {
        let readings = Arc::clone(&readings);
        async move {
            let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
            let (method, target) = (request.method().to_string(), target.to_owned());
            let collected = request.into_body().collect().await;
            let body = collected.ok().map(|body| body.to_bytes().to_vec());
            readings.lock().unwrap().push(Reading { method, target, body });
            Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
        }
    });
    ours.write_all(bytes).await.unwrap();
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).half_close(true);
    let served = builder.serve_connection(TokioIo::new(theirs), service);
    let (_, mut rest) = (ours.shutdown().await, Vec::new());
    let _ = tokio::join!(served, ours.read_to_end(&mut rest));
    let readings = all.lock().unwrap();
    readings.clone()
}

/// An edge that waits for nobody, before a strict back end.
struct Bench {
    site: Running,
    back_end: Strict,
    is_cached: bool,
}

impl Bench {
    async fn new(config: Config) -> Self {
        let back_end = Strict::start().await;
        let config = Config { head_timeout_ms: 100, body_timeout_ms: 100, retries: 0, ..config };
        let is_cached = config.policy.rules.is_empty();
        let upstream = Upstream::http(&format!("http://{}", back_end.address)).unwrap();
        let site = start(Edge::new(config, vec![upstream], &Clock::system()).unwrap()).await;
        Self { site, back_end, is_cached }
    }

    /// Sends `bytes` and two requests after them, and compares what the back end read with what
    /// hyper did. How many the back end got.
    async fn check(&self, bytes: &[u8]) -> usize {
        self.back_end.readings.lock().unwrap().clear();
        let bytes = [bytes, NEXT, LAST].concat();
        let answers = self.site.raw(&bytes).await;
        let expected = by_hyper(&bytes).await;
        // A body that did not come in time is another matter than one that says something else, and
        // is heard of when it likes.
        let mut seen = self.back_end.readings.lock().unwrap().clone();
        seen.retain(|reading| reading.as_ref().map_or(true, |reading| reading.body.is_some()));
        let about = || format!("for {:?}\nanswers {answers:?}\nhyper {expected:?}", text(&bytes));
        // What is in memory reaches no back end, so that some may be missing.
        let mut meant = expected.iter();
        for reading in &seen {
            let Ok(reading) = reading else { panic!("{reading:?} {}", about()) };
            // hyper's client sends no chunks with a GET: its body means nothing to anybody.
            let is_bare = ["GET", "HEAD"].contains(&reading.method.as_str())
                && reading.body.as_ref().is_some_and(Vec::is_empty);
            let is_same = |meant: &Reading| {
                (&meant.method, &meant.target) == (&reading.method, &reading.target)
                    && (is_bare || meant.body == reading.body)
            };
            let may_be_missing = |meant: &Reading| {
                self.is_cached && ["GET", "HEAD"].contains(&meant.method.as_str())
            };
            let next = meant.find(|meant| is_same(meant) || !may_be_missing(meant));
            assert!(next.is_some_and(is_same), "{reading:?} {}", about());
        }
        let answers = split(&answers, &expected);
        for ((status, said), meant) in answers.iter().zip(&expected) {
            // Each answer is to the request in its place, and nothing follows a refusal.
            let is_right = *status != 200 || meant.method == "HEAD" || *said == meant.target;
            assert!(is_right, "{status} {said:?} {}", about());
        }
        let refused = answers.iter().position(|(status, _)| *status == 400);
        assert!(refused.is_none_or(|place| place + 1 == answers.len()), "{}", about());
        let count = answers.iter().filter(|(status, _)| *status == 200).count();
        assert!(count <= expected.len(), "{}", about());
        count
    }
}

/// The status and the body of each answer, to the requests that hyper reads.
fn split(answers: &str, requests: &[Reading]) -> Vec<(u16, String)> {
    let (mut all, mut rest) = (Vec::new(), answers);
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        rest = after;
        if status == 100 {
            continue;
        }
        let length = head.split("content-length: ").nth(1);
        let length = length.map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
        let is_head = requests.get(all.len()).is_some_and(|request| request.method == "HEAD");
        let (body, after) = rest.split_at(if is_head { 0 } else { length });
        rest = after;
        all.push((status, body.to_owned()));
    }
    assert!(rest.is_empty(), "{rest:?} of {answers:?}");
    all
}

impl Chance {
    fn request(&mut self) -> Vec<u8> {
        let first: &[u8] = match self.next(3) {
            0 => self.one(FIRST),
            1 => b"GET /a HTTP/1.1",
            _ => b"POST /a HTTP/1.1",
        };
        let mut lines = vec![first];
        if self.next(12) != 0 {
            lines.push(b"host: a");
        }
        // Half of them begin as they should.
        let (field, body) = match self.next(5) {
            0 => (b"x: y".as_slice(), b"".as_slice()),
            1 => (b"content-length: 5".as_slice(), b"hello".as_slice()),
            2 => (b"transfer-encoding: chunked".as_slice(), b"5\r\nhello\r\n0\r\n\r\n".as_slice()),
            3 => (b"transfer-encoding: chunked".as_slice(), self.one(BODIES)),
            _ => (self.one(FIELDS), self.one(BODIES)),
        };
        lines.push(field);
        for _ in 0..self.next(3) {
            lines.push(self.one(FIELDS));
        }
        let mut bytes = Vec::new();
        self.write_head(&mut bytes, &lines);
        bytes.extend_from_slice(body);
        if self.next(3) == 0 {
            self.disturb(&mut bytes);
        }
        bytes
    }
}

/// Sends what chance makes to eight edges at once.
async fn check(config: fn() -> Config) {
    let is_long = std::env::var_os("THRONG_TEST_LONG").is_some();
    let rounds = if is_long { 20_000 } else { 300 };
    let workers = (1..=8).map(|seed| {
        tokio::spawn(async move {
            let bench = Bench::new(config()).await;
            let mut chance = Chance(0x9e37_79b9_7f4a_7c15 ^ seed);
            let (mut some, mut all) = (0, 0);
            for _ in 0..rounds {
                let count = bench.check(&chance.request()).await;
                some += usize::from(count > 0);
                all += usize::from(count > 1);
            }
            (some, all)
        })
    });
    let (mut some, mut all) = (0, 0);
    for worker in workers.collect::<Vec<_>>() {
        let (answered, followed) = worker.await.unwrap();
        some += answered;
        all += followed;
    }
    println!("{some} of {} were answered well, {all} with what followed", rounds * 8);
    assert!(some > rounds && all > rounds / 4, "the requests are too odd to show anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_on_can_be_read_in_one_way_only_which_is_hypers() {
    check(bypass).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_from_memory_is_what_hyper_reads() {
    check(|| Config { policy: Policy::rfc(), ..Config::default() }).await;
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused() {
    let bench = Bench::new(bypass()).await;
    let hidden = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";
    for (what, request) in [
        (
            "two lengths",
            "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 35\r\n\r\n",
        ),
        ("a list of lengths", "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0, 35\r\n\r\n"),
        ("a signed length", "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: +0\r\n\r\n"),
        ("a length in hex", "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0x0\r\n\r\n"),
        ("a space before the colon", "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length : 35\r\n\r\n"),
        ("a folded line", "POST /a HTTP/1.1\r\nhost: a\r\nx: y\r\n content-length: 35\r\n\r\n"),
        (
            "a folded coding",
            "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n chunked\r\n\r\n",
        ),
        ("another coding", "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n"),
        (
            "a coding that is not the last",
            "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
        ),
        (
            "a coding of HTTP/1.0",
            "POST /a HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (
            "a control character",
            "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n",
        ),
        ("a line end alone in a value", "POST /a HTTP/1.1\r\nhost: a\r\nx: y\rz: 1\r\n\r\n"),
        ("a zero", "POST /a HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n"),
        ("a line without a colon", "POST /a HTTP/1.1\r\nhost: a\r\nhello\r\n\r\n"),
        ("a name that is empty", "POST /a HTTP/1.1\r\nhost: a\r\n: x\r\n\r\n"),
        ("two hosts", "GET /a HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
        ("an empty host", "GET /a HTTP/1.1\r\nhost: \r\n\r\n"),
        ("no host", "GET /a HTTP/1.1\r\n\r\n"),
        ("an authority as target", "GET a:80 HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("another scheme", "GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("a user in the target", "GET http://u:p@a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("a space in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("a tab in the first line", "GET\t/a HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("no version", "GET /a\r\nhost: a\r\n\r\n"),
        (
            "a chunk with a sign",
            "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "a chunk that is too large",
            "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        ),
        (
            "a chunk longer than it says",
            "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
        ),
    ] {
        bench.check(format!("{request}{hidden}").as_bytes()).await;
        let answers = bench.site.raw(format!("{request}{hidden}").as_bytes()).await;
        assert!(answers.starts_with("HTTP/1.1 400"), "{what}: {answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{what}: {answers}");
        let seen = bench.back_end.readings.lock().unwrap();
        let is_hidden = |reading: &Result<Reading, String>| {
            reading.as_ref().is_ok_and(|reading| reading.target == "/hidden")
        };
        assert!(!seen.iter().any(is_hidden), "{what}: {seen:?}");
    }
    // What an address says counts for more than a field (RFC 9112 3.2.2).
    let absolute = "GET http://b.example/x HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(bench.check(absolute.as_bytes()).await, 3);
}

const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n";
const LAST: &[u8] = b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const FIRST: &[&[u8]] = &[
    b"GET / HTTP/1.1",
    b"GET /a?b=1 HTTP/1.1",
    b"GET /a HTTP/1.0",
    b"GET /a HTTP/1.2",
    b"GET /a HTTP/2.0",
    b"GET /a http/1.1",
    b"get /a HTTP/1.1",
    b"GET http://b/a HTTP/1.1",
    b"GET https://b HTTP/1.1",
    b"GET ftp://b/a HTTP/1.1",
    b"GET b:80 HTTP/1.1",
    b"CONNECT b:80 HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"OPTIONS /a HTTP/1.1",
    b"HEAD /a HTTP/1.1",
    b"PUT /a HTTP/1.1",
    b"DELETE /a HTTP/1.1",
    b"TRACE /a HTTP/1.1",
    b"GET /a b HTTP/1.1",
    b"GET  /a HTTP/1.1",
    b"GET /a  HTTP/1.1",
    b"GET\t/a\tHTTP/1.1",
    b" GET /a HTTP/1.1",
    b"\r\nGET /a HTTP/1.1",
    b"GET //b/a HTTP/1.1",
    b"GET /a#b HTTP/1.1",
    b"GET /%0d%0ax:%20y HTTP/1.1",
    b"GET /a/../b HTTP/1.1",
    b"GET /\x7f HTTP/1.1",
    b"GET /a\0 HTTP/1.1",
    b"GET /a",
];
const FIELDS: &[&[u8]] = &[
    b"content-length: 0",
    b"content-length: 5",
    b"Content-Length: 5",
    b"content-length: 5 ",
    b"content-length:5",
    b"content-length: 05",
    b"content-length: +5",
    b"content-length: 5, 5",
    b"content-length: 0x5",
    b"content-length: ",
    b"content-length : 5",
    b"content-length: 99999999999999999999999",
    b"content_length: 5",
    b"transfer-encoding: chunked",
    b"Transfer-Encoding: Chunked",
    b"transfer-encoding : chunked",
    b"transfer-encoding: chunked, chunked",
    b"transfer-encoding: gzip, chunked",
    b"transfer-encoding: identity",
    b"transfer-encoding: chunked;q=1",
    b"transfer-encoding: \"chunked\"",
    b"transfer-encoding: \x0bchunked",
    b"transfer-encoding:\r\n chunked",
    b"transfer-encoding: xchunked",
    b"host: b",
    b"host: a b",
    b"Host : a",
    b"x: y\r\n folded: 1",
    b"x: y\rz: 1",
    b"x: y\nz: 1",
    b"x\0: y",
    b"x y: z",
    b": y",
    b"x",
    b"x: \x80",
    b"connection: close",
    b"connection: keep-alive",
    b"connection: x-hop\r\nx-hop: 1",
    b"connection: content-length",
    b"connection: transfer-encoding",
    b"connection: host",
    b"connection: upgrade\r\nupgrade: websocket",
    b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk",
    b"keep-alive: timeout=5",
    b"proxy-connection: keep-alive",
    b"te: trailers",
    b"te: chunked",
    b"trailer: x-sum",
    b"expect: 100-continue",
    b"expect: something",
    b"x-forwarded-for: 6.6.6.6",
    b"GET /hidden HTTP/1.1",
];
const BODIES: &[&[u8]] = &[
    b"",
    b"",
    b"hello",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"05\r\nhello\r\n0\r\n\r\n",
    b"5;a=b\r\nhello\r\n0\r\n\r\n",
    b"5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n",
    b"5;\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5\nhello\n0\n\n",
    b"5\rhello\r0\r\r",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"fffffffffffffffff\r\nhello",
    b"3\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
    b"5\r\nhello\r\n0\r\ncontent-length: 9\r\n\r\n",
    b"5\r\nhello\r\n0\r\nx y\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n",
    b"0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n",
];
