//! WebSockets over HTTP/2, asked for by the client of another library.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest, ext::Protocol};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use throng_core::Clock;
use throng_edge::{Config, Edge, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::wire::{Running, start};

/// How the back end answers an upgrade.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// As it should, and then says what it hears.
    Echo,
    WrongAccept,
    NoAccept,
    OtherProtocol,
    /// It has not understood.
    Page,
    Forbidden,
}

/// An edge before a back end that answers upgrades.
async fn site(kind: Kind, config: Config) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(back_end(stream, kind));
        }
    });
    start(Edge::new(config, vec![Upstream::http(&url).unwrap()], &Clock::system()).unwrap()).await
}

async fn back_end(mut stream: TcpStream, kind: Kind) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let field = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(own, _)| own.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    };
    if field("upgrade").is_empty() {
        let page = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\npage";
        let _ = stream.write_all(page.as_bytes()).await;
        return;
    }
    assert!(head.starts_with("GET /ws?x HTTP/1.1\r\n"), "{head}");
    let told = [field("upgrade"), field("connection"), field("sec-websocket-version")];
    assert_eq!((told, field("host")), (["websocket", "upgrade", "13"], "a"), "{head}");
    assert_eq!(STANDARD.decode(field("sec-websocket-key")).unwrap().len(), 16);
    let text = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", field("sec-websocket-key"));
    let accept = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let accept = format!("sec-websocket-accept: {}\r\n", STANDARD.encode(accept));
    let switch = |fields: &str| format!("HTTP/1.1 101 Yes\r\nconnection: upgrade\r\n{fields}\r\n");
    let websocket = "upgrade: websocket\r\n";
    let answer = match kind {
        Kind::Echo => switch(&format!("{websocket}{accept}sec-websocket-protocol: chat\r\n")),
        Kind::WrongAccept => switch(&format!("{websocket}sec-websocket-accept: eA==\r\n")),
        Kind::NoAccept => switch(websocket),
        Kind::OtherProtocol => switch(&format!("upgrade: other\r\n{accept}")),
        Kind::Page => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npage".to_owned(),
        Kind::Forbidden => "HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno".to_owned(),
    };
    stream.write_all(answer.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let _ = tokio::io::copy(&mut reader, &mut writer).await;
}

/// A client that has heard that WebSockets are spoken.
async fn client(site: &Running) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(&site.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let page = Request::get("http://a/").body(()).unwrap();
    let (answer, _) = client.send_request(page, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    assert!(client.is_extended_connect_protocol_enabled());
    client
}

async fn connect(
    client: &mut SendRequest<Bytes>,
    protocol: &'static str,
) -> (Response<RecvStream>, SendStream<Bytes>) {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = "http://a/ws?x".parse().unwrap();
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    request.extensions_mut().insert(Protocol::from_static(protocol));
    let (answer, stream) = client.send_request(request, false).unwrap();
    (answer.await.unwrap(), stream)
}

async fn heard(stream: &mut RecvStream, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        let data = stream.data().await.expect("it is open").unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}

fn said(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn bytes_go_both_ways_for_as_long_as_both_like_and_beside_other_requests() {
    // The connection has nothing else to do for much longer than one at rest may.
    let config = Config { head_timeout_ms: 200, body_timeout_ms: 200, ..Config::default() };
    let site = site(Kind::Echo, config).await;
    let mut client = client(&site).await;
    let (answer, mut to) = connect(&mut client, "websocket").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    let names = said(answer.headers());
    for name in ["connection", "upgrade", "sec-websocket-accept", "content-length"] {
        assert!(!names.contains(&name), "{names:?}");
    }
    let mut from = answer.into_body();
    for text in ["first", "second"] {
        to.send_data(Bytes::from(text), false).unwrap();
        assert_eq!(heard(&mut from, text.len()).await, text.as_bytes());
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    let (other, mut to_other) = connect(&mut client, "websocket").await;
    to_other.send_data(Bytes::from_static(b"other"), false).unwrap();
    assert_eq!(heard(&mut other.into_body(), 5).await, b"other");
    // More than any window, in pieces that are taken as they come.
    let sending = tokio::spawn(async move {
        for _ in 0..1_000 {
            to.reserve_capacity(4_096);
            while to.capacity() == 0 {
                std::future::poll_fn(|cx| to.poll_capacity(cx)).await.unwrap().unwrap();
            }
            let count = to.capacity().min(4_096);
            to.send_data(Bytes::from(vec![b'x'; count]), false).unwrap();
        }
        to.send_data(Bytes::from_static(b"!"), true).unwrap();
    });
    let mut last = 0;
    while let Some(data) = from.data().await {
        let data = data.unwrap();
        from.flow_control().release_capacity(data.len()).unwrap();
        last = *data.last().unwrap_or(&last);
    }
    assert_eq!(last, b'!', "the back end has closed after the last");
    sending.await.unwrap();
}

#[tokio::test]
async fn what_is_no_websocket_is_never_said_to_be_one() {
    for (kind, expected) in [
        (Kind::WrongAccept, 502),
        (Kind::NoAccept, 502),
        (Kind::OtherProtocol, 502),
        (Kind::Page, 502),
        (Kind::Forbidden, 403),
    ] {
        let site = site(kind, Config::default()).await;
        let mut client = client(&site).await;
        let (answer, _to) = connect(&mut client, "websocket").await;
        assert_eq!(answer.status().as_u16(), expected, "{kind:?}");
        // The connection goes on.
        let page = Request::get("http://a/").body(()).unwrap();
        let (answer, _) = client.send_request(page, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn other_tunnels_are_refused() {
    let site = site(Kind::Echo, Config::default()).await;
    let mut client = client(&site).await;
    let (answer, _to) = connect(&mut client, "connect-udp").await;
    assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED);
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = "a:80".parse().unwrap();
    let (answer, _to) = client.send_request(request, false).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}
