//! HTTP/2 as RFC 9113 has it, frame by frame: what is allowed is answered, what is not ends the
//! stream or the connection, and floods end it too.

use std::time::Duration;

use throng_edge::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::wire::{BackEnd, Running, bypass, run};

/// What the other side made of what it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// An answer, by the number of its status in HPACK's static table: 8 is 200, 12 is 400.
    Answer(u8),
    Reset(u32),
    Goaway(u32),
    Pong,
    Closed,
}

struct Visitor {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Visitor {
    async fn new(site: &Running) -> Self {
        Self { stream: TcpStream::connect(&site.address).await.unwrap(), bytes: Vec::new() }
    }

    /// One that has said hello.
    async fn greeted(site: &Running) -> Self {
        let mut visitor = Self::new(site).await;
        visitor.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        visitor
    }

    async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await; // it may be closed by now
    }

    /// The next thing that matters.
    async fn sees(&mut self) -> Seen {
        loop {
            let Some((kind, flags, payload)) = self.frame().await else { return Seen::Closed };
            let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match kind {
                HEADERS => {
                    let is_size = |byte: &u8| byte & 0xe0 == 0x20;
                    let status = payload.iter().find(|byte| !is_size(byte)).unwrap();
                    return Seen::Answer(status & 0x7f);
                }
                RST => return Seen::Reset(number(0)),
                GOAWAY => return Seen::Goaway(number(4)),
                PING if flags & ACK != 0 => return Seen::Pong,
                // Whoever leaves it unanswered is cut off, in the middle of a farewell too.
                PING => self.send(&frame(PING, ACK, 0, &payload)).await,
                _ => {}
            }
        }
    }

    async fn frame(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        loop {
            if let Some(head) = self.bytes.first_chunk::<9>() {
                let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8;
                let end = 9 + length + usize::from(head[2]);
                let (kind, flags) = (head[3], head[4]);
                if self.bytes.len() >= end {
                    let rest = self.bytes.split_off(end);
                    let payload = std::mem::replace(&mut self.bytes, rest).split_off(9);
                    return Some((kind, flags, payload));
                }
            }
            let read = self.stream.read_buf(&mut self.bytes);
            let read = tokio::time::timeout(Duration::from_secs(30), read).await;
            if !matches!(read.expect("something within half a minute"), Ok(1..)) {
                return None;
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields in HPACK, each as it is, none remembered.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

fn get_with(more: &[(&str, &str)]) -> Vec<u8> {
    fields(&[&GET, more].concat())
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields(&GET))
}

fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &fields(&[&POST, more].concat()))
}

#[tokio::test]
async fn what_http_2_allows_is_answered() {
    let back_end = BackEnd::page("", "hello").await;
    let site = run(bypass(), &[&back_end]).await;
    let whole = fields(&GET);
    let (first, rest) = whole.split_at(7);
    let padded = [&[3][..], &whole, &[0; 3]].concat();
    let weighed = [&[0, 0, 0, 0, 15][..], &whole].concat();
    let data = [&[2][..], b"hello", &[0; 2]].concat();
    for (what, bytes) in [
        ("a request", get(1)),
        ("any odd stream", get(77)),
        (
            "a head in pieces",
            [
                frame(HEADERS, END_STREAM, 1, first),
                frame(CONTINUATION, 0, 1, &[]),
                frame(CONTINUATION, END_HEADERS, 1, rest),
            ]
            .concat(),
        ),
        ("padding", frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &padded)),
        ("a weight", frame(HEADERS, END_HEADERS | END_STREAM | WEIGHED, 1, &weighed)),
        ("a priority before", [frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]), get(1)].concat()),
        ("a frame of no known kind", [frame(0xbe, 0xff, 0, b"what"), get(1)].concat()),
        ("a flag of no known kind", frame(HEADERS, END_HEADERS | END_STREAM | 0x40, 1, &whole)),
        (
            "a setting of no known kind",
            [frame(SETTINGS, 0, 0, &[0, 99, 0, 0, 0, 1]), get(1)].concat(),
        ),
        ("a body", [post(1, &[]), frame(DATA, END_STREAM, 1, b"hello")].concat()),
        ("a padded body", [post(1, &[]), frame(DATA, END_STREAM | PADDED, 1, &data)].concat()),
        (
            "a body of the length it says",
            [
                post(1, &[("content-length", "5")]),
                frame(DATA, 0, 1, b"he"),
                frame(DATA, END_STREAM, 1, b"llo"),
            ]
            .concat(),
        ),
        (
            "trailers",
            [
                post(1, &[]),
                frame(DATA, 0, 1, b"hello"),
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[("x-sum", "1")])),
            ]
            .concat(),
        ),
        (
            "te: trailers",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &get_with(&[("te", "trailers")])),
        ),
        (
            "host beside the same authority",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &get_with(&[("host", "a")])),
        ),
    ] {
        let mut visitor = Visitor::greeted(&site).await;
        visitor.send(&bytes).await;
        assert_eq!(visitor.sees().await, Seen::Answer(8), "{what}");
    }
    let mut visitor = Visitor::greeted(&site).await;
    visitor.send(&frame(PING, 0, 0, b"12345678")).await;
    assert_eq!(visitor.sees().await, Seen::Pong);
}

#[tokio::test]
async fn what_http_2_forbids_is_not_answered_and_reaches_nobody() {
    let back_end = BackEnd::page("", "hello").await;
    let site = run(bypass(), &[&back_end]).await;
    let head = |block: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
    let with = |more: &[(&str, &str)]| head(&get_with(more));
    let only = |some: &[(&str, &str)]| head(&fields(some));
    let all = fields(&GET);
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        // Frames (4, 6)
        ("a frame that is too large", frame(DATA, 0, 1, &[0; 16_385])),
        ("data on the connection", frame(DATA, END_STREAM, 0, b"x")),
        ("data on a stream that is not open", frame(DATA, END_STREAM, 1, b"x")),
        ("a head on the connection", frame(HEADERS, END_HEADERS | END_STREAM, 0, &all)),
        ("a head on an even stream", get(2)),
        ("more padding than frame", frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[9, 1])),
        ("a priority on the connection", frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 1])),
        ("a priority of another length", [frame(PRIORITY, 0, 1, &[0; 4]), get(1)].concat()),
        ("a reset of a stream that is not open", frame(RST, 0, 1, &[0; 4])),
        ("a reset on the connection", frame(RST, 0, 0, &[0; 4])),
        ("a reset of another length", [get(1), frame(RST, 0, 1, &[0; 3])].concat()),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        ("settings of another length", frame(SETTINGS, 0, 0, &[0; 5])),
        ("an acknowledgement that says more", frame(SETTINGS, ACK, 0, &[0; 6])),
        ("a push of 2", frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])),
        ("a window beyond its most", frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])),
        ("a frame size under its least", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0x3f, 0xff])),
        ("a frame size beyond its most", frame(SETTINGS, 0, 0, &[0, 5, 1, 0, 0, 0])),
        (
            "a promise from a visitor",
            frame(PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &all[..]].concat()),
        ),
        ("a ping on a stream", frame(PING, 0, 1, &[0; 8])),
        ("a ping of another length", frame(PING, 0, 0, &[0; 6])),
        ("a goodbye on a stream", frame(GOAWAY, 0, 1, &[0; 8])),
        ("a window that grows by nothing", frame(WINDOW, 0, 0, &[0; 4])),
        ("a window of another length", frame(WINDOW, 0, 0, &[0; 3])),
        ("a window of a stream that is not open", frame(WINDOW, 0, 1, &[0, 0, 0, 1])),
        ("a window that overflows", frame(WINDOW, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &all)),
        (
            "something between the pieces of a head",
            [
                frame(HEADERS, END_STREAM, 1, &all[..7]),
                frame(PING, 0, 0, &[0; 8]),
                frame(CONTINUATION, END_HEADERS, 1, &all[7..]),
            ]
            .concat(),
        ),
        (
            "a continuation of another stream",
            [
                frame(HEADERS, END_STREAM, 1, &all[..7]),
                frame(CONTINUATION, END_HEADERS, 3, &all[7..]),
            ]
            .concat(),
        ),
        // HPACK
        ("a field at no place of any table", head(&[0xff, 0x80, 0x7f])),
        ("a string that ends too early", head(&[0, 9, b'x'])),
        ("a table larger than allowed", head(&[&[0x3f, 0xff, 0xff, 0x7f], &all[..]].concat())),
        // Messages (8)
        ("a name in capitals", with(&[("X-Test", "a")])),
        ("a pseudo-field of no known kind", with(&[(":test", "a")])),
        ("an answer's pseudo-field", with(&[(":status", "200")])),
        ("a pseudo-field after a field", only(&[("x", "1"), GET[0], GET[1], GET[2], GET[3]])),
        ("a pseudo-field twice", only(&[GET[0], GET[0], GET[1], GET[2], GET[3]])),
        ("no method", only(&[GET[1], GET[2], GET[3]])),
        ("no path", only(&[GET[0], GET[1], GET[3]])),
        ("an empty path", only(&[GET[0], GET[1], (":path", ""), GET[3]])),
        ("a field that concerns the connection", with(&[("connection", "keep-alive")])),
        ("chunks", with(&[("transfer-encoding", "chunked")])),
        ("an upgrade", with(&[("upgrade", "websocket")])),
        ("te: gzip", with(&[("te", "gzip")])),
        ("a line end in a value", with(&[("x", "a\r\nb: c")])),
        ("a zero in a value", with(&[("x", "a\0b")])),
        ("a space in a name", with(&[("x y", "a")])),
        ("a line end in the path", only(&[GET[0], GET[1], (":path", "/ HTTP/1.1\r\nx: "), GET[3]])),
        ("a space in the path", only(&[GET[0], GET[1], (":path", "/a b"), GET[3]])),
        ("another host than the authority", with(&[("host", "b")])),
        ("an authority with a user", only(&[GET[0], GET[1], GET[2], (":authority", "u@a")])),
        ("no authority and no host", only(&[GET[0], GET[1], GET[2]])),
        (
            "a body longer than it says",
            [post(1, &[("content-length", "1")]), frame(DATA, END_STREAM, 1, b"hello")].concat(),
        ),
        (
            "a body shorter than it says",
            [post(1, &[("content-length", "9")]), frame(DATA, END_STREAM, 1, b"hello")].concat(),
        ),
        (
            "two lengths",
            [
                post(1, &[("content-length", "5"), ("content-length", "6")]),
                frame(DATA, END_STREAM, 1, b"hello"),
            ]
            .concat(),
        ),
        ("a tunnel", only(&[(":method", "CONNECT"), (":authority", "a:80")])),
    ];
    // Streams go up (5.1.1), and what is over is over.
    cases.push(("a stream below the last", [frame(RST, 0, 1, &[0; 4]), get(1)].concat()));
    for (what, bytes) in cases {
        let mut visitor = Visitor::greeted(&site).await;
        visitor.send(&bytes).await;
        let seen = visitor.sees().await;
        assert!(!matches!(seen, Seen::Answer(8) | Seen::Pong), "{what}: {seen:?}");
    }
    let mut visitor = Visitor::new(&site).await;
    visitor.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!").await;
    let seen = visitor.sees().await;
    assert!(matches!(seen, Seen::Goaway(1) | Seen::Closed), "{seen:?}");
    // Two of them may be whole requests before they are wrong; none is passed on twice.
    let whole = back_end.seen.lock().unwrap().clone();
    assert!(whole.iter().all(|head| head.contains("POST / ") || head.contains("GET / ")));
    assert!(whole.iter().all(|head| !head.to_ascii_lowercase().contains("\r\nx: ")), "{whole:?}");
}

#[tokio::test]
async fn pieces_of_a_cookie_are_one_cookie_to_the_back_end() {
    let back_end = BackEnd::page("cache-control: max-age=60\r\n", "hello").await;
    let site = run(Config::default(), &[&back_end]).await;
    let cookies = [("cookie", "theme=dark"), ("cookie", "sessionid=1"), ("cookie", "b=c")];
    for _ in 0..2 {
        let mut visitor = Visitor::greeted(&site).await;
        let head = frame(HEADERS, END_HEADERS | END_STREAM, 1, &get_with(&cookies));
        visitor.send(&head).await;
        assert_eq!(visitor.sees().await, Seen::Answer(8));
    }
    assert_eq!(back_end.requests(), 2, "whoever is signed in never meets the cache");
    let seen = back_end.last().to_ascii_lowercase();
    assert!(seen.contains("\r\ncookie: theme=dark; sessionid=1; b=c\r\n"), "{seen}");
    assert!(seen.contains("\r\nvia: 2.0 throng\r\n"), "{seen}");
}

#[tokio::test]
async fn floods_end_the_connection_and_are_counted() {
    let back_end = BackEnd::new(|_| format!("<pause>ms=30000;{}", crate::wire::ok("", ""))).await;
    let site = run(bypass(), &[&back_end]).await;
    let reset = |stream| frame(RST, 0, stream, &8_u32.to_be_bytes());
    // Asked and taken back at once (CVE-2023-44487), first quicker than anybody looks.
    let mut visitor = Visitor::greeted(&site).await;
    let burst: Vec<u8> =
        (0..5_000).flat_map(|n| [get(2 * n + 1), reset(2 * n + 1)].concat()).collect();
    visitor.send(&burst).await;
    let seen = visitor.sees().await;
    assert!(matches!(seen, Seen::Goaway(11) | Seen::Closed), "{seen:?}");

    // Then so slowly that each request is begun before it is taken back.
    let mut visitor = Visitor::greeted(&site).await;
    let mut was_closed = false;
    for n in 0..2_000 {
        visitor.send(&get(2 * n + 1)).await;
        visitor.send(&frame(PING, 0, 0, b"are you?")).await;
        match visitor.sees().await {
            Seen::Pong => visitor.send(&reset(2 * n + 1)).await,
            Seen::Closed | Seen::Goaway(_) => {
                was_closed = true;
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(was_closed);
    assert!(!site.edge.prometheus().contains("throng_edge_floods_total 0"));

    // A head without an end (CVE-2024-27316).
    let mut visitor = Visitor::greeted(&site).await;
    visitor.send(&frame(HEADERS, END_STREAM, 1, &fields(&GET))).await;
    for _ in 0..100 {
        let more = fields(&[("x", &"y".repeat(100))]).repeat(100);
        visitor.send(&frame(CONTINUATION, 0, 1, &more)).await;
    }
    assert!(matches!(visitor.sees().await, Seen::Goaway(_) | Seen::Closed));

    // Very many streams at a time: more than a hundred and twenty-eight are refused, not begun.
    let mut visitor = Visitor::greeted(&site).await;
    let asks: Vec<u8> = (0..200).flat_map(|n| get(2 * n + 1)).collect();
    visitor.send(&asks).await;
    assert!(matches!(visitor.sees().await, Seen::Reset(7) | Seen::Goaway(_)));
}

#[tokio::test]
async fn a_visitor_who_does_not_read_or_ask_is_let_go() {
    let back_end = BackEnd::page("", "0123456789012345678901234567890123456789").await;
    let config = Config { head_timeout_ms: 1_000, body_timeout_ms: 500, ..bypass() };
    let site = run(config, &[&back_end]).await;
    // It asks for nothing.
    let mut visitor = Visitor::greeted(&site).await;
    assert_eq!(visitor.sees().await, Seen::Goaway(0));
    // It takes ten bytes and no more.
    let mut visitor = Visitor::new(&site).await;
    let narrow = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]);
    visitor.send(&[PREFACE, &narrow, &get(1)].concat()).await;
    assert_eq!(visitor.sees().await, Seen::Answer(8));
    while visitor.sees().await != Seen::Closed {}
    assert!(!site.edge.prometheus().contains("throng_edge_slow_connections_total 0"));
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST: u8 = 3;
const SETTINGS: u8 = 4;
const PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WEIGHED: u8 = 0x20;
