//! Headers that every answer carries, so that no page has to think of them.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What a browser may load and do on a page, unless `App::content_security_policy` says otherwise:
/// everything from this site alone, pictures also inline, no plugins, no frames around it.
pub(crate) const DEFAULT_POLICY: &str = "default-src 'self'; img-src 'self' data:; \
     object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'";

/// Adds what is missing; what a handler set itself stays.
pub(crate) fn secure(headers: &mut HeaderMap, policy: &HeaderValue) {
    let is_html = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|media| media.as_bytes().starts_with(b"text/html"));
    let mut add = |name: HeaderName, value: HeaderValue| {
        headers.entry(name).or_insert(value);
    };
    add(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    add(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    if is_html {
        add(header::CONTENT_SECURITY_POLICY, policy.clone());
        add(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        add(
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        );
    }
}
