//! A request as the cache sees it: its address, whether it may be answered from here at all, and
//! what of it reaches the application.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use throng_core::stars;

use super::{
    control::{Control, SURROGATE_CAPABILITY, SURROGATE_CAPABILITY_NAME},
    key::Key,
    language,
    policy::{Action, Policy},
};

/// What the cache needs of a request. The body stays with whoever asks.
#[derive(Clone, Debug)]
pub struct Question {
    pub(super) method: Method,
    /// Without the parameters of trackers.
    pub(super) uri: Uri,
    /// As they go to the origin: without what only this hop concerns and, where the cache may
    /// answer, without tracking cookies.
    pub(super) headers: HeaderMap,
    pub(super) host: Box<str>,
    pub(super) key: Key,
    pub(super) control: Control,
    pub(super) action: Option<Action>,
    pub(super) bypass: Option<Bypass>,
    /// Whether it is a POST whose answer may be kept, if it says so.
    pub(super) may_make_page: bool,
    /// The cookies that count for `Vary: Cookie`, in order; empty for a visitor without any.
    pub(super) cookies: Option<String>,
    /// The one language that the visitor likes best, where the policy asks for it.
    pub(super) language: Option<String>,
}

/// Why a request is not for the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bypass {
    /// The method asks for something else than reading.
    Method,
    /// The visitor is signed in.
    SignedIn,
    /// A rule of the policy.
    Rule,
    /// `If-Match` and its like, which only the origin can decide, an upgrade, or a stream of
    /// events.
    Request,
}

impl Bypass {
    /// The `fwd` parameter of Cache-Status, and the detail beside it.
    pub(super) fn said(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Method => ("method", None),
            Self::SignedIn => ("bypass", Some("signed-in")),
            Self::Rule => ("bypass", Some("rule")),
            Self::Request => ("request", None),
        }
    }
}

impl Question {
    /// Reads a request. `host` is the authority that the request was addressed to.
    #[must_use]
    pub fn new(policy: &Policy, host: &str, method: Method, uri: Uri, headers: HeaderMap) -> Self {
        let mut uri = uri;
        let mut headers = headers;
        let mut bypass = bypass(&method, &headers);
        let action = policy.action(uri.path());
        if bypass.is_none() && action == Some(Action::Bypass) {
            bypass = Some(Bypass::Rule);
        }
        let lines = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        let cookies = Cookies::read(policy, lines);
        if bypass.is_none() && cookies.is_signed_in {
            bypass = Some(Bypass::SignedIn);
        }
        if bypass.is_none() {
            if let Some(cleaned) = without_trackers(policy, &uri) {
                uri = cleaned;
            }
            if cookies.has_trackers {
                headers.remove(header::COOKIE);
                if let Ok(kept) = HeaderValue::from_str(&cookies.kept)
                    && !kept.is_empty()
                {
                    headers.insert(header::COOKIE, kept);
                }
            }
        }
        let may_make_page = method == Method::POST
            && action != Some(Action::Bypass)
            && !cookies.is_signed_in
            && !cookies.has_trackers
            && !headers.contains_key(header::UPGRADE)
            && !CONDITIONS.iter().any(|name| headers.contains_key(name));
        let language = match policy.selects_language {
            true => language::liked_best(headers.get_all(header::ACCEPT_LANGUAGE).iter()),
            false => None,
        };
        let key = Key::new(host, &uri);
        let control =
            if policy.heeds_clients { client_control(&headers) } else { Control::default() };
        let cookies = cookies.counted;
        let host = host.into();
        Self {
            method,
            uri,
            headers,
            host,
            key,
            control,
            action,
            bypass,
            may_make_page,
            cookies,
            language,
        }
    }

    /// The method, as the client sent it.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The address, as it goes to the origin.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The fields as the client sent them, trackers left out. What goes to the origin for a fetch is
    /// in [`Fetch::headers`](super::Fetch::headers).
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Its fields as they go to the origin, where nothing is known of the page.
    pub(super) fn onward_headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.insert(SURROGATE_CAPABILITY_NAME, SURROGATE_CAPABILITY);
        headers
    }

    /// Whether it is for a part of the page (RFC 9110 14.2: Range means something in a GET alone).
    pub(super) fn asks_part(&self) -> bool {
        self.method == Method::GET && self.headers.contains_key(header::RANGE)
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

fn bypass(method: &Method, headers: &HeaderMap) -> Option<Bypass> {
    if method != Method::GET && method != Method::HEAD {
        return Some(Bypass::Method);
    }
    let has_body = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
        || headers.contains_key(header::TRANSFER_ENCODING);
    let asks_origin = has_body
        || headers.contains_key(header::IF_MATCH)
        || headers.contains_key(header::IF_UNMODIFIED_SINCE)
        || headers.contains_key(header::UPGRADE)
        || headers.get(header::ACCEPT).is_some_and(|accept| accept == "text/event-stream");
    asks_origin.then_some(Bypass::Request)
}

/// `Pragma: no-cache` counts as `no-cache` where nothing newer is said (RFC 9111 5.4).
fn client_control(headers: &HeaderMap) -> Control {
    let mut control = Control::of_request(headers);
    if !headers.contains_key(header::CACHE_CONTROL)
        && headers.get_all(header::PRAGMA).iter().any(|pragma| pragma == "no-cache")
    {
        control.no_cache = true;
    }
    control
}

/// The cookies of a request, as the policy sees them.
pub(super) struct Cookies {
    pub(super) is_signed_in: bool,
    has_trackers: bool,
    /// What goes to the application.
    kept: String,
    pub(super) counted: Option<String>,
}

impl Cookies {
    pub(super) fn read<'a>(policy: &Policy, lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut found =
            Self { is_signed_in: false, has_trackers: false, kept: String::new(), counted: None };
        let mut counted = Vec::new();
        for line in lines {
            // A cookie that is no text cannot be one that we know; it counts as it is.
            let text = String::from_utf8_lossy(line);
            for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
                let name = pair.split('=').next().unwrap_or(pair).trim();
                if is_among(&policy.session_cookies, name) {
                    found.is_signed_in = true;
                } else if is_among(&policy.tracking_cookies, name) {
                    found.has_trackers = true;
                    continue;
                } else if !is_among(&policy.neutral_cookies, name) {
                    counted.push(pair.to_owned());
                }
                if !found.kept.is_empty() {
                    found.kept.push_str("; ");
                }
                found.kept.push_str(pair);
            }
        }
        if !counted.is_empty() {
            counted.sort_unstable();
            found.counted = Some(counted.join("; "));
        }
        found
    }
}

pub(super) fn is_among(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| stars::matches(pattern, name))
}

/// Whether a query has parameters of trackers.
pub(super) fn has_trackers(policy: &Policy, query: &str) -> bool {
    !policy.tracking_parameters.is_empty() && query.split('&').any(|one| is_tracker(policy, one))
}

fn is_tracker(policy: &Policy, parameter: &str) -> bool {
    is_among(&policy.tracking_parameters, parameter.split('=').next().unwrap_or(parameter))
}

/// The address without the parameters of trackers; `None` when there is none of them.
fn without_trackers(policy: &Policy, uri: &Uri) -> Option<Uri> {
    let query = uri.query()?;
    if !has_trackers(policy, query) {
        return None;
    }
    let kept: Vec<&str> = query.split('&').filter(|one| !is_tracker(policy, one)).collect();
    let target = match kept.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), kept.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// What the origin alone decides about.
pub(super) const CONDITIONS: [HeaderName; 6] = [
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target: &'static str, cookie: &'static str) -> Question {
        let mut headers = HeaderMap::new();
        if !cookie.is_empty() {
            headers.insert(header::COOKIE, HeaderValue::from_static(cookie));
        }
        let policy = Policy::talks();
        Question::new(&policy, "Example.org", Method::GET, Uri::from_static(target), headers)
    }

    #[test]
    fn trackers_leave_both_the_key_and_the_request() {
        let question = asked("/a?utm_source=x&b=1&gclid=2", "_ga_X=1; csrftoken=t; theme=dark");
        assert_eq!(question.uri(), "/a?b=1");
        assert_eq!(question.key, Key::new("example.org", &Uri::from_static("/a?b=1")));
        assert_eq!(question.headers()[header::COOKIE], "csrftoken=t; theme=dark");
        assert_eq!(question.cookies.as_deref(), Some("theme=dark"));
    }

    #[test]
    fn a_session_cookie_bypasses_and_keeps_the_request_as_it_is() {
        let question = asked("/a?utm_source=x", "_ga=1; sessionid=abc");
        assert_eq!(question.bypass, Some(Bypass::SignedIn));
        assert_eq!(question.uri(), "/a?utm_source=x");
        assert_eq!(question.headers()[header::COOKIE], "_ga=1; sessionid=abc");
    }
}
