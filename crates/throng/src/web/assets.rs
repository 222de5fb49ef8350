//! Static files inside the binary, at addresses that carry the hash of their content: browsers keep
//! them for ever, and a changed file has another address.

use std::{borrow::Cow, collections::HashMap, io::Write};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

/// A static file, usually `Asset::new("site.css", include_bytes!("assets/site.css"))`.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    name: &'static str,
    bytes: &'static [u8],
}

impl Asset {
    /// A file that pages know as `name`, such as `site.css` or `icons/seat.svg`. Its type follows
    /// from the ending of the name.
    #[must_use]
    pub const fn new(name: &'static str, bytes: &'static [u8]) -> Self {
        Self { name, bytes }
    }
}

/// All static files of a site, ready to be served.
#[derive(Default)]
pub(crate) struct Assets {
    urls: HashMap<&'static str, String>,
    /// By address below [`PREFIX`], with the hash and without: plain addresses serve `favicon.ico`
    /// and files that other files name.
    files: HashMap<String, File>,
}

#[derive(Clone)]
struct File {
    body: Bytes,
    gzip: Option<Bytes>,
    media: HeaderValue,
    etag: HeaderValue,
    is_hashed: bool,
}

impl Assets {
    pub(crate) fn new(assets: &[Asset]) -> Self {
        let mut all = Self::default();
        for asset in assets {
            let hash: String = Sha256::digest(asset.bytes)
                .iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let media = media_type(asset.name);
            let plain = File {
                body: Bytes::from_static(asset.bytes),
                gzip: is_text(media).then(|| gzip(asset.bytes, Compression::best())).flatten(),
                media: HeaderValue::from_static(media),
                etag: HeaderValue::try_from(format!("\"{hash}\""))
                    .expect("quotes and hexadecimal digits make a header"),
                is_hashed: false,
            };
            let hashed = match asset.name.rsplit_once('.') {
                Some((stem, ending)) => format!("{stem}.{hash}.{ending}"),
                None => format!("{}.{hash}", asset.name),
            };
            all.urls.insert(asset.name, format!("{PREFIX}{hashed}"));
            all.files.insert(hashed, File { is_hashed: true, ..plain.clone() });
            all.files.insert(asset.name.to_owned(), plain);
        }
        all
    }

    /// The address of the file that pages know as `name`.
    pub(crate) fn url<'a>(&'a self, name: &'a str) -> Cow<'a, str> {
        match self.urls.get(name) {
            Some(url) => Cow::Borrowed(url),
            None => Cow::Owned(format!("{PREFIX}{name}")),
        }
    }

    /// The answer for `path`, if it is below [`PREFIX`] and such a file is there. `/favicon.ico`
    /// and `/robots.txt`, which browsers and robots ask for by themselves, are found too.
    pub(crate) fn answer(&self, path: &str, headers: &HeaderMap) -> Option<Response> {
        let name = match path.strip_prefix(PREFIX) {
            Some(name) => name,
            None if path == "/favicon.ico" || path == "/robots.txt" => &path[1..],
            None => return None,
        };
        let file = self.files.get(name)?;
        let mut response = Response::new(Body::empty());
        let cache = if file.is_hashed { FOR_EVER } else { AN_HOUR };
        let answer = response.headers_mut();
        answer.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        answer.insert(header::ETAG, file.etag.clone());
        if file.gzip.is_some() {
            answer.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        if is_known(headers, &file.etag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Some(response);
        }
        answer.insert(header::CONTENT_TYPE, file.media.clone());
        let body = match &file.gzip {
            Some(gzip) if accepts_gzip(headers) => {
                answer.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                gzip
            }
            _ => &file.body,
        };
        *response.body_mut() = Body::from(body.clone());
        Some(response)
    }
}

/// Whether the client takes gzip. `q=0`, which nobody sends, counts as yes only beside other words.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|item| item.trim().strip_prefix("gzip"))
        .any(|rest| !rest.replace(' ', "").eq(";q=0"))
}

/// `bytes` compressed, if that makes them smaller.
pub(crate) fn gzip(bytes: &[u8], level: Compression) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), level);
    encoder.write_all(bytes).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < bytes.len()).then(|| packed.into())
}

/// Whether the client has this version already.
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let Ok(etag) = etag.to_str() else { return false };
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|tag| tag.trim())
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn is_text(media: &str) -> bool {
    media.starts_with("text/") || media.contains("json") || media.contains("svg")
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

/// Below which static files are served.
pub(crate) const PREFIX: &str = "/static/";
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const AN_HOUR: &str = "public, max-age=3600";
