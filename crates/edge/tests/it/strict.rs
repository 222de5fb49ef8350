//! A back end that takes nothing but what RFC 9112 lets a client send, and remembers what else came.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A request as one server reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) method: String,
    pub(crate) target: String,
    /// `None` when it did not come to its end.
    pub(crate) body: Option<Vec<u8>>,
}

pub(crate) type Readings = Arc<Mutex<Vec<Result<Reading, String>>>>;

/// The back end. It answers with the target that it was asked for, which may be kept for a minute.
pub(crate) struct Strict {
    pub(crate) address: String,
    pub(crate) readings: Readings,
}

impl Strict {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let readings = Readings::default();
        let all = Arc::clone(&readings);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(read_strictly(stream, Arc::clone(&all)));
            }
        });
        Self { address, readings }
    }
}

async fn read_strictly(mut stream: TcpStream, readings: Readings) {
    let mut bytes = Vec::new();
    loop {
        let place = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if !more(&mut stream, &mut bytes).await {
                if !bytes.is_empty() {
                    let rest = format!("a head without an end: {}", text(&bytes));
                    readings.lock().unwrap().push(Err(rest));
                }
                return;
            }
        };
        let rest = bytes.split_off(place);
        let head = std::mem::replace(&mut bytes, rest);
        let (mut reading, framing) = match strict_head(&head) {
            Ok(read) => read,
            Err(reason) => {
                readings.lock().unwrap().push(Err(format!("{reason}: {}", text(&head))));
                return;
            }
        };
        reading.body = match framing {
            Framing::Length(length) => exactly(&mut stream, &mut bytes, length).await,
            Framing::Chunks => match chunks(&mut stream, &mut bytes).await {
                Ok(body) => body,
                Err(reason) => {
                    readings.lock().unwrap().push(Err(format!("{reason}: {}", text(&head))));
                    return;
                }
            },
        };
        let Reading { method, target, body } = reading.clone();
        readings.lock().unwrap().push(Ok(reading));
        let said = if method == "HEAD" { "" } else { &target };
        let fields = format!("cache-control: max-age=60\r\ncontent-length: {}", target.len());
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{said}");
        if body.is_none() || stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
    matches!(stream.read_buf(bytes).await, Ok(1..))
}

async fn exactly(stream: &mut TcpStream, bytes: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while bytes.len() < length {
        if !more(stream, bytes).await {
            return None;
        }
    }
    let rest = bytes.split_off(length);
    Some(std::mem::replace(bytes, rest))
}

async fn line(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
            let line = exactly(stream, bytes, end + 2).await?;
            return Some(line[..end].to_vec());
        }
        if !more(stream, bytes).await {
            return None;
        }
    }
}

async fn chunks(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let Some(size) = line(stream, bytes).await else { return Ok(None) };
        let is_hex = size.iter().all(u8::is_ascii_hexdigit) && (1..=8).contains(&size.len());
        if !is_hex {
            return Err(format!("a chunk of size {:?}", text(&size)));
        }
        let size = usize::from_str_radix(&text(&size), 16).unwrap();
        if size == 0 {
            loop {
                let Some(trailer) = line(stream, bytes).await else { return Ok(None) };
                if trailer.is_empty() {
                    return Ok(Some(body));
                }
                let name = field(&text(&trailer))?.0;
                if FRAMING.contains(&name.as_str()) {
                    return Err(format!("a trailer {name}"));
                }
            }
        }
        let Some(mut chunk) = exactly(stream, bytes, size + 2).await else { return Ok(None) };
        if chunk.split_off(size) != b"\r\n" {
            return Err("a chunk that does not end where it says".into());
        }
        body.append(&mut chunk);
    }
}

enum Framing {
    Length(usize),
    Chunks,
}

fn strict_head(head: &[u8]) -> Result<(Reading, Framing), String> {
    // Bytes over 127 are allowed in values.
    let head: String = head[..head.len() - 4].iter().map(|byte| char::from(*byte)).collect();
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return Err("a wrong first line".into()) };
    let is_target = target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token(method) || !is_target {
        return Err("a wrong first line".into());
    }
    let (mut hosts, mut lengths, mut codings) = (0, Vec::new(), Vec::new());
    for line in lines {
        let (name, value) = field(line)?;
        match name.as_str() {
            "host" => hosts += 1,
            "content-length" => lengths.push(value),
            "transfer-encoding" => codings.push(value),
            "connection" if value == "upgrade" => {}
            name if HOP.contains(&name) => return Err(format!("a field {name}")),
            _ => {}
        }
    }
    let framing = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Framing::Length(0),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Framing::Length(length.parse().map_err(|_| "a wrong length")?)
        }
        ([], [coding]) if coding == "chunked" => Framing::Chunks,
        _ => return Err("a body that can be read in two ways".into()),
    };
    if hosts != 1 {
        return Err(format!("{hosts} hosts"));
    }
    let reading = Reading { method: method.into(), target: target.into(), body: None };
    Ok((reading, framing))
}

/// A field, its name in small letters.
fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or("a line without a colon")?;
    let is_value = value.chars().all(|c| c >= ' ' && c != '\u{7f}' || c == '\t');
    if !is_token(name) || !is_value {
        return Err(format!("a wrong field {line:?}"));
    }
    Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
}

fn is_token(text: &str) -> bool {
    let is_mark = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const FRAMING: &[&str] = &["content-length", "transfer-encoding", "host", "trailer", "connection"];
/// What concerns one connection only.
const HOP: &[&str] =
    &["connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer"];
