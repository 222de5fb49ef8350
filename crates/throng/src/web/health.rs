//! Pages for those who watch the process: `/healthz` says that it is alive, `/readyz` that it should
//! be sent visitors.

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{Method, Request, StatusCode};
use serde_json::json;

use crate::Site;

/// The answer to a health page; these are not logged, since they come every few seconds.
pub(crate) async fn answer(site: &Site, request: &Request<Body>) -> Option<Response> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    match request.uri().path() {
        "/healthz" => Some(Json(json!({ "status": "alive" })).into_response()),
        "/readyz" => Some(ready(site).await),
        _ => None,
    }
}

async fn ready(site: &Site) -> Response {
    if site.0.shutdown.is_requested() {
        let body = Json(json!({ "status": "stopping" }));
        return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    }
    Json(json!({ "status": "ready" })).into_response()
}
