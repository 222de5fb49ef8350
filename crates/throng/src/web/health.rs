//! Pages for those who watch the process: `/healthz` says that it is alive, `/readyz` that it should
//! be sent visitors.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, Request, StatusCode, header};
use serde_json::json;

use crate::Site;

/// The answer of a health page; these are not logged, since they come every few seconds.
pub(crate) async fn answer(site: &Site, page: Page) -> Response {
    let mut answer = match page {
        Page::Alive => Json(json!({ "status": "alive" })).into_response(),
        Page::Ready => ready(site).await,
    };
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Which health page a request asks for, if any.
pub(crate) fn asked(request: &Request<Body>) -> Option<Page> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    match request.uri().path() {
        "/healthz" => Some(Page::Alive),
        "/readyz" => Some(Page::Ready),
        _ => None,
    }
}

/// A health page.
pub(crate) enum Page {
    Alive,
    Ready,
}

async fn ready(site: &Site) -> Response {
    if site.0.shutdown.is_requested() {
        let body = Json(json!({ "status": "stopping" }));
        return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    }
    let answered = site.0.clock.timeout(LIMIT, site.0.db.ping()).await;
    let reason = match answered {
        Some(Ok(())) => return Json(json!({ "status": "ready" })).into_response(),
        Some(Err(_)) => "the database answers with an error",
        None => "the database does not answer",
    };
    let body = Json(json!({ "status": "not ready", "reason": reason }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

/// How long the database may take.
const LIMIT: Duration = Duration::from_secs(2);
