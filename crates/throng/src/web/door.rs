//! What every request passes on its way in and every answer on its way out.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::DefaultBodyLimit,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use tower::{Service, util::MapRequestLayer};

use super::{
    asked::Asked,
    assets, body, csrf,
    finish::Finish,
    headers, health,
    log::{Line, RequestIds, Route},
    metrics,
    session::Memory,
};
use crate::{Error, Result, Site, ctx::seen, error::Look};

/// The whole web role behind the socket: one call for each request.
pub(crate) struct Door {
    router: Router,
    pub(super) site: Site,
    pub(super) rules: Rules,
    ids: RequestIds,
    finish: Finish,
}

/// An answer, and what the log says about it.
pub(super) struct Page {
    /// The template of the route that was taken.
    pub(super) route: String,
    /// Where the database's statements went and why; empty where there is one place only.
    pub(super) routes: String,
    pub(super) response: Response,
}

/// The id under which whatever stands before the door knows the request.
#[derive(Clone)]
pub(crate) struct GivenId(pub(crate) String);

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
        metrics::describe();
        let finish = Finish::new(site.config().web.max_connections);
        Self { router, site, rules, ids: RequestIds::new(), finish }
    }

    /// The site behind the door.
    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    /// Answers one request. Never fails and never panics: what goes wrong is a page.
    ///
    /// When nobody waits for the answer any more, what only reads is dropped; what may change
    /// something goes on to its end, as [`Door::finish`] says.
    pub(crate) async fn answer(self: &Arc<Self>, request: Request<Body>) -> Response {
        if let Some(page) = health::asked(&request) {
            return health::answer(&self.site, page).await;
        }
        let started = self.site.0.clock.elapsed();
        let id = match request.extensions().get::<GivenId>() {
            Some(GivenId(id)) => id.clone(),
            None => self.ids.next(),
        };
        let method = request.method().clone();
        let Page { route, routes, mut response } = match self.file(&request) {
            Some(response) => {
                Page { route: assets::PREFIX.to_owned(), routes: String::new(), response }
            }
            None if csrf::is_unsafe(&method) => {
                let (door, id) = (Arc::clone(self), id.clone());
                self.finish.run(async move { door.page(&id, request).await }).await
            }
            None => self.page(&id, request).await,
        };
        if method == Method::HEAD {
            response = body::without_body(response);
        }
        headers::secure(response.headers_mut(), &self.rules.policy);
        if let Ok(id) = HeaderValue::try_from(&id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        if self.site.0.shutdown.is_requested() {
            // Asks the client to take its next request elsewhere: to the process that takes over.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let took = self.site.0.clock.elapsed().saturating_sub(started);
        let (status, bytes) = (response.status(), response.body().size_hint().exact());
        metrics::answered(status, took);
        if self.site.0.config.log.requests {
            let (id, method, route) = (&id, &method, &route);
            Line { id, method, route, routes: &routes, status, took, bytes }.write();
        }
        response
    }

    /// Waits for the requests that go on although their visitors have left. Call it once no more
    /// come in.
    pub(crate) async fn finish(&self) {
        self.finish.all().await;
    }

    fn file(&self, request: &Request<Body>) -> Option<Response> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        self.site.0.assets.answer(request.uri().path(), request.headers())
    }

    /// Everything that is not a file.
    async fn page(&self, id: &str, mut request: Request<Body>) -> Page {
        let brought = seen::brought(&self.site, request.headers()).await;
        let memory = Memory::new(brought);
        let headers = match seen::is_embedded(&self.site.0.db) {
            true => HeaderMap::new(),
            false => request.headers().clone(),
        };
        let route = Route::default();
        let is_before_cache = request.headers().contains_key(SURROGATE_CAPABILITY);
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        request.extensions_mut().insert(Arc::clone(&memory));
        request.extensions_mut().insert(route.clone());
        let asked = Asked::of(&request);
        let response = match self.check(request).await {
            Ok(request) => self.handle(id, &route, request).await,
            Err(refusal) => refusal.into_response(),
        };
        let mut response = self.explain(id, &route, &asked, response).await;
        memory.write(&self.site, response.headers_mut());
        if is_before_cache {
            memory.write_tags(response.headers_mut());
        }
        // A page that a cache gives to all strangers must not carry one stranger's cookie.
        let is_shared = is_before_cache && is_read && memory.is_public();
        let mut routes = String::new();
        if let Some(db) = memory.db().filter(|db| !seen::is_embedded(db)) {
            if !is_shared && let Some(cookie) = seen::leave(&self.site, db, &headers, brought).await
            {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            routes = db.routes();
            if !self.site.config().is_production()
                && let Ok(routes) = HeaderValue::try_from(&routes)
            {
                response.headers_mut().insert(DB_ROUTE, routes);
            }
        }
        if self.site.0.config.web.gzip && asked.accepts_gzip {
            response = body::compressed(response).await;
        }
        if is_event_stream(response.headers()) {
            let shutdown = self.site.0.shutdown.clone();
            response = response.map(|body| body::until(body, shutdown));
        }
        Page { route: route.template().to_owned(), routes, response }
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
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    media.is_some_and(|media| media.starts_with(b"text/event-stream"))
}

fn panic_words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}

/// In development: which server answered which statements, and why.
const DB_ROUTE: HeaderName = HeaderName::from_static("x-throng-route");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Said by a page cache that understands Surrogate-Key.
const SURROGATE_CAPABILITY: HeaderName = HeaderName::from_static("surrogate-capability");
