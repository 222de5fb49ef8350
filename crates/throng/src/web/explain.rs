//! Answers that are errors: as a page or as JSON, with what broke in the log, once.

use std::panic::AssertUnwindSafe;

use axum::{
    body::Body,
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;

use super::{asked::Asked, door::Door, log::Route};
use crate::{
    Error, ErrorKind,
    error::{ErrorPage, render},
};

impl Door {
    /// Turns an error into a page or JSON, and logs what broke, once.
    pub(super) async fn explain(
        &self,
        id: &str,
        route: &Route,
        asked: &Asked,
        response: Response,
    ) -> Response {
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        let error = match parts.extensions.remove::<Error>() {
            Some(error) => error,
            None if is_bare(&parts.headers) => bare_error(status, asked, body).await,
            // A handler's own page.
            None => return Response::from_parts(parts, body),
        };
        if let Some(cause) = error.cause() {
            let route = route.template();
            if error.kind() == ErrorKind::Bug {
                tracing::error!(request.id = id, route, "a request to {route} failed: {error}");
            } else {
                tracing::warn!(request.id = id, route, "a request to {route} was put off: {cause}");
            }
        }
        if status == StatusCode::UNAUTHORIZED
            && asked.is_page
            && let Some(path) = &self.rules.sign_in_path
        {
            let next: String = form_urlencoded::byte_serialize(asked.path.as_bytes()).collect();
            return Redirect::to(&format!("{path}?next={next}")).into_response();
        }
        let draw = |page: &ErrorPage<'_>| match &self.rules.look {
            // The look is the site's code: if it panics, the plain page still says what matters.
            Some(look) => {
                let drawn = AssertUnwindSafe(|| look(&self.site.ctx(), page));
                std::panic::catch_unwind(drawn).unwrap_or_else(|_| page.to_plain_html())
            }
            None => page.to_plain_html(),
        };
        let mut rendered = render(&error, id, asked.is_json, draw);
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        for (name, value) in &parts.headers {
            rendered.headers_mut().append(name, value.clone());
        }
        rendered
    }
}

/// The error behind an answer that is a status and perhaps a line of text: axum's own refusals.
async fn bare_error(status: StatusCode, asked: &Asked, body: Body) -> Error {
    let text = http_body_util::Limited::new(body, MAX_BARE_BYTES).collect().await;
    let text = text.map(|text| text.to_bytes()).unwrap_or_default();
    let text = std::str::from_utf8(&text).unwrap_or("");
    if text.starts_with(WRONG_PATH) {
        // `/shows/abc` where a number belongs is a page that is not there.
        return Error::plain(StatusCode::NOT_FOUND);
    }
    // The words are for programmers; visitors get those of the status.
    match asked.is_json && !text.is_empty() && !status.is_server_error() {
        true => Error::new(status, text.to_owned()),
        false => Error::plain(status),
    }
}

fn is_bare(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    media.is_none_or(|media| media.starts_with(b"text/plain"))
}

/// How axum begins to say that a part of the path does not parse.
const WRONG_PATH: &str = "Invalid URL: ";
const MAX_BARE_BYTES: usize = 4096;
