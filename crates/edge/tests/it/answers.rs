//! Answers that two readers might read in two ways, and broken ones. What reaches the visitor must be
//! what hyper by itself reads, or an error; and nothing of one answer may ever become part of another.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use throng_core::Clock;
use throng_edge::{Config, Edge, Upstream};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    chance::Chance,
    wire::{Running, bypass, ok, start},
};

/// Status, body, and whether it is an answer of the back end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    status: u16,
    body: Vec<u8>,
    is_marked: bool,
}

/// What hyper reads from `stream` for a request; `None` where it finds no whole answer.
async fn by_hyper<S>(stream: S, method: &str, target: &str) -> Option<Read>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(target).header("host", "a");
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await;
    let read = async {
        let answer = answer.ok()?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.ok()?.to_bytes().to_vec();
        let is_marked = parts.headers.contains_key("x-mark");
        Some(Read { status: parts.status.as_u16(), body, is_marked })
    };
    let read = read.await;
    driver.abort();
    read
}

/// What hyper reads from these bytes, which a server writes before it closes.
async fn directly(bytes: &[u8], method: &str) -> Option<Read> {
    let (mut ours, theirs) = tokio::io::duplex(1 << 20);
    let bytes = bytes.to_vec();
    let server = tokio::spawn(async move {
        let mut scrap = [0; 4096];
        let _ = ours.read(&mut scrap).await;
        let _ = ours.write_all(&bytes).await;
    });
    let read = by_hyper(theirs, method, "/odd").await;
    server.abort();
    read
}

/// A back end that answers `/next` as it should and `/odd` with whatever it was given.
struct Odd {
    site: Running,
    says: Arc<std::sync::Mutex<(Vec<u8>, bool)>>,
}

impl Odd {
    async fn new() -> Self {
        let says = Arc::new(std::sync::Mutex::new((Vec::new(), true)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream::http(&format!("http://{}", listener.local_addr().unwrap()));
        let said = Arc::clone(&says);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::serve(stream, Arc::clone(&said)));
            }
        });
        let mut config = Config { retries: 0, answer_timeout_ms: 4_000, ..bypass() };
        config.body_timeout_ms = 4_000;
        config.health.eject_after = u32::MAX;
        let edge = Edge::new(config, vec![upstream.unwrap()], &Clock::system()).unwrap();
        Self { site: start(edge).await, says }
    }

    async fn serve(mut stream: TcpStream, says: Arc<std::sync::Mutex<(Vec<u8>, bool)>>) {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut chunk).await {
            bytes.extend_from_slice(&chunk[..count]);
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            bytes.drain(..end + 4);
            let is_odd = head.contains(" /odd ");
            let (said, closes) = match is_odd {
                true => says.lock().unwrap().clone(),
                false => (ok("x-mark: 1\r\n", "next").into_bytes(), false),
            };
            if stream.write_all(&said).await.is_err() || closes {
                return;
            }
        }
    }

    /// What comes of `bytes` as an answer, by `method`; and what is asked next is answered well.
    async fn check(&self, bytes: &[u8], method: &str, closes: bool) -> bool {
        *self.says.lock().unwrap() = (bytes.to_vec(), closes);
        let connect = || TcpStream::connect(&self.site.address);
        let read = by_hyper(connect().await.unwrap(), method, "/odd").await;
        let meant = directly(bytes, method).await;
        let text = String::from_utf8_lossy(bytes);
        let is_passed = read.as_ref().is_some_and(|read| read.is_marked);
        if is_passed {
            assert_eq!(read, meant, "{method} {text:?}");
        }
        for next in ["GET", "POST"] {
            let read = by_hyper(connect().await.unwrap(), next, "/next").await;
            let read = read.unwrap_or_else(|| panic!("{next} after {text:?}"));
            assert_eq!((read.status, &*read.body), (200, &b"next"[..]), "after {text:?}");
        }
        is_passed
    }
}

impl Chance {
    fn answer(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.next(6) == 0 {
            bytes.extend_from_slice(self.one(INTERIM));
        }
        let first = if self.next(3) == 0 { self.one(FIRST) } else { b"HTTP/1.1 200 OK" };
        let (field, body) = match self.next(6) {
            0 => (b"x: y".as_slice(), b"hello".as_slice()),
            1 => (b"content-length: 5".as_slice(), b"hello".as_slice()),
            2 => (b"transfer-encoding: chunked".as_slice(), b"5\r\nhello\r\n0\r\n\r\n".as_slice()),
            3 => (b"transfer-encoding: chunked".as_slice(), self.one(BODIES)),
            _ => (self.one(FIELDS), self.one(BODIES)),
        };
        let mut lines = vec![first, b"x-mark: 1", field];
        for _ in 0..self.next(3) {
            lines.push(self.one(FIELDS));
        }
        self.write_head(&mut bytes, &lines);
        bytes.extend_from_slice(body);
        if self.next(5) == 0 {
            bytes.extend_from_slice(
                b"HTTP/1.1 200 OK\r\nx-mark: 2\r\ncontent-length: 6\r\n\r\nhidden",
            );
        }
        if self.next(3) == 0 {
            self.disturb(&mut bytes);
        }
        bytes
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_passed_back_is_what_hyper_reads_and_nothing_of_it_reaches_the_next() {
    let is_long = std::env::var_os("THRONG_TEST_LONG").is_some();
    let rounds = if is_long { 20_000 } else { 250 };
    let workers = (1..=8).map(|seed| {
        tokio::spawn(async move {
            let bench = Odd::new().await;
            let mut chance = Chance(0x9e37_79b9_7f4a_7c15 ^ seed);
            let mut passed = 0;
            for _ in 0..rounds {
                let bytes = chance.answer();
                let method = ["GET", "GET", "POST", "HEAD"][chance.next(4)];
                // One that waits for more than comes takes its time to give up.
                let closes = chance.next(60) != 0;
                passed += usize::from(bench.check(&bytes, method, closes).await);
            }
            passed
        })
    });
    let mut passed = 0;
    for worker in workers.collect::<Vec<_>>() {
        passed += worker.await.unwrap();
    }
    println!("{passed} of {} were passed on", rounds * 8);
    assert!(passed > rounds, "the answers are too odd to show anything");
}

#[tokio::test]
async fn answers_that_could_be_read_in_two_ways_are_refused() {
    let bench = Odd::new().await;
    for fields in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "content-length: +5\r\n",
        "content-length : 5\r\n",
        "x: y\r\n content-length: 5\r\n",
        "x: y\rcontent-length: 5\r\n",
        "x: \0\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nx-mark: 1\r\n{fields}\r\n5\r\nhello\r\n0\r\n\r\n");
        for method in ["GET", "POST"] {
            assert!(!bench.check(answer.as_bytes(), method, true).await, "{fields}");
        }
    }
    let long = format!("HTTP/1.1 200 OK\r\nx-mark: 1\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    assert!(!bench.check(long.as_bytes(), "GET", true).await);
    let many = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1_000) + &ok("x-mark: 1\r\n", "hello");
    assert!(!bench.check(many.as_bytes(), "GET", true).await);
    let few =
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(3) + &ok("x-mark: 1\r\n", "hello");
    assert!(bench.check(few.as_bytes(), "GET", true).await);
}

#[tokio::test]
async fn bodies_of_every_framing_reach_the_visitor_whole() {
    let large = "0123456789abcdef".repeat(40_000);
    let chunks: String = large
        .as_bytes()
        .chunks(7_000)
        .map(|chunk| {
            format!("{:X};x=y\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap())
        })
        .collect();
    let bench = Odd::new().await;
    for answer in [
        format!("HTTP/1.1 200 OK\r\nx-mark: 1\r\ncontent-length: {}\r\n\r\n{large}", large.len()),
        format!(
            "HTTP/1.1 200 OK\r\nx-mark: 1\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        ),
        format!(
            "HTTP/1.1 200 OK\r\nx-mark: 1\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\nx: y\r\n\r\n"
        ),
        format!("HTTP/1.1 200 OK\r\nx-mark: 1\r\n\r\n{large}"),
        format!("HTTP/1.0 200 OK\r\nx-mark: 1\r\n\r\n{large}"),
        "HTTP/1.1 204 No Content\r\nx-mark: 1\r\n\r\n".to_owned(),
        "HTTP/1.1 304 Not Modified\r\nx-mark: 1\r\ncontent-length: 9\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nx-mark: 1\r\ncontent-length: 0\r\n\r\n".to_owned(),
    ] {
        for method in ["GET", "POST"] {
            assert!(bench.check(answer.as_bytes(), method, true).await, "{:.60}", answer);
        }
    }
    let bare = "HTTP/1.1 200 OK\r\nx-mark: 1\r\ncontent-length: 9\r\n\r\n";
    assert!(bench.check(bare.as_bytes(), "HEAD", false).await);
}

const INTERIM: &[&[u8]] = &[
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 199 X\r\ntransfer-encoding: chunked\r\n\r\n",
    b"\r\n",
];
const FIRST: &[&[u8]] = &[
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 200",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 404 Not Found",
    b"HTTP/1.1 999 X",
    b"HTTP/1.1 099 X",
    b"HTTP/1.1 20 OK",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.2 200 OK",
    b"HTTP/2 200 OK",
    b"http/1.1 200 OK",
    b"ICY 200 OK",
    b"200 OK",
    b"",
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
    b"content-length: 500",
    b"content-length: ",
    b"content-length : 5",
    b"content-length: 99999999999999999999999",
    b"transfer-encoding: chunked",
    b"Transfer-Encoding: Chunked",
    b"transfer-encoding : chunked",
    b"transfer-encoding: chunked, chunked",
    b"transfer-encoding: gzip, chunked",
    b"transfer-encoding: identity",
    b"transfer-encoding: \"chunked\"",
    b"transfer-encoding: \x0bchunked",
    b"transfer-encoding:",
    b"connection: close",
    b"connection: keep-alive",
    b"connection: content-length",
    b"connection: x-mark",
    b"trailer: x",
    b"upgrade: websocket",
    b"x: y",
    b" x: y",
    b"x y",
    b": x",
];
const BODIES: &[&[u8]] = &[
    b"",
    b"hello",
    b"hell",
    b"hello!",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"05\r\nhello\r\n00\r\n\r\n",
    b"5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5\nhello\n0\n\n",
    b"5\r\nhello0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"6\r\nhello\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n",
    b"5\r\nhello\r\n0\r\nx y\r\n\r\n",
    b"0\r\n\r\n",
];
