//! What a visitor asks for by chance, and whether what he is told is an answer to it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use tokio::io::AsyncReadExt;

use crate::fickle::{Draws, more, own, page, until};

/// What a visitor asks for, and what he then may be told.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// What it is about.
    pub(crate) about: About,
}

pub(crate) enum About {
    /// A page, in this version or a newer one.
    Page(usize, u64),
    /// The visitor himself.
    Own(String),
}

/// What a visitor was told, as far as it came.
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) is_whole: bool,
}

impl Asked {
    /// As it goes over HTTP/1.1.
    pub(crate) fn write(&self, draws: &Draws, bytes: &mut Vec<u8>) {
        let Self { method, target, fields, body, .. } = self;
        bytes.extend(format!("{method} {target} HTTP/1.1\r\nhost: {HOST}\r\n").into_bytes());
        for (name, value) in fields {
            bytes.extend(format!("{name}: {value}\r\n").into_bytes());
        }
        if method != Method::POST {
            return bytes.extend(b"\r\n");
        }
        if draws.one_in(2) {
            bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
            return bytes.extend(body);
        }
        bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
        for chunk in body.chunks(1 + draws.below(9_000)) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
    }

    pub(crate) fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = format!("http://{HOST}{}", self.target).parse().unwrap();
        for (name, value) in &self.fields {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        request
    }

    pub(crate) fn check(&self, told: &Told) {
        let Told { status, headers, body, is_whole } = told;
        let target = &self.target;
        if matches!(status, 502..=504) {
            return;
        }
        let expected = match &self.about {
            About::Own(id) => {
                assert_eq!(*status, 200, "{target}: {headers:?}");
                let times = body.len() / own(id, 1).len();
                assert!(!is_whole || body.len() == own(id, times).len(), "{target}");
                own(id, times + 1)
            }
            About::Page(number, least) => {
                let said = headers.get("etag").expect("each page has one").to_str().unwrap();
                let version = said.trim_matches('"').strip_prefix(&format!("p{number}v"));
                let version = version.and_then(|version| version.parse::<u64>().ok());
                let version = version.unwrap_or_else(|| panic!("{target} is {said}"));
                assert!(
                    version >= *least,
                    "{target}: {version} was purged by {least}: {headers:?}"
                );
                let whole = page(*number, version);
                match status {
                    200 => {
                        assert!(!is_whole || whole.len() == body.len(), "{target}: {headers:?}");
                        whole
                    }
                    206 => {
                        let range = headers["content-range"].to_str().unwrap();
                        let range = range.trim_start_matches("bytes ").split('/').next().unwrap();
                        let (from, to) = range.split_once('-').unwrap();
                        let asked = self.fields.iter().find(|(name, _)| *name == "range");
                        assert_eq!(asked.unwrap().1, format!("bytes={range}"), "{target}");
                        let (from, to): (usize, usize) =
                            (from.parse().unwrap(), to.parse().unwrap());
                        assert!(!is_whole || to - from + 1 == body.len(), "{target}: {headers:?}");
                        whole[from..=to].to_vec()
                    }
                    304 => {
                        let asked = self.fields.iter().find(|(name, _)| *name == "if-none-match");
                        assert_eq!(asked.unwrap().1, said);
                        Vec::new()
                    }
                    _ => panic!("{target}: {status} {headers:?}"),
                }
            }
        };
        let is_right = expected.starts_with(body);
        assert!(is_right, "{target}: {status} {headers:?}\n{}", String::from_utf8_lossy(body));
    }
}

/// The next answer, as far as it comes, or as far as somebody hears it who leaves about then; `None`
/// where not even its head comes.
pub(crate) async fn hear(
    stream: &mut (impl AsyncReadExt + Unpin),
    come: &mut Vec<u8>,
    leaves_at: usize,
) -> Option<Told> {
    let end = until(stream, come, b"\r\n\r\n").await?;
    let head: Vec<u8> = come.drain(..end).collect();
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    let mut told = Told { status, headers, body: Vec::new(), is_whole: false };
    if status == 304 {
        told.is_whole = true;
        return Some(told);
    }
    let length = told.headers.get("content-length").map(|length| length.to_str().unwrap());
    if let Some(length) = length {
        let length: usize = length.parse().unwrap();
        while come.len() < length && come.len() < leaves_at && more(stream, come).await.is_some() {}
        told.is_whole = come.len() >= length;
        told.body = come.drain(..length.min(come.len())).collect();
        return Some(told);
    }
    assert_eq!(told.headers["transfer-encoding"], "chunked", "{head}");
    while told.body.len() < leaves_at {
        let Some(end) = until(stream, come, b"\r\n").await else { break };
        let line: Vec<u8> = come.drain(..end).collect();
        let line = String::from_utf8(line).unwrap();
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        while come.len() < length + 2 && more(stream, come).await.is_some() {}
        let is_broken = come.len() < length + 2;
        told.body.extend(come.drain(..length.min(come.len())));
        if is_broken {
            break;
        }
        assert_eq!(come.drain(..2).collect::<Vec<_>>(), b"\r\n");
        if length == 0 {
            told.is_whole = true;
            break;
        }
    }
    Some(told)
}

pub(crate) const HOST: &str = "example.org";
