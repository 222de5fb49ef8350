//! What a visitor sees of an error: a page, or JSON for programs.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::Error;
use crate::Ctx;

/// Draws the page of an error in the site's look.
pub(crate) type Look = dyn Fn(&Ctx, &ErrorPage<'_>) -> String + Send + Sync;

/// What an error page says. A site's own look is set with `App::error_page`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ErrorPage<'a> {
    /// The status, such as 404.
    pub status: StatusCode,
    /// A few words for the title: "Not found".
    pub title: &'static str,
    /// A sentence for the visitor, without its period. Not escaped.
    pub words: &'a str,
    /// The id of the request, which the log has too; shown where something broke.
    pub id: Option<&'a str>,
}

/// Whether whoever asks reads JSON rather than pages: it says so, or asks below `/api/`, where
/// every answer is JSON, to a browser too.
pub(crate) fn prefers_json(path: &str, headers: &HeaderMap) -> bool {
    if path.starts_with("/api/") {
        return true;
    }
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    accept.contains("json") && !accept.contains("text/html")
}

/// The whole answer for `error`.
pub(crate) fn render(
    error: &Error,
    id: &str,
    is_json: bool,
    draw: impl FnOnce(&ErrorPage<'_>) -> String,
) -> Response {
    let status = error.status();
    let page = ErrorPage {
        status,
        title: title(status),
        words: error.words(),
        id: status.is_server_error().then_some(id),
    };
    let mut response = if is_json {
        let mut problem =
            json!({ "status": status.as_u16(), "title": page.title, "detail": page.words });
        problem["request_id"] = json!(id);
        let mut response = Body::from(problem.to_string()).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    } else {
        axum::response::Html(draw(&page)).into_response()
    };
    *response.status_mut() = status;
    if let Some(after) = error.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds(after));
    }
    response
}

impl ErrorPage<'_> {
    /// The page without a site's look: plain HTML that needs no other file.
    #[must_use]
    pub fn to_plain_html(&self) -> String {
        let id = self.id.map_or(String::new(), |id| {
            format!("<p>If you tell us about this, please add the id <code>{id}</code>.</p>")
        });
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <title>{title}</title></head>\
             <body><h1>{title}</h1><p>{words}.</p>{id}<p><a href=\"/\">To the front page</a></p>\
             </body></html>",
            title = self.title,
            words = escape(&sentence(self.words)),
        )
    }
}

/// Words for a status that came without its own.
pub(super) fn words(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "the request could not be read",
        401 => "please sign in first",
        403 => "this is not yours to see or do",
        404 => "there is no such page",
        405 => "this address does not take that kind of request",
        408 => "the request took too long to arrive",
        409 => "that cannot be done as things stand",
        410 => "this page is gone",
        413 => "what you sent is too large",
        415 => "what you sent has a type that this address does not take",
        422 => "some of what you sent is missing or not right",
        429 => "too many requests; please wait a little",
        503 => "the site is busy; please try again in a moment",
        code if code >= 500 => "something went wrong on our side",
        _ => "that did not work",
    }
}

fn title(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "Please sign in",
        403 => "Not allowed",
        404 => "Not found",
        409 => "Not possible",
        410 => "Gone",
        413 => "Too large",
        422 => "Please check what you sent",
        429 => "Too many requests",
        503 => "Busy",
        code if code >= 500 => "Something went wrong",
        _ => "That did not work",
    }
}

/// Text inside HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn sentence(words: &str) -> String {
    let mut letters = words.trim_end_matches('.').chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn seconds(after: Duration) -> HeaderValue {
    HeaderValue::from(after.as_secs().max(1))
}
