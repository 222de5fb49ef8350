//! What the head of a request must be, and what of it goes on.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use http_body::Body as _;

use crate::{Body, Config};

/// The authority that a request is addressed to, or the status for a request that nobody should
/// guess about (RFC 9112 3.2, 6.3).
pub(super) fn host(request: &Request<Body>, config: &Config) -> Result<String, StatusCode> {
    let headers = request.headers();
    if request.body().size_hint().lower() > config.max_body_bytes {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    if has_too_many(headers, config.max_fields) {
        return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    // On a socket hyper has settled it by now: chunks count, and the connection ends after them.
    // A request from elsewhere in this process gets no such care.
    let has_both = headers.contains_key(header::TRANSFER_ENCODING)
        && headers.contains_key(header::CONTENT_LENGTH);
    if has_both || headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(StatusCode::BAD_REQUEST);
    }
    // Chunks are undone here. What lies under them by another coding nobody behind would know of.
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !headers.get_all(header::TRANSFER_ENCODING).iter().all(is_chunked) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let named = hosts.next();
    if hosts.next().is_some() {
        return Err(StatusCode::BAD_REQUEST);
    }
    let is_http2 = request.version() == Version::HTTP_2;
    if let (true, Some(authority), Some(host)) = (is_http2, request.uri().authority(), named)
        && !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())
    {
        return Err(StatusCode::BAD_REQUEST);
    }
    if request.uri().scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(StatusCode::BAD_REQUEST);
    }
    let host = match (request.uri().authority(), named) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) if host.is_empty() => return Err(StatusCode::BAD_REQUEST),
        (None, Some(host)) => host.to_str().map_err(|_| StatusCode::BAD_REQUEST)?,
        // HTTP/1.0 knows no Host.
        (None, None) if request.version() < Version::HTTP_11 => "",
        (None, None) => return Err(StatusCode::BAD_REQUEST),
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]%~".contains(&byte);
    let is_target = request.uri().path().starts_with('/');
    match host.bytes().all(is_plain) && is_target {
        true => Ok(host.to_owned()),
        false => Err(StatusCode::BAD_REQUEST),
    }
}

/// Whether there are more fields than `most`. HTTP/2 may cut its cookies into as many as it likes.
fn has_too_many(headers: &HeaderMap, most: usize) -> bool {
    headers.len() > most && headers.len() - headers.get_all(header::COOKIE).iter().count() > most
}

/// Makes one Cookie field of several, as RFC 9113 8.2.3 has it: servers read one.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Each of them was a value before.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(b"; ".as_slice())) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The id that a trusted peer gave the request.
pub(super) fn request_id(request: &Request<Body>, is_trusted: bool) -> Option<String> {
    let id = request.headers().get(X_REQUEST_ID).filter(|_| is_trusted)?.to_str().ok()?;
    let is_plain =
        id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(&byte));
    (is_plain && (1..=128).contains(&id.len())).then(|| id.to_owned())
}

/// The protocol that the client wants to change to, if any. HTTP/2 in the clear is not offered.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(header::UPGRADE)?;
    let is_asked = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    let is_offered = !wanted.as_bytes().to_ascii_lowercase().starts_with(b"h2");
    (is_asked && is_offered).then(|| wanted.clone())
}

/// Only path and query, as servers are asked.
pub(super) fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from)
}

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
