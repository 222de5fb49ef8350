//! What every request passes on its way in and every answer on its way out.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::DefaultBodyLimit,
    response::{IntoResponse, Redirect, Response},
};
use bytes::Bytes;
use flate2::Compression;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use tower::{Service, util::MapRequestLayer};

use super::{
    assets, body, csrf, headers, health,
    log::{Line, RequestIds, Route},
    session::Memory,
};
use crate::{
    Error, Result, Site,
    error::{ErrorPage, Look, prefers_json, render},
};

/// The whole web role behind the socket: one call for each request.
pub(crate) struct Door {
    router: Router,
    site: Site,
    rules: Rules,
    ids: RequestIds,
}

/// What the site's author decided about all pages.
pub(crate) struct Rules {
    pub(crate) look: Option<Box<Look>>,
    pub(crate) sign_in_path: Option<String>,
    /// Paths, and everything below them, that are not checked for CSRF.
    pub(crate) open_paths: Vec<String>,
    pub(crate) policy: HeaderValue,
}

impl Door {
    pub(crate) fn new(router: Router<Site>, site: Site, rules: Rules) -> Self {
        let router = router
            .fallback(async || Error::plain(StatusCode::NOT_FOUND))
            .method_not_allowed_fallback(async || Error::plain(StatusCode::METHOD_NOT_ALLOWED))
            // The door limits bodies itself, for extractors of every kind.
            .layer((MapRequestLayer::new(Route::note::<Body>), DefaultBodyLimit::disable()))
            .with_state(site.clone());
        Self { router, site, rules, ids: RequestIds::new() }
    }

    /// The site behind the door.
    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    /// Answers one request. Never fails and never panics: what goes wrong is a page.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response {
        if let Some(page) = health::asked(&request) {
            return health::answer(&self.site, page).await;
        }
        let started = self.site.0.clock.elapsed();
        let id = self.ids.next();
        let method = request.method().clone();
        let (route, response) = match self.file(&request) {
            Some(response) => (assets::PREFIX.to_owned(), response),
            None => self.page(&id, request).await,
        };
        let mut response = response;
        if method == Method::HEAD {
            response = without_body(response);
        }
        headers::secure(response.headers_mut(), &self.rules.policy);
        if let Ok(id) = HeaderValue::try_from(&id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        if self.site.0.shutdown.is_requested() {
            // Asks the client to take its next request elsewhere: to the process that takes over.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.site.0.config.log.requests {
            let took = self.site.0.clock.elapsed().saturating_sub(started);
            let (status, bytes) = (response.status(), response.body().size_hint().exact());
            Line { id: &id, method: &method, route: &route, status, took, bytes }.write();
        }
        response
    }

    fn file(&self, request: &Request<Body>) -> Option<Response> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        self.site.0.assets.answer(request.uri().path(), request.headers())
    }

    /// Everything that is not a file: the template of the route that was taken, and the answer.
    async fn page(&self, id: &str, mut request: Request<Body>) -> (String, Response) {
        let memory = Memory::new();
        let route = Route::default();
        request.extensions_mut().insert(Arc::clone(&memory));
        request.extensions_mut().insert(route.clone());
        let asked = Asked::of(&request);

        let response = match self.check(request).await {
            Ok(request) => self.handle(id, &route, request).await,
            Err(refusal) => refusal.into_response(),
        };
        let mut response = self.explain(id, &route, &asked, response).await;
        memory.write(&self.site, response.headers_mut());
        if self.site.0.config.web.gzip && asked.accepts_gzip {
            response = compressed(response).await;
        }
        if is_event_stream(response.headers()) {
            let shutdown = self.site.0.shutdown.clone();
            response = response.map(|body| body::until(body, shutdown));
        }
        (route.template().to_owned(), response)
    }

    /// Limits the body, and refuses what a visitor did not send on purpose.
    async fn check(&self, request: Request<Body>) -> Result<Request<Body>> {
        if !csrf::is_unsafe(request.method()) {
            return Ok(request);
        }
        let web = &self.site.0.config.web;
        let (parts, body) = request.into_parts();
        let body = body::limited(&parts.headers, body, web.max_body_bytes)?;
        let path = parts.uri.path();
        let is_below = |open: &String| {
            path.strip_prefix(open.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if self.rules.open_paths.iter().any(is_below) {
            return Ok(Request::from_parts(parts, body));
        }
        let refused = |refusal: csrf::Refusal| Error::forbidden(refusal.words());
        csrf::check_origin(&parts.headers, &parts.uri, &web.trusted_origins).map_err(refused)?;
        if !csrf::needs_token(&parts.headers) {
            return Ok(Request::from_parts(parts, body));
        }
        let cookie = super::cookies::find(&parts.headers, csrf::COOKIE);
        let header = parts.headers.get(csrf::HEADER).and_then(|token| token.to_str().ok());
        if header.is_some() {
            csrf::check_token(cookie, header).map_err(refused)?;
            return Ok(Request::from_parts(parts, body));
        }
        let limit = web.request_timeout;
        let body = self.site.0.clock.timeout(limit, body::whole(body)).await;
        let body = body.ok_or_else(|| Error::plain(StatusCode::REQUEST_TIMEOUT))??;
        let token = csrf::token_in(&parts.headers, &body);
        csrf::check_token(cookie, token.as_deref()).map_err(refused)?;
        Ok(Request::from_parts(parts, Body::from(body)))
    }

    /// Runs the handler, within its time and with panics caught.
    async fn handle(&self, id: &str, route: &Route, request: Request<Body>) -> Response {
        let work = AssertUnwindSafe(self.router.clone().call(request)).catch_unwind();
        match self.site.0.clock.timeout(self.site.0.config.web.request_timeout, work).await {
            Some(Ok(Ok(response))) => response,
            Some(Err(panic)) => {
                let words = panic_words(&*panic);
                let route = route.template();
                tracing::error!(request.id = id, route, "a handler of {route} panicked: {words}");
                Error::plain(StatusCode::INTERNAL_SERVER_ERROR).into_response()
            }
            None => {
                let route = route.template();
                tracing::warn!(request.id = id, route, "a handler of {route} took too long");
                Error::plain(StatusCode::SERVICE_UNAVAILABLE).into_response()
            }
        }
    }

    /// Turns an error into a page or JSON, and logs what broke, once.
    async fn explain(
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
            if error.kind() == crate::ErrorKind::Bug {
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

/// What is needed of a request after it was consumed.
struct Asked {
    path: String,
    is_json: bool,
    /// A browser that asks for a page, rather than a script or a form.
    is_page: bool,
    accepts_gzip: bool,
}

impl Asked {
    fn of(request: &Request<Body>) -> Self {
        let (uri, headers) = (request.uri(), request.headers());
        let is_json = prefers_json(uri.path(), headers);
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let is_page = !is_json && *request.method() == Method::GET;
        Self { path, is_json, is_page, accepts_gzip: assets::accepts_gzip(headers) }
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

fn is_event_stream(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    media.is_some_and(|media| media.starts_with(b"text/event-stream"))
}

/// `response` compressed, if it is text that is there as a whole and long enough to gain.
async fn compressed(response: Response) -> Response {
    let media = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_text = media.is_some_and(|media| {
        [&b"text/"[..], b"application/json", b"image/svg"]
            .iter()
            .any(|kind| media.starts_with(kind))
    });
    let size = response.body().size_hint().exact().unwrap_or(0);
    let is_packed = response.headers().contains_key(header::CONTENT_ENCODING);
    if !is_text || is_packed || !(MIN_GZIP_BYTES..MAX_GZIP_BYTES).contains(&size) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(plain) = body.collect().await.map(|body| body.to_bytes()) else {
        return Error::plain(StatusCode::INTERNAL_SERVER_ERROR).into_response();
    };
    parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let body = match assets::gzip(&plain, Compression::fast()) {
        None => plain,
        Some(packed) => {
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts.headers.remove(header::CONTENT_LENGTH);
            packed
        }
    };
    Response::from_parts(parts, Body::from(body))
}

fn without_body(mut response: Response) -> Response {
    if let Some(size) = response.body().size_hint().exact().filter(|size| *size > 0) {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
    response.map(|_| Body::from(Bytes::new()))
}

fn panic_words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const WRONG_PATH: &str = "Invalid URL: ";
const MAX_BARE_BYTES: usize = 4096;
/// Below this a packet is sent either way.
const MIN_GZIP_BYTES: u64 = 1024;
/// Above this, compressing would hold up the other requests of the thread.
const MAX_GZIP_BYTES: u64 = 1 << 20;
