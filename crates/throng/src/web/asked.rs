//! What is remembered of a request while a handler has it.

use axum::body::Body;
use http::{Method, Request};

use super::assets;
use crate::error::prefers_json;

/// What is needed of a request after it was consumed.
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) is_json: bool,
    /// A browser that asks for a page, rather than a script or a form.
    pub(super) is_page: bool,
    pub(super) accepts_gzip: bool,
}

impl Asked {
    pub(super) fn of(request: &Request<Body>) -> Self {
        let (uri, headers) = (request.uri(), request.headers());
        let is_json = prefers_json(uri.path(), headers);
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let is_page = !is_json && *request.method() == Method::GET;
        Self { path, is_json, is_page, accepts_gzip: assets::accepts_gzip(headers) }
    }
}
