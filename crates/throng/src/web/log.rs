//! One line for each request, and the id under which it can be found again.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::extract::MatchedPath;
use http::{Method, Request, StatusCode};

/// Hands out request ids: unique in this process, and not guessable across processes.
pub(crate) struct RequestIds {
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        let mut start = [0; 8];
        // Without randomness ids still tell the requests of this process apart.
        let _ = getrandom::fill(&mut start);
        Self { next: AtomicU64::new(u64::from_ne_bytes(start)) }
    }

    pub(crate) fn next(&self) -> String {
        // An odd factor makes neighbours look unlike each other; it never repeats within 2^64.
        let number = self.next.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        format!("{number:016x}")
    }
}

/// Where the router leaves the template of the route that it took, `/shows/{id}`.
#[derive(Clone, Default)]
pub(crate) struct Route(Arc<OnceLock<MatchedPath>>);

impl Route {
    /// The template; `-` when no route was taken. Never the path itself, which can name people.
    pub(crate) fn template(&self) -> &str {
        self.0.get().map_or("-", MatchedPath::as_str)
    }

    /// Called inside the router.
    pub(crate) fn note<B>(request: Request<B>) -> Request<B> {
        let extensions = request.extensions();
        if let (Some(route), Some(path)) =
            (extensions.get::<Self>(), extensions.get::<MatchedPath>())
        {
            let _ = route.0.set(path.clone());
        }
        request
    }
}

/// What is said about a request when its answer begins.
pub(crate) struct Line<'a> {
    pub(crate) id: &'a str,
    pub(crate) method: &'a Method,
    pub(crate) route: &'a str,
    /// Where the database's statements went and why: `replica fresh 3, primary wrote 1`.
    pub(crate) routes: &'a str,
    pub(crate) status: StatusCode,
    pub(crate) took: Duration,
    /// Unknown for answers that are streamed.
    pub(crate) bytes: Option<u64>,
}

impl Line<'_> {
    pub(crate) fn write(&self) {
        let Self { id, method, route, .. } = self;
        let (status, ms) = (self.status.as_u16(), self.took.as_micros() as f64 / 1000.0);
        tracing::info!(
            target: "throng::request",
            {
                request.id = id,
                method = method.as_str(),
                route,
                status,
                ms,
                bytes = self.bytes,
                db.routes = (!self.routes.is_empty()).then_some(self.routes)
            },
            "{method} {route} {status}"
        );
    }
}
