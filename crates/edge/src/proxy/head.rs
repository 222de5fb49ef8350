//! What the head of a request must be, and what of it goes on.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header};

use crate::Body;

/// The authority that a request is addressed to, or the status for a request that nobody should
/// guess about (RFC 9112 3.2, 6.3).
pub(super) fn host(request: &Request<Body>) -> Result<String, StatusCode> {
    let headers = request.headers();
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
    let mut hosts = headers.get_all(header::HOST).iter();
    let named = hosts.next();
    if hosts.next().is_some() {
        return Err(StatusCode::BAD_REQUEST);
    }
    let host = match (request.uri().authority(), named) {
        (Some(authority), _) => authority.as_str(),
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
