//! What a visitor reads when there is no page of the site to send.

use http::{HeaderValue, Response, StatusCode, Uri, header};

use super::send::Refusal;
use crate::{Body, client::TooMuch, upstream::Cause};

/// For a request that is at fault itself. The connection is closed after it: what follows on it may
/// be part of the same confusion.
pub(super) fn closing(status: StatusCode, id: &str) -> Response<Body> {
    let mut page = page(status, "This request cannot be understood", "", id);
    page.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    page
}

pub(super) fn refused(refusal: Refusal, retry_after_s: u32, id: &str) -> Response<Body> {
    let later = "Please try again in a moment.";
    let (status, title, advice) = match refusal {
        Refusal::Busy => {
            (503, "Very many people are here right now", "There will be room in a moment.")
        }
        Refusal::NoServer | Refusal::Stopping => (503, "We will be back in a moment", later),
        Refusal::OnlyIfCached => (504, "This page is not in the cache", ""),
        Refusal::Failed(Cause::Late) => (504, "This page takes too long", later),
        Refusal::Failed(Cause::TooLong) => (413, "What you sent is too large", ""),
        Refusal::Failed(Cause::TooSlow) => (408, "What you sent took too long", later),
        Refusal::Failed(Cause::Visitor) => (400, "What you sent broke off", later),
        Refusal::Failed(Cause::Connect | Cause::Broken | Cause::WentDown) | Refusal::Collapsed => {
            (502, "This page cannot be reached right now", later)
        }
    };
    let status = StatusCode::from_u16(status).expect("each of them is a status");
    let mut page = page(status, title, advice, id);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
    }
    page
}

/// For a tunnel that cannot be.
pub(super) fn no_tunnel(status: StatusCode, id: &str) -> Response<Body> {
    page(status, "There is nothing to connect to", "", id)
}

/// For a request that should have come over HTTPS. `host` is what [`super::head::host`] lets through.
pub(super) fn over_https(host: &str, port: u16, uri: &Uri) -> Response<Body> {
    let is_port = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
    let name =
        host.rsplit_once(':').filter(|(_, rest)| is_port(rest)).map_or(host, |(name, _)| name);
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Ok(location) = HeaderValue::from_str(&format!("https://{name}{port}{target}")) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

/// For an unsafe request while the site is read-only.
pub(super) fn read_only(retry_after_s: u32, id: &str) -> Response<Body> {
    let title = "Nothing can be changed right now";
    let advice =
        "You can read everything. What you just sent was not saved; please try again later.";
    let mut page = page(StatusCode::SERVICE_UNAVAILABLE, title, advice, id);
    page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
    page
}

/// For a client that asks more than it may.
pub(super) fn too_much(too_much: TooMuch, id: &str) -> Response<Body> {
    let (wait_s, advice) = match too_much {
        TooMuch::Rate(wait) => (wait.as_secs() + 1, "Please wait a moment before you go on."),
        TooMuch::Concurrency => (1, "Please wait for the answers that are on their way."),
    };
    let mut page = page(StatusCode::TOO_MANY_REQUESTS, "That was very fast", advice, id);
    page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
    page
}

/// A short word for programs, such as the answer to a purge.
pub(super) fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut page = Response::new(Body::from(text));
    *page.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    page.headers_mut().insert(header::CONTENT_TYPE, plain);
    page.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

/// `id` is of letters and digits; the rest is ours.
fn page(status: StatusCode, title: &str, advice: &str, id: &str) -> Response<Body> {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;\
         padding:0 1rem;color-scheme:light dark}}small{{opacity:.6}}</style>\
         <h1>{title}</h1><p>{advice}</p><small>{} · request {id}</small></html>\n",
        status.as_u16()
    );
    let mut page = text(status, html);
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    page.headers_mut().insert(header::CONTENT_TYPE, kind);
    page
}
